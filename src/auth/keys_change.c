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

struct change {
    struct list link; /* in keys->changes */
    struct keys *keys;
    struct store_call *call;
    struct arena_disposer *disposer; /* NULL: nobody waits */
    void *arg;
    /* Making: */
    struct entry *entry; /* not in keys yet */
    char clear[CLEAR_SIZE];
    void (*on_made)(void *arg, const struct key *key, const char *clear, const struct err *err);
    /* Deleting: */
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

static struct entry *make_entry(const struct key_request *request, const char *prefix, char clear[CLEAR_SIZE])
{
    unsigned char secret[SECRET_BYTES];
    char digits[2 * SECRET_BYTES + 1];
    struct entry *e = entry_new();
    rand_bytes(secret, sizeof secret);
    int n = snprintf(clear, CLEAR_SIZE, "%s%s", prefix, hash_hex(secret, sizeof secret, digits));
    assert(n < CLEAR_SIZE);
    hash_sha256(clear, (size_t)n, e->sha256);
    e->hashed = true;
    OPENSSL_cleanse(secret, sizeof secret);
    OPENSSL_cleanse(digits, sizeof digits);
    e->key = (struct key){.name = mem_strndup(request->name.p, request->name.n),
                          .scopes = request->scopes,
                          .mode = request->mode,
                          .expires_at = request->expires_at,
                          .created_at = clock_unix(),
                          .updated_at = clock_unix()};
    entry_set_ids(e, request->instance_ids, request->instance_count);
    return e;
}

static const char *scopes_text(unsigned scopes)
{
    static const char *const texts[] = {"", "inference", "management", "management inference"};
    return texts[scopes & (AUTH_INFERENCE | AUTH_MANAGEMENT)];
}

/* The id comes from the store's counter, inside the transaction; the last statement reads it back. */
static struct store_statement *write_statements(const struct entry *e, struct arena *arena, size_t *ret_count)
{
    const struct key *k = &e->key;
    size_t count = k->instance_count + 3;
    struct store_statement *all = arena_calloc(arena, count * sizeof *all);
    all[0].sql = "UPDATE counters SET value = value + 1 WHERE name = 'api_keys'";
    all[1] = (struct store_statement){
        .sql = "INSERT INTO api_keys (id, name, key_hash, scopes, permission_mode, expires_at, created_at, updated_at)"
               " VALUES ((SELECT value FROM counters WHERE name = 'api_keys'), $1, $2, $3, $4, $5, $6, $7)",
        .params = {store_text(str_from(k->name)), store_blob((struct str){(const char *)e->sha256, sizeof e->sha256}),
                   store_text(str_from(scopes_text(k->scopes))),
                   store_text(k->mode == KEY_ALLOW_ALL ? STR("allow_all") : STR("per_instance")),
                   k->expires_at ? store_int(k->expires_at) : (struct store_value){.type = STORE_NULL},
                   store_int(k->created_at), store_int(k->updated_at)}};
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
static void explain(struct err *err)
{
    if (err->code == ERR_CONFLICT)
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
    explain(&problem);
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

static bool has_management_key(const struct keys *keys)
{
    list_each (e, &keys->configured, struct entry, link) {
        if (e->key.scopes & AUTH_MANAGEMENT)
            return true;
    }
    list_each (e, &keys->stored, struct entry, link) {
        if ((e->key.scopes & AUTH_MANAGEMENT) && entry_usable(e))
            return true;
    }
    return false;
}

const char *keys_first_management_key(struct keys *keys, struct arena *arena, struct err *err)
{
    const struct key_request request = {.name = STR("first management key"), .scopes = AUTH_MANAGEMENT};
    size_t count;
    *err = ERR_INIT;
    if (!keys_required(keys, AUTH_MANAGEMENT) || has_management_key(keys))
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

/* ---- deleting ---- */

/* A key that the store failed to delete stays listed, so that it can be deleted again; it opens nothing meanwhile. */
static void on_deleted(void *arg, const struct store_result *results, const struct err *err)
{
    struct change *c = arg;
    struct entry *e = keys_entry(c->keys, c->id);
    if (results && e)
        keys_bury(c->keys, e);
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
    struct change *c = change_new(keys, arena, arg);
    c->on_deleted = on_done;
    c->id = id;
    const struct store_statement remove = {.sql = "DELETE FROM api_keys WHERE id = $1", .params = {store_int(id)}};
    c->call = store_transact(keys->store, &remove, 1, on_deleted, c);
}
