/* The items of a POST /v1/batch body as requests of their own: what stands at the top is each item's default. Pure. */
#ifndef API_BATCH_ENTRY_H
#define API_BATCH_ENTRY_H

#include "base/arena.h"
#include "base/json_read.h"

struct batch_entries {
    const json_t *defaults, *items; /* of the document, which is the arena's */
    struct str *ids;                /* "req-<i>" where an item names none */
    size_t count;
};

/* false: the whole call is refused (ERR_INVALID_JSON, ERR_INVALID_PARAMETERS: no requests, more than max, an id twice,
 * something to be streamed). An item that makes no sense by itself is none of these. */
bool batch_entries_read(struct str body, unsigned max, struct arena *arena, struct batch_entries *ret_entries,
                        struct err *err);

/* Where item i goes as a request. false: it cannot be one (err names what of it). */
bool batch_entry_check(const struct batch_entries *entries, size_t i, struct str *ret_path, struct err *err);

/* The body of an item that passed the check, in arena. */
struct str batch_entry_body(const struct batch_entries *entries, size_t i, struct arena *arena);

#endif
