/* Patterns are compiled once into segments and a rank; a request takes the matching route of the highest rank among
 * those of its method. Linear over the table: a few dozen routes, most of them refused by their literal beginning. */
#include "http/route.h"

#include <assert.h>

#include "base/limits.h"
#include "base/mem.h"

enum segment_kind { SEGMENT_REST = 1, SEGMENT_ONE, SEGMENT_LITERAL }; /* by rank */

struct segment {
    enum segment_kind kind;
    struct str text; /* literals */
};

struct compiled {
    const struct http_route *route;
    struct str beginning; /* everything before the first capture */
    struct segment segments[LIMIT_ROUTE_SEGMENTS];
    size_t count, rest; /* rest: index of {x...}, or count */
    bool slash;         /* the pattern itself ends in one */
    uint64_t rank;      /* two bits a segment, the first one highest */
};

struct http_router {
    void *arg;
    http_guard *guard; /* or NULL */
    struct compiled *routes;
    size_t count;
};

struct http_router *http_router_new(void *arg)
{
    struct http_router *router = mem_calloc(1, sizeof *router);
    router->arg = arg;
    return router;
}

void http_router_free(struct http_router *router)
{
    if (!router)
        return;
    mem_free(router->routes);
    mem_free(router);
}

const struct http_route *http_router_at(const struct http_router *router, size_t index)
{
    return index < router->count ? router->routes[index].route : NULL;
}

static struct segment read_segment(struct str part)
{
    if (part.n == 0 || part.p[0] != '{')
        return (struct segment){SEGMENT_LITERAL, part};
    return (struct segment){str_ends(part, STR("...}")) ? SEGMENT_REST : SEGMENT_ONE, part};
}

static void compile(struct compiled *c, const struct http_route *route)
{
    struct str rest = str_from(route->pattern);
    const char *brace = strchr(route->pattern, '{');
    *c = (struct compiled){.route = route};
    c->beginning = (struct str){rest.p, brace ? (size_t)(brace - rest.p) : rest.n};
    assert(rest.n && rest.p[0] == '/');
    c->slash = rest.n > 1 && rest.p[rest.n - 1] == '/';
    rest.p++;
    rest.n -= 1 + c->slash;
    c->rest = SIZE_MAX;
    while (rest.p && rest.n) {
        assert(c->count < LIMIT_ROUTE_SEGMENTS);
        struct segment *s = &c->segments[c->count];
        *s = read_segment(str_cut(&rest, '/'));
        if (s->kind == SEGMENT_REST) {
            assert(c->rest == SIZE_MAX && "one {x...} a pattern");
            c->rest = c->count;
        }
        c->rank |= (uint64_t)s->kind << (62 - 2 * c->count);
        c->count++;
    }
    if (c->rest == SIZE_MAX)
        c->rest = c->count;
}

void http_router_add(struct http_router *router, const struct http_route *routes, size_t count)
{
    router->routes = mem_realloc(router->routes, (router->count + count) * sizeof *router->routes);
    for (size_t i = 0; i < count; i++)
        compile(&router->routes[router->count++], &routes[i]);
}

/* ---- matching ---- */

struct found {
    struct str captures[HTTP_ROUTE_CAPTURES];
    size_t count;
};

static bool match_segment(const struct segment *s, struct str part, struct found *found)
{
    if (s->kind == SEGMENT_LITERAL)
        return str_eq(s->text, part);
    assert(found->count < HTTP_ROUTE_CAPTURES);
    found->captures[found->count++] = part;
    return part.n > 0;
}

/* Cuts the last segment off *path. false: there is none. */
static bool cut_last(struct str *path, struct str *ret_part)
{
    const char *slash = path->n ? memrchr(path->p, '/', path->n) : NULL;
    if (!slash)
        return false;
    *ret_part = (struct str){slash + 1, (size_t)(path->p + path->n - slash) - 1};
    path->n = (size_t)(slash - path->p);
    return true;
}

/* {x...} takes what the segments behind it, matched from the end, leave over. */
static bool match_rest(const struct compiled *c, struct str rest, struct found *found)
{
    struct found tail = {.count = 0};
    struct str part;
    if (!rest.p)
        return false;
    for (size_t i = c->count; i-- > c->rest + 1;) {
        if (!cut_last(&rest, &part) || !match_segment(&c->segments[i], part, &tail))
            return false;
    }
    if (rest.n == 0)
        return false;
    assert(found->count + 1 + tail.count <= HTTP_ROUTE_CAPTURES);
    found->captures[found->count++] = rest;
    while (tail.count)
        found->captures[found->count++] = tail.captures[--tail.count];
    return true;
}

static bool match_path(const struct compiled *c, struct str path, struct found *found)
{
    *found = (struct found){.count = 0};
    if (!str_starts(path, c->beginning) && path.n + 1 != c->beginning.n)
        return false;
    bool slash = path.n > 1 && path.p[path.n - 1] == '/';
    if (path.n == 0 || path.p[0] != '/' || (c->slash && !slash))
        return false;
    struct str rest = {path.p + 1, path.n - 1 - slash};
    if (rest.n == 0)
        rest = STR_NONE;
    for (size_t i = 0; i < c->rest; i++) {
        if (!rest.p || !match_segment(&c->segments[i], str_cut(&rest, '/'), found))
            return false;
    }
    return c->rest < c->count ? match_rest(c, rest, found) : !rest.p;
}

static bool match_method(const char *wanted, const struct http_head *head)
{
    if (strcmp(wanted, "*") == 0 || str_eq(head->method_name, str_from(wanted)))
        return true;
    return head->method == HTTP_HEAD && strcmp(wanted, "GET") == 0;
}

static const struct compiled *find(const struct http_router *router, const struct http_head *head, bool any_method,
                                   struct found *ret_found)
{
    const struct compiled *best = NULL;
    struct found found;
    for (size_t i = 0; i < router->count; i++) {
        const struct compiled *c = &router->routes[i];
        if (best && c->rank <= best->rank)
            continue;
        if ((!any_method && !match_method(c->route->method, head)) || !match_path(c, head->path, &found))
            continue;
        best = c;
        *ret_found = found;
    }
    return best;
}

/* ---- answers ---- */

static void add_method(struct buf *allow, const char *method)
{
    struct str list = buf_view(allow), known;
    while (list.n) {
        known = str_trim(str_cut(&list, ','));
        if (str_eq(known, str_from(method)))
            return;
    }
    if (allow->len)
        buf_puts(allow, ", ");
    buf_puts(allow, method);
}

/* Allow: every method of every route that has this path. */
static void allow_header(const struct http_router *router, struct http_req *req)
{
    struct buf allow;
    struct found found;
    buf_init(&allow, 256);
    for (size_t i = 0; i < router->count; i++) {
        const char *method = router->routes[i].route->method;
        if (!match_path(&router->routes[i], req->head.path, &found))
            continue;
        add_method(&allow, strcmp(method, "*") == 0 ? "GET" : method);
        if (strcmp(method, "GET") == 0 || strcmp(method, "*") == 0)
            add_method(&allow, "HEAD");
        if (strcmp(method, "*") == 0)
            add_method(&allow, "POST");
    }
    add_method(&allow, "OPTIONS");
    http_reply_header(req, "Allow", allow.data);
    buf_release(&allow);
}

static void refuse(const struct http_router *router, struct http_req *req)
{
    struct err err;
    struct found found;
    const struct compiled *other = find(router, &req->head, true, &found);
    if (!other) {
        err_set(&err, ERR_UNKNOWN_URL, "Unknown request URL: %.*s %.*s.", STR_ARG(req->head.method_name),
                STR_ARG(req->head.path));
        http_reply_error(req, &err);
        return;
    }
    req->dialect = other->route->dialect;
    allow_header(router, req);
    if (req->head.method == HTTP_OPTIONS) {
        http_reply(req, 204, NULL, STR_NONE);
        return;
    }
    err_set(&err, ERR_METHOD_NOT_ALLOWED, "%.*s is not allowed on %.*s.", STR_ARG(req->head.method_name),
            STR_ARG(req->head.path));
    http_reply_error(req, &err);
}

void http_router_dispatch(struct http_router *router, struct http_req *req)
{
    struct found found;
    const struct compiled *c = find(router, &req->head, false, &found);
    if (!c) {
        refuse(router, req);
        return;
    }
    struct http_match *match = arena_calloc(&req->arena, sizeof *match);
    match->route = c->route;
    req->dialect = c->route->dialect;
    for (size_t i = 0; i < found.count; i++) {
        if (http_decode_percent(&req->arena, found.captures[i], &match->captures[i]))
            continue;
        struct err err;
        err_set(&err, ERR_BAD_REQUEST, "The path has an invalid percent-encoding.");
        http_reply_error(req, &err);
        return;
    }
    if (router->guard)
        router->guard(router->arg, req, match);
    else
        http_match_handle(router, req, match);
}

void http_router_guard(struct http_router *router, http_guard *guard)
{
    router->guard = guard;
}

void http_match_handle(struct http_router *router, struct http_req *req, const struct http_match *match)
{
    match->route->handler(router->arg, req, match);
}
