/* What the files of /v1/auth share. */
#ifndef API_AUTH_AUTH_H
#define API_AUTH_AUTH_H

#include <jansson.h>

#include "api/app.h"

/* Who asks: req->caller, or a synthetic local admin while no credential is needed. NULL: answered with 403, since
 * nothing is needed but the caller is on another machine, or a page of another site. */
const struct caller *auth_caller(struct http_req *req);

/* Puts a time as "2026-11-21T06:18:54Z", or null for 0. */
void auth_put_time(struct json *j, const char *member, int64_t unix_seconds);
void auth_put_permissions(struct json *j, const char *member, unsigned bits);

/* The body as a JSON object to be released, or NULL: answered. */
json_t *auth_read_object(struct http_req *req, struct str body);

/* Audits and answers with 403. */
void auth_forbid(struct app *app, struct http_req *req, const struct caller *caller, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

void auth_key_routes(struct http_router *router);
void auth_user_routes(struct http_router *router);
void auth_login_routes(struct http_router *router);

#endif
