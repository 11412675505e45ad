/* /v1/auth/login, /v1/auth/logout and /v1/auth/user: a password becomes a token, a token ends, and who am I. */
#include "api/auth/auth.h"
#include "api/docs/doc.h"
#include "base/clock.h"
#include "base/json_read.h"

struct login {
    struct app *app;
    struct http_req *req;
    struct str username, password;
};

static void reply_token(struct app *app, struct http_req *req, const struct user *user)
{
    struct buf token;
    int64_t expires_at;
    struct json *j = api_json_begin(req);
    buf_init(&token, LIMIT_TOKEN_BYTES);
    tokens_issue(app->tokens, user, &token, &expires_at);
    json_open_object(j, NULL);
    json_put_text(j, "token", buf_view(&token));
    json_put_string(j, "token_type", "Bearer");
    json_put_int(j, "expires_in", expires_at - clock_unix());
    auth_put_time(j, "expires", expires_at);
    json_close(j);
    buf_release(&token);
    http_reply_header(req, "Cache-Control", "no-store");
    api_reply_json(req, 200, j);
}

static void on_login(void *arg, const struct user *user, const struct err *err)
{
    const struct login *login = arg;
    if (user) {
        api_audit(login->app, login->req, user->id, "logged_in");
        reply_token(login->app, login->req, user);
        return;
    }
    if (err->code == ERR_AUTHENTICATION_FAILED) {
        api_guess_failed(login->app, login->req);
        api_audit(login->app, login->req, "unknown", "unauthenticated");
        http_reply_header(login->req, "WWW-Authenticate", "Bearer");
    }
    http_reply_error(login->req, err);
}

static bool read_login(struct login *login, const json_t *document, struct err *err)
{
    static const struct json_field fields[] = {
        {.name = "username",
         .kind = JSON_KIND_TEXT,
         .offset = offsetof(struct login, username),
         .min = 1,
         .max = LIMIT_USER_NAME,
         .required = true},
        {.name = "password",
         .kind = JSON_KIND_TEXT,
         .offset = offsetof(struct login, password),
         .min = 1,
         .max = LIMIT_PASSWORD,
         .required = true},
    };
    return json_fields(document, fields, sizeof fields / sizeof *fields, login, "", err);
}

static void on_login_body(struct http_req *req, struct str body)
{
    struct login *login = req->user;
    struct err err;
    json_t *document = auth_read_object(req, body);
    if (!document)
        return;
    if (!read_login(login, document, &err))
        http_reply_error(req, &err);
    else
        users_login(login->app->users, login->username, login->password, &req->arena, on_login, login);
    json_decref(document);
}

static void log_in(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct err err;
    (void)match;
    if (!tokens_can_issue(app->tokens)) {
        err_set(&err, ERR_NOT_SUPPORTED,
                "This server gives out no tokens: that needs security.jwt_enabled with the algorithm HS256");
        http_reply_error(req, &err);
        return;
    }
    if (!api_guess_allowed(app, req))
        return;
    struct login *login = arena_calloc(&req->arena, sizeof *login);
    login->app = app;
    login->req = req;
    req->user = login;
    http_req_read_body(req, LIMIT_OPTIONS_BYTES, on_login_body);
}

/* ---- the end of a token ---- */

struct logout {
    struct app *app;
    struct http_req *req;
};

/* The caller's streams end last, so that this request, which may be one of a watch, is answered. */
static void on_logged_out(void *arg, const struct err *err)
{
    struct logout logout = *(const struct logout *)arg;
    if (err)
        http_reply_error(logout.req, err);
    else
        http_reply(logout.req, 204, NULL, STR_NONE);
    callers_lost(logout.app);
}

static void log_out(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct err err;
    const struct caller *caller = req->caller;
    (void)match;
    if (!caller || !caller->by_token) {
        err_set(&err, ERR_BAD_REQUEST, "Only a token can be logged out; a key is revoked with DELETE /v1/auth/keys/ID");
        http_reply_error(req, &err);
        return;
    }
    struct logout *logout = arena_alloc(&req->arena, sizeof *logout);
    *logout = (struct logout){app, req};
    tokens_end(app->tokens, caller->token_id, caller->expires_at, &req->arena, on_logged_out, logout);
}

/* ---- who am I ---- */

/* His user's keys; of a caller without a user the key itself and those it made; of the local admin all. */
static int64_t count_keys(const struct app *app, struct http_req *req, const struct caller *caller)
{
    int64_t count = 0;
    for (const struct key *const *key = keys_list(app->keys, &req->arena); *key; key++)
        count += caller->is_user ? (*key)->user_id && strcmp((*key)->user_id, caller->user_id) == 0
                 : req->caller   ? caller->key_id && ((*key)->id == caller->key_id || (*key)->made_by == caller->key_id)
                                 : true;
    return count;
}

static void who_am_i(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    const struct caller *caller = auth_caller(req);
    (void)match;
    if (!caller)
        return;
    const struct user *user = caller->is_user ? users_get(app->users, str_from(caller->user_id)) : NULL;
    struct json *j = api_json_begin(req);
    json_open_object(j, NULL);
    json_put_string(j, "user_id", caller->user_id);
    json_put_string(j, "username", caller->user_name);
    json_put_string(j, "role", role_name(caller->role));
    auth_put_permissions(j, "permissions", caller->permissions);
    json_put_int(j, "api_keys", count_keys(app, req, caller));
    auth_put_time(j, "last_login", user ? user->last_login_at : 0);
    json_close(j);
    api_reply_json(req, 200, j);
}

#define OPENAI (void *)&openai_dialect

static const struct http_route routes[] = {
    {"POST", "/v1/auth/login", log_in, OPENAI, "A token for a user's name and password", AUTH_NONE, &doc_login},
    {"POST", "/v1/auth/logout", log_out, OPENAI, "End the token that this is called with", AUTH_ANY, &doc_logout},
    {"GET", "/v1/auth/user", who_am_i, OPENAI, "Who you are, and what you may do", AUTH_ANY, &doc_who_am_i},
};

void auth_login_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
