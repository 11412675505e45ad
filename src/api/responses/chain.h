/* Turns that are kept: a response with its input, in the store, until it expires, is deleted, or too many came after
 * it. A conversation is the chain of turns behind one id. Only its owner finds a turn. Every callback comes once, in a
 * later turn of the loop, and not when the arena dies first. Loop thread only. */
#ifndef API_RESPONSES_CHAIN_H
#define API_RESPONSES_CHAIN_H

#include "api/app.h"
#include "base/json_copy.h"

/* Whose turns the request may see. */
int64_t chain_owner(const struct http_req *req);

/* A conversation: for each turn its input and its output, arrays of items, oldest first. */
struct chain {
    const json_t **items;
    size_t count;
    int64_t length, bytes; /* turns; of their texts in the store */
};

/* ERR_PREVIOUS_RESPONSE_NOT_FOUND: it is unknown, or somebody else's, or a turn before it is gone.
 * ERR_INVALID_PARAMETERS: it is too long to go on. The chain lives as long as the arena. */
void chain_load(struct app *app, struct arena *arena, int64_t owner, struct str id,
                void (*on_loaded)(void *arg, const struct chain *chain, const struct err *err), void *arg);

struct chain_turn {
    const char *id;
    struct str previous_id; /* STR_NONE: the first */
    struct str input, body; /* JSON texts */
    int64_t created_at, length, bytes;
};

void chain_save(struct app *app, struct arena *arena, int64_t owner, const struct chain_turn *turn,
                void (*on_saved)(void *arg, const struct err *err), void *arg);

/* One turn's texts, valid during the call; ERR_NOT_FOUND. */
void chain_find(struct app *app, struct arena *arena, int64_t owner, struct str id,
                void (*on_found)(void *arg, struct str input, struct str body, const struct err *err), void *arg);

/* ERR_NOT_FOUND: there was none. */
void chain_delete(struct app *app, struct arena *arena, int64_t owner, struct str id,
                  void (*on_deleted)(void *arg, const struct err *err), void *arg);

#endif
