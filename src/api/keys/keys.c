/* Keys made through the API (specs/llamactl.md 1.7). The clear key is in the reply that makes it and nowhere else. */
#include "api/app.h"
#include "api/docs/doc.h"
#include "base/clock.h"
#include "base/json_read.h"

#define KEY_NAME_MAX 100

static void put_key(struct json *j, const char *member, const struct key *key, const char *clear)
{
    json_open_object(j, member);
    json_put_int(j, "id", key->id);
    json_put_string(j, "name", key->name);
    json_put_string(j, "user_id", "system");
    json_put_string(j, "permission_mode", key->mode == KEY_PER_INSTANCE ? "per_instance" : "allow_all");
    json_open_array(j, "scopes");
    if (key->scopes & AUTH_INFERENCE)
        json_put_string(j, NULL, "inference");
    if (key->scopes & AUTH_MANAGEMENT)
        json_put_string(j, NULL, "management");
    json_close(j);
    if (key->expires_at)
        json_put_int(j, "expires_at", key->expires_at);
    else
        json_put_null(j, "expires_at");
    json_put_int(j, "created_at", key->created_at);
    json_put_int(j, "updated_at", key->updated_at);
    if (key->last_used_at)
        json_put_int(j, "last_used_at", key->last_used_at);
    else
        json_put_null(j, "last_used_at");
    if (clear)
        json_put_string(j, "key", clear);
    json_close(j);
}

/* ---- making one ---- */

struct order {
    struct app *app;
    struct http_req *req;
    struct str name, mode;
    int64_t expires_at;
    json_t *instance_ids, *scopes;
};

static void on_created(void *arg, const struct key *key, const char *clear, const struct err *err)
{
    struct order *order = arg;
    if (err) {
        http_reply_error(order->req, err);
        return;
    }
    struct json *j = api_json_begin(order->req);
    put_key(j, NULL, key, clear);
    api_reply_json(order->req, 201, j);
}

static bool read_mode(const struct order *order, struct key_request *request, struct err *err)
{
    if (order->mode.n == 0 || str_eq(order->mode, STR("allow_all"))) {
        request->mode = KEY_ALLOW_ALL;
        return true;
    }
    request->mode = KEY_PER_INSTANCE;
    if (!str_eq(order->mode, STR("per_instance")))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "permission_mode",
                             "'permission_mode' must be allow_all or per_instance");
    if (json_array_size(order->instance_ids) == 0)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "instance_ids",
                             "'instance_ids' is required with per_instance: the ids of the instances that the key may "
                             "use");
    return true;
}

static bool read_ids(struct order *order, struct key_request *request, struct err *err)
{
    size_t index, count = json_array_size(order->instance_ids);
    json_t *id;
    int64_t *ids = arena_alloc(&order->req->arena, (count + 1) * sizeof *ids);
    json_array_foreach(order->instance_ids, index, id)
    {
        if (!json_is_integer(id) || !instances_find_id(order->app->instances, json_integer_value(id)))
            return err_set_param(err, ERR_INVALID_PARAMETERS, "instance_ids",
                                 "'instance_ids[%zu]' is no instance's id; see GET /api/v1/instances", index);
        ids[index] = json_integer_value(id);
    }
    request->instance_ids = ids;
    request->instance_count = request->mode == KEY_PER_INSTANCE ? count : 0;
    return true;
}

static bool read_scopes(const struct order *order, struct key_request *request, struct err *err)
{
    size_t index;
    json_t *scope;
    request->scopes = order->scopes ? 0 : AUTH_INFERENCE;
    json_array_foreach(order->scopes, index, scope)
    {
        struct str name = json_str(scope);
        if (str_eq(name, STR("inference")))
            request->scopes |= AUTH_INFERENCE;
        else if (str_eq(name, STR("management")))
            request->scopes |= AUTH_MANAGEMENT | AUTH_INFERENCE;
        else
            return err_set_param(err, ERR_INVALID_PARAMETERS, "scopes", "'scopes' may hold inference and management");
    }
    return request->scopes ||
           err_set_param(err, ERR_INVALID_PARAMETERS, "scopes", "'scopes' must name at least one scope");
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
        JSON_FIELD(struct order, mode, "permission_mode", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(struct order, expires_at, "expires_at", JSON_KIND_INT, 0, 0),
        JSON_FIELD(struct order, instance_ids, "instance_ids", JSON_KIND_ARRAY, 0, LIMIT_INSTANCES),
        JSON_FIELD(struct order, scopes, "scopes", JSON_KIND_ARRAY, 0, 8),
    };
    if (!json_is_object(document))
        return err_set(err, ERR_INVALID_PARAMETERS, "the body must be a JSON object");
    if (!json_fields(document, fields, sizeof fields / sizeof *fields, order, "", err))
        return false;
    const json_t *expires = json_object_get(document, "expires_at");
    if (expires && !json_is_null(expires) && order->expires_at <= clock_unix())
        return err_set_param(err, ERR_INVALID_PARAMETERS, "expires_at", "'expires_at' must be a time to come");
    request->name = order->name;
    request->expires_at = order->expires_at;
    return read_mode(order, request, err) && read_ids(order, request, err) && read_scopes(order, request, err);
}

static void on_create_body(struct http_req *req, struct str body)
{
    struct order *order = req->user;
    struct key_request request = {0};
    struct err err;
    json_t *document = json_read(body, &err);
    if (document && read_order(order, document, &request, &err))
        keys_create(order->app->keys, &request, &req->arena, on_created, order);
    else
        http_reply_error(req, &err);
    json_decref(document);
}

static void create(void *arg, struct http_req *req, const struct http_match *match)
{
    struct order *order = arena_calloc(&req->arena, sizeof *order);
    (void)match;
    order->app = arg;
    order->req = req;
    req->user = order;
    http_req_read_body(req, LIMIT_OPTIONS_BYTES, on_create_body);
}

/* ---- looking and deleting ---- */

static void list(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct json *j = api_json_begin(req);
    (void)match;
    json_open_array(j, NULL);
    for (const struct key *const *key = keys_list(app->keys, &req->arena); *key; key++)
        put_key(j, NULL, *key, NULL);
    json_close(j);
    api_reply_json(req, 200, j);
}

/* NULL: answered. */
static const struct key *find(struct app *app, struct http_req *req, const struct http_match *match)
{
    struct err err;
    uint64_t id;
    const struct key *key = NULL;
    if (!str_u64(match->captures[0], INT64_MAX, &id))
        err_set_param(&err, ERR_INVALID_PARAMETERS, "id", "a key's id is a whole number");
    else if (!(key = keys_get(app->keys, (int64_t)id)))
        err_set(&err, ERR_NOT_FOUND, "there is no key %llu", (unsigned long long)id);
    if (!key)
        http_reply_error(req, &err);
    return key;
}

static void look(void *arg, struct http_req *req, const struct http_match *match)
{
    const struct key *key = find(arg, req, match);
    if (!key)
        return;
    struct json *j = api_json_begin(req);
    put_key(j, NULL, key, NULL);
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

static void delete (void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    const struct key *key = find(app, req, match);
    if (key)
        keys_delete(app->keys, key->id, &req->arena, on_deleted, req);
}

static void permissions(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    const struct key *key = find(app, req, match);
    if (!key)
        return;
    struct json *j = api_json_begin(req);
    json_open_array(j, NULL);
    for (size_t n = 0; key->mode == KEY_PER_INSTANCE && n < key->instance_count; n++) {
        const struct instance *i = instances_find_id(app->instances, key->instance_ids[n]);
        if (!i)
            continue;
        json_open_object(j, NULL);
        json_put_int(j, "instance_id", key->instance_ids[n]);
        json_put_string(j, "instance_name", instance_name(i));
        json_close(j);
    }
    json_close(j);
    api_reply_json(req, 200, j);
}

#define MANAGER (void *)&manager_dialect

static const struct http_route routes[] = {
    {"POST", "/api/v1/auth/keys", create, MANAGER, "Make a key; the reply is the only place that shows it",
     AUTH_MANAGEMENT, &doc_key_create},
    {"GET", "/api/v1/auth/keys", list, MANAGER, "All keys, newest first", AUTH_MANAGEMENT, &doc_key_list},
    {"GET", "/api/v1/auth/keys/{id}", look, MANAGER, "One key", AUTH_MANAGEMENT, &doc_key},
    {"DELETE", "/api/v1/auth/keys/{id}", delete, MANAGER, "Delete a key", AUTH_MANAGEMENT, &doc_key_delete},
    {"GET", "/api/v1/auth/keys/{id}/permissions", permissions, MANAGER, "Instances that a key may use", AUTH_MANAGEMENT,
     &doc_key_permissions},
};

void keys_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
