/* /v1/auth/users: making, changing and removing users needs the permission users; nobody gets a role with more rights
 * than the one who gives it has. */
#include "api/auth/auth.h"
#include "api/docs/doc.h"
#include "base/json_read.h"

struct order {
    struct app *app;
    struct http_req *req;
    const struct caller *caller;
    struct str id, username, password, role;
    bool disabled;
};

static void put_user(struct json *j, const struct user *user)
{
    json_open_object(j, NULL);
    json_put_string(j, "user_id", user->id);
    json_put_string(j, "username", user->name);
    json_put_string(j, "role", role_name(user->role));
    auth_put_permissions(j, "permissions", role_permissions(user->role));
    json_put_bool(j, "disabled", user->disabled);
    auth_put_time(j, "created", user->created_at);
    auth_put_time(j, "last_login", user->last_login_at);
    json_close(j);
}

static void reply_user(struct http_req *req, int status, const struct user *user, const struct err *err)
{
    if (!user) {
        http_reply_error(req, err);
        return;
    }
    struct json *j = api_json_begin(req);
    put_user(j, user);
    api_reply_json(req, status, j);
}

/* ---- rights ---- */

static bool may_grant(const struct caller *caller, enum role role)
{
    unsigned rights = permission_effective(role_permissions(role));
    return (caller->permissions & rights) == rights;
}

static bool read_role(struct order *order, enum role *role, struct err *err)
{
    if (!role_parse(order->role, role))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "role", "'role' must be admin, user, guest or service");
    return true;
}

static bool check_grant(const struct order *order, enum role role, struct err *err)
{
    return may_grant(order->caller, role) ||
           err_set_param(err, ERR_PERMISSION_DENIED, "role", "The role %s has permissions that you do not have",
                         role_name(role));
}

/* ---- making ---- */

static void on_created(void *arg, const struct user *user, const struct err *err)
{
    reply_user(arg, 201, user, err);
}

static bool read_new(struct order *order, const json_t *document, enum role *role, struct err *err)
{
    static const struct json_field fields[] = {
        {.name = "username", .kind = JSON_KIND_TEXT, .offset = offsetof(struct order, username), .required = true},
        {.name = "password", .kind = JSON_KIND_TEXT, .offset = offsetof(struct order, password), .required = true},
        JSON_FIELD(struct order, role, "role", JSON_KIND_TEXT, 0, 0),
    };
    order->role = STR("user");
    return json_fields(document, fields, sizeof fields / sizeof *fields, order, "", err) &&
           read_role(order, role, err) && check_grant(order, *role, err);
}

static void on_create_body(struct http_req *req, struct str body)
{
    struct order *order = req->user;
    struct err err;
    enum role role;
    json_t *document = auth_read_object(req, body);
    if (!document)
        return;
    if (read_new(order, document, &role, &err))
        users_create(order->app->users, order->username, order->password, role, &req->arena, on_created, req);
    else
        http_reply_error(req, &err);
    json_decref(document);
}

/* NULL: answered. */
static struct order *order_new(struct app *app, struct http_req *req)
{
    const struct caller *caller = auth_caller(req);
    if (!caller)
        return NULL;
    struct order *order = arena_calloc(&req->arena, sizeof *order);
    order->app = app;
    order->req = req;
    order->caller = caller;
    req->user = order;
    return order;
}

static void create(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    if (order_new(arg, req))
        http_req_read_body(req, LIMIT_OPTIONS_BYTES, on_create_body);
}

/* ---- looking ---- */

static void list(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    (void)match;
    if (!auth_caller(req))
        return;
    struct json *j = api_json_begin(req);
    json_open_object(j, NULL);
    json_put_string(j, "object", "list");
    json_open_array(j, "data");
    for (const struct user *const *user = users_list(app->users, &req->arena); *user; user++)
        put_user(j, *user);
    json_close(j);
    json_close(j);
    api_reply_json(req, 200, j);
}

static void look(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct err err;
    if (!auth_caller(req))
        return;
    const struct user *user = users_get(app->users, match->captures[0]);
    if (!user)
        err_set(&err, ERR_NOT_FOUND, "There is no such user.");
    reply_user(req, 200, user, &err);
}

/* ---- changing ---- */

static void on_updated(void *arg, const struct user *user, const struct err *err)
{
    reply_user(arg, 200, user, err);
}

static bool read_patch(struct order *order, const json_t *document, struct user_patch *patch, struct err *err)
{
    static const struct json_field fields[] = {
        JSON_FIELD(struct order, password, "password", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(struct order, role, "role", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(struct order, disabled, "disabled", JSON_KIND_BOOL, 0, 0),
    };
    if (!json_fields(document, fields, sizeof fields / sizeof *fields, order, "", err))
        return false;
    const json_t *disabled = json_object_get(document, "disabled");
    *patch = (struct user_patch){.has_role = order->role.p != NULL,
                                 .has_disabled = json_is_boolean(disabled),
                                 .disabled = order->disabled,
                                 .has_password = order->password.p != NULL,
                                 .password = order->password};
    if (!patch->has_role && !patch->has_disabled && !patch->has_password)
        return err_set(err, ERR_INVALID_PARAMETERS, "the body must have password, role or disabled");
    return !patch->has_role || (read_role(order, &patch->role, err) && check_grant(order, patch->role, err));
}

static void on_update_body(struct http_req *req, struct str body)
{
    struct order *order = req->user;
    struct user_patch patch;
    struct err err;
    json_t *document = auth_read_object(req, body);
    if (!document)
        return;
    const struct user *user = users_get(order->app->users, order->id);
    if (!read_patch(order, document, &patch, &err))
        http_reply_error(req, &err);
    else if (user && !may_grant(order->caller, user->role))
        auth_forbid(order->app, req, order->caller, "That user has permissions that you do not have");
    else
        users_update(order->app->users, order->id, &patch, &req->arena, on_updated, req);
    json_decref(document);
}

static void update(void *arg, struct http_req *req, const struct http_match *match)
{
    struct order *order = order_new(arg, req);
    if (!order)
        return;
    order->id = match->captures[0];
    http_req_read_body(req, LIMIT_OPTIONS_BYTES, on_update_body);
}

/* ---- removing ---- */

static void on_deleted(void *arg, const struct user *user, const struct err *err)
{
    struct http_req *req = arg;
    if (user)
        http_reply(req, 204, NULL, STR_NONE);
    else
        http_reply_error(req, err);
}

static void delete (void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    const struct caller *caller = auth_caller(req);
    const struct user *user = caller ? users_get(app->users, match->captures[0]) : NULL;
    if (!caller)
        return;
    if (user && !may_grant(caller, user->role))
        auth_forbid(app, req, caller, "That user has permissions that you do not have");
    else
        users_delete(app->users, match->captures[0], &req->arena, on_deleted, req);
}

#define OPENAI (void *)&openai_dialect

static const struct http_route routes[] = {
    {"POST", "/v1/auth/users", create, OPENAI, "Make a user", AUTH_USERS, &doc_user_create},
    {"GET", "/v1/auth/users", list, OPENAI, "All users", AUTH_USERS, &doc_user_list},
    {"GET", "/v1/auth/users/{id}", look, OPENAI, "One user", AUTH_USERS, &doc_user},
    {"PATCH", "/v1/auth/users/{id}", update, OPENAI, "Change a user's password, role, or whether the user may call",
     AUTH_USERS, &doc_user_update},
    {"DELETE", "/v1/auth/users/{id}", delete, OPENAI, "Remove a user, and the user's keys", AUTH_USERS,
     &doc_user_delete},
};

void auth_user_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
