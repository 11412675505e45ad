#include "api/auth/auth.h"

#include <stdarg.h>

#include "base/clock.h"
#include "base/json_read.h"

static bool is_local(const struct http_req *req)
{
    char peer[HTTP_PEER_SIZE];
    http_req_peer(req, peer);
    return !*peer || strncmp(peer, "127.", 4) == 0 || strcmp(peer, "::1") == 0;
}

/* A page of another site can make a browser send a form here, without being able to read the answer. */
static bool is_foreign_page(const struct http_req *req)
{
    struct str origin = http_head_find(&req->head, "origin"), host = http_head_find(&req->head, "host");
    size_t scheme = origin.n > host.n ? origin.n - host.n : 0;
    return origin.p && !(scheme && str_ends(origin, host) && str_ends((struct str){origin.p, scheme}, STR("://")));
}

const struct caller *auth_caller(struct http_req *req)
{
    static const struct caller local = {.scopes = AUTH_ALL,
                                        .permissions = AUTH_ALL | AUTH_ANY,
                                        .all_instances = true,
                                        .user_id = "local",
                                        .user_name = "local",
                                        .role = ROLE_ADMIN};
    struct err err;
    if (req->caller)
        return req->caller;
    if (is_local(req) && !is_foreign_page(req))
        return &local;
    err_set(
        &err, ERR_PERMISSION_DENIED,
        "While no credentials are needed, keys and users can be managed from this machine only, and not by pages of "
        "other sites");
    http_reply_error(req, &err);
    return NULL;
}

void auth_put_time(struct json *j, const char *member, int64_t unix_seconds)
{
    char text[CLOCK_RFC3339_SIZE];
    clock_rfc3339(unix_seconds * 1000, text);
    char *fraction = strchr(text, '.');
    if (fraction)
        memcpy(fraction, "Z", 2);
    json_put_string(j, member, unix_seconds ? text : NULL);
}

void auth_put_permissions(struct json *j, const char *member, unsigned bits)
{
    size_t at = 0;
    json_open_array(j, member);
    for (const char *name; (name = permission_next(bits, &at));)
        json_put_string(j, NULL, name);
    json_close(j);
}

json_t *auth_read_object(struct http_req *req, struct str body)
{
    struct err err;
    json_t *document = json_read(body, &err);
    if (json_is_object(document))
        return document;
    if (document)
        err_set(&err, ERR_INVALID_PARAMETERS, "the body must be a JSON object");
    json_decref(document);
    http_reply_error(req, &err);
    return NULL;
}

void auth_forbid(struct app *app, struct http_req *req, const struct caller *caller, const char *format, ...)
{
    char message[LIMIT_ERR_MESSAGE];
    struct err err;
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    err_set(&err, ERR_PERMISSION_DENIED, "%s", message);
    api_audit(app, req, caller->user_id, "forbidden");
    http_reply_error(req, &err);
}

void auth_routes(struct http_router *router)
{
    auth_key_routes(router);
    auth_user_routes(router);
    auth_login_routes(router);
}
