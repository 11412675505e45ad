/* Keys in memory.
 *
 * A presented key is hashed first, and the hash looked up in a table: how long that takes depends on bits the caller
 * cannot steer (he does not know which key has which hash), and not on how many keys there are or how much of one he
 * guessed. The hash found is compared once more in constant time.
 *
 * Memory is the truth for reading, the store for the next start: what the store refuses is not added here, what is
 * deleted stops working here before the store knows. Times of use are gathered and written once a minute at most. */
#include "auth/keys_private.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>

#include "base/clock.h"
#include "base/mem.h"

#define FLUSH_ROWS 256 /* times of use in one transaction */

/* ---- entries ---- */

struct entry *entry_new(void)
{
    struct entry *e = mem_calloc(1, sizeof *e);
    list_init(&e->link);
    list_init(&e->used);
    return e;
}

void entry_free(struct entry *e)
{
    if (!e)
        return;
    list_remove(&e->link);
    list_remove(&e->used);
    mem_free((char *)e->key.name);
    mem_free((char *)e->key.public_id);
    mem_free((char *)e->key.hint);
    mem_free((char *)e->key.user_id);
    mem_free((char *)e->key.models);
    mem_free((int64_t *)e->key.instance_ids);
    mem_free(e->legacy_hash);
    mem_free(e);
}

static int compare_ids(const void *a, const void *b)
{
    const int64_t *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

void entry_set_ids(struct entry *e, const int64_t *ids, size_t count)
{
    int64_t *sorted = mem_alloc((count + 1) * sizeof *sorted);
    size_t kept = 0;
    if (count)
        memcpy(sorted, ids, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_ids);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || sorted[i] != sorted[kept - 1])
            sorted[kept++] = sorted[i];
    e->key.instance_ids = sorted;
    e->key.instance_count = kept;
}

bool entry_usable(const struct entry *e)
{
    return !e->revoked && (e->key.expires_at == 0 || clock_unix() < e->key.expires_at);
}

static struct str hash_text(const unsigned char sha256[HASH_SHA256_SIZE])
{
    return (struct str){(const char *)sha256, HASH_SHA256_SIZE};
}

static void count_scopes(struct keys *keys, const struct entry *e, bool add)
{
    size_t by = add ? 1 : (size_t)-1;
    keys->inference_count += e->key.scopes & AUTH_INFERENCE ? by : 0;
    keys->management_count += e->key.scopes & AUTH_MANAGEMENT ? by : 0;
}

static struct str id_text(const int64_t *id)
{
    return (struct str){(const char *)id, sizeof *id};
}

struct entry *keys_entry(struct keys *keys, int64_t id)
{
    return map_get(&keys->by_id, id_text(&id));
}

/* A key that the configuration has too keeps the configuration's rights. */
static void index_hash(struct keys *keys, struct entry *e)
{
    if (e->hashed && !map_get(&keys->by_hash, hash_text(e->sha256)))
        map_put(&keys->by_hash, hash_text(e->sha256), e);
}

void keys_add(struct keys *keys, struct entry *e)
{
    list_push_front(&keys->stored, &e->link);
    map_put(&keys->by_id, id_text(&e->key.id), e);
    keys->stored_count++;
    keys->legacy_count += e->legacy_hash != NULL;
    count_scopes(keys, e, true);
    index_hash(keys, e);
}

static void drop_legacy(struct keys *keys, struct entry *e)
{
    keys->legacy_count -= e->legacy_hash != NULL;
    mem_free(e->legacy_hash);
    e->legacy_hash = NULL;
}

static void unindex_hash(struct keys *keys, const struct entry *e)
{
    if (e->hashed && map_get(&keys->by_hash, hash_text(e->sha256)) == e)
        map_remove(&keys->by_hash, hash_text(e->sha256));
}

void keys_set_hash(struct keys *keys, struct entry *e, const unsigned char sha256[HASH_SHA256_SIZE])
{
    unindex_hash(keys, e);
    memcpy(e->sha256, sha256, HASH_SHA256_SIZE);
    e->hashed = true;
    drop_legacy(keys, e);
    index_hash(keys, e);
}

void keys_revoke(struct keys *keys, struct entry *e)
{
    e->revoked = true;
    drop_legacy(keys, e);
    list_remove(&e->used);
    unindex_hash(keys, e);
}

void keys_on_lost(struct keys *keys, void (*on_lost)(void *arg), void *arg)
{
    keys->on_lost = on_lost;
    keys->on_lost_arg = arg;
}

void keys_lost(struct keys *keys)
{
    if (keys->on_lost)
        keys->on_lost(keys->on_lost_arg);
}

static void on_bury(struct loop_soon *soon)
{
    struct keys *keys = container_of(soon, struct keys, bury);
    list_each (e, &keys->dead, struct entry, link) {
        entry_free(e);
    }
}

void keys_bury(struct keys *keys, struct entry *e)
{
    count_scopes(keys, e, false);
    keys->stored_count--;
    map_remove(&keys->by_id, id_text(&e->key.id));
    list_remove(&e->link);
    list_push(&keys->dead, &e->link);
    loop_soon(keys->loop, &keys->bury, on_bury);
}

/* ---- the configuration's keys ---- */

static bool add_configured(struct keys *keys, conf_SECRETS texts, unsigned scope, const char *option, struct err *err)
{
    for (; *texts; texts++) {
        struct entry *e = entry_new();
        if (!**texts) {
            entry_free(e);
            return err_set(err, ERR_CONFIG, "auth.%s holds an empty key: remove it.", option);
        }
        hash_sha256(*texts, strlen(*texts), e->sha256);
        e->hashed = true;
        struct entry *same = map_get(&keys->by_hash, hash_text(e->sha256));
        if (same) { /* in both lists, or twice in one */
            entry_free(e);
            count_scopes(keys, same, false);
            same->key.scopes |= scope;
            count_scopes(keys, same, true);
            continue;
        }
        e->key = (struct key){.name = mem_strdup(option), .scopes = scope};
        list_push(&keys->configured, &e->link);
        count_scopes(keys, e, true);
        index_hash(keys, e);
    }
    return true;
}

/* ---- imported keys ---- */

static size_t list_legacy_hashes(void *owner, struct arena *arena, const struct legacy_hash **ret_hashes)
{
    struct keys *keys = owner;
    struct legacy_hash *hashes = arena_alloc(arena, (keys->legacy_count + 1) * sizeof *hashes);
    size_t count = 0;
    list_each (e, &keys->stored, struct entry, link) {
        if (e->legacy_hash && entry_usable(e))
            hashes[count++] = (struct legacy_hash){e->key.id, arena_strdup(arena, e->legacy_hash)};
    }
    *ret_hashes = hashes;
    return count;
}

static void on_legacy_match(void *owner, int64_t id, const unsigned char sha256[HASH_SHA256_SIZE])
{
    struct keys *keys = owner;
    struct entry *e = keys_entry(keys, id);
    if (!e || !e->legacy_hash)
        return; /* deleted meanwhile */
    keys_set_hash(keys, e, sha256);
    const struct store_statement keep = {.sql = "UPDATE api_keys SET key_hash = $1, legacy_hash = NULL WHERE id = $2",
                                         .params = {store_blob(hash_text(sha256)), store_int(id)}};
    store_transact(keys->store, &keep, 1, NULL, NULL);
}

/* ---- the whole ---- */

struct keys *keys_new(struct loop *loop, const struct conf *conf, struct store *store, struct err *err)
{
    static const struct legacy_events events = {.hashes = list_legacy_hashes, .on_match = on_legacy_match};
    struct keys *keys = mem_calloc(1, sizeof *keys);
    keys->loop = loop;
    keys->conf = conf;
    keys->store = store;
    map_init(&keys->by_hash);
    map_init(&keys->by_id);
    list_init(&keys->configured);
    list_init(&keys->stored);
    list_init(&keys->dead);
    list_init(&keys->used);
    list_init(&keys->changes);
    keys->legacy = legacy_new(loop, &events, keys);
    if (add_configured(keys, conf->management_keys, AUTH_MANAGEMENT, "management_keys", err) &&
        add_configured(keys, conf->inference_keys, AUTH_INFERENCE, "inference_keys", err) && keys_load(keys, err))
        return keys;
    keys_free(keys);
    return NULL;
}

static void free_entries(struct list *entries)
{
    list_each (e, entries, struct entry, link) {
        entry_free(e);
    }
}

static void flush_uses(struct keys *keys)
{
    struct store_statement writes[FLUSH_ROWS];
    size_t count = 0;
    while (!list_empty(&keys->used) && count < FLUSH_ROWS) {
        struct entry *e = list_first(&keys->used, struct entry, used);
        list_remove(&e->used);
        writes[count++] = (struct store_statement){.sql = "UPDATE api_keys SET last_used_at = $1 WHERE id = $2",
                                                   .params = {store_int(e->key.last_used_at), store_int(e->key.id)}};
    }
    if (count)
        store_transact(keys->store, writes, count, NULL, NULL);
}

static void flush_all_uses(struct keys *keys)
{
    while (!list_empty(&keys->used))
        flush_uses(keys);
}

void keys_free(struct keys *keys)
{
    if (!keys)
        return;
    flush_all_uses(keys);
    deadline_cancel(keys->loop, &keys->flush);
    loop_soon_cancel(&keys->bury);
    keys_forget_changes(keys);
    legacy_free(keys->legacy);
    free_entries(&keys->configured);
    free_entries(&keys->stored);
    free_entries(&keys->dead);
    map_release(&keys->by_hash);
    map_release(&keys->by_id);
    mem_free(keys);
}

/* ---- asking ---- */

static bool is_loopback(const char *address)
{
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, address, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, address, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

/* An expired key counts: its end must not open the door to everybody. */
bool keys_required(const struct keys *keys, unsigned scope)
{
    bool management = !(scope & (AUTH_INFERENCE | AUTH_MODELS_READ | AUTH_METRICS | AUTH_BATCH));
    if (keys->conf->auth_enabled)
        return true;
    int required = management ? keys->conf->require_management_auth : keys->conf->require_inference_auth;
    if (required != CONF_AUTO_VALUE)
        return required;
    bool any = keys->management_count > 0 || keys->inference_count > 0;
    return (management ? keys->management_count : keys->inference_count) > 0 ||
           (any && !is_loopback(keys->conf->bind_address));
}

static void on_flush(struct deadline *deadline)
{
    flush_all_uses(container_of(deadline, struct keys, flush));
}

static void note_use(struct keys *keys, struct entry *e)
{
    e->key.last_used_at = clock_unix();
    if (e->key.id == 0 || !list_empty(&e->used))
        return;
    list_push(&keys->used, &e->used);
    if (!keys->flush.due_ms)
        deadline_arm(keys->loop, &keys->flush, LIMIT_KEY_USE_MS, on_flush);
}

static struct entry *find(struct keys *keys, const unsigned char sha256[HASH_SHA256_SIZE])
{
    struct entry *e = map_get(&keys->by_hash, hash_text(sha256));
    if (!e || CRYPTO_memcmp(e->sha256, sha256, HASH_SHA256_SIZE) != 0 || !entry_usable(e))
        return NULL;
    note_use(keys, e);
    return e;
}

const struct key *keys_find(struct keys *keys, struct str presented)
{
    unsigned char sha256[HASH_SHA256_SIZE];
    hash_sha256(presented.p, presented.n, sha256);
    struct entry *e = find(keys, sha256);
    return e ? &e->key : NULL;
}

struct waiting_check {
    struct keys *keys;
    unsigned char sha256[HASH_SHA256_SIZE];
    void (*on_key)(void *arg, const struct key *key, const struct err *err);
    void *arg;
};

static void on_checked(void *arg)
{
    struct waiting_check *w = arg;
    struct entry *e = find(w->keys, w->sha256);
    w->on_key(w->arg, e ? &e->key : NULL, NULL);
}

void keys_check(struct keys *keys, struct str presented, struct arena *arena,
                void (*on_key)(void *arg, const struct key *key, const struct err *err), void *arg)
{
    struct err err;
    const struct key *key = keys_find(keys, presented);
    if (key || keys->legacy_count == 0 || !legacy_plausible(presented)) {
        on_key(arg, key, NULL);
        return;
    }
    struct waiting_check *w = arena_alloc(arena, sizeof *w);
    *w = (struct waiting_check){.keys = keys, .on_key = on_key, .arg = arg};
    hash_sha256(presented.p, presented.n, w->sha256);
    if (legacy_check(keys->legacy, presented, w->sha256, arena, on_checked, w))
        return;
    err_set(&err, ERR_SERVER_OVERLOADED, "Too many unknown keys are being checked; try again shortly.");
    on_key(arg, NULL, &err);
}

bool key_allows(const struct key *key, unsigned scope)
{
    return permission_allows(key->scopes, scope);
}

bool key_allows_instance(const struct key *key, int64_t instance_id)
{
    return key->mode == KEY_ALLOW_ALL ||
           bsearch(&instance_id, key->instance_ids, key->instance_count, sizeof instance_id, compare_ids);
}

const struct key *const *keys_list(struct keys *keys, struct arena *arena)
{
    const struct key **all = arena_alloc(arena, (keys->stored_count + 1) * sizeof *all);
    size_t count = 0;
    list_each (e, &keys->stored, struct entry, link) {
        all[count++] = &e->key;
    }
    all[count] = NULL;
    return all;
}

const struct key *keys_get(struct keys *keys, int64_t id)
{
    struct entry *e = keys_entry(keys, id);
    return e ? &e->key : NULL;
}

const struct key *keys_get_public(struct keys *keys, struct str public_id)
{
    list_each (e, &keys->stored, struct entry, link) {
        if (str_eq(str_from(e->key.public_id), public_id))
            return &e->key;
    }
    return NULL;
}

bool keys_still_valid(struct keys *keys, int64_t id, unsigned generation)
{
    const struct entry *e = keys_entry(keys, id);
    return e && entry_usable(e) && e->key.generation == generation;
}

bool keys_have_admin(const struct keys *keys)
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

void keys_forget_user(struct keys *keys, const char *user_id)
{
    list_each (e, &keys->stored, struct entry, link) {
        if (e->key.user_id && strcmp(e->key.user_id, user_id) == 0) {
            keys_revoke(keys, e);
            keys_bury(keys, e);
        }
    }
    keys_lost(keys);
}

static void forget_id(struct key *key, int64_t instance_id)
{
    int64_t *ids = (int64_t *)key->instance_ids;
    int64_t *at = bsearch(&instance_id, ids, key->instance_count, sizeof *ids, compare_ids);
    if (!at)
        return;
    key->instance_count--;
    memmove(at, at + 1, (key->instance_count - (size_t)(at - ids)) * sizeof *ids);
}

/* A key that is just being made keeps the id; ids are never used twice, so it opens nothing. */
void keys_forget_instance(struct keys *keys, int64_t instance_id)
{
    list_each (e, &keys->stored, struct entry, link) {
        forget_id(&e->key, instance_id);
    }
}
