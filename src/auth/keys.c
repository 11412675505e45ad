/* One table of keys in memory, found by hash; the store is its durable copy. The table is the loop's, so a look-up is a
 * hash and a probe. What the store must learn later (when a key was used last) is collected and written once a minute.
 *
 * Keys taken over from llamactl are known by an Argon2id hash only, which costs tens of milliseconds and 64 MiB to try.
 * A presented key that has llamactl's form and is not known otherwise is tried against those, one request at a time on
 * the pool; the one that matches gets its fast hash, so each such key is tried once in its life. */
#include "auth/keys.h"

#include <argon2.h>
#include <ctype.h>
#include <openssl/crypto.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rand.h"
#include "obs/log.h"

#define PREFIX        "llamactl-"
#define SECRET_BYTES  32
#define FLUSH_MS      60000
#define FLUSH_AT_ONCE 128 /* keys written in one transaction */

struct entry {
    struct list link; /* newest first */
    struct key key;
    char *name;
    int64_t *ids;
    unsigned char hash[HASH_SHA256_SIZE];
    bool hashed, used; /* used since the store was told */
    char *legacy;      /* Argon2id hash while there is no other; or NULL */
};

struct check {
    struct list link;
    struct loop_job job;
    struct keys *keys;
    char *presented;
    struct candidate {
        int64_t id;
        char *legacy;
    } * candidates;
    size_t count, matched; /* matched: index, or count */
    struct arena_disposer *disposer;
    void (*on_key)(void *arg, const struct key *key, const struct err *err); /* NULL: nobody waits */
    void *arg;
};

struct keys {
    struct loop *loop;
    const struct conf *conf;
    struct store *store;
    struct list entries;
    struct map by_hash;
    size_t count, legacy_count, managing; /* all; with a legacy hash only; that may manage */
    struct list checks;                   /* struct check; the first one runs */
    unsigned waiting;
    bool closing;
    struct deadline flush;
};

static struct str hash_key(const unsigned char *hash)
{
    return (struct str){(const char *)hash, HASH_SHA256_SIZE};
}

/* ---- the table ---- */

static struct entry *entry_new(struct str name)
{
    struct entry *e = mem_calloc(1, sizeof *e);
    list_init(&e->link);
    e->name = mem_strndup(name.p ? name.p : "", name.n);
    e->key.name = e->name;
    return e;
}

static void entry_add(struct keys *keys, struct entry *e)
{
    list_push_front(&keys->entries, &e->link);
    keys->count++;
    keys->legacy_count += e->legacy != NULL;
    keys->managing += (e->key.scopes & AUTH_MANAGEMENT) != 0;
}

static void entry_set_hash(struct keys *keys, struct entry *e, const void *hash)
{
    memcpy(e->hash, hash, sizeof e->hash);
    e->hashed = true;
    map_put(&keys->by_hash, hash_key(e->hash), e);
}

static void entry_free(struct entry *e)
{
    mem_free(e->legacy);
    mem_free(e->name);
    mem_free(e->ids);
    mem_free(e);
}

static void entry_remove(struct keys *keys, struct entry *e)
{
    list_remove(&e->link);
    if (e->hashed && map_get(&keys->by_hash, hash_key(e->hash)) == e)
        map_remove(&keys->by_hash, hash_key(e->hash));
    keys->count--;
    keys->legacy_count -= e->legacy != NULL;
    keys->managing -= (e->key.scopes & AUTH_MANAGEMENT) != 0;
    entry_free(e);
}

static struct entry *find_id(struct keys *keys, int64_t id)
{
    list_each (e, &keys->entries, struct entry, link)
        if (id != 0 && e->key.id == id)
            return e;
    return NULL;
}

static void add_configured(struct keys *keys, const char *const *list, unsigned scopes, const char *name)
{
    unsigned char hash[HASH_SHA256_SIZE];
    for (; *list; list++) {
        struct entry *e = entry_new(str_from(name));
        e->key.scopes = scopes;
        entry_add(keys, e);
        hash_sha256(*list, strlen(*list), hash);
        entry_set_hash(keys, e, hash);
    }
}

static unsigned read_scopes(struct str text)
{
    unsigned scopes = AUTH_NONE;
    while (text.p && text.n) {
        struct str word = str_cut(&text, ' ');
        if (str_eq(word, STR("management")))
            scopes |= AUTH_MANAGEMENT | AUTH_INFERENCE;
        else if (str_eq(word, STR("inference")))
            scopes |= AUTH_INFERENCE;
    }
    return scopes;
}

static void load_key(struct keys *keys, const struct store_value *row)
{
    struct entry *e = entry_new(row[1].text);
    e->key.id = row[0].integer;
    e->key.scopes = read_scopes(row[4].text);
    e->key.mode = str_eq(row[5].text, STR("per_instance")) ? KEY_PER_INSTANCE : KEY_ALLOW_ALL;
    e->key.expires_at = row[6].type == STORE_NULL ? 0 : row[6].integer;
    e->key.created_at = row[7].integer;
    e->key.updated_at = row[8].integer;
    e->key.last_used_at = row[9].type == STORE_NULL ? 0 : row[9].integer;
    if (row[2].type != STORE_NULL && row[2].text.n == HASH_SHA256_SIZE) {
        entry_set_hash(keys, e, row[2].text.p);
    } else if (row[3].type != STORE_NULL) {
        e->legacy = mem_strndup(row[3].text.p, row[3].text.n);
    }
    entry_add(keys, e);
}

static void add_permission(struct entry *e, int64_t instance_id)
{
    e->ids = mem_realloc(e->ids, (e->key.instance_count + 1) * sizeof *e->ids);
    e->ids[e->key.instance_count++] = instance_id;
    e->key.instance_ids = e->ids;
}

static bool load(struct keys *keys, struct err *err)
{
    struct arena arena;
    struct store_result r[2];
    static const struct store_statement statements[] = {
        {.sql = "SELECT id, name, key_hash, legacy_hash, scopes, permission_mode, expires_at, created_at, updated_at, "
                "last_used_at FROM api_keys ORDER BY id"},
        {.sql = "SELECT key_id, instance_id FROM key_permissions ORDER BY key_id, instance_id"}};
    arena_init(&arena);
    bool good = store_transact_now(keys->store, statements, 2, &arena, r, err);
    for (size_t n = 0; good && n < r[0].rows; n++)
        load_key(keys, r[0].values + n * r[0].columns);
    struct entry *e = NULL;
    for (size_t n = 0; good && n < r[1].rows; n++) {
        const struct store_value *row = r[1].values + n * r[1].columns;
        if (!e || e->key.id != row[0].integer)
            e = find_id(keys, row[0].integer);
        if (e)
            add_permission(e, row[1].integer);
    }
    arena_dispose(&arena);
    return good;
}

struct keys *keys_new(struct loop *loop, const struct conf *conf, struct store *store, struct err *err)
{
    struct keys *keys = mem_calloc(1, sizeof *keys);
    *keys = (struct keys){.loop = loop, .conf = conf, .store = store};
    list_init(&keys->entries);
    list_init(&keys->checks);
    map_init(&keys->by_hash);
    if (!load(keys, err)) {
        keys_free(keys);
        return NULL;
    }
    add_configured(keys, conf->inference_keys, AUTH_INFERENCE, "configuration");
    add_configured(keys, conf->management_keys, AUTH_MANAGEMENT | AUTH_INFERENCE, "configuration");
    return keys;
}

static void flush(struct keys *keys);

static void destroy(struct keys *keys)
{
    while (!list_empty(&keys->entries))
        entry_remove(keys, list_first(&keys->entries, struct entry, link));
    map_release(&keys->by_hash);
    mem_free(keys);
}

static void check_free(struct check *c)
{
    list_remove(&c->link);
    for (size_t n = 0; n < c->count; n++)
        mem_free(c->candidates[n].legacy);
    OPENSSL_cleanse(c->presented, strlen(c->presented));
    mem_free(c->presented);
    mem_free(c->candidates);
    mem_free(c);
}

void keys_free(struct keys *keys)
{
    if (!keys)
        return;
    flush(keys);
    deadline_cancel(keys->loop, &keys->flush);
    keys->closing = true;
    if (list_empty(&keys->checks)) {
        destroy(keys);
        return;
    }
    struct list *running = keys->checks.next; /* on the pool: it ends the rest */
    while (running->next != &keys->checks)
        check_free(container_of(running->next, struct check, link));
}

/* ---- needed or not ---- */

static bool is_loopback(const char *address)
{
    return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0 || strcmp(address, "localhost") == 0;
}

bool keys_required(const struct keys *keys, enum auth_scope scope)
{
    const struct conf *conf = keys->conf;
    int wanted = scope == AUTH_MANAGEMENT ? conf->require_management_auth : conf->require_inference_auth;
    if (wanted != CONF_AUTO_VALUE)
        return wanted == 1;
    if (!is_loopback(conf->bind_address) && !conf->insecure)
        return true;
    return scope == AUTH_MANAGEMENT ? keys->managing > 0 : keys->count > keys->managing;
}

/* ---- looking up ---- */

static void on_flush(struct deadline *deadline)
{
    flush(container_of(deadline, struct keys, flush));
}

static bool expired(const struct entry *e)
{
    return e->key.expires_at != 0 && e->key.expires_at <= clock_unix();
}

const struct key *keys_find(struct keys *keys, struct str presented)
{
    unsigned char hash[HASH_SHA256_SIZE];
    hash_sha256(presented.p, presented.n, hash);
    struct entry *e = map_get(&keys->by_hash, hash_key(hash));
    if (!e || CRYPTO_memcmp(e->hash, hash, sizeof hash) != 0 || expired(e))
        return NULL;
    e->key.last_used_at = clock_unix();
    if (e->key.id != 0 && !e->used) {
        e->used = true;
        if (keys->flush.due_ms == 0)
            deadline_arm(keys->loop, &keys->flush, FLUSH_MS, on_flush);
    }
    return &e->key;
}

static void flush(struct keys *keys)
{
    struct store_statement statements[FLUSH_AT_ONCE];
    size_t count = 0;
    list_each (e, &keys->entries, struct entry, link) {
        if (!e->used)
            continue;
        e->used = false;
        statements[count++] =
            (struct store_statement){.sql = "UPDATE api_keys SET last_used_at = $1 WHERE id = $2",
                                     .params = {store_int(e->key.last_used_at), store_int(e->key.id)}};
        if (count == FLUSH_AT_ONCE) {
            store_transact(keys->store, statements, count, NULL, NULL);
            count = 0;
        }
    }
    if (count)
        store_transact(keys->store, statements, count, NULL, NULL);
}

bool key_allows(const struct key *key, enum auth_scope scope)
{
    return (key->scopes & (unsigned)scope) == (unsigned)scope;
}

bool key_allows_instance(const struct key *key, int64_t instance_id)
{
    if (key->mode == KEY_ALLOW_ALL)
        return true;
    size_t low = 0, high = key->instance_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (key->instance_ids[middle] == instance_id)
            return true;
        if (key->instance_ids[middle] < instance_id)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* ---- llamactl's keys ---- */

static bool has_legacy_form(struct str key)
{
    size_t prefix = sizeof PREFIX - 1;
    bool good = str_starts(key, STR(PREFIX)) && key.n == prefix + 2 * SECRET_BYTES;
    for (size_t i = prefix; good && i < key.n; i++)
        good = isxdigit((unsigned char)key.p[i]);
    return good;
}

static void verify(struct loop_job *job)
{
    struct check *c = container_of(job, struct check, job);
    for (c->matched = 0; c->matched < c->count; c->matched++)
        if (argon2id_verify(c->candidates[c->matched].legacy, c->presented, strlen(c->presented)) == ARGON2_OK)
            return;
}

static void verified(struct loop_job *job);

static void check_begin(struct keys *keys)
{
    if (list_empty(&keys->checks))
        return;
    struct check *c = list_first(&keys->checks, struct check, link);
    size_t n = 0;
    c->candidates = mem_calloc(keys->legacy_count + 1, sizeof *c->candidates);
    list_each (e, &keys->entries, struct entry, link)
        if (e->legacy && !expired(e))
            c->candidates[n++] = (struct candidate){e->key.id, mem_strdup(e->legacy)};
    c->count = c->matched = n;
    loop_work(keys->loop, &c->job, verify, verified);
}

/* The key is known now: from here on it is found like the others. */
static void give_hash(struct keys *keys, struct entry *e, const char *presented)
{
    unsigned char hash[HASH_SHA256_SIZE];
    hash_sha256(presented, strlen(presented), hash);
    entry_set_hash(keys, e, hash);
    mem_free(e->legacy);
    e->legacy = NULL;
    keys->legacy_count--;
    struct store_statement statement = {.sql = "UPDATE api_keys SET key_hash = $1, legacy_hash = NULL WHERE id = $2",
                                        .params = {store_blob(hash_key(hash)), store_int(e->key.id)}};
    store_transact(keys->store, &statement, 1, NULL, NULL);
    log_info("imported key recognised", "key=%lld name=%s", (long long)e->key.id, e->name);
}

static void verified(struct loop_job *job)
{
    struct check *c = container_of(job, struct check, job);
    struct keys *keys = c->keys;
    if (keys->closing) {
        check_free(c);
        destroy(keys);
        return;
    }
    struct entry *e = c->matched < c->count ? find_id(keys, c->candidates[c->matched].id) : NULL;
    if (e && e->legacy)
        give_hash(keys, e, c->presented);
    const struct key *key = keys_find(keys, str_from(c->presented));
    void (*on_key)(void *, const struct key *, const struct err *) = c->on_key;
    void *arg = c->arg;
    if (on_key)
        arena_forget(c->disposer);
    check_free(c);
    keys->waiting--;
    check_begin(keys);
    if (on_key)
        on_key(arg, key, NULL);
}

static void on_caller_gone(void *arg)
{
    struct check *c = arg;
    c->on_key = NULL;
}

void keys_check(struct keys *keys, struct str presented, struct arena *arena,
                void (*on_key)(void *arg, const struct key *key, const struct err *err), void *arg)
{
    struct err err;
    const struct key *key = keys_find(keys, presented);
    if (key || keys->legacy_count == 0 || !has_legacy_form(presented)) {
        on_key(arg, key, NULL);
        return;
    }
    if (keys->waiting >= LIMIT_LEGACY_CHECKS) {
        err_set(&err, ERR_RATE_LIMIT_EXCEEDED, "too many unknown keys are being checked; try again in a second");
        err.retry_after_ms = 1000;
        on_key(arg, NULL, &err);
        return;
    }
    struct check *c = mem_calloc(1, sizeof *c);
    *c = (struct check){.keys = keys, .on_key = on_key, .arg = arg};
    c->presented = mem_strndup(presented.p, presented.n);
    c->disposer = arena_on_dispose(arena, on_caller_gone, c);
    list_push(&keys->checks, &c->link);
    if (keys->waiting++ == 0)
        check_begin(keys);
}

/* ---- making ---- */

struct creation {
    struct keys *keys;
    struct entry *entry; /* not in the table yet */
    char clear[sizeof PREFIX + 2 * SECRET_BYTES];
    struct arena_disposer *disposer;
    void (*on_done)(void *arg, const struct key *key, const char *clear, const struct err *err);
    void *arg;
};

static void make_secret(char *clear, size_t size)
{
    unsigned char secret[SECRET_BYTES];
    char hex[2 * SECRET_BYTES + 1];
    rand_bytes(secret, sizeof secret);
    snprintf(clear, size, PREFIX "%s", hash_hex(secret, sizeof secret, hex));
    OPENSSL_cleanse(secret, sizeof secret);
    OPENSSL_cleanse(hex, sizeof hex);
}

static void on_creator_gone(void *arg)
{
    struct creation *c = arg;
    c->on_done = NULL;
}

static void creation_end(struct creation *c, const struct err *err)
{
    if (c->on_done) {
        arena_forget(c->disposer);
        c->on_done(c->arg, err ? NULL : &c->entry->key, err ? NULL : c->clear, err);
    }
    OPENSSL_cleanse(c->clear, sizeof c->clear);
    mem_free(c);
}

static void created(void *arg, const struct store_result *results, const struct err *err)
{
    struct creation *c = arg;
    struct entry *e = c->entry;
    unsigned char hash[HASH_SHA256_SIZE];
    if (!results) {
        entry_free(e);
        c->entry = NULL;
        creation_end(c, err);
        return;
    }
    e->key.id = results[1].values[0].integer;
    hash_sha256(c->clear, strlen(c->clear), hash);
    entry_add(c->keys, e);
    entry_set_hash(c->keys, e, hash);
    creation_end(c, NULL);
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static struct entry *entry_of_request(const struct key_request *request)
{
    struct entry *e = entry_new(request->name);
    e->key = (struct key){.name = e->name,
                          .scopes = request->scopes,
                          .mode = request->mode,
                          .expires_at = request->expires_at,
                          .created_at = clock_unix(),
                          .updated_at = clock_unix()};
    for (size_t n = 0; n < request->instance_count; n++)
        add_permission(e, request->instance_ids[n]);
    if (e->key.instance_count)
        qsort(e->ids, e->key.instance_count, sizeof *e->ids, by_number);
    return e;
}

#define SQL_COUNT "UPDATE counters SET value = value + 1 WHERE name = 'api_keys'"
#define SQL_INSERT                                                                                                     \
    "INSERT INTO api_keys (id, name, key_hash, scopes, permission_mode, expires_at, created_at, updated_at) "          \
    "SELECT value, $1, $2, $3, $4, $5, $6, $6 FROM counters WHERE name = 'api_keys' RETURNING id"
#define SQL_PERMIT                                                                                                     \
    "INSERT INTO key_permissions (key_id, instance_id) SELECT value, $1 FROM counters WHERE name = 'api_keys'"

/* The statements that store e; free with mem_free. *ret_count of them. */
static struct store_statement *statements_of(const struct entry *e, struct str hash, size_t *ret_count)
{
    bool manages = (e->key.scopes & AUTH_MANAGEMENT) != 0;
    struct store_statement *s = mem_calloc(2 + e->key.instance_count, sizeof *s);
    s[0] = (struct store_statement){.sql = SQL_COUNT};
    s[1] = (struct store_statement){
        .sql = SQL_INSERT,
        .params = {store_text(str_from(e->name)), store_blob(hash),
                   store_text(manages ? STR("management inference") : STR("inference")),
                   store_text(e->key.mode == KEY_PER_INSTANCE ? STR("per_instance") : STR("allow_all")),
                   e->key.expires_at ? store_int(e->key.expires_at) : (struct store_value){.type = STORE_NULL},
                   store_int(e->key.created_at)}};
    for (size_t n = 0; n < e->key.instance_count; n++)
        s[2 + n] = (struct store_statement){.sql = SQL_PERMIT, .params = {store_int(e->ids[n])}};
    *ret_count = 2 + e->key.instance_count;
    return s;
}

void keys_create(struct keys *keys, const struct key_request *request, struct arena *arena,
                 void (*on_done)(void *arg, const struct key *key, const char *clear, const struct err *err), void *arg)
{
    struct err err;
    if (keys->count >= LIMIT_KEYS) {
        err_set(&err, ERR_CONFLICT, "there are %d keys already; delete some", LIMIT_KEYS);
        on_done(arg, NULL, NULL, &err);
        return;
    }
    struct creation *c = mem_calloc(1, sizeof *c);
    unsigned char hash[HASH_SHA256_SIZE];
    size_t count;
    *c = (struct creation){.keys = keys, .entry = entry_of_request(request), .on_done = on_done, .arg = arg};
    make_secret(c->clear, sizeof c->clear);
    hash_sha256(c->clear, strlen(c->clear), hash);
    c->disposer = arena_on_dispose(arena, on_creator_gone, c);
    struct store_statement *statements = statements_of(c->entry, hash_key(hash), &count);
    store_transact(keys->store, statements, count, created, c);
    mem_free(statements);
}

const char *keys_first_management_key(struct keys *keys, struct arena *arena, struct err *err)
{
    if (!keys_required(keys, AUTH_MANAGEMENT))
        return NULL;
    list_each (e, &keys->entries, struct entry, link)
        if ((e->key.scopes & AUTH_MANAGEMENT) && !expired(e))
            return NULL;
    struct key_request request = {.name = STR("first management key"), .scopes = AUTH_MANAGEMENT | AUTH_INFERENCE};
    char clear[sizeof PREFIX + 2 * SECRET_BYTES];
    unsigned char hash[HASH_SHA256_SIZE];
    struct store_result results[2];
    size_t count;
    struct entry *e = entry_of_request(&request);
    make_secret(clear, sizeof clear);
    hash_sha256(clear, strlen(clear), hash);
    struct store_statement *statements = statements_of(e, hash_key(hash), &count);
    bool good = store_transact_now(keys->store, statements, count, arena, results, err);
    mem_free(statements);
    if (!good) {
        entry_free(e);
        return NULL;
    }
    e->key.id = results[1].values[0].integer;
    entry_add(keys, e);
    entry_set_hash(keys, e, hash);
    return arena_strdup(arena, clear);
}

/* ---- deleting and listing ---- */

struct deletion {
    struct arena_disposer *disposer;
    void (*on_done)(void *arg, const struct err *err);
    void *arg;
};

static void on_deleter_gone(void *arg)
{
    struct deletion *d = arg;
    d->on_done = NULL;
}

static void deleted(void *arg, const struct store_result *results, const struct err *err)
{
    struct deletion *d = arg;
    if (d->on_done) {
        arena_forget(d->disposer);
        d->on_done(d->arg, results ? NULL : err);
    }
    mem_free(d);
}

void keys_delete(struct keys *keys, int64_t id, struct arena *arena, void (*on_done)(void *arg, const struct err *err),
                 void *arg)
{
    struct err err;
    struct entry *e = find_id(keys, id);
    if (!e) {
        err_set(&err, ERR_NOT_FOUND, "there is no key %lld", (long long)id);
        on_done(arg, &err);
        return;
    }
    entry_remove(keys, e);
    struct deletion *d = mem_calloc(1, sizeof *d);
    *d = (struct deletion){.on_done = on_done, .arg = arg};
    d->disposer = arena_on_dispose(arena, on_deleter_gone, d);
    struct store_statement statement = {.sql = "DELETE FROM api_keys WHERE id = $1", .params = {store_int(id)}};
    store_transact(keys->store, &statement, 1, deleted, d);
}

const struct key *const *keys_list(struct keys *keys, struct arena *arena)
{
    size_t count = 0;
    const struct key **list = arena_calloc(arena, (keys->count + 1) * sizeof *list);
    list_each (e, &keys->entries, struct entry, link)
        if (e->key.id != 0)
            list[count++] = &e->key;
    return list;
}

const struct key *keys_get(struct keys *keys, int64_t id)
{
    const struct entry *e = find_id(keys, id);
    return e ? &e->key : NULL;
}

void keys_forget_instance(struct keys *keys, int64_t instance_id)
{
    list_each (e, &keys->entries, struct entry, link) {
        size_t kept = 0;
        for (size_t n = 0; n < e->key.instance_count; n++)
            if (e->ids[n] != instance_id)
                e->ids[kept++] = e->ids[n];
        e->key.instance_count = kept;
    }
}
