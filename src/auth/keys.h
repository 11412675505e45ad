/* Who may call: keys from the configuration and from the store, found by the SHA-256 of what the caller presents, in
 * memory, in the same time for one key and for a thousand. Keys are 256 random bits, so a fast hash is enough
 * (specs/llamactl.md 8.2, row 12). Clear keys are never kept or logged. Loop thread only. */
#ifndef AUTH_KEYS_H
#define AUTH_KEYS_H

#include "auth/permission.h"
#include "base/arena.h"
#include "conf/conf.h"
#include "store/store.h"

enum key_mode { KEY_ALLOW_ALL, KEY_PER_INSTANCE };
enum key_form { KEY_FORM_LLAMACTL, KEY_FORM_SK }; /* "llamactl-" and 64 hex digits; "sk-" and 48 of [0-9A-Za-z] */
enum key_priority { KEY_INTERACTIVE, KEY_BATCH };

/* 0: the server's default. */
struct key_limits {
    int64_t requests_per_minute, burst, tokens_per_minute, concurrent;
};

struct key {
    int64_t id; /* 0: from the configuration */
    const char *name;
    const char *public_id; /* "key_..."; NULL: from the configuration */
    const char *hint;      /* the clear key's last characters, or NULL: not known */
    const char *user_id;   /* whose it is, or NULL */
    int64_t made_by;       /* id of the key that made it for itself, or 0 */
    unsigned scopes;       /* enum auth_scope, as given: see permission_allows */
    enum key_mode mode;
    const char *models; /* patterns of models it may use, a line each; NULL: all */
    struct key_limits limits;
    enum key_priority priority;
    unsigned generation;                          /* counts rotations since the start */
    int64_t expires_at;                           /* unix seconds; 0: never */
    int64_t created_at, updated_at, last_used_at; /* 0: never used */
    const int64_t *instance_ids;                  /* of KEY_PER_INSTANCE, ascending */
    size_t instance_count;
};

struct keys;

/* Reads the stored keys, blocking: for the start of the program. store and conf must outlive it. NULL and *err. */
struct keys *keys_new(struct loop *loop, const struct conf *conf, struct store *store, struct err *err);
void keys_free(struct keys *keys); /* writes the times of use that are not stored yet; before store_close */

/* Whether routes of that scope (of enum auth_scope) ask for a key: always with conf->auth_enabled; else by llamactl's
 * rule, which knows inference and management only: conf's require_* switches; "auto" is true when the configuration or
 * the store has a key of that scope, or any key and conf->bind_address is not a loopback one. */
bool keys_required(const struct keys *keys, unsigned scope);

/* When management needs a key and there is none at all: makes one, stores its hash and returns the clear key (arena)
 * to be printed once. NULL: not needed (err->code is ERR_NONE), or it cannot be stored. Blocking; at the start. */
const char *keys_first_management_key(struct keys *keys, struct arena *arena, struct err *err);

/* The unexpired key that was presented, or NULL. Also notes its use (last_used_at is written to the store at most once
 * a minute). The pointer is valid until the loop's next turn. */
const struct key *keys_find(struct keys *keys, struct str presented);

/* As keys_find, and tries the legacy hashes of imported keys (Argon2id; one at a time on the pool, at most
 * LIMIT_LEGACY_CHECKS waiting, more are ERR_SERVER_OVERLOADED; a key that matches gets its fast hash). key is NULL when
 * none fits; err is NULL when that is sure. on_key comes at once when there is nothing to try, and not at all when the
 * arena dies first. */
void keys_check(struct keys *keys, struct str presented, struct arena *arena,
                void (*on_key)(void *arg, const struct key *key, const struct err *err), void *arg);

bool key_allows(const struct key *key, unsigned scope);
bool key_allows_instance(const struct key *key, int64_t instance_id);

struct key_request {
    struct str name; /* 1..100 bytes */
    unsigned scopes;
    enum key_mode mode;
    int64_t expires_at; /* 0: never; else in the future */
    const int64_t *instance_ids;
    size_t instance_count;
    enum key_form form;
    const char *user_id; /* NULL: nobody's */
    int64_t made_by;     /* 0: see struct key */
    const char *models;  /* a line each; NULL: all */
    struct key_limits limits;
    enum key_priority priority;
};

/* Stores a new key; on_done gets it and its clear text (valid during the call), or an error: ERR_INVALID_PARAMETERS for
 * an instance that does not exist, ERR_CONFLICT (at once) for the LIMIT_KEYS-th key or a user who is gone.
 * Not called when the arena dies first; the key is then still made. */
void keys_create(struct keys *keys, const struct key_request *request, struct arena *arena,
                 void (*on_done)(void *arg, const struct key *key, const char *clear, const struct err *err),
                 void *arg);

/* Takes effect at once here; on_done after it is stored. ERR_NOT_FOUND (at once) when there is none. A key that the
 * store could not delete stays listed, opens nothing, and can be deleted again. */
void keys_delete(struct keys *keys, int64_t id, struct arena *arena, void (*on_done)(void *arg, const struct err *err),
                 void *arg);

/* A new clear text ("sk-...") for an old key; the old text stops working when on_done gets the new one. Else as
 * keys_create. ERR_NOT_FOUND (at once) when there is none. */
void keys_rotate(struct keys *keys, int64_t id, struct arena *arena,
                 void (*on_done)(void *arg, const struct key *key, const char *clear, const struct err *err),
                 void *arg);

/* on_lost(arg) runs after a key stopped working by a deletion, a rotation or its user's end; for one listener. */
void keys_on_lost(struct keys *keys, void (*on_lost)(void *arg), void *arg);

/* A user is gone: so are the user's keys (the store's cascade does the same there). */
void keys_forget_user(struct keys *keys, const char *user_id);

/* The key that callers know as public_id ("key_..."), or NULL. */
const struct key *keys_get_public(struct keys *keys, struct str public_id);

/* Whether the stored key still opens what it did when its generation was this. */
bool keys_still_valid(struct keys *keys, int64_t id, unsigned generation);

/* Whether a key of the configuration or the store has all rights and is not expired. */
bool keys_have_admin(const struct keys *keys);

/* Stored keys, newest first, NULL-terminated; valid until the loop's next turn. */
const struct key *const *keys_list(struct keys *keys, struct arena *arena);
const struct key *keys_get(struct keys *keys, int64_t id);

/* An instance is gone: its id leaves every key (the store's cascade does the same there). */
void keys_forget_instance(struct keys *keys, int64_t instance_id);

#endif
