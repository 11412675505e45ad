/* The stored keys into memory, page by page, so that one answer stays far below LIMIT_STORE_RESULT. */
#include "auth/keys_private.h"

#include "base/mem.h"
#include "obs/log.h"

#define PAGE_ROWS 256 /* also in the statement */

enum {
    ID,
    NAME,
    KEY_HASH,
    LEGACY_HASH,
    SCOPES,
    MODE,
    EXPIRES,
    CREATED,
    UPDATED,
    LAST_USED,
    PUBLIC_ID,
    HINT,
    USER_ID,
    MADE_BY,
    MODELS,
    REQUESTS,
    BURST,
    TOKENS,
    CONCURRENT,
    PRIORITY,
    KEY_COLUMNS
};

static unsigned read_scopes(struct str text)
{
    unsigned scopes = 0;
    while (text.p) {
        struct str word = str_cut(&text, ' ');
        scopes |= permission_parse(word);
    }
    return scopes;
}

static bool read_hashes(struct entry *e, const struct store_value *row)
{
    e->hashed = row[KEY_HASH].type == STORE_BLOB && row[KEY_HASH].text.n == HASH_SHA256_SIZE;
    if (e->hashed)
        memcpy(e->sha256, row[KEY_HASH].text.p, HASH_SHA256_SIZE);
    else if (row[LEGACY_HASH].type == STORE_TEXT && str_starts(row[LEGACY_HASH].text, STR("$argon2id$")))
        e->legacy_hash = mem_strndup(row[LEGACY_HASH].text.p, row[LEGACY_HASH].text.n);
    return e->hashed || e->legacy_hash;
}

static char *copy(const struct store_value *value)
{
    return value->type == STORE_TEXT ? mem_strndup(value->text.p, value->text.n) : NULL;
}

/* Keys older than schema 2 have no public id: theirs follows from the number. */
static char *read_public_id(const struct store_value *row)
{
    char text[32];
    snprintf(text, sizeof text, "key_%lld", (long long)row[ID].integer);
    return row[PUBLIC_ID].type == STORE_TEXT ? copy(&row[PUBLIC_ID]) : mem_strdup(text);
}

static void read_rights(struct key *key, const struct store_value *row)
{
    key->public_id = read_public_id(row);
    key->hint = copy(&row[HINT]);
    key->user_id = copy(&row[USER_ID]);
    key->made_by = row[MADE_BY].integer;
    key->models = copy(&row[MODELS]);
    key->limits = (struct key_limits){.requests_per_minute = row[REQUESTS].integer,
                                      .burst = row[BURST].integer,
                                      .tokens_per_minute = row[TOKENS].integer,
                                      .concurrent = row[CONCURRENT].integer};
    key->priority = str_eq(row[PRIORITY].text, STR("batch")) ? KEY_BATCH : KEY_INTERACTIVE;
}

/* NULL of the store is 0 here, as struct key has it. */
static struct entry *read_entry(const struct store_value *row)
{
    struct entry *e = entry_new();
    e->key = (struct key){.id = row[ID].integer,
                          .name = mem_strndup(row[NAME].text.p, row[NAME].text.n),
                          .scopes = read_scopes(row[SCOPES].text),
                          /* Anything unknown is the narrower mode. */
                          .mode = str_eq(row[MODE].text, STR("allow_all")) ? KEY_ALLOW_ALL : KEY_PER_INSTANCE,
                          .expires_at = row[EXPIRES].integer,
                          .created_at = row[CREATED].integer,
                          .updated_at = row[UPDATED].integer,
                          .last_used_at = row[LAST_USED].integer};
    read_rights(&e->key, row);
    if (!read_hashes(e, row))
        log_warn("a stored key has no hash that can be checked", "id=%lld", (long long)e->key.id);
    return e;
}

/* Takes the rows of key_id from *at; rows are in the order of the keys. */
static void read_permissions(struct entry *e, const struct store_result *rows, size_t *at)
{
    size_t count = 0;
    while (*at + count < rows->rows && rows->values[(*at + count) * 2].integer == e->key.id)
        count++;
    int64_t *ids = mem_alloc((count + 1) * sizeof *ids);
    for (size_t i = 0; i < count; i++)
        ids[i] = rows->values[(*at + i) * 2 + 1].integer;
    entry_set_ids(e, ids, count);
    mem_free(ids);
    *at += count;
}

static bool load_page(struct keys *keys, int64_t *last_id, bool *ret_more, struct arena *arena, struct err *err)
{
    /* Both read in one transaction, and nobody else writes keys of this store. */
    struct store_statement read[2] = {
        {.sql = "SELECT id, name, key_hash, legacy_hash, scopes, permission_mode, expires_at, created_at, updated_at,"
                " last_used_at, public_id, hint, user_id, made_by, models, requests_per_minute, burst,"
                " tokens_per_minute, concurrent, priority FROM api_keys WHERE id > $1 ORDER BY id LIMIT 256",
         .params = {store_int(*last_id)}},
        {.sql = "SELECT key_id, instance_id FROM key_permissions WHERE key_id > $1 AND key_id <="
                " (SELECT MAX(id) FROM (SELECT id FROM api_keys WHERE id > $1 ORDER BY id LIMIT 256) AS page)"
                " ORDER BY key_id, instance_id",
         .params = {store_int(*last_id)}}};
    struct store_result rows[2];
    size_t at = 0;
    if (!store_transact_now(keys->store, read, 2, arena, rows, err))
        return false;
    for (size_t i = 0; i < rows[0].rows; i++) {
        struct entry *e = read_entry(rows[0].values + i * KEY_COLUMNS);
        read_permissions(e, &rows[1], &at);
        keys_add(keys, e);
        *last_id = e->key.id;
    }
    *ret_more = rows[0].rows == PAGE_ROWS;
    return true;
}

bool keys_load(struct keys *keys, struct err *err)
{
    int64_t last_id = 0;
    bool ok = true;
    for (bool more = true; more && ok;) {
        struct arena arena;
        arena_init(&arena);
        ok = load_page(keys, &last_id, &more, &arena, err);
        arena_dispose(&arena);
    }
    return ok;
}
