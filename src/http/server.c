/* Listeners, the number of connections, and the end of all of it.
 *
 * At the maximum of connections the oldest idle one makes room; when all are busy, new ones wait in the kernel's
 * queue (libuv stops polling a listener whose connection is not accepted) until one closes. */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/rand.h"
#include "http/conn.h"

static unsigned or_default(unsigned value, unsigned normal)
{
    return value ? value : normal;
}

struct http_server *http_server_new(struct loop *loop, const struct http_server_options *options)
{
    struct http_server *s = mem_calloc(1, sizeof *s);
    s->loop = loop;
    s->options = *options;
    struct http_server_options *o = &s->options;
    o->header_timeout_ms = or_default(o->header_timeout_ms, LIMIT_HEAD_MS);
    o->keep_alive_ms = or_default(o->keep_alive_ms, LIMIT_KEEP_ALIVE_MS);
    o->body_timeout_ms = or_default(o->body_timeout_ms, LIMIT_BODY_MS);
    o->ping_ms = or_default(o->ping_ms, LIMIT_PING_MS);
    o->stall_ms = or_default(o->stall_ms, LIMIT_STALL_MS);
    o->max_connections = or_default(o->max_connections, LIMIT_CONNECTIONS);
    o->max_body = o->max_body ? o->max_body : LIMIT_BODY_BYTES;
    list_init(&s->listeners);
    list_init(&s->idle);
    list_init(&s->busy);
    list_init(&s->websockets);
    buf_init(&s->head, 4 * LIMIT_HEAD_BYTES);
    rand_text(s->id_prefix, sizeof s->id_prefix - 1);
    return s;
}

struct loop *http_server_loop(struct http_server *server)
{
    return server->loop;
}

size_t http_server_connections(const struct http_server *server)
{
    return server->connections;
}

bool http_server_draining(const struct http_server *server)
{
    return server->draining;
}

void http_server_secure(struct http_server *server, struct tls_context *context)
{
    server->tls = context;
}

/* ---- accepting ---- */

static void accept_one(struct http_listener *l)
{
    struct http_server *s = l->server;
    struct http_conn *c = mem_calloc(1, sizeof *c);
    bool tcp = l->uv.handle.type == UV_TCP;
    c->server = s;
    c->check_host = l->loopback;
    c->tag = l->tag;
    if (tcp)
        wire_init_tcp(&c->wire, s->loop, &conn_wire_events, s->options.stall_ms);
    else
        wire_init_pipe(&c->wire, s->loop, &conn_wire_events, s->options.stall_ms);
    s->connections++;
    list_init(&c->link);
    if (uv_accept(&l->uv.stream, &c->wire.stream) != 0) {
        c->state = CONN_CLOSED;
        wire_close(&c->wire, false);
        return;
    }
    if (tcp)
        uv_tcp_nodelay(&c->wire.tcp, 1);
    if (tcp && s->tls)
        wire_secure(&c->wire, s->tls);
    conn_accepted(c);
}

static void accept_waiting(struct http_listener *l)
{
    struct http_server *s = l->server;
    if (s->connections < s->options.max_connections) {
        l->waiting = false;
        accept_one(l);
    } else if (!list_empty(&s->idle)) {
        conn_drop(list_first(&s->idle, struct http_conn, link), false); /* its end accepts */
    }
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct http_listener *l = container_of(stream, struct http_listener, uv.stream);
    if (status < 0) /* the client left before, or no descriptors: the next one may do better */
        return;
    l->waiting = true;
    accept_waiting(l);
}

static void on_drained_soon(struct loop_soon *soon)
{
    struct http_server *s = container_of(soon, struct http_server, drained);
    void (*on_drained)(void *arg) = s->on_drained;
    s->on_drained = NULL;
    deadline_cancel(s->loop, &s->drain_deadline);
    if (on_drained)
        on_drained(s->drained_arg);
}

static void check_drained(struct http_server *s)
{
    if (s->draining && s->connections == 0)
        loop_soon(s->loop, &s->drained, on_drained_soon);
}

void server_conn_closed(struct http_conn *conn)
{
    struct http_server *s = conn->server;
    s->connections--;
    list_each (l, &s->listeners, struct http_listener, link)
        if (l->waiting)
            accept_waiting(l);
    check_drained(s);
}

/* ---- listening ---- */

static void free_when_done(struct http_server *s)
{
    if (!s->freed || s->listeners_open)
        return;
    buf_release(&s->head);
    ws_release(s);
    mem_free(s);
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct http_listener *l = container_of(handle, struct http_listener, uv.handle);
    struct http_server *s = l->server;
    mem_free(l);
    s->listeners_open--;
    free_when_done(s);
}

static void listener_close(struct http_listener *l)
{
    list_remove(&l->link);
    uv_close(&l->uv.handle, on_listener_closed);
}

static struct http_listener *listener_new(struct http_server *s)
{
    struct http_listener *l = mem_calloc(1, sizeof *l);
    l->server = s;
    list_push(&s->listeners, &l->link);
    s->listeners_open++;
    return l;
}

static bool parse_address(const char *address, int port, struct sockaddr_storage *ret)
{
    if (strcmp(address, "localhost") == 0)
        address = "127.0.0.1";
    return uv_ip4_addr(address, port, (struct sockaddr_in *)ret) == 0 ||
           uv_ip6_addr(address, port, (struct sockaddr_in6 *)ret) == 0;
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static bool listen_failed(struct http_listener *l, int rc, const char *where, struct err *err)
{
    listener_close(l);
    if (rc == UV_EADDRINUSE)
        return err_set(err, ERR_CONFLICT, "%s is in use already.", where);
    return err_set(err, ERR_IO, "Cannot listen on %s: %s.", where, uv_strerror(rc));
}

bool http_server_listen_tcp(struct http_server *server, const char *address, int port, int *ret_port, struct err *err)
{
    return http_server_listen_tagged(server, address, port, 0, ret_port, err);
}

int http_req_tag(const struct http_req *req)
{
    return req->conn->tag;
}

bool http_server_listen_tagged(struct http_server *server, const char *address, int port, int tag, int *ret_port,
                               struct err *err)
{
    struct sockaddr_storage at;
    char where[128];
    snprintf(where, sizeof where, "%s port %d", address, port);
    if (!parse_address(address, port, &at))
        return err_set(err, ERR_IO, "Cannot listen on '%s': that is not an IP address.", address);
    struct http_listener *l = listener_new(server);
    l->loopback = is_loopback(&at);
    l->tag = (signed char)tag;
    uv_tcp_init(&server->loop->uv, &l->uv.tcp);
    int rc = uv_tcp_bind(&l->uv.tcp, (struct sockaddr *)&at, 0);
    if (rc == 0)
        rc = uv_listen(&l->uv.stream, LIMIT_BACKLOG, on_connection);
    int n = sizeof at;
    if (rc == 0)
        rc = uv_tcp_getsockname(&l->uv.tcp, (struct sockaddr *)&at, &n);
    if (rc != 0)
        return listen_failed(l, rc, where, err);
    if (ret_port)
        *ret_port = ntohs(((struct sockaddr_in *)&at)->sin_port); /* at the same place for IPv6 */
    return true;
}

/* Removes a socket file that nobody listens on any more. */
static bool clear_socket_file(const char *path, struct err *err)
{
    struct stat info;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (lstat(path, &info) != 0)
        return true;
    if (!S_ISSOCK(info.st_mode))
        return err_set(err, ERR_IO, "Cannot listen on %s: a file that is no socket is in the way.", path);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool alive = fd >= 0 && (connect(fd, (struct sockaddr *)&at, sizeof at) == 0 || errno == EAGAIN);
    if (fd >= 0)
        close(fd);
    if (alive)
        return err_set(err, ERR_CONFLICT, "%s is in use already.", path);
    return unlink(path) == 0 || err_set(err, ERR_IO, "Cannot remove the stale socket %s: %s.", path, strerror(errno));
}

bool http_server_listen_unix(struct http_server *server, const char *path, int mode, struct err *err)
{
    if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
        return err_set(err, ERR_IO, "Cannot listen on %s: the path is too long for a socket.", path);
    if (!clear_socket_file(path, err))
        return false;
    struct http_listener *l = listener_new(server);
    uv_pipe_init(&server->loop->uv, &l->uv.pipe, 0);
    mode_t old = umask((mode_t)(0777 & ~mode)); /* never wider, not even for a moment */
    int rc = uv_pipe_bind(&l->uv.pipe, path);
    umask(old);
    if (rc == 0)
        rc = uv_listen(&l->uv.stream, LIMIT_BACKLOG, on_connection);
    return rc == 0 || listen_failed(l, rc, path, err);
}

/* ---- the end ---- */

static void cut(struct deadline *deadline)
{
    struct http_server *s = container_of(deadline, struct http_server, drain_deadline);
    ws_cut(s);
    list_each (c, &s->busy, struct http_conn, link)
        conn_drop(c, !c->ws); /* moves to the end of the list, where it is found closed */
}

void http_server_drain(struct http_server *server, unsigned grace_ms, void (*on_drained)(void *arg), void *arg)
{
    uint64_t due = loop_now_ms(server->loop) + grace_ms;
    if (!server->draining || on_drained) {
        server->on_drained = on_drained;
        server->drained_arg = arg;
    }
    server->draining = true;
    while (!list_empty(&server->listeners))
        listener_close(list_first(&server->listeners, struct http_listener, link));
    while (!list_empty(&server->idle))
        conn_drop(list_first(&server->idle, struct http_conn, link), false);
    ws_drain(server);
    if (!server->drain_deadline.due_ms || due < server->drain_deadline.due_ms)
        deadline_arm(server->loop, &server->drain_deadline, grace_ms, cut);
    check_drained(server);
}

void http_server_free(struct http_server *server)
{
    if (!server)
        return;
    assert(server->connections == 0);
    while (!list_empty(&server->listeners))
        listener_close(list_first(&server->listeners, struct http_listener, link));
    deadline_cancel(server->loop, &server->drain_deadline);
    loop_soon_cancel(&server->drained);
    loop_soon_cancel(&server->uncork);
    server->freed = true;
    free_when_done(server);
}
