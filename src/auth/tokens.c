#include "auth/tokens.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/json_write.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rand.h"

#define JTI_RANDOM     24
#define PEM_BYTES      (64 * 1024)
#define ENDED_PAGE     1024 /* also in the statement */
#define LEEWAY_SECONDS JWT_LEEWAY_SECONDS

struct cached {
    struct token token; /* first: what callers see */
    struct list link;   /* in tokens->cache, the one asked for last last */
    unsigned char sha256[HASH_SHA256_SIZE];
    struct arena arena; /* the claims */
};

struct ended {
    struct list link;
    unsigned char id[HASH_SHA256_SIZE];
    int64_t expires_at;
};

struct ending {
    struct list link; /* in tokens->endings */
    struct store_call *call;
    struct arena_disposer *disposer; /* NULL: nobody waits */
    void (*on_done)(void *arg, const struct err *err);
    void *arg;
};

struct tokens {
    const struct conf *conf;
    struct store *store;
    struct jwt_key *key; /* NULL: not enabled */
    struct map by_text;  /* SHA-256 of the text to struct cached */
    struct list cache;
    struct map ended_by_id;
    struct list ended;
    struct list endings;
};

static struct str hash_str(const unsigned char hash[HASH_SHA256_SIZE])
{
    return (struct str){(const char *)hash, HASH_SHA256_SIZE};
}

/* ---- the key ---- */

static struct jwt_key *public_key(const struct conf *conf, struct err *err)
{
    char pem[PEM_BYTES];
    FILE *file = *conf->jwt_public_key ? fopen(conf->jwt_public_key, "re") : NULL;
    if (!file) {
        err_set(err, ERR_CONFIG,
                "security.jwt_public_key = \"%s\" cannot be read; that algorithm needs a PEM file with a public key",
                conf->jwt_public_key);
        return NULL;
    }
    size_t n = fread(pem, 1, sizeof pem, file);
    fclose(file);
    return jwt_key_public((enum jwt_algorithm)conf->jwt_algorithm, (struct str){pem, n}, err);
}

static bool read_key(struct tokens *t, struct err *err)
{
    const struct conf *conf = t->conf;
    if (!conf->jwt_enabled)
        return true;
    if (conf->jwt_algorithm != JWT_HS256)
        return (t->key = public_key(conf, err)) != NULL;
    const char *secret = getenv(conf->jwt_secret_env);
    if (!secret)
        return err_set(err, ERR_CONFIG,
                       "security.jwt_enabled needs the secret of HS256 in the environment variable %s: set it, or name "
                       "another one in security.jwt_secret_env",
                       conf->jwt_secret_env);
    return (t->key = jwt_key_secret(str_from(secret), err)) != NULL;
}

/* ---- what ended ---- */

static void add_ended(struct tokens *t, const unsigned char id[HASH_SHA256_SIZE], int64_t expires_at)
{
    struct ended *e = mem_calloc(1, sizeof *e);
    memcpy(e->id, id, HASH_SHA256_SIZE);
    e->expires_at = expires_at;
    list_push(&t->ended, &e->link);
    map_put(&t->ended_by_id, hash_str(e->id), e);
}

static void drop_ended(struct tokens *t, struct ended *e)
{
    map_remove(&t->ended_by_id, hash_str(e->id));
    list_remove(&e->link);
    mem_free(e);
}

/* Those that have expired since need no list to be refused. */
static void drop_expired(struct tokens *t)
{
    int64_t now = clock_unix() - LEEWAY_SECONDS;
    list_each (e, &t->ended, struct ended, link) {
        if (e->expires_at <= now)
            drop_ended(t, e);
    }
    const struct store_statement forget = {.sql = "DELETE FROM ended_tokens WHERE expires_at <= $1",
                                           .params = {store_int(now)}};
    store_transact(t->store, &forget, 1, NULL, NULL);
}

static bool load_page(struct tokens *t, struct str *after, struct arena *arena, bool *ret_more, struct err *err)
{
    const struct store_statement read = {.sql = "SELECT token_hash, expires_at FROM ended_tokens WHERE token_hash > $1"
                                                " ORDER BY token_hash LIMIT 1024",
                                         .params = {store_blob(*after)}};
    struct store_result rows;
    if (!store_transact_now(t->store, &read, 1, arena, &rows, err))
        return false;
    for (size_t i = 0; i < rows.rows; i++) {
        *after = rows.values[2 * i].text;
        if (after->n == HASH_SHA256_SIZE)
            add_ended(t, (const unsigned char *)after->p, rows.values[2 * i + 1].integer);
    }
    *ret_more = rows.rows == ENDED_PAGE;
    return true;
}

static bool load(struct tokens *t, struct err *err)
{
    struct arena arena;
    struct str after = STR("");
    bool good = true;
    arena_init(&arena);
    for (bool more = true; more && good;)
        good = load_page(t, &after, &arena, &more, err);
    arena_dispose(&arena);
    return good;
}

bool tokens_is_ended(const struct tokens *t, const unsigned char id[HASH_SHA256_SIZE])
{
    return map_get(&t->ended_by_id, hash_str(id)) != NULL;
}

/* ---- the whole ---- */

struct tokens *tokens_new(const struct conf *conf, struct store *store, struct err *err)
{
    struct tokens *t = mem_calloc(1, sizeof *t);
    t->conf = conf;
    t->store = store;
    map_init(&t->by_text);
    map_init(&t->ended_by_id);
    list_init(&t->cache);
    list_init(&t->ended);
    list_init(&t->endings);
    if (read_key(t, err) && load(t, err)) {
        drop_expired(t);
        return t;
    }
    tokens_free(t);
    return NULL;
}

static void drop_cached(struct tokens *t, struct cached *c)
{
    map_remove(&t->by_text, hash_str(c->sha256));
    list_remove(&c->link);
    arena_dispose(&c->arena);
    mem_free(c);
}

static void ending_free(struct ending *e)
{
    list_remove(&e->link);
    arena_forget(e->disposer);
    mem_free(e);
}

void tokens_free(struct tokens *t)
{
    if (!t)
        return;
    list_each (e, &t->endings, struct ending, link) {
        store_call_forget(e->call);
        ending_free(e);
    }
    list_each (c, &t->cache, struct cached, link) {
        drop_cached(t, c);
    }
    list_each (e, &t->ended, struct ended, link) {
        drop_ended(t, e);
    }
    map_release(&t->by_text);
    map_release(&t->ended_by_id);
    jwt_key_free(t->key);
    mem_free(t);
}

bool tokens_enabled(const struct tokens *t)
{
    return t->key != NULL;
}

bool tokens_can_issue(const struct tokens *t)
{
    return t->key && t->conf->jwt_algorithm == JWT_HS256;
}

/* ---- asking ---- */

static void set_id(struct token *token, const unsigned char sha256[HASH_SHA256_SIZE])
{
    if (token->claims.jti.n)
        hash_sha256(token->claims.jti.p, token->claims.jti.n, token->id);
    else
        memcpy(token->id, sha256, HASH_SHA256_SIZE);
}

static struct cached *verify(struct tokens *t, struct str text, const unsigned char sha256[HASH_SHA256_SIZE],
                             struct err *err)
{
    const struct jwt_rules rules = {t->conf->jwt_issuer, t->conf->jwt_audience};
    struct cached *c = mem_calloc(1, sizeof *c);
    arena_init(&c->arena);
    list_init(&c->link);
    if (!jwt_verify(t->key, text, clock_unix(), &rules, &c->arena, &c->token.claims, err)) {
        arena_dispose(&c->arena);
        mem_free(c);
        return NULL;
    }
    if (t->by_text.count >= LIMIT_TOKEN_CACHE)
        drop_cached(t, list_first(&t->cache, struct cached, link));
    memcpy(c->sha256, sha256, HASH_SHA256_SIZE);
    set_id(&c->token, sha256);
    map_put(&t->by_text, hash_str(sha256), c);
    return c;
}

const struct token *tokens_find(struct tokens *t, struct str text, struct err *err)
{
    unsigned char sha256[HASH_SHA256_SIZE];
    if (!t->key) {
        err_set(err, ERR_AUTHENTICATION_FAILED, "Invalid token: this server takes none (security.jwt_enabled)");
        return NULL;
    }
    hash_sha256(text.p, text.n, sha256);
    struct cached *c = map_get(&t->by_text, hash_str(sha256));
    if (!c)
        c = verify(t, text, sha256, err);
    if (!c)
        return NULL;
    list_remove(&c->link);
    list_push(&t->cache, &c->link);
    if (clock_unix() >= c->token.claims.expires_at + LEEWAY_SECONDS)
        err_set(err, ERR_AUTHENTICATION_FAILED, "Invalid token: it has expired");
    else if (tokens_is_ended(t, c->token.id))
        err_set(err, ERR_AUTHENTICATION_FAILED, "Invalid token: it was ended by a logout");
    else
        return &c->token;
    drop_cached(t, c);
    return NULL;
}

/* ---- making and ending ---- */

void tokens_issue(struct tokens *t, const struct user *user, struct buf *out, int64_t *ret_expires_at)
{
    char jti[JTI_RANDOM + 1];
    struct json j;
    struct buf claims;
    int64_t now = clock_unix();
    *ret_expires_at = now + t->conf->token_expiry_hours * 3600;
    buf_init(&claims, LIMIT_TOKEN_BYTES);
    json_begin(&j, &claims);
    json_open_object(&j, NULL);
    if (*t->conf->jwt_issuer)
        json_put_string(&j, "iss", t->conf->jwt_issuer);
    if (*t->conf->jwt_audience)
        json_put_string(&j, "aud", t->conf->jwt_audience);
    json_put_string(&j, "sub", user->id);
    json_put_string(&j, "username", user->name);
    json_put_string(&j, "role", role_name(user->role));
    json_put_int(&j, "iat", now);
    json_put_int(&j, "exp", *ret_expires_at);
    json_put_string(&j, "jti", rand_text(jti, JTI_RANDOM));
    json_put_int(&j, "ver", user->token_version);
    json_close(&j);
    if (json_finish(&j))
        jwt_sign(t->key, buf_view(&claims), out);
    buf_release(&claims);
}

static void on_ended(void *arg, const struct store_result *results, const struct err *err)
{
    struct ending *e = arg;
    (void)results;
    if (e->disposer) {
        arena_forget(e->disposer);
        e->disposer = NULL;
        e->on_done(e->arg, err);
    }
    ending_free(e);
}

static void forget_caller(void *arg)
{
    struct ending *e = arg;
    e->disposer = NULL;
}

void tokens_end(struct tokens *t, const unsigned char id[HASH_SHA256_SIZE], int64_t expires_at, struct arena *arena,
                void (*on_done)(void *arg, const struct err *err), void *arg)
{
    struct err err;
    drop_expired(t);
    if (t->ended_by_id.count >= LIMIT_ENDED_TOKENS) {
        err_set(&err, ERR_CONFLICT, "Too many tokens were ended before their time: change the secret instead.");
        on_done(arg, &err);
        return;
    }
    if (!tokens_is_ended(t, id))
        add_ended(t, id, expires_at);
    struct ending *e = mem_calloc(1, sizeof *e);
    e->on_done = on_done;
    e->arg = arg;
    e->disposer = arena_on_dispose(arena, forget_caller, e);
    list_push(&t->endings, &e->link);
    const struct store_statement write = {
        .sql = "INSERT INTO ended_tokens (token_hash, expires_at) VALUES ($1, $2) ON CONFLICT (token_hash) DO NOTHING",
        .params = {store_blob(hash_str(id)), store_int(expires_at)}};
    e->call = store_transact(t->store, &write, 1, on_ended, e);
}
