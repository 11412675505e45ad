/* The route table. http knows a route only as data: what it matches, who handles it, which body limit and which error
 * dialect apply. Patterns: "/v1/models", "/v1/models/{id...}/load"; {x} is one segment, {x...} one or more segments
 * (raw '/' included). The most specific match wins: literal segments over {x} over {x...}; an exact {x...} id is the
 * handler's business. Matching is on the percent-encoded path; captures are decoded. */
#ifndef HTTP_ROUTE_H
#define HTTP_ROUTE_H

#include "http/server.h"

#define HTTP_ROUTE_CAPTURES 4

struct http_match;
typedef void http_handler(void *arg, struct http_req *req, const struct http_match *match);

struct http_route {
    const char *method; /* "GET" answers HEAD too; "*" any */
    const char *pattern;
    http_handler *handler;
    void *dialect;       /* goes to req->dialect */
    const char *summary; /* one line for the documentation */
    unsigned access;     /* what a caller must be allowed to do: the guard's to know; 0: nothing */
    const void *doc;     /* what the documentation says of bodies and parameters; or NULL */
};

/* Stands before every handler: calls http_match_handle, at once or later, or answers. */
typedef http_handler http_guard;

struct http_match {
    const struct http_route *route;
    struct str captures[HTTP_ROUTE_CAPTURES]; /* in order of appearance, decoded, in the request's arena */
};

struct http_router;
struct http_router *http_router_new(void *arg); /* arg goes to every handler */
void http_router_add(struct http_router *router, const struct http_route *routes, size_t count); /* kept by reference */
void http_router_guard(struct http_router *router, http_guard *guard);
void http_match_handle(struct http_router *router, struct http_req *req, const struct http_match *match);
void http_router_free(struct http_router *router);
const struct http_route *http_router_at(const struct http_router *router, size_t index); /* NULL behind the last */

/* Finds the route and calls its handler. No path: ERR_UNKNOWN_URL; path but not the method: 405 with Allow; OPTIONS
 * that is no CORS preflight: 204 with Allow. A path may match with one trailing '/' more than the pattern. */
void http_router_dispatch(struct http_router *router, struct http_req *req);

#endif
