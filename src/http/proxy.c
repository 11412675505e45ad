/* One request through one call. The proxy's state lies in the request's arena and registers itself there: when the
 * client goes, the arena dies, and the call with it. Everything else is two pumps with back-pressure, one a direction,
 * joined at the four functions pause/resume of request and call.
 *
 * Heads are rebuilt from what the parser understood, never copied: hop-by-hop headers and framing stay on their side.
 *
 * A tunnel is the same two pumps with other ends. It has no timeout while both directions are open. Once one has
 * ended, a peer that is gone for good can look like one that only listens, so then something must move within the
 * time that a request body may pause.
 *
 * Invariant: while `call` is set it runs; it is NULL from its last event on. on_finish is the disposer's business, so
 * that it comes exactly once, whatever the end. */
#include "http/proxy.h"

#include "http/conn.h"

struct proxy {
    struct http_req *req;
    struct http_call *call;
    struct arena_disposer *disposer;
    void (*on_head)(void *arg, const struct http_head *head);
    void (*on_data)(void *arg, struct str piece);
    void (*on_broken)(void *arg);
    bool (*on_error)(void *arg, struct http_req *req, const struct err *err);
    void (*on_finish)(void *arg, bool complete);
    void *arg;
    bool complete;
    struct deadline half_open; /* of a tunnel with one direction left */
    uint64_t up;               /* bytes of the tunnel that the client sent */
    uint64_t moved;            /* of both directions, when the deadline was armed */
};

static void proxy_release(void *arg)
{
    struct proxy *p = arg;
    deadline_cancel(p->req->server->loop, &p->half_open);
    if (p->call)
        http_call_cancel(p->call);
    if (p->on_finish)
        p->on_finish(p->arg, p->complete);
}

/* ---- a tunnel ---- */

/* Bytes that the two peers have taken, but for what their own kernels hold. */
static uint64_t tunnel_moved(const struct proxy *p)
{
    size_t waiting = wire_unsent(&p->req->conn->wire) + (p->call ? http_call_unsent(p->call) : 0);
    return p->up + p->req->bytes_out - waiting;
}

static void on_half_open_long(struct deadline *deadline);

static void tunnel_half_open(struct proxy *p)
{
    p->moved = tunnel_moved(p);
    struct http_server *s = p->req->server;
    deadline_arm(s->loop, &p->half_open, s->options.body_timeout_ms, on_half_open_long);
}

static void on_half_open_long(struct deadline *deadline)
{
    struct proxy *p = container_of(deadline, struct proxy, half_open);
    if (tunnel_moved(p) == p->moved)
        http_reply_abort(p->req);
    else
        tunnel_half_open(p);
}

static void on_tunnel_data(struct http_req *req, struct str piece)
{
    struct proxy *p = req->conn->proxy;
    p->up += piece.n;
    if (!http_call_write(p->call, piece))
        http_req_pause(req);
}

static void on_tunnel_end(struct http_req *req)
{
    struct proxy *p = req->conn->proxy;
    http_call_finish(p->call);
    tunnel_half_open(p);
}

static void on_upstream_half_end(void *arg)
{
    struct proxy *p = arg;
    reply_end_half(p->req);
    tunnel_half_open(p);
}

/* ---- the reply ---- */

static void on_client_proceed(struct http_req *req)
{
    struct proxy *p = req->conn->proxy;
    if (p->call)
        http_call_resume(p->call);
}

static void on_head(void *arg, const struct http_head *head)
{
    struct proxy *p = arg;
    http_req_drop_body(p->req); /* sent, or kept by the call: a long stream must not hold a large prompt */
    http_reply_on_proceed(p->req, on_client_proceed);
    if (http_call_is_tunnel(p->call)) {
        reply_pass_upgrade(p->req, head);
        conn_tunnel(p->req->conn, true, on_tunnel_data, on_tunnel_end);
    } else {
        reply_pass(p->req, head);
    }
    if (p->on_head)
        p->on_head(p->arg, head);
}

static void on_data(void *arg, struct str piece)
{
    struct proxy *p = arg;
    if (p->on_data)
        p->on_data(p->arg, piece);
    if (!http_reply_write(p->req, piece))
        http_call_pause(p->call);
}

static void on_end(void *arg)
{
    struct proxy *p = arg;
    p->call = NULL;
    p->complete = true;
    http_reply_end(p->req);
}

/* The owner may answer (which ends the request and this proxy), decline, or take the request over for later: then the
 * proxy withdraws from a request that lives on. */
static void on_call_error(void *arg, const struct err *err)
{
    struct proxy *p = arg;
    struct http_conn *conn = p->req->conn; /* outlives the request: it is freed in a later turn */
    p->call = NULL;
    if (conn->tunnel) { /* nothing in it says where it should end: what came is delivered, then it closes */
        http_reply_end(p->req);
        return;
    }
    if (http_reply_started(p->req)) {
        if (p->on_broken)
            p->on_broken(p->arg);
        http_reply_abort(p->req);
        return;
    }
    bool taken = p->on_error && p->on_error(p->arg, p->req, err);
    if (conn->state != CONN_REQUEST)
        return;
    if (!taken) {
        http_reply_error(p->req, err);
        return;
    }
    arena_forget(p->disposer);
    proxy_release(p);
}

/* ---- the request ---- */

static void on_upstream_proceed(void *arg)
{
    struct proxy *p = arg;
    http_req_resume(p->req);
}

static void on_body_data(struct http_req *req, struct str piece)
{
    struct proxy *p = req->conn->proxy;
    if (p && p->call && !http_call_write(p->call, piece))
        http_req_pause(req);
}

static void on_body_end(struct http_req *req)
{
    struct proxy *p = req->conn->proxy;
    if (p && p->call)
        http_call_finish(p->call);
}

static const struct http_call_events call_events = {.on_head = on_head,
                                                    .on_data = on_data,
                                                    .on_end = on_end,
                                                    .on_half_end = on_upstream_half_end,
                                                    .on_proceed = on_upstream_proceed,
                                                    .on_error = on_call_error};

static void put_line(struct buf *lines, const char *name, struct str value)
{
    buf_puts(lines, name);
    buf_append(lines, ": ", 2);
    buf_str(lines, value);
    buf_append(lines, "\r\n", 2);
}

static bool is_http_again(struct str protocol)
{
    struct str name = str_cut(&protocol, '/');
    return str_ieq(name, STR("h2c")) || str_ieq(name, STR("h2")) || str_ieq(name, STR("http")) ||
           str_ieq(name, STR("tls"));
}

static bool wants_tunnel(const struct http_req *req, const struct http_proxy_options *o)
{
    const struct http_head *head = &req->head;
    if (!head->upgrade || head->method != HTTP_GET || head->body_kind != HTTP_BODY_NONE || o->body_count)
        return false;
    for (size_t i = 0; i < head->header_count; i++) {
        struct str protocols = head->headers[i].value;
        if (!str_ieq(head->headers[i].name, STR("upgrade")))
            continue;
        while (protocols.p)
            if (is_http_again(str_trim(str_cut(&protocols, ','))))
                return false;
    }
    return true;
}

/* Headers that this hop says itself. */
static bool is_ours(const struct http_proxy_options *o, struct str name)
{
    static const char *const ours[] = {"host", "content-length", "expect", "x-request-id", "x-forwarded-for"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (str_ieq(name, str_from(ours[i])))
            return true;
    if (name.n > strlen("x-inferd-") && str_ieq((struct str){name.p, strlen("x-inferd-")}, STR("x-inferd-")))
        return true; /* between our own processes: nobody else says whose a request is */
    for (const char *const *other = o->replaced; other && *other; other++)
        if (str_ieq(name, str_from(*other)))
            return true;
    return o->drop_authorization && (str_ieq(name, STR("authorization")) || str_ieq(name, STR("x-api-key")));
}

static void put_forwarded(struct buf *lines, const struct http_req *req)
{
    char peer[HTTP_PEER_SIZE];
    struct str before = http_head_find(&req->head, "x-forwarded-for");
    struct str host = http_head_find(&req->head, "host");
    http_req_peer(req, peer);
    if (before.n || *peer) {
        buf_puts(lines, "X-Forwarded-For: ");
        buf_str(lines, before);
        buf_puts(lines, before.n && *peer ? ", " : "");
        buf_puts(lines, peer);
        buf_append(lines, "\r\n", 2);
    }
    if (!http_head_find(&req->head, "x-forwarded-proto").p)
        put_line(lines, "X-Forwarded-Proto", wire_is_secure(&req->conn->wire) ? STR("https") : STR("http"));
    if (host.p && !http_head_find(&req->head, "x-forwarded-host").p)
        put_line(lines, "X-Forwarded-Host", host);
}

static void put_head_lines(struct buf *lines, const struct http_req *req, const struct http_proxy_options *o)
{
    for (size_t i = 0; i < req->head.header_count; i++) {
        const struct http_header *h = &req->head.headers[i];
        if (is_ours(o, h->name) || http_head_is_hop(&req->head, h->name))
            continue;
        buf_str(lines, h->name);
        buf_append(lines, ": ", 2);
        buf_str(lines, h->value);
        buf_append(lines, "\r\n", 2);
    }
    put_line(lines, "x-request-id", str_from(req->id));
    put_forwarded(lines, req);
    if (wants_tunnel(req, o))
        http_head_put_upgrade(&req->head, lines);
    buf_str(lines, o->extra_head_lines);
}

static void start_call(struct proxy *p, struct http_client *client, const struct http_proxy_options *o,
                       struct str lines)
{
    struct http_req *req = p->req;
    struct str path = o->path_and_query.p ? o->path_and_query : req->head.target;
    int64_t length = 0;
    bool stream = o->body_count == 0 && req->head.body_kind != HTTP_BODY_NONE && !req->conn->body_wanted;
    for (size_t i = 0; i < o->body_count; i++)
        length += (int64_t)o->body[i].n;
    if (stream)
        length = req->head.body_kind == HTTP_BODY_LENGTH ? (int64_t)req->head.content_length : -1;
    if (stream) /* asked for first, so that what is here already leaves together with the head */
        http_req_stream_body(req, on_body_data, on_body_end);
    p->call = http_call_startv(client, &o->target, req->head.method_name, path, lines, length, o->body, o->body_count,
                               &call_events, p);
    if (wants_tunnel(req, o))
        http_call_may_upgrade(p->call);
}

void http_proxy(struct http_req *req, struct http_client *client, const struct http_proxy_options *options)
{
    struct proxy *p = arena_alloc(&req->arena, sizeof *p);
    struct buf lines;
    *p = (struct proxy){.req = req,
                        .on_head = options->on_head,
                        .on_data = options->on_data,
                        .on_broken = options->on_broken,
                        .on_error = options->on_error,
                        .on_finish = options->on_finish,
                        .arg = options->arg};
    req->conn->proxy = p;
    p->disposer = arena_on_dispose(&req->arena, proxy_release, p);
    buf_init(&lines, 4 * LIMIT_HEAD_BYTES);
    buf_reserve(&lines, 1000);
    put_head_lines(&lines, req, options);
    start_call(p, client, options, buf_view(&lines));
    buf_release(&lines);
}
