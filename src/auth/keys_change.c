/* Making and deleting keys. A change lives from the call until the store's answer; a caller that dies meanwhile is
 * forgotten, the change goes on. */
#include "auth/keys_private.h"

#include <assert.h>
#include <openssl/crypto.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"

#define SECRET_BYTES 32
#define CLEAR_SIZE   96 /* the longest prefix, 64 digits and a NUL */
#define SK_RANDOM    48
#define ID_RANDOM    16
#define HINT_SIZE    4

struct change {
    struct list link; /* in keys->changes */
    struct keys *keys;
    struct store_call *call;
    struct arena_disposer *disposer; /* NULL: nobody waits */
    void *arg;
    /* Making: */
    struct entry *entry; /* not in keys yet; rotating: only its hash and hint count */
    char clear[CLEAR_SIZE];
    void (*on_made)(void *arg, const struct key *key, const char *clear, const struct err *err);
    /* Deleting, rotating: */
    int64_t id;
    void (*on_deleted)(void *arg, const struct err *err);
};

static void forget_caller(void *arg)
{
    struct change *c = arg;
    c->disposer = NULL;
}

static struct change *change_new(struct keys *keys, struct arena *arena, void *arg)
{
    struct change *c = mem_calloc(1, sizeof *c);
    c->keys = keys;
    c->arg = arg;
    c->disposer = arena_on_dispose(arena, forget_caller, c);
    list_push(&keys->changes, &c->link);
    return c;
}

static void change_free(struct change *c)
{
    list_remove(&c->link);
    entry_free(c->entry);
    OPENSSL_cleanse(c->clear, sizeof c->clear);
    mem_free(c);
}

void keys_forget_changes(struct keys *keys)
{
    list_each (c, &keys->changes, struct change, link) {
        store_call_forget(c->call);
        arena_forget(c->disposer);
        change_free(c);
    }
}

/* Whether there is somebody to tell; from now on there is not. */
static bool take_caller(struct change *c)
{
    bool waits = c->disposer != NULL;
    arena_forget(c->disposer);
    c->disposer = NULL;
    return waits;
}

/* ---- making ---- */

/* What the caller is given: prefix and random characters, of which we keep the hash. */
static size_t make_clear(enum key_form form, const char *prefix, char clear[CLEAR_SIZE])
{
    unsigned char secret[SECRET_BYTES];
    char digits[2 * SECRET_BYTES + 1];
    if (form == KEY_FORM_SK) {
        rand_text(digits, SK_RANDOM);
    } else {
        rand_bytes(secret, sizeof secret);
        hash_hex(secret, sizeof secret, digits);
        OPENSSL_cleanse(secret, sizeof secret);
    }
    int n = snprintf(clear, CLEAR_SIZE, "%s%s", form == KEY_FORM_SK ? "sk-" : prefix, digits);
    assert(n < CLEAR_SIZE);
    OPENSSL_cleanse(digits, sizeof digits);
    return (size_t)n;
}

static void set_secret(struct entry *e, const char *clear, size_t n)
{
    hash_sha256(clear, n, e->sha256);
    e->hashed = true;
    e->key.hint = mem_strdup(clear + n - HINT_SIZE);
}

static char *copy(const char *text)
{
    return text ? mem_strdup(text) : NULL;
}

static struct entry *make_entry(const struct key_request *request, const char *prefix, char clear[CLEAR_SIZE])
{
    char public_id[sizeof "key_" + ID_RANDOM] = "key_";
    struct entry *e = entry_new();
    rand_text(public_id + 4, ID_RANDOM);
    e->key = (struct key){.name = mem_strndup(request->name.p, request->name.n),
                          .public_id = mem_strdup(public_id),
                          .user_id = copy(request->user_id),
                          .made_by = request->made_by,
                          .scopes = request->scopes,
                          .mode = request->mode,
                          .models = copy(request->models),
                          .limits = request->limits,
                          .priority = request->priority,
                          .expires_at = request->expires_at,
                          .created_at = clock_unix(),
                          .updated_at = clock_unix()};
    set_secret(e, clear, make_clear(request->form, prefix, clear));
    entry_set_ids(e, request->instance_ids, request->instance_count);
    return e;
}

static struct store_value int_or_null(int64_t value)
{
    return value ? store_int(value) : (struct store_value){.type = STORE_NULL};
}

static struct store_value text_or_null(const char *text)
{
    return text ? store_text(str_from(text)) : (struct store_value){.type = STORE_NULL};
}

/* The id comes from the store's counter, inside the transaction; the last statement reads it back. */
static struct store_statement *write_statements(const struct entry *e, struct arena *arena, size_t *ret_count)
{
    const struct key *k = &e->key;
    size_t count = k->instance_count + 3;
    struct store_statement *all = arena_calloc(arena, count * sizeof *all);
    all[0].sql = "UPDATE counters SET value = value + 1 WHERE name = 'api_keys'";
    all[1] = (struct store_statement){
        .sql = "INSERT INTO api_keys (id, name, key_hash, scopes, permission_mode, expires_at, created_at, updated_at,"
               " public_id, hint, user_id, made_by, models, requests_per_minute, burst, tokens_per_minute, concurrent,"
               " priority) VALUES ((SELECT value FROM counters WHERE name = 'api_keys'), $1, $2, $3, $4, $5, $6, $6,"
               " $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        .params = {store_text(str_from(k->name)), store_blob((struct str){(const char *)e->sha256, sizeof e->sha256}),
                   store_text(str_from(permission_text(k->scopes, arena_alloc(arena, PERMISSIONS_TEXT_SIZE)))),
                   store_text(k->mode == KEY_ALLOW_ALL ? STR("allow_all") : STR("per_instance")),
                   int_or_null(k->expires_at), store_int(k->created_at), store_text(str_from(k->public_id)),
                   text_or_null(k->hint), text_or_null(k->user_id), int_or_null(k->made_by), text_or_null(k->models),
                   int_or_null(k->limits.requests_per_minute), int_or_null(k->limits.burst),
                   int_or_null(k->limits.tokens_per_minute), int_or_null(k->limits.concurrent),
                   text_or_null(k->priority == KEY_BATCH ? "batch" : NULL)}};
    for (size_t i = 0; i < k->instance_count; i++)
        all[2 + i] =
            (struct store_statement){.sql = "INSERT INTO key_permissions (key_id, instance_id)"
                                            " VALUES ((SELECT value FROM counters WHERE name = 'api_keys'), $1)",
                                     .params = {store_int(k->instance_ids[i])}};
    all[count - 1].sql = "SELECT value FROM counters WHERE name = 'api_keys'";
    *ret_count = count;
    return all;
}

/* A new key's hash is unique and so is its id: what conflicts is a reference. */
static void explain(const struct entry *e, struct err *err)
{
    if (err->code == ERR_CONFLICT && e->key.instance_count == 0)
        err_set(err, ERR_CONFLICT, "The key's user or maker does not exist any more.");
    else if (err->code == ERR_CONFLICT)
        err_set_param(err, ERR_INVALID_PARAMETERS, "instance_ids",
                      "instance_ids names an instance that does not exist.");
}

static void on_made(void *arg, const struct store_result *results, const struct err *err)
{
    struct change *c = arg;
    const struct key *key = NULL;
    struct err problem = err ? *err : ERR_INIT;
    if (results) {
        struct entry *e = c->entry;
        c->entry = NULL;
        e->key.id = results[e->key.instance_count + 2].values[0].integer;
        keys_add(c->keys, e);
        key = &e->key;
    }
    if (!key)
        explain(c->entry, &problem);
    if (take_caller(c))
        c->on_made(c->arg, key, key ? c->clear : NULL, key ? NULL : &problem);
    change_free(c);
}

void keys_create(struct keys *keys, const struct key_request *request, struct arena *arena,
                 void (*on_done)(void *arg, const struct key *key, const char *clear, const struct err *err), void *arg)
{
    struct err err;
    struct arena statements;
    size_t count;
    if (keys->stored_count >= LIMIT_KEYS) {
        err_set(&err, ERR_CONFLICT, "There are %d keys, the most there may be: delete some.", LIMIT_KEYS);
        on_done(arg, NULL, NULL, &err);
        return;
    }
    struct change *c = change_new(keys, arena, arg);
    c->on_made = on_done;
    c->entry = make_entry(request, "llamactl-", c->clear);
    arena_init(&statements);
    const struct store_statement *all = write_statements(c->entry, &statements, &count);
    c->call = store_transact(keys->store, all, count, on_made, c);
    arena_dispose(&statements);
}

const char *keys_first_management_key(struct keys *keys, struct arena *arena, struct err *err)
{
    const struct key_request request = {.name = STR("first management key"), .scopes = AUTH_MANAGEMENT};
    size_t count;
    *err = ERR_INIT;
    if (!keys_required(keys, AUTH_MANAGEMENT) || keys_have_admin(keys))
        return NULL;
    char *clear = arena_alloc(arena, CLEAR_SIZE);
    struct entry *e = make_entry(&request, "llamactl-mgmt-", clear);
    const struct store_statement *all = write_statements(e, arena, &count);
    struct store_result *results = arena_calloc(arena, count * sizeof *results);
    if (!store_transact_now(keys->store, all, count, arena, results, err)) {
        entry_free(e);
        return NULL;
    }
    e->key.id = results[count - 1].values[0].integer;
    keys_add(keys, e);
    return clear;
}

/* ---- rotating ---- */

static void on_rotated(void *arg, const struct store_result *results, const struct err *err)
{
    struct change *c = arg;
    struct entry *e = keys_entry(c->keys, c->id);
    struct err problem = err ? *err : ERR_INIT;
    bool done = results && results[0].changed == 1 && e && !e->revoked;
    if (done) {
        keys_set_hash(c->keys, e, c->entry->sha256);
        mem_free((char *)e->key.hint);
        e->key.hint = c->entry->key.hint;
        c->entry->key.hint = NULL;
        e->key.updated_at = c->entry->key.updated_at;
        e->key.generation++;
    } else if (results) {
        err_set(&problem, ERR_NOT_FOUND, "The key was deleted meanwhile.");
    }
    if (take_caller(c))
        c->on_made(c->arg, done ? &e->key : NULL, done ? c->clear : NULL, done ? NULL : &problem);
    if (done)
        keys_lost(c->keys);
    change_free(c);
}

void keys_rotate(struct keys *keys, int64_t id, struct arena *arena,
                 void (*on_done)(void *arg, const struct key *key, const char *clear, const struct err *err), void *arg)
{
    struct entry *e = keys_entry(keys, id);
    struct err err;
    if (!e || e->revoked) {
        err_set(&err, ERR_NOT_FOUND, "There is no key with the id %lld.", (long long)id);
        on_done(arg, NULL, NULL, &err);
        return;
    }
    struct change *c = change_new(keys, arena, arg);
    c->on_made = on_done;
    c->id = id;
    c->entry = entry_new();
    c->entry->key.updated_at = clock_unix();
    set_secret(c->entry, c->clear, make_clear(KEY_FORM_SK, "", c->clear));
    const struct store_statement write = {
        .sql = "UPDATE api_keys SET key_hash = $1, legacy_hash = NULL, hint = $2, updated_at = $3 WHERE id = $4",
        .params = {store_blob((struct str){(const char *)c->entry->sha256, HASH_SHA256_SIZE}),
                   store_text(str_from(c->entry->key.hint)), store_int(c->entry->key.updated_at), store_int(id)}};
    c->call = store_transact(keys->store, &write, 1, on_rotated, c);
}

/* ---- deleting ---- */

/* Keys that a key made for itself go with it (the store's cascade does the same there); those make none. */
static void revoke_made(struct keys *keys, int64_t id)
{
    list_each (e, &keys->stored, struct entry, link) {
        if (e->key.made_by == id)
            keys_revoke(keys, e);
    }
}

static void bury_made(struct keys *keys, int64_t id)
{
    list_each (e, &keys->stored, struct entry, link) {
        if (e->key.made_by == id)
            keys_bury(keys, e);
    }
}

/* A key that the store failed to delete stays listed, so that it can be deleted again; it opens nothing meanwhile. */
static void on_deleted(void *arg, const struct store_result *results, const struct err *err)
{
    struct change *c = arg;
    struct entry *e = keys_entry(c->keys, c->id);
    if (results && e) {
        bury_made(c->keys, c->id);
        keys_bury(c->keys, e);
    }
    if (take_caller(c))
        c->on_deleted(c->arg, err);
    change_free(c);
}

void keys_delete(struct keys *keys, int64_t id, struct arena *arena, void (*on_done)(void *arg, const struct err *err),
                 void *arg)
{
    struct entry *e = keys_entry(keys, id);
    struct err err;
    if (!e) {
        err_set(&err, ERR_NOT_FOUND, "There is no key with the id %lld.", (long long)id);
        on_done(arg, &err);
        return;
    }
    keys_revoke(keys, e);
    revoke_made(keys, id);
    keys_lost(keys);
    struct change *c = change_new(keys, arena, arg);
    c->on_deleted = on_done;
    c->id = id;
    const struct store_statement remove = {.sql = "DELETE FROM api_keys WHERE id = $1", .params = {store_int(id)}};
    c->call = store_transact(keys->store, &remove, 1, on_deleted, c);
}
