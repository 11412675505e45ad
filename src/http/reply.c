/* Replies out: one head, then the body by length, in chunks, or until close.
 *
 * A head is corked: it waits for the first piece of the body and leaves with it in one system call, at the latest
 * before the loop waits again. Only one connection of a server can be corked, so the head is built in the server's
 * one buffer and a stream keeps no copy of it. */
#include <assert.h>

#include "base/limits.h"
#include "http/conn.h"
#include "http/date.h"

void reply_reset(struct http_conn *conn)
{
    conn->lines = NULL;
    conn->on_proceed = NULL;
    conn->reply_left = -1;
    conn->sse = conn->proxy = conn->file = conn->ws = NULL;
    conn->chunked = conn->bodiless = conn->reply_ended = false;
}

void reply_uncork(struct http_server *server)
{
    struct http_conn *conn = server->corked;
    server->corked = NULL;
    loop_soon_cancel(&server->uncork);
    if (conn)
        wire_write(&conn->wire, &(struct str){server->head.data, server->head.len}, 1);
}

static void on_uncork(struct loop_soon *soon)
{
    reply_uncork(container_of(soon, struct http_server, uncork));
}

static bool is_field_text(const char *text)
{
    return !strpbrk(text, "\r\n");
}

void http_reply_header(struct http_req *req, const char *name, const char *value)
{
    assert(!req->status && is_field_text(name));
    if (!is_field_text(value))
        return;
    size_t n = strlen(name) + strlen(value) + 4;
    struct reply_line *line = arena_alloc(&req->arena, sizeof *line + n + 1);
    line->n = (size_t)snprintf(line->text, n + 1, "%s: %s\r\n", name, value);
    line->next = req->conn->lines;
    req->conn->lines = line;
}

static void put_lines(struct buf *head, const struct reply_line *line)
{
    if (!line)
        return;
    put_lines(head, line->next); /* in the order they were added; a handler adds a handful */
    buf_append(head, line->text, line->n);
}

static void put_field(struct buf *head, const char *name, struct str value)
{
    buf_puts(head, name);
    buf_append(head, ": ", 2);
    buf_str(head, value);
    buf_append(head, "\r\n", 2);
}

static void put_date(struct http_server *s)
{
    uint64_t now = loop_now_ms(s->loop);
    if (!*s->date || now - s->date_ms >= 500) {
        http_date_now(s->date);
        s->date_ms = now;
    }
    put_field(&s->head, "Date", str_from(s->date));
}

/* Decides how the reply's body is delimited and writes the lines that say so. */
static void put_framing(struct http_conn *c, int status, int64_t length)
{
    struct buf *head = &c->server->head;
    bool old = c->req.head.minor_version == 0;
    bool none = status < 200 || status == 204 || status == 304;
    c->bodiless = none || c->req.head.method == HTTP_HEAD;
    c->chunked = !none && length < 0 && !old;
    c->reply_left = c->bodiless ? 0 : length;
    if (length >= 0 && !none)
        buf_printf(head, "Content-Length: %lld\r\n", (long long)length);
    else if (c->chunked)
        buf_puts(head, "Transfer-Encoding: chunked\r\n");
    else if (!c->bodiless)
        c->close_after = true;
    bool unread = !c->body.done && ((c->req.head.expect_continue && !c->continue_sent) ||
                                    (c->body.kind == HTTP_BODY_LENGTH && c->body.left > LIMIT_DISCARD_BYTES));
    if (c->server->draining || (unread && !c->body_wanted))
        c->close_after = true;
    if (c->close_after)
        buf_puts(head, "Connection: close\r\n");
    else if (old)
        buf_puts(head, "Connection: keep-alive\r\n");
}

/* Opens the head in the server's buffer; the caller adds its own lines and calls finish_head. */
static struct buf *begin_head(struct http_req *req, int status)
{
    struct http_server *s = req->server;
    assert(!req->status && (status >= 200 || status == 101) && status <= 599);
    reply_uncork(s);
    req->status = status;
    buf_clear(&s->head);
    char line[16];
    snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
    buf_puts(&s->head, line);
    buf_puts(&s->head, http_status_text(status));
    buf_append(&s->head, "\r\n", 2);
    put_date(s);
    if (s->options.server_name)
        put_field(&s->head, "Server", str_from(s->options.server_name));
    put_field(&s->head, "x-request-id", str_from(req->id));
    if (s->options.cors_origins && req->conn->head_parsed)
        policy_cors_headers(req->conn, &s->head);
    return &s->head;
}

static void finish_head(struct http_conn *c)
{
    struct http_server *s = c->server;
    put_lines(&s->head, c->lines);
    buf_append(&s->head, "\r\n", 2);
    assert(buf_ok(&s->head) && "the head of an upstream and a handler's own headers fit by far");
    s->corked = c;
    loop_soon(s->loop, &s->uncork, on_uncork);
}

void http_reply_start(struct http_req *req, int status, const char *content_type, int64_t length)
{
    struct buf *head = begin_head(req, status);
    if (content_type)
        put_field(head, "Content-Type", str_from(content_type));
    put_framing(req->conn, status, length);
    finish_head(req->conn);
}

/* Headers of an upstream's reply that are ours to say. */
static bool is_ours(struct str name)
{
    static const char *const ours[] = {"date", "server", "x-request-id", "content-length"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (str_ieq(name, str_from(ours[i])))
            return true;
    return name.n > 15 && str_ieq((struct str){name.p, 15}, STR("access-control-"));
}

/* Begins the head with the upstream's status and what of its headers is for the client. */
static struct buf *pass_head(struct http_req *req, const struct http_head *upstream)
{
    struct buf *head = begin_head(req, upstream->status);
    for (size_t i = 0; i < upstream->header_count; i++) {
        const struct http_header *h = &upstream->headers[i];
        if (is_ours(h->name) || http_head_is_hop(upstream, h->name))
            continue;
        buf_str(head, h->name);
        buf_append(head, ": ", 2);
        buf_str(head, h->value);
        buf_append(head, "\r\n", 2);
    }
    return head;
}

void reply_pass(struct http_req *req, const struct http_head *upstream)
{
    pass_head(req, upstream);
    bool sized = http_head_find(upstream, "content-length").p != NULL;
    bool streamed = upstream->body_kind == HTTP_BODY_CHUNKED || upstream->body_kind == HTTP_BODY_UNTIL_CLOSE;
    bool unknown = streamed || (req->head.method == HTTP_HEAD && !sized);
    put_framing(req->conn, upstream->status, unknown ? -1 : (int64_t)upstream->content_length);
    finish_head(req->conn);
}

void reply_pass_upgrade(struct http_req *req, const struct http_head *upstream)
{
    struct http_conn *c = req->conn;
    struct buf *head = pass_head(req, upstream);
    http_head_put_upgrade(upstream, head);
    c->reply_left = -1;
    c->close_after = true;
    finish_head(c);
}

void reply_switch(struct http_req *req, const char *protocol)
{
    struct http_conn *c = req->conn;
    struct buf *head = begin_head(req, 101);
    put_field(head, "Connection", STR("Upgrade"));
    put_field(head, "Upgrade", str_from(protocol));
    c->reply_left = -1;
    c->close_after = true;
    finish_head(c);
}

void reply_end_half(struct http_req *req)
{
    struct http_conn *c = req->conn;
    assert(c->tunnel);
    reply_uncork(req->server);
    c->reply_ended = true;
    if (wire_unsent(&c->wire) == 0)
        wire_shutdown(&c->wire);
}

bool http_reply_started(const struct http_req *req)
{
    return req->status != 0;
}

bool http_reply_writev(struct http_req *req, const struct str *pieces, size_t count)
{
    struct http_conn *c = req->conn;
    struct http_server *s = c->server;
    struct str all[WIRE_PIECES];
    size_t n = 0, payload = 0;
    char size_line[24];
    assert(req->status && count + 3 <= WIRE_PIECES);
    for (size_t i = 0; i < count; i++)
        payload += pieces[i].n;
    if (payload == 0 || c->bodiless)
        return !wire_broken(&c->wire);
    if (s->corked == c) {
        all[n++] = (struct str){s->head.data, s->head.len};
        s->corked = NULL;
        loop_soon_cancel(&s->uncork);
    }
    if (c->chunked)
        all[n++] = (struct str){size_line, (size_t)snprintf(size_line, sizeof size_line, "%zx\r\n", payload)};
    for (size_t i = 0; i < count; i++)
        all[n++] = pieces[i];
    if (c->chunked)
        all[n++] = STR("\r\n");
    if (c->reply_left >= 0) {
        assert((uint64_t)c->reply_left >= payload && "a reply longer than it said");
        c->reply_left -= (int64_t)payload;
    }
    req->bytes_out += payload;
    wire_write(&c->wire, all, n);
    c->blocked = wire_broken(&c->wire) || wire_unsent(&c->wire) > LIMIT_UNSENT_BYTES;
    return !c->blocked;
}

bool http_reply_write(struct http_req *req, struct str piece)
{
    return http_reply_writev(req, &piece, 1);
}

void http_reply_on_proceed(struct http_req *req, void (*on_proceed)(struct http_req *req))
{
    req->conn->on_proceed = on_proceed;
}

void reply_sent(struct http_conn *conn)
{
    if (conn->reply_ended)
        wire_shutdown(&conn->wire);
    if (conn->file)
        reply_file_go_on(conn);
    if (!conn->blocked)
        return;
    conn->blocked = false;
    if (conn->on_proceed)
        conn->on_proceed(&conn->req);
}

void http_reply_end(struct http_req *req)
{
    struct http_conn *c = req->conn;
    assert(req->status);
    if (c->reply_left > 0) { /* shorter than promised: the client must not take it for complete */
        http_reply_abort(req);
        return;
    }
    if (c->chunked && !c->bodiless) {
        if (c->server->corked == c)
            buf_puts(&c->server->head, "0\r\n\r\n");
        else
            wire_write(&c->wire, &STR("0\r\n\r\n"), 1);
    }
    conn_finish(c);
}

void http_reply_abort(struct http_req *req)
{
    reply_uncork(req->server);
    conn_drop(req->conn, true);
}

void http_reply(struct http_req *req, int status, const char *content_type, struct str body)
{
    http_reply_start(req, status, content_type, (int64_t)body.n);
    http_reply_write(req, body);
    http_reply_end(req);
}

static void retry_headers(struct http_req *req, const struct err *err)
{
    char text[24];
    if (err->retry_after_ms) {
        snprintf(text, sizeof text, "%u", err->retry_after_ms / 1000 + (err->retry_after_ms % 1000 != 0));
        http_reply_header(req, "Retry-After", text);
        snprintf(text, sizeof text, "%u", err->retry_after_ms);
        http_reply_header(req, "retry-after-ms", text);
    }
    if (err_retry(err->code) != ERR_RETRY_DEFAULT)
        http_reply_header(req, "x-should-retry", err_retry(err->code) == ERR_RETRY_YES ? "true" : "false");
}

void http_reply_error(struct http_req *req, const struct err *err)
{
    const struct http_server_options *o = &req->server->options;
    struct buf body;
    buf_init(&body, LIMIT_HEAD_BYTES);
    const char *type = o->on_error(o->arg, req->conn->head_parsed ? req : NULL, err, &body);
    retry_headers(req, err);
    http_reply(req, err_status(err->code), type, buf_view(&body));
    buf_release(&body);
}
