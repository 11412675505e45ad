/* A request's body, streamed or collected, and who sent it. */
#include <arpa/inet.h>
#include <assert.h>
#include <zlib.h>

#include "base/limits.h"
#include "base/mem.h"
#include "http/conn.h"

void http_req_stream_body(struct http_req *req, void (*on_data)(struct http_req *req, struct str piece),
                          void (*on_end)(struct http_req *req))
{
    struct http_conn *c = req->conn;
    assert(!c->body_wanted && "a body is read once");
    c->body_wanted = true;
    c->on_data = on_data;
    c->on_end = on_end;
    conn_process_soon(c);
}

void http_req_pause(struct http_req *req)
{
    req->conn->body_paused = true;
}

void http_req_resume(struct http_req *req)
{
    if (!req->conn->body_paused)
        return;
    req->conn->body_paused = false;
    conn_process_soon(req->conn);
}

/* ---- collecting ---- */

struct collector {
    struct buf body;
    uint64_t max;
    void (*on_body)(struct http_req *req, struct str body);
    z_stream *gzip; /* NULL: not compressed */
    bool gzip_done;
};

static void collector_release(void *arg)
{
    struct collector *col = arg;
    buf_release(&col->body);
    if (col->gzip)
        inflateEnd(col->gzip);
}

static void too_large(struct http_req *req, uint64_t max)
{
    struct err err;
    err_set(&err, ERR_REQUEST_TOO_LARGE, "The request body is larger than %llu bytes.", (unsigned long long)max);
    conn_fail(req->conn, &err);
}

/* The body cannot take n more bytes: it has its maximum, or there is no memory. */
static void body_full(struct http_req *req, const struct collector *col, size_t n)
{
    struct err err;
    if (n > col->body.max - col->body.len) {
        too_large(req, col->max);
        return;
    }
    err_set(&err, ERR_SERVER_OVERLOADED, "There is no memory for the request body.");
    conn_fail(req->conn, &err);
}

static void bad_gzip(struct http_req *req)
{
    struct err err;
    err_set(&err, ERR_BAD_REQUEST, "The request body is not valid gzip.");
    conn_fail(req->conn, &err);
}

/* Appends what piece inflates to. false: answered already. */
static bool inflate_piece(struct http_req *req, struct collector *col, struct str piece)
{
    z_stream *z = col->gzip;
    z->next_in = (unsigned char *)piece.p;
    z->avail_in = (unsigned)piece.n;
    while (z->avail_in) {
        char out[16384];
        z->next_out = (unsigned char *)out;
        z->avail_out = sizeof out;
        int rc = col->gzip_done ? Z_DATA_ERROR : inflate(z, Z_NO_FLUSH);
        if (rc != Z_OK && rc != Z_STREAM_END) {
            bad_gzip(req);
            return false;
        }
        col->gzip_done = rc == Z_STREAM_END;
        buf_append(&col->body, out, sizeof out - z->avail_out);
        if (!buf_ok(&col->body)) {
            body_full(req, col, sizeof out - z->avail_out);
            return false;
        }
    }
    return true;
}

static void collect_piece(struct http_req *req, struct str piece)
{
    struct collector *col = req->conn->collector;
    if (col->gzip) {
        inflate_piece(req, col, piece);
        return;
    }
    buf_append(&col->body, piece.p, piece.n);
    if (!buf_ok(&col->body))
        body_full(req, col, piece.n);
}

static void collect_end(struct http_req *req)
{
    struct collector *col = req->conn->collector;
    if (col->gzip && !col->gzip_done)
        bad_gzip(req);
    else
        col->on_body(req, buf_view(&col->body));
}

/* Undoes the content coding, if any. false: one we do not know. */
static bool choose_coding(struct http_req *req, struct collector *col)
{
    struct str coding = http_head_find(&req->head, "content-encoding");
    if (!coding.n || str_ieq(coding, STR("identity")))
        return true;
    if (!str_ieq(coding, STR("gzip")) && !str_ieq(coding, STR("x-gzip")))
        return false;
    col->gzip = arena_calloc(&req->arena, sizeof *col->gzip);
    return inflateInit2(col->gzip, 15 + 16) == Z_OK;
}

/* The answers that need no byte of the body; given from the loop, since the caller is still using the request. */
static void refuse_unread(struct http_req *req)
{
    struct collector *col = req->conn->collector;
    struct err err;
    if (col->max < req->head.content_length) {
        too_large(req, col->max);
        return;
    }
    err_set(&err, ERR_UNSUPPORTED_MEDIA_TYPE, "The only content coding understood here is gzip.");
    conn_fail(req->conn, &err);
}

void http_req_drop_body(struct http_req *req)
{
    if (req->conn->collector)
        buf_release(&req->conn->collector->body);
}

void http_req_read_body(struct http_req *req, uint64_t max, void (*on_body)(struct http_req *req, struct str body))
{
    struct collector *col = arena_calloc(&req->arena, sizeof *col);
    col->max = max ? max : req->server->options.max_body;
    col->on_body = on_body;
    buf_init(&col->body, (size_t)col->max);
    arena_on_dispose(&req->arena, collector_release, col);
    req->conn->collector = col;
    if (!choose_coding(req, col) || req->head.content_length > col->max) {
        req->conn->body_refused = true;
        http_req_stream_body(req, collect_piece, refuse_unread);
        return;
    }
    if (req->head.content_length && req->head.content_length <= LIMIT_PIPELINE_BYTES && !col->gzip)
        buf_reserve(&col->body, (size_t)req->head.content_length);
    http_req_stream_body(req, collect_piece, collect_end);
}

char *http_req_peer(const struct http_req *req, char out[HTTP_PEER_SIZE])
{
    struct sockaddr_storage address;
    int n = sizeof address;
    struct http_conn *c = req->conn;
    if (!*c->peer && c->wire.handle.type == UV_TCP &&
        uv_tcp_getpeername(&c->wire.tcp, (struct sockaddr *)&address, &n) == 0)
        uv_ip_name((const struct sockaddr *)&address, c->peer, sizeof c->peer);
    memcpy(out, c->peer, sizeof c->peer);
    return out;
}
