/* /v1/auth/keys (specs/inferno.md 4): the same keys as llamactl's /api/v1/auth/keys, with permissions, limits and
 * owners. A caller sees and ends the keys that are his: his user's, or the one he called with and those it made; with
 * the permission "keys" all. Whoever makes a key hands on no more than he has: permissions, models, instances, limits
 * and time. */
#include "api/auth/auth.h"
#include "api/docs/doc.h"
#include "auth/lifetime.h"
#include "base/clock.h"
#include "base/json_read.h"

#define KEY_NAME_MAX   100
#define LIFETIME_LEAST 60
#define LIMIT_MOST     1000000000

struct order {
    struct app *app;
    struct http_req *req;
    const struct caller *caller;
    struct str name, priority;
    json_t *permissions, *models, *expires_in;
    struct key_limits limits;
};

/* ---- whose ---- */

static bool is_own(const struct caller *caller, const struct key *key)
{
    if (caller->is_user && key->user_id)
        return strcmp(caller->user_id, key->user_id) == 0;
    return caller->key_id && (key->id == caller->key_id || key->made_by == caller->key_id);
}

static bool may_touch(const struct caller *caller, const struct key *key)
{
    return (caller->permissions & AUTH_KEYS) || is_own(caller, key);
}

/* ---- replies ---- */

static void put_limit(struct json *j, const char *member, int64_t value)
{
    if (value)
        json_put_int(j, member, value);
    else
        json_put_null(j, member);
}

static void put_models(struct json *j, const char *models)
{
    struct str rest = str_from(models);
    if (!models) {
        json_put_null(j, "models");
        return;
    }
    json_open_array(j, "models");
    while (rest.p)
        json_put_text(j, NULL, str_cut(&rest, '\n'));
    json_close(j);
}

static void put_key(struct json *j, const struct key *key)
{
    json_open_object(j, NULL);
    json_put_string(j, "key_id", key->public_id);
    json_put_string(j, "name", key->name);
    json_put_string(j, "hint", key->hint);
    json_put_string(j, "user_id", key->user_id);
    auth_put_permissions(j, "permissions", key->scopes);
    auth_put_time(j, "expires", key->expires_at);
    auth_put_time(j, "created", key->created_at);
    auth_put_time(j, "last_used", key->last_used_at);
    put_models(j, key->models);
    put_limit(j, "requests_per_minute", key->limits.requests_per_minute);
    put_limit(j, "burst", key->limits.burst);
    put_limit(j, "tokens_per_minute", key->limits.tokens_per_minute);
    put_limit(j, "concurrent", key->limits.concurrent);
    json_put_string(j, "priority", key->priority == KEY_BATCH ? "batch" : "interactive");
    json_close(j);
}

static void reply_new(struct http_req *req, int status, const struct key *key, const char *clear)
{
    struct json *j = api_json_begin(req);
    json_open_object(j, NULL);
    json_put_string(j, "key_id", key->public_id);
    json_put_string(j, "api_key", clear);
    auth_put_time(j, "expires", key->expires_at);
    auth_put_permissions(j, "permissions", key->scopes);
    json_close(j);
    http_reply_header(req, "Cache-Control", "no-store");
    api_reply_json(req, status, j);
}

static void on_created(void *arg, const struct key *key, const char *clear, const struct err *err)
{
    struct http_req *req = arg;
    if (err)
        http_reply_error(req, err);
    else
        reply_new(req, 201, key, clear);
}

static void on_rotated(void *arg, const struct key *key, const char *clear, const struct err *err)
{
    struct http_req *req = arg;
    if (err)
        http_reply_error(req, err);
    else
        reply_new(req, 200, key, clear);
}

/* ---- what is asked for ---- */

static bool read_permissions(const struct order *order, struct key_request *request, struct err *err)
{
    size_t index;
    json_t *one;
    request->scopes = order->permissions ? 0 : AUTH_INFERENCE;
    json_array_foreach(order->permissions, index, one)
    {
        unsigned bits = json_is_string(one) ? permission_parse(json_str(one)) : 0;
        if (!bits)
            return err_set_param(err, ERR_INVALID_PARAMETERS, "permissions",
                                 "'permissions[%zu]' is no permission; there are inference, models.read, "
                                 "model_management, metrics, batch, keys, users, audit, admin and *",
                                 index);
        request->scopes |= bits;
    }
    return request->scopes ||
           err_set_param(err, ERR_INVALID_PARAMETERS, "permissions", "'permissions' must name at least one permission");
}

static bool never(const struct order *order, struct err *err)
{
    return order->app->conf->max_key_days == 0 ||
           err_set_param(err, ERR_INVALID_PARAMETERS, "expires_in",
                         "'expires_in' must be given: a key lives %lld days at most (security.max_key_days)",
                         (long long)order->app->conf->max_key_days);
}

/* Left out, it is the longest life that is allowed. */
static bool read_lifetime(const struct order *order, struct key_request *request, struct err *err)
{
    int64_t most = order->app->conf->max_key_days * 86400, seconds;
    struct str text = json_str(order->expires_in);
    if (!order->expires_in) {
        request->expires_at = most ? clock_unix() + most : 0;
        return true;
    }
    if (json_is_null(order->expires_in) || str_eq(text, STR("never")))
        return never(order, err);
    if (json_is_integer(order->expires_in))
        text = str_from(arena_printf(&order->req->arena, "%lld", (long long)json_integer_value(order->expires_in)));
    if (!lifetime_parse(text, &seconds) || seconds < LIFETIME_LEAST || (most && seconds > most))
        return err_set_param(
            err, ERR_INVALID_PARAMETERS, "expires_in",
            "'expires_in' must be a time such as \"30d\" or \"1h30m\" (units s m h d w y; a number alone "
            "is seconds) of 60 s at least%s",
            most ? arena_printf(&order->req->arena, " and %lld days at most", (long long)order->app->conf->max_key_days)
                 : "");
    request->expires_at = clock_unix() + seconds;
    return true;
}

static bool is_pattern(struct str text)
{
    for (size_t i = 0; i < text.n; i++)
        if ((unsigned char)text.p[i] < ' ' || text.p[i] == 127)
            return false;
    return text.n > 0 && text.n <= LIMIT_MODEL_NAME;
}

static bool read_models(const struct order *order, struct key_request *request, struct err *err)
{
    size_t index;
    json_t *one;
    const char *models = NULL;
    json_array_foreach(order->models, index, one)
    {
        if (!is_pattern(json_str(one)))
            return err_set_param(err, ERR_INVALID_PARAMETERS, "models",
                                 "'models[%zu]' must be a model's name, in which * stands for any characters", index);
        models = arena_printf(&order->req->arena, "%s%s%s", models ? models : "", models ? "\n" : "",
                              json_string_value(one));
    }
    request->models = models;
    return models || !order->models ||
           err_set_param(err, ERR_INVALID_PARAMETERS, "models",
                         "'models' must name at least one model, or be left out");
}

static bool read_priority(const struct order *order, struct key_request *request, struct err *err)
{
    request->priority = str_eq(order->priority, STR("batch")) ? KEY_BATCH : KEY_INTERACTIVE;
    return request->priority == KEY_BATCH || order->priority.n == 0 || str_eq(order->priority, STR("interactive")) ||
           err_set_param(err, ERR_INVALID_PARAMETERS, "priority", "'priority' must be interactive or batch");
}

static bool read_order(struct order *order, const json_t *document, struct key_request *request, struct err *err)
{
    static const struct json_field fields[] = {
        {.name = "name",
         .kind = JSON_KIND_TEXT,
         .offset = offsetof(struct order, name),
         .min = 1,
         .max = KEY_NAME_MAX,
         .required = true},
        JSON_FIELD(struct order, permissions, "permissions", JSON_KIND_ARRAY, 0, 32),
        JSON_FIELD(struct order, models, "models", JSON_KIND_ARRAY, 0, LIMIT_KEY_MODELS),
        JSON_FIELD(struct order, limits.requests_per_minute, "requests_per_minute", JSON_KIND_INT, 0, LIMIT_MOST),
        JSON_FIELD(struct order, limits.burst, "burst", JSON_KIND_INT, 0, LIMIT_MOST),
        JSON_FIELD(struct order, limits.tokens_per_minute, "tokens_per_minute", JSON_KIND_INT, 0, LIMIT_MOST),
        JSON_FIELD(struct order, limits.concurrent, "concurrent", JSON_KIND_INT, 0, LIMIT_MOST),
        JSON_FIELD(struct order, priority, "priority", JSON_KIND_TEXT, 0, 0),
    };
    if (!json_fields(document, fields, sizeof fields / sizeof *fields, order, "", err))
        return false;
    order->expires_in = json_object_get(document, "expires_in");
    request->name = order->name;
    request->limits = order->limits;
    request->form = KEY_FORM_SK;
    return read_permissions(order, request, err) && read_lifetime(order, request, err) &&
           read_models(order, request, err) && read_priority(order, request, err);
}

/* ---- no more than the maker has ---- */

/* Every pattern asked for lies within one of the maker's: his '*' takes a '*' of theirs like any text. */
static bool models_within(const struct caller *caller, struct key_request *request)
{
    struct str rest;
    if (!caller->models)
        return true;
    if (!request->models)
        request->models = caller->models;
    rest = str_from(request->models);
    while (rest.p)
        if (!api_may_use_model(caller, str_cut(&rest, '\n'), NULL))
            return false;
    return true;
}

static bool limit_within(int64_t makers, int64_t *asked)
{
    if (makers && !*asked)
        *asked = makers;
    return !makers || *asked <= makers;
}

static bool limits_within(const struct caller *caller, struct key_limits *asked)
{
    return limit_within(caller->limits.requests_per_minute, &asked->requests_per_minute) &&
           limit_within(caller->limits.burst, &asked->burst) &&
           limit_within(caller->limits.tokens_per_minute, &asked->tokens_per_minute) &&
           limit_within(caller->limits.concurrent, &asked->concurrent);
}

static void narrow(const struct order *order, struct key_request *request)
{
    const struct caller *caller = order->caller;
    if (!caller->by_token && caller->expires_at && (!request->expires_at || request->expires_at > caller->expires_at))
        request->expires_at = caller->expires_at;
    if (!caller->all_instances) {
        request->mode = KEY_PER_INSTANCE;
        request->instance_ids = caller->instance_ids;
        request->instance_count = caller->instance_count;
    }
    if (caller->priority == KEY_BATCH)
        request->priority = KEY_BATCH;
    if (caller->is_user)
        request->user_id = caller->user_id;
    else if (!(caller->permissions & AUTH_KEYS))
        request->made_by = caller->key_id;
}

static void grant(struct order *order, struct key_request *request)
{
    const struct caller *caller = order->caller;
    unsigned asked = permission_effective(request->scopes);
    if ((caller->permissions & asked) != asked)
        auth_forbid(order->app, order->req, caller, "A key may not be given permissions that its maker does not have");
    else if (caller->made_by_key || (!caller->is_user && !(caller->permissions & AUTH_KEYS) && !caller->key_id))
        auth_forbid(order->app, order->req, caller, "This key or token may not make keys");
    else if (!models_within(caller, request))
        auth_forbid(order->app, order->req, caller, "A key may not be given models that its maker may not use");
    else if (!limits_within(caller, &request->limits))
        auth_forbid(order->app, order->req, caller, "A key's limits may not be above those of its maker");
    else {
        narrow(order, request);
        keys_create(order->app->keys, request, &order->req->arena, on_created, order->req);
    }
}

static void on_create_body(struct http_req *req, struct str body)
{
    struct order *order = req->user;
    struct key_request request = {0};
    struct err err;
    json_t *document = auth_read_object(req, body);
    if (!document)
        return;
    if (read_order(order, document, &request, &err))
        grant(order, &request);
    else
        http_reply_error(req, &err);
    json_decref(document);
}

static void create(void *arg, struct http_req *req, const struct http_match *match)
{
    const struct caller *caller = auth_caller(req);
    (void)match;
    if (!caller)
        return;
    struct order *order = arena_calloc(&req->arena, sizeof *order);
    order->app = arg;
    order->req = req;
    order->caller = caller;
    req->user = order;
    http_req_read_body(req, LIMIT_OPTIONS_BYTES, on_create_body);
}

/* ---- looking, deleting, rotating ---- */

static void list(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    const struct caller *caller = auth_caller(req);
    (void)match;
    if (!caller)
        return;
    struct json *j = api_json_begin(req);
    json_open_object(j, NULL);
    json_put_string(j, "object", "list");
    json_open_array(j, "data");
    for (const struct key *const *key = keys_list(app->keys, &req->arena); *key; key++)
        if (may_touch(caller, *key))
            put_key(j, *key);
    json_close(j);
    json_close(j);
    api_reply_json(req, 200, j);
}

/* NULL: answered; the same for a key of others and for none, unless the caller may see all. */
static const struct key *find(struct app *app, struct http_req *req, const struct http_match *match)
{
    struct err err;
    const struct caller *caller = auth_caller(req);
    const struct key *key = caller ? keys_get_public(app->keys, match->captures[0]) : NULL;
    if (!caller || (key && may_touch(caller, key)))
        return key;
    if (!(caller->permissions & AUTH_KEYS)) {
        auth_forbid(app, req, caller, "The keys of others need the permission keys");
        return NULL;
    }
    err_set(&err, ERR_NOT_FOUND, "there is no key '" STR_FMT "'",
            (int)(match->captures[0].n < 64 ? match->captures[0].n : 64), match->captures[0].p);
    http_reply_error(req, &err);
    return NULL;
}

static void look(void *arg, struct http_req *req, const struct http_match *match)
{
    const struct key *key = find(arg, req, match);
    if (!key)
        return;
    struct json *j = api_json_begin(req);
    put_key(j, key);
    api_reply_json(req, 200, j);
}

static void on_deleted(void *arg, const struct err *err)
{
    struct http_req *req = arg;
    if (err)
        http_reply_error(req, err);
    else
        http_reply(req, 204, NULL, STR_NONE);
}

/* A key with more rights than its owner's caller has would be a way up, so a rotation asks for what a grant does. */
static void rotate(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    const struct key *key = find(app, req, match);
    if (!key)
        return;
    const struct caller *caller = auth_caller(req);
    unsigned has = permission_effective(key->scopes);
    if ((caller->permissions & has) != has)
        auth_forbid(app, req, caller, "That key has permissions that you do not have");
    else
        keys_rotate(app->keys, key->id, &req->arena, on_rotated, req);
}

static void delete (void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    const struct key *key = find(app, req, match);
    if (key)
        keys_delete(app->keys, key->id, &req->arena, on_deleted, req);
}

#define OPENAI (void *)&openai_dialect

static const struct http_route routes[] = {
    {"POST", "/v1/auth/keys", create, OPENAI, "Make a key; the reply is the only place that shows it", AUTH_ANY,
     &doc_auth_key_create},
    {"GET", "/v1/auth/keys", list, OPENAI, "Your keys; with the permission keys, all", AUTH_ANY, &doc_auth_key_list},
    {"GET", "/v1/auth/keys/{id}", look, OPENAI, "One key", AUTH_ANY, &doc_auth_key},
    {"DELETE", "/v1/auth/keys/{id}", delete, OPENAI, "Revoke a key; its open streams end", AUTH_ANY,
     &doc_auth_key_delete},
    {"POST", "/v1/auth/keys/{id}/rotate", rotate, OPENAI, "Give a key a new text; the old one stops working", AUTH_ANY,
     &doc_auth_key_rotate},
};

void auth_key_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
