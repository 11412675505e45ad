/* Keys at the door. Every route says what a caller needs (http_route.access); this looks the presented key up and lets
 * the request in, or answers 401 for a key that is missing or unknown and 403 for one that may not do this. Without a
 * reply before that, nothing about the route can be learnt. */
#include "api/admit.h"
#include "http/query.h"
#include "instance/backend.h"

struct entry {
    struct app *app;
    struct http_req *req;
    const struct http_match *match;
};

/* llamactl's order: Authorization: Bearer K, X-API-Key: K, ?api_key=K. */
static struct str presented_key(struct http_req *req)
{
    struct str authorization = http_head_find(&req->head, "authorization"),
               key = http_head_find(&req->head, "x-api-key");
    struct str value = authorization;
    if (authorization.p && str_ieq(str_cut(&value, ' '), STR("bearer")) && value.p)
        return str_trim(value);
    if (key.p)
        return str_trim(key);
    struct str query = STR_NONE;
    http_query_find(&req->arena, req->head.query, "api_key", &query);
    return query;
}

static void note_caller(struct http_req *req, const struct key *key)
{
    struct caller *caller = arena_calloc(&req->arena, sizeof *caller);
    *caller = (struct caller){.key_id = key->id, .scopes = key->scopes, .all_instances = key->mode == KEY_ALLOW_ALL};
    if (key->mode == KEY_PER_INSTANCE && key->instance_count) {
        int64_t *ids = arena_alloc(&req->arena, key->instance_count * sizeof *ids);
        memcpy(ids, key->instance_ids, key->instance_count * sizeof *ids);
        caller->instance_ids = ids;
        caller->instance_count = key->instance_count;
    }
    req->caller = caller;
}

static void refuse(struct http_req *req, enum err_code code, const char *why)
{
    struct err err;
    err_set(&err, code, "%s", why);
    if (code == ERR_AUTHENTICATION_FAILED)
        http_reply_header(req, "WWW-Authenticate", "Bearer");
    http_reply_error(req, &err);
}

static void enter(struct app *app, struct http_req *req, const struct http_match *match)
{
    if (match->route->access & API_UNCHARGED || match->route->access == AUTH_NONE || api_admit_request(app, req))
        http_match_handle(app->router, req, match);
}

static void judge(struct app *app, struct http_req *req, const struct http_match *match, const struct key *key)
{
    if (!key) {
        refuse(req, ERR_AUTHENTICATION_FAILED, "Invalid API key");
    } else if (!key_allows(key, (enum auth_scope)(match->route->access & ~API_UNCHARGED))) {
        refuse(req, ERR_PERMISSION_DENIED, "This key may use models only, not manage instances");
    } else {
        note_caller(req, key);
        enter(app, req, match);
    }
}

static void on_key(void *arg, const struct key *key, const struct err *err)
{
    const struct entry *e = arg;
    if (err)
        http_reply_error(e->req, err);
    else
        judge(e->app, e->req, e->match, key);
}

/* A key that is not known may be one of a llamactl's, which takes a while to find out. */
static void check_slowly(struct app *app, struct http_req *req, const struct http_match *match, struct str presented)
{
    struct entry *e = arena_alloc(&req->arena, sizeof *e);
    *e = (struct entry){app, req, match};
    keys_check(app->keys, presented, &req->arena, on_key, e);
}

void api_guard(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    unsigned access = match->route->access & ~API_UNCHARGED;
    if (app->conf->flat_errors && req->dialect == &openai_dialect)
        req->dialect = (void *)&manager_dialect;
    if (access == AUTH_NONE || !keys_required(app->keys, (enum auth_scope)access)) {
        enter(app, req, match);
        return;
    }
    struct str presented = presented_key(req);
    const struct key *key = presented.n ? keys_find(app->keys, presented) : NULL;
    if (key)
        judge(app, req, match, key);
    else if (presented.n)
        check_slowly(app, req, match, presented);
    else
        refuse(req, ERR_AUTHENTICATION_FAILED,
               "Missing API key: send it as 'Authorization: Bearer KEY', or as X-API-Key");
}

static bool may_use(const struct caller *caller, const struct instance *i)
{
    if (!caller || caller->all_instances)
        return true;
    for (size_t n = 0; i && n < caller->instance_count; n++)
        if (caller->instance_ids[n] == instance_id(i) && instance_is_named(i))
            return true;
    return false;
}

bool caller_may_use(const struct caller *caller, const struct instance *i, struct err *err)
{
    return may_use(caller, i) || err_set(err, ERR_PERMISSION_DENIED, "This key may not use that model");
}

bool api_may_see(const struct http_req *req, const struct instance *i)
{
    return may_use(req->caller, i);
}

bool api_may_use(struct http_req *req, const struct instance *i)
{
    struct err err;
    if (caller_may_use(req->caller, i, &err))
        return true;
    http_reply_error(req, &err);
    return false;
}

struct str api_target(struct http_req *req)
{
    return http_query_without(req->head.target, "api_key", &req->arena);
}

void api_backend_headers(struct app *app, struct http_req *req, const struct instance *i)
{
    struct err err;
    const struct backend *backend = backend_find(str_from(instance_backend_type(i)), &err);
    const struct conf_backend *conf = backend ? conf_backend_find(app->conf, str_from(backend->section)) : NULL;
    for (const char *const *item = conf ? conf->response_headers : NULL; item && *item; item++) {
        size_t n = strcspn(*item, "=");
        http_reply_header(req, arena_strndup(&req->arena, *item, n), *item + n + 1);
    }
}
