/* A connection's life: heads and bodies in, one request at a time, in order.
 *
 * The client's death must be noticed at once, also while its request is being answered, so the socket is read all the
 * time. What is not wanted yet (a body nobody asked for, a pipelined request) waits in `in`, at most
 * LIMIT_PIPELINE_BYTES; beyond that the wire pauses and only listens for the hang-up.
 *
 * A tunnel is a request that goes on after its 101: what the client sends is its body, what it is sent is the reply,
 * each ending when its sender ends its direction.
 *
 * Callers are never called back from inside their own calls: http_req_read_body and friends only set flags;
 * conn_process, which runs from the loop alone, makes the calls. A handler that answers inside on_request lets the
 * same loop go on with the next pipelined request, so that no recursion depends on input.
 *
 * Invariants: state == CONN_REQUEST while, and only while, req is alive; a new head is taken only when everything of
 * the last reply is written; `window` is valid only while `processing`. */
#include "http/conn.h"

#include <assert.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"

static void on_deadline(struct deadline *deadline);

static void arm(struct http_conn *c, unsigned ms)
{
    deadline_arm(c->server->loop, &c->deadline, ms, on_deadline);
}

static void set_state(struct http_conn *c, enum conn_state state)
{
    c->state = state;
    list_remove(&c->link);
    list_push(state == CONN_HEAD ? &c->server->idle : &c->server->busy, &c->link);
}

static void take(struct http_conn *c, size_t n)
{
    c->window.p += n;
    c->window.n -= n;
}

/* ---- ending ---- */

static void close_now(struct http_conn *c, bool reset)
{
    if (c->state == CONN_CLOSED)
        return;
    set_state(c, CONN_CLOSED);
    if (c->server->corked == c)
        c->server->corked = NULL;
    deadline_cancel(c->server->loop, &c->deadline);
    loop_soon_cancel(&c->soon);
    c->window.n = 0;
    wire_close(&c->wire, reset);
}

/* Ends the request: logs it, releases its memory and with it everything that works for it. */
static void end_request(struct http_conn *c)
{
    struct http_server *s = c->server;
    deadline_cancel(s->loop, &c->deadline);
    if (s->options.on_log)
        s->options.on_log(s->options.arg, &c->req);
    if (c->server->corked == c)
        reply_uncork(s);
    c->state = CONN_LINGER; /* whoever is being disposed finds no request any more */
    arena_dispose(&c->req.arena);
    reply_reset(c);
}

void conn_drop(struct http_conn *conn, bool reset)
{
    if (conn->state == CONN_CLOSED)
        return;
    if (conn->state == CONN_REQUEST) {
        if (!conn->req.status)
            conn->req.status = err_status(ERR_CLIENT_CLOSED);
        if (conn->server->corked == conn)
            conn->server->corked = NULL;
        end_request(conn);
    }
    close_now(conn, reset);
}

static void linger_sent(struct http_conn *c)
{
    if (c->client_ended || (c->server->draining && c->body.done && c->in.len == 0)) {
        close_now(c, false);
        return;
    }
    wire_shutdown(&c->wire);
    arm(c, LIMIT_LINGER_MS);
}

void conn_finish(struct http_conn *conn)
{
    assert(conn->state == CONN_REQUEST);
    end_request(conn);
    conn->discarded = 0;
    if (conn->in.len)
        conn_process_soon(conn);
    if (conn->close_after || conn->server->draining || wire_broken(&conn->wire)) {
        set_state(conn, CONN_LINGER);
        if (wire_unsent(&conn->wire) == 0)
            linger_sent(conn);
        return;
    }
    if (conn->body.done) {
        set_state(conn, CONN_HEAD);
        conn->scanned = 0;
        arm(conn, conn->server->options.keep_alive_ms);
    } else {
        set_state(conn, CONN_DISCARD);
        arm(conn, conn->server->options.body_timeout_ms);
    }
}

void conn_fail(struct http_conn *conn, const struct err *err)
{
    conn->close_after = true;
    if (http_reply_started(&conn->req))
        conn_drop(conn, true);
    else
        http_reply_error(&conn->req, err);
}

/* ---- heads ---- */

static void make_id(struct http_conn *c)
{
    struct str sent = c->head_parsed ? http_head_find(&c->req.head, "x-request-id") : STR_NONE;
    bool sane = sent.n > 0 && sent.n <= 64;
    for (size_t i = 0; sane && i < sent.n; i++)
        sane = sent.p[i] > ' ' && sent.p[i] < 0x7f;
    struct http_server *s = c->server;
    if (sane)
        snprintf(c->req.id, sizeof c->req.id, STR_FMT, STR_ARG(sent));
    else
        snprintf(c->req.id, sizeof c->req.id, "req_%s%08llx", s->id_prefix, (unsigned long long)s->next_id++);
}

/* A request begins, of n bytes of head, or of none that could be read. */
static bool begin_request(struct http_conn *c, const char *bytes, size_t n, struct err *err)
{
    struct http_req *req = &c->req;
    *req = (struct http_req){.server = c->server, .conn = c, .started_ns = clock_ns()};
    c->head_parsed = c->body_wanted = c->body_paused = c->body_ended = c->continue_sent = c->body_refused = c->blocked =
        false;
    c->on_data = NULL;
    c->on_end = NULL;
    c->collector = NULL; /* of the request before: it died with that arena */
    set_state(c, CONN_REQUEST);
    deadline_cancel(c->server->loop, &c->deadline);
    http_body_init(&c->body, HTTP_BODY_UNTIL_CLOSE, 0);
    reply_reset(c);
    if (!bytes) {
        req->head = (struct http_head){
            .method = HTTP_OTHER, .method_name = STR("-"), .target = STR("-"), .path = STR("-"), .minor_version = 1};
        make_id(c);
        return false;
    }
    const char *copy = arena_strndup(&req->arena, bytes, n);
    c->head_parsed = http_head_parse_request(copy, n, &req->arena, &req->head, err);
    make_id(c);
    if (!c->head_parsed) {
        if (!req->head.target.p)
            req->head.method_name = req->head.target = req->head.path = STR("-");
        return false;
    }
    http_body_init(&c->body, req->head.body_kind, req->head.content_length);
    c->close_after = !req->head.keep_alive;
    return true;
}

static void refuse_head(struct http_conn *c, const struct err *err)
{
    begin_request(c, NULL, 0, NULL);
    conn_fail(c, err);
}

/* A head that is not complete yet: false to wait for more. */
static bool incomplete_head(struct http_conn *c)
{
    struct err err;
    bool first_line = !memchr(c->window.p, '\n', c->scanned);
    if (first_line && c->window.n > LIMIT_TARGET_BYTES + 64)
        err_set(&err, ERR_URI_TOO_LONG, "The request target is longer than %d bytes.", LIMIT_TARGET_BYTES);
    else if (c->window.n > LIMIT_HEAD_BYTES)
        err_set(&err, ERR_HEADERS_TOO_LARGE, "The head is larger than %d bytes.", LIMIT_HEAD_BYTES);
    else
        return false;
    refuse_head(c, &err);
    return true;
}

/* false: nothing more can be done with the bytes there are. */
static bool take_head(struct http_conn *c)
{
    if (wire_unsent(&c->wire))
        return false;
    if (c->scanned == 0 && str_starts(c->window, STR("\r\n")))
        take(c, 2); /* an empty line between requests is let pass (RFC 9112 2.2) */
    if (c->window.n == 0 || (c->scanned == 0 && str_eq(c->window, STR("\r"))))
        return false;
    bool first = c->scanned == 0;
    size_t n = http_head_length(c->window.p, c->window.n, &c->scanned);
    if (n == 0) {
        if (first) /* its first bytes: from now on time runs */
            arm(c, c->server->options.header_timeout_ms);
        return incomplete_head(c);
    }
    struct err err;
    bool ok = begin_request(c, c->window.p, n, &err);
    take(c, n);
    c->scanned = 0;
    if (!ok)
        conn_fail(c, &err);
    else if (policy_check(c))
        c->server->options.on_request(c->server->options.arg, &c->req);
    return true;
}

/* ---- bodies ---- */

static void ask_to_continue(struct http_conn *c)
{
    if (!c->req.head.expect_continue || c->continue_sent || http_reply_started(&c->req))
        return;
    c->continue_sent = true;
    wire_write(&c->wire, &STR("HTTP/1.1 100 Continue\r\n\r\n"), 1);
}

static bool take_body(struct http_conn *c)
{
    if (c->tunnel && c->client_ended && c->window.n == 0)
        c->body.done = true;
    if (!c->body_wanted || c->body_paused || c->body_ended) {
        deadline_cancel(c->server->loop, &c->deadline);
        return false;
    }
    if (c->body.done || c->body_refused) {
        c->body_ended = true;
        deadline_cancel(c->server->loop, &c->deadline);
        c->on_end(&c->req);
        return true;
    }
    if (!c->tunnel)
        arm(c, c->server->options.body_timeout_ms);
    if (c->window.n == 0) {
        ask_to_continue(c);
        return false;
    }
    struct str piece;
    size_t n = http_body_feed(&c->body, c->window.p, c->window.n, &piece);
    if (n == SIZE_MAX) {
        struct err err;
        err_set(&err, ERR_BAD_REQUEST, "The request body is not in chunked coding.");
        conn_fail(c, &err);
        return true;
    }
    take(c, n);
    if (piece.n)
        c->on_data(&c->req, piece);
    return true;
}

void conn_tunnel(struct http_conn *conn, bool half_open, void (*on_data)(struct http_req *req, struct str piece),
                 void (*on_end)(struct http_req *req))
{
    assert(conn->body.done && "only a request without a body becomes a tunnel");
    conn->tunnel = conn->body_wanted = true;
    conn->body_paused = conn->body_ended = false;
    conn->on_data = on_data;
    conn->on_end = on_end;
    http_body_init(&conn->body, HTTP_BODY_UNTIL_CLOSE, 0);
    if (half_open)
        wire_half_open(&conn->wire);
    conn_process_soon(conn);
}

static bool discard_body(struct http_conn *c)
{
    struct str piece;
    if (c->body.done) {
        set_state(c, CONN_HEAD);
        arm(c, c->server->options.keep_alive_ms);
        return true;
    }
    if (c->window.n == 0)
        return false;
    size_t n = http_body_feed(&c->body, c->window.p, c->window.n, &piece);
    if (n == SIZE_MAX || (c->discarded += n) > LIMIT_DISCARD_BYTES) {
        close_now(c, false);
        return false;
    }
    take(c, n);
    return true;
}

static bool linger(struct http_conn *c)
{
    c->discarded += c->window.n;
    c->window.n = 0;
    if (c->discarded > 4 * LIMIT_DISCARD_BYTES)
        close_now(c, true);
    return false;
}

static bool step(struct http_conn *c)
{
    switch (c->state) {
    case CONN_HEAD: return take_head(c);
    case CONN_REQUEST: return take_body(c);
    case CONN_DISCARD: return discard_body(c);
    case CONN_LINGER: return linger(c);
    case CONN_CLOSED: break;
    }
    return false;
}

/* Works through the window and keeps what is left of it. */
static void work(struct http_conn *c, bool from_in)
{
    c->processing = true;
    while (step(c))
        ;
    c->processing = false;
    if (c->state == CONN_CLOSED)
        return;
    if (from_in)
        buf_consume(&c->in, c->in.len - c->window.n);
    else
        buf_append(&c->in, c->window.p, c->window.n);
    c->window = STR_NONE;
    if (c->in.len == 0)
        buf_release(&c->in);
    if (c->in.len >= LIMIT_PIPELINE_BYTES && (c->state != CONN_HEAD || wire_unsent(&c->wire)))
        wire_pause(&c->wire, true);
    else
        wire_read(&c->wire);
}

void conn_process(struct http_conn *conn)
{
    conn->window = buf_view(&conn->in);
    work(conn, true);
}

static void on_soon(struct loop_soon *soon)
{
    conn_process(container_of(soon, struct http_conn, soon));
}

void conn_process_soon(struct http_conn *conn)
{
    if (!conn->processing)
        loop_soon(conn->server->loop, &conn->soon, on_soon);
}

/* ---- what the wire and the clock tell ---- */

static void on_bytes(struct wire *wire, const char *bytes, size_t n)
{
    struct http_conn *c = container_of(wire, struct http_conn, wire);
    if (c->in.len == 0) {
        c->window = (struct str){bytes, n};
        work(c, false);
        return;
    }
    buf_append(&c->in, bytes, n);
    conn_process(c);
}

static void on_gone(struct wire *wire, int status)
{
    struct http_conn *c = container_of(wire, struct http_conn, wire);
    conn_drop(c, status == UV_ETIMEDOUT);
}

/* The client's direction of a tunnel has ended: its last bytes may still wait in `in`. */
static void on_end(struct wire *wire)
{
    struct http_conn *c = container_of(wire, struct http_conn, wire);
    c->client_ended = true;
    if (c->state == CONN_REQUEST)
        conn_process(c);
    else if (wire_unsent(wire) == 0)
        conn_drop(c, false);
}

static void on_sent(struct wire *wire)
{
    struct http_conn *c = container_of(wire, struct http_conn, wire);
    switch (c->state) {
    case CONN_REQUEST: reply_sent(c); break;
    case CONN_LINGER: linger_sent(c); break;
    case CONN_HEAD:
        if (c->in.len)
            conn_process(c);
        break;
    default: break;
    }
}

static void on_writable(struct wire *wire)
{
    struct http_conn *c = container_of(wire, struct http_conn, wire);
    if (c->state == CONN_REQUEST && c->file)
        reply_file_go_on(c);
}

static void on_closed(struct wire *wire)
{
    struct http_conn *c = container_of(wire, struct http_conn, wire);
    list_remove(&c->link);
    buf_release(&c->in);
    server_conn_closed(c);
    mem_free(c);
}

const struct wire_events conn_wire_events = {.on_bytes = on_bytes,
                                             .on_gone = on_gone,
                                             .on_end = on_end,
                                             .on_sent = on_sent,
                                             .on_writable = on_writable,
                                             .on_closed = on_closed};

static void on_deadline(struct deadline *deadline)
{
    struct http_conn *c = container_of(deadline, struct http_conn, deadline);
    struct err err;
    if (c->state == CONN_HEAD && c->in.len) {
        err_set(&err, ERR_REQUEST_TIMEOUT, "The head of the request did not arrive in time.");
        refuse_head(c, &err);
    } else if (c->state == CONN_REQUEST) {
        err_set(&err, ERR_REQUEST_TIMEOUT, "The body of the request stopped arriving.");
        conn_fail(c, &err);
    } else {
        close_now(c, false);
    }
}

void conn_accepted(struct http_conn *conn)
{
    buf_init(&conn->in, LIMIT_HEAD_BYTES + LIMIT_PIPELINE_BYTES + 2 * LOOP_READ_BYTES);
    conn->state = CONN_HEAD;
    list_push(&conn->server->idle, &conn->link);
    arm(conn, conn->server->options.header_timeout_ms);
    wire_read(&conn->wire);
}
