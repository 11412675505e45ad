/* Credentials at the door. Every route says what a caller needs (http_route.access); this looks the presented key or
 * token up and lets the request in, or answers 401 for a credential that is missing or unknown, 403 for one that may
 * not do this, and 429 to an address that brought too many unknown ones. Without a reply before that, nothing about the
 * route can be learnt.
 *
 * A key that is known is let in from any address: it cannot be guessed (256 bits), so an address that others abuse does
 * not lock its owner out. */
#include "api/admit.h"
#include "auth/guess.h"
#include "base/clock.h"
#include "http/query.h"
#include "instance/backend.h"
#include "obs/log.h"

#define TOKEN_VERSION_ANY (-1) /* see struct caller */

struct entry {
    struct app *app;
    struct http_req *req;
    const struct http_match *match;
    bool optional; /* an unknown credential is as good as none */
};

/* llamactl's order: Authorization: Bearer K, X-API-Key: K, ?api_key=K. */
struct str api_presented(struct http_req *req)
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

static void refuse(struct http_req *req, enum err_code code, const char *why)
{
    struct err err;
    err_set(&err, code, "%s", why);
    if (code == ERR_AUTHENTICATION_FAILED)
        http_reply_header(req, "WWW-Authenticate", "Bearer");
    http_reply_error(req, &err);
}

static void count_failure(const struct app *app, const char *reason)
{
    const char *const label[] = {reason};
    metrics_add(app->metrics, METRIC_AUTH_FAILURES, label, 1);
}

/* ---- guesses ---- */

/* Of an IPv6 address the network: whoever has one address has all of its /64. */
static struct str peer_of(const struct http_req *req, char out[HTTP_PEER_SIZE])
{
    http_req_peer(req, out);
    struct str rest = str_from(out);
    if (!strchr(out, ':') || str_starts(rest, STR("::"))) /* also ::ffff:1.2.3.4, one by one */
        return rest;
    const char *end = out;
    for (int groups = 0; rest.p && groups < 4; groups++) {
        struct str group = str_cut(&rest, ':');
        if (group.n == 0 && groups > 0)
            break; /* "::": zeros from here */
        end = group.p + group.n;
    }
    return (struct str){out, (size_t)(end - out)};
}

static bool may_guess(struct app *app, const struct http_req *req, struct err *err)
{
    char peer[HTTP_PEER_SIZE];
    uint64_t wait = guesses_wait_ms(app->guesses, peer_of(req, peer), clock_ms());
    if (!wait)
        return true;
    err_set(err, ERR_RATE_LIMIT_EXCEEDED, "Too many failed credentials from this address; wait %llu s.",
            (unsigned long long)(wait + 999) / 1000);
    err->retry_after_ms = (unsigned)wait;
    count_failure(app, "throttled");
    return false;
}

bool api_guess_allowed(struct app *app, struct http_req *req)
{
    struct err err;
    if (may_guess(app, req, &err))
        return true;
    http_reply_error(req, &err);
    return false;
}

void api_guess_failed(struct app *app, const struct http_req *req)
{
    char peer[HTTP_PEER_SIZE];
    guesses_failed(app->guesses, peer_of(req, peer), clock_ms());
    count_failure(app, "unknown");
}

/* ---- the audit log ---- */

void api_audit(const struct app *app, const struct http_req *req, const char *who, const char *outcome)
{
    char peer[HTTP_PEER_SIZE];
    if (!app->conf->audit_log)
        return;
    log_info("audit", "who=%s from=%s outcome=%s id=%s method=" STR_FMT " path=" STR_FMT, who,
             *http_req_peer(req, peer) ? peer : "unix", outcome, req->id, STR_ARG(req->head.method_name),
             STR_ARG(req->head.path));
}

/* Reading changes nothing, and inference is no affair of the audit. */
static bool is_change(const struct http_req *req, unsigned access)
{
    struct str method = req->head.method_name;
    return !str_eq(method, STR("GET")) && !str_eq(method, STR("HEAD")) && !(access & (AUTH_INFERENCE | AUTH_BATCH));
}

/* ---- who it is ---- */

static const char *copy(struct arena *arena, const char *text)
{
    return text ? arena_strdup(arena, text) : NULL;
}

static void set_user(struct arena *arena, struct caller *caller, const struct user *user)
{
    caller->user_id = copy(arena, user->id);
    caller->user_name = copy(arena, user->name);
    caller->is_user = true;
    caller->role = user->role;
    caller->permissions &= permission_effective(role_permissions(user->role));
}

const struct caller *api_caller_of_key(const struct app *app, struct arena *arena, const struct key *key)
{
    const struct user *user = key->user_id ? users_get(app->users, str_from(key->user_id)) : NULL;
    if (key->user_id && (!user || user->disabled))
        return NULL;
    struct caller *caller = arena_calloc(arena, sizeof *caller);
    *caller = (struct caller){.key_id = key->id,
                              .scopes = key->scopes,
                              .permissions = permission_effective(key->scopes),
                              .all_instances = key->mode == KEY_ALLOW_ALL,
                              .user_id = key->public_id ? copy(arena, key->public_id) : "system",
                              .user_name = copy(arena, key->name),
                              .role = key->scopes & AUTH_MANAGEMENT ? ROLE_ADMIN : ROLE_SERVICE,
                              .models = copy(arena, key->models),
                              .limits = key->limits,
                              .priority = key->priority,
                              .expires_at = key->expires_at,
                              .key_generation = key->generation,
                              .made_by_key = key->made_by != 0};
    if (user)
        set_user(arena, caller, user);
    if (key->mode == KEY_PER_INSTANCE && key->instance_count) {
        int64_t *ids = arena_alloc(arena, key->instance_count * sizeof *ids);
        memcpy(ids, key->instance_ids, key->instance_count * sizeof *ids);
        caller->instance_ids = ids;
        caller->instance_count = key->instance_count;
    }
    return caller;
}

const struct caller *api_caller_of_user(const struct app *app, struct arena *arena, struct str user_id)
{
    const struct user *user = users_get(app->users, user_id);
    if (!user || user->disabled)
        return NULL;
    struct caller *caller = arena_calloc(arena, sizeof *caller);
    *caller = (struct caller){.permissions = permission_effective(AUTH_ALL),
                              .all_instances = true,
                              .by_token = true,
                              .token_version = TOKEN_VERSION_ANY};
    set_user(arena, caller, user);
    caller->scopes = caller->permissions;
    return caller;
}

const struct caller *api_caller_of_configuration(struct arena *arena)
{
    struct caller *caller = arena_calloc(arena, sizeof *caller);
    *caller = (struct caller){.scopes = AUTH_INFERENCE,
                              .permissions = permission_effective(AUTH_INFERENCE),
                              .all_instances = true,
                              .user_id = "system",
                              .user_name = "system",
                              .role = ROLE_SERVICE};
    return caller;
}

/* What a token of another issuer grants: its role's rights, its permissions, or what both have. */
static unsigned claimed_permissions(const struct jwt_claims *claims, enum role *ret_role)
{
    *ret_role = ROLE_GUEST;
    unsigned rights = AUTH_ALL;
    if (claims->role.p)
        rights = role_parse(claims->role, ret_role) ? role_permissions(*ret_role) : 0;
    else if (!claims->has_permissions)
        rights = 0;
    rights = permission_effective(rights);
    return claims->has_permissions ? rights & permission_effective(claims->permissions) : rights;
}

/* NULL: it names a user of ours who may not call any more. Ours are told by the form of their id, so that a deleted
 * one's token is not taken for a stranger's. */
static struct caller *caller_of_token(const struct app *app, struct http_req *req, const struct token *token)
{
    const struct jwt_claims *claims = &token->claims;
    const struct user *user = users_get(app->users, claims->sub);
    bool ours = str_starts(claims->sub, STR(USER_ID_PREFIX));
    if (ours && (!user || user->disabled || (claims->version >= 0 && claims->version != user->token_version)))
        return NULL;
    struct caller *caller = arena_calloc(&req->arena, sizeof *caller);
    caller->user_id = arena_str(&req->arena, claims->sub).p;
    caller->user_name = claims->username.p ? arena_str(&req->arena, claims->username).p : caller->user_id;
    caller->permissions = claimed_permissions(claims, &caller->role);
    caller->all_instances = true;
    caller->expires_at = claims->expires_at + JWT_LEEWAY_SECONDS;
    caller->by_token = true;
    caller->token_version = claims->version;
    memcpy(caller->token_id, token->id, sizeof caller->token_id);
    if (user && !claims->has_permissions)
        caller->permissions = permission_effective(AUTH_ALL); /* its role now, not when it was issued */
    if (user)
        set_user(&req->arena, caller, user);
    caller->scopes = caller->permissions;
    return caller;
}

/* ---- judging ---- */

/* Nothing is charged for what asks for nothing. */
static void enter(const struct entry *e)
{
    unsigned access = e->match->route->access;
    if (access & API_UNCHARGED || access == AUTH_NONE || api_admit_request(e->app, e->req))
        http_match_handle(e->app->router, e->req, e->match);
}

/* Of llamactl's two kinds of key, the one for models reads measurements, too. */
static bool may(const struct app *app, const struct caller *caller, unsigned access)
{
    return (caller->permissions & access) == access ||
           (access == AUTH_METRICS && !app->conf->auth_enabled && (caller->permissions & AUTH_INFERENCE));
}

static void unknown(const struct entry *e, const char *why)
{
    if (e->optional) {
        enter(e);
    } else if (api_guess_allowed(e->app, e->req)) {
        api_guess_failed(e->app, e->req);
        api_audit(e->app, e->req, "unknown", "unauthenticated");
        refuse(e->req, ERR_AUTHENTICATION_FAILED, why);
    }
}

static void judge(const struct entry *e, const struct caller *caller)
{
    unsigned access = e->match->route->access & ~API_UNCHARGED;
    if (!may(e->app, caller, access)) {
        api_audit(e->app, e->req, caller->user_id, "forbidden");
        count_failure(e->app, "forbidden");
        refuse(e->req, ERR_PERMISSION_DENIED,
               access & AUTH_MANAGEMENT ? "This key may use models only, not manage instances"
                                        : "This key or token may not do that");
        return;
    }
    e->req->caller = caller;
    if (is_change(e->req, access))
        api_audit(e->app, e->req, caller->user_id, "allowed");
    enter(e);
}

static void judge_key(const struct entry *e, const struct key *key)
{
    const struct caller *caller =
        key && e->app->conf->api_key_enabled ? api_caller_of_key(e->app, &e->req->arena, key) : NULL;
    if (caller)
        judge(e, caller);
    else
        unknown(e, "Invalid API key");
}

static void judge_token(const struct entry *e, struct str presented)
{
    struct err err;
    const struct token *token = tokens_find(e->app->tokens, presented, &err);
    const struct caller *caller = token ? caller_of_token(e->app, e->req, token) : NULL;
    if (caller)
        judge(e, caller);
    else
        unknown(e, token ? "Invalid token: its user may not use it any more" : err.message);
}

static void on_key(void *arg, const struct key *key, const struct err *err)
{
    const struct entry *e = arg;
    if (err)
        http_reply_error(e->req, err);
    else
        judge_key(e, key);
}

static bool is_token(const struct app *app, struct str presented)
{
    return tokens_enabled(app->tokens) && !str_starts(presented, STR("sk-")) && jwt_plausible(presented);
}

/* A key that is not known may be one of a llamactl's, which takes a while to find out. */
static void judge_presented(const struct entry *e, struct str presented)
{
    const struct app *app = e->app;
    if (is_token(app, presented)) {
        judge_token(e, presented);
        return;
    }
    const struct key *key = keys_find(app->keys, presented);
    if (key || e->optional) {
        judge_key(e, key);
    } else if (api_guess_allowed(e->app, e->req)) {
        struct entry *kept = arena_alloc(&e->req->arena, sizeof *kept);
        *kept = *e;
        keys_check(app->keys, presented, &e->req->arena, on_key, kept);
    }
}

static bool is_public_metric(const struct app *app, const struct http_req *req, unsigned access)
{
    return access == AUTH_METRICS && app->conf->metrics_public && api_is_metrics_path(app, req->head.path);
}

/* Whoever may open that listener is on this machine; clients there send some key because their libraries want one. */
static bool is_local_client(struct http_req *req, unsigned access)
{
    return http_req_tag(req) == API_LISTENER_LOCAL && (access == AUTH_INFERENCE || access == AUTH_MODELS_READ) &&
           api_presented(req).n > 0;
}

/* Measurements with a listener of their own are there and nowhere else, and nothing else is there. */
static bool is_elsewhere(const struct app *app, const struct http_req *req)
{
    bool there = http_req_tag(req) == API_LISTENER_METRICS, metrics = api_is_metrics_path(app, req->head.path);
    return there ? !metrics : metrics && *app->conf->metrics_bind;
}

void api_guard(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    unsigned access = match->route->access & ~API_UNCHARGED;

    const struct dialect *dialect = req->dialect;
    if (dialect && dialect->id_header)
        http_reply_header(req, dialect->id_header, req->id);
    if (app->conf->flat_errors && req->dialect == &openai_dialect)
        req->dialect = (void *)&manager_dialect;
    bool needed = access != AUTH_NONE && keys_required(app->keys, access) && !is_public_metric(app, req, access) &&
                  !is_local_client(req, access);
    const struct entry e = {app, req, match, !needed};
    struct str presented = needed || access == AUTH_ANY ? api_presented(req) : STR_NONE;
    if (is_elsewhere(app, req)) {
        refuse(req, ERR_UNKNOWN_URL, "Measurements have a listener of their own, with nothing else on it.");
    } else if (presented.n) {
        judge_presented(&e, presented);
    } else if (!needed) {
        enter(&e);
    } else {
        count_failure(app, "missing");
        refuse(req, ERR_AUTHENTICATION_FAILED,
               "Missing API key: send it as 'Authorization: Bearer KEY', or as X-API-Key");
    }
}

/* ---- routes that ask later ---- */

struct identify_call {
    struct app *app;
    struct http_req *req;
    void (*on_caller)(void *arg, const struct caller *caller, const struct err *err);
    void *arg;
};

static void identified(const struct identify_call *call, const struct caller *caller, const char *why)
{
    struct err err;
    if (caller) {
        call->on_caller(call->arg, caller, NULL);
        return;
    }
    api_guess_failed(call->app, call->req);
    api_audit(call->app, call->req, "unknown", "unauthenticated");
    err_set(&err, ERR_AUTHENTICATION_FAILED, "%s", why);
    call->on_caller(call->arg, NULL, &err);
}

static void on_identified(void *arg, const struct key *key, const struct err *err)
{
    const struct identify_call *call = arg;
    bool good = key && call->app->conf->api_key_enabled;
    if (err)
        call->on_caller(call->arg, NULL, err);
    else
        identified(call, good ? api_caller_of_key(call->app, &call->req->arena, key) : NULL, "Invalid API key");
}

void api_identify(struct app *app, struct http_req *req, struct str presented,
                  void (*on_caller)(void *arg, const struct caller *caller, const struct err *err), void *arg)
{
    struct identify_call *call = arena_alloc(&req->arena, sizeof *call);
    struct err err;
    *call = (struct identify_call){app, req, on_caller, arg};
    if (is_token(app, presented)) {
        const struct token *token = tokens_find(app->tokens, presented, &err);
        identified(call, token ? caller_of_token(app, req, token) : NULL,
                   token ? "Invalid token: its user may not use it any more" : err.message);
        return;
    }
    const struct key *key = keys_find(app->keys, presented);
    if (key)
        on_identified(call, key, NULL);
    else if (may_guess(app, req, &err))
        keys_check(app->keys, presented, &req->arena, on_identified, call);
    else
        on_caller(arg, NULL, &err);
}

bool api_allows(const struct app *app, const struct caller *caller, unsigned access)
{
    return !keys_required(app->keys, access) || (caller && may(app, caller, access));
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
