/* What is decided on a request's head alone, before any handler: which Host a loopback listener answers to, and what
 * other origins' pages may do.
 *
 * Host: a page of any site can make its own name resolve to 127.0.0.1 and then talk to us as "same origin". The Host
 * it must send gives it away, so listeners on loopback answer only to names that cannot be rebound.
 *
 * Upgrades: browsers let any page open a WebSocket to anywhere and read what comes, CORS or not; all they do is name
 * the page's Origin. So an upgrade from an origin that is neither ours nor allowed is refused here. */
#include <arpa/inet.h>

#include "http/conn.h"

static bool in_list(const char *const *list, struct str text)
{
    for (; list && *list; list++)
        if (str_ieq(text, str_from(*list)))
            return true;
    return false;
}

/* The name without its port: "[::1]:80" gives "[::1]". */
static struct str host_name(struct str host)
{
    const char *colon = host.n ? memchr(host.p, ':', host.n) : NULL;
    if (host.n && host.p[0] == '[') {
        const char *bracket = memchr(host.p, ']', host.n);
        return bracket ? (struct str){host.p, (size_t)(bracket - host.p) + 1} : host;
    }
    return colon ? (struct str){host.p, (size_t)(colon - host.p)} : host;
}

static bool is_loopback_v4(struct str name)
{
    struct in_addr address;
    char text[16];
    if (name.n >= sizeof text)
        return false;
    snprintf(text, sizeof text, STR_FMT, STR_ARG(name));
    return inet_pton(AF_INET, text, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

static bool host_allowed(struct http_conn *c)
{
    struct str host = http_head_find(&c->req.head, "host");
    struct str name = host_name(host);
    if (!c->check_host || !host.p) /* no Host: HTTP/1.0, which no browser speaks */
        return true;
    return str_ieq(name, STR("localhost")) || str_eq(name, STR("[::1]")) || is_loopback_v4(name) ||
           in_list(c->server->options.allowed_hosts, name) || in_list(c->server->options.allowed_hosts, host);
}

static bool origin_allowed(const struct http_conn *c, struct str origin)
{
    const char *const *list = c->server->options.cors_origins;
    return origin.p && (in_list(list, STR("*")) || in_list(list, origin));
}

void policy_cors_headers(struct http_conn *conn, struct buf *head)
{
    struct str origin = http_head_find(&conn->req.head, "origin");
    bool any = in_list(conn->server->options.cors_origins, STR("*"));
    if (!any)
        buf_puts(head, "Vary: Origin\r\n");
    if (!origin_allowed(conn, origin))
        return;
    buf_puts(head, "Access-Control-Allow-Origin: ");
    buf_str(head, any ? STR("*") : origin);
    buf_puts(head, "\r\nAccess-Control-Expose-Headers: x-request-id, retry-after, retry-after-ms\r\n");
}

/* Is the origin the very host that is asked? */
static bool is_same_origin(struct str origin, struct str host)
{
    for (size_t i = 0; i + 3 <= origin.n; i++)
        if (memcmp(origin.p + i, "://", 3) == 0)
            return str_ieq((struct str){origin.p + i + 3, origin.n - i - 3}, host);
    return false;
}

static bool may_upgrade(const struct http_conn *c)
{
    const struct http_head *head = &c->req.head;
    if (!head->upgrade)
        return true;
    struct str origin = http_head_find(head, "origin");
    return !origin.p || origin_allowed(c, origin) || is_same_origin(origin, http_head_find(head, "host"));
}

/* A browser asking whether its page may send the real request. */
static bool is_preflight(const struct http_conn *c)
{
    const struct http_head *head = &c->req.head;
    return head->method == HTTP_OPTIONS && c->server->options.cors_origins &&
           http_head_find(head, "access-control-request-method").p && origin_allowed(c, http_head_find(head, "origin"));
}

static void answer_preflight(struct http_conn *c)
{
    struct http_req *req = &c->req;
    struct str wanted = http_head_find(&req->head, "access-control-request-headers");
    http_reply_header(req, "Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    if (wanted.n)
        http_reply_header(req, "Access-Control-Allow-Headers", arena_str(&req->arena, wanted).p);
    http_reply_header(req, "Access-Control-Max-Age", "600");
    http_reply(req, 204, NULL, STR_NONE);
}

bool policy_check(struct http_conn *conn)
{
    struct err err;
    if (!host_allowed(conn)) {
        err_set(&err, ERR_HOST_NOT_ALLOWED,
                "This server listens on loopback and does not answer to '%.*s'; add the name to the allowed hosts.",
                STR_ARG(http_head_find(&conn->req.head, "host")));
        conn_fail(conn, &err);
        return false;
    }
    if (!may_upgrade(conn)) {
        err_set(&err, ERR_PERMISSION_DENIED,
                "Pages of '%.*s' may not upgrade connections to this server; add the origin to server.cors_origins.",
                STR_ARG(http_head_find(&conn->req.head, "origin")));
        conn_fail(conn, &err);
        return false;
    }
    if (!is_preflight(conn))
        return true;
    answer_preflight(conn);
    return false;
}
