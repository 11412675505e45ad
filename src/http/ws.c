/* A WebSocket's frames, its end, and its patience.
 *
 * Memory: wslay's reader holds a 4 KiB window, so a socket has one only between the first and the last byte of a frame;
 * in between, one reader a server serves whoever speaks. A message that lies whole in that window is handed on from
 * there; longer ones, and fragmented ones, are collected in a buffer that goes with the message. Whether a reader
 * stands at the border of a frame is told by counting: what it was fed, less the length of every frame that it has
 * given out.
 *
 * The end has three roads. Theirs: the client's close frame is answered and the connection ends. Ours: http_ws_close
 * sends one and waits for the answer a while. A violation: the close frame is sent and the connection ends behind it.
 * None of them runs inside a caller's call but the first and last, which come from the loop (feed) alone; so whoever
 * calls http_ws_send or http_ws_close keeps its socket.
 *
 * Patience: while bytes wait for the client, something must move within the server's stall time, else 4408. The frame
 * queues behind what waits, so a client that comes back in time still learns why; the wire's own stall time is set
 * longer for that.
 *
 * Invariants: ws->frames is set only inside feed, or while a frame is incomplete; ws->opcode is 0 unless a message is;
 * after state WS_CLOSING nothing is sent. */
#include "http/ws.h"

#include <assert.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "http/conn.h"
#include "http/ws_frames.h"
#include "http/ws_handshake.h"

enum ws_state { WS_OPEN, WS_CLOSING };

struct http_ws {
    struct http_req *req;
    const struct http_ws_events *events;
    void *arg;
    struct list link; /* of the server's websockets */
    struct ws_frames *frames;
    struct buf message; /* what came of a message that does not lie in the reader's window */
    struct deadline ping, patience;
    uint64_t moved; /* bytes the client had taken when patience was armed */
    unsigned ping_ms;
    int code; /* for on_closed */
    enum ws_state state;
    struct utf8_check text;
    unsigned char opcode; /* of the message that is coming in */
    unsigned char misses; /* pings without an answer */
    bool binary, heard;
};

/* ---- readers ---- */

static bool borrow_frames(struct http_ws *ws) /* false: no memory */
{
    struct http_server *s = ws->req->server;
    if (ws->frames)
        return true;
    ws->frames = s->ws_frames ? s->ws_frames : ws_frames_new();
    s->ws_frames = NULL;
    return ws->frames != NULL;
}

/* Gives the reader back when it stands between two frames. */
static void return_frames(struct http_ws *ws)
{
    struct http_server *s = ws->req->server;
    if (ws->frames->taken)
        return;
    if (s->ws_frames)
        ws_frames_free(ws->frames);
    else
        s->ws_frames = ws->frames;
    ws->frames = NULL;
}

void ws_release(struct http_server *server)
{
    ws_frames_free(server->ws_frames);
}

/* ---- sending ---- */

/* A server's frame head, unmasked and final. Returns its length. */
static size_t put_frame_head(unsigned char opcode, uint64_t n, char out[10])
{
    size_t bytes = n < 126 ? 0 : n <= UINT16_MAX ? 2 : 8;
    out[0] = (char)(0x80 | opcode);
    out[1] = (char)(bytes == 0 ? n : bytes == 2 ? 126 : 127);
    for (size_t i = 0; i < bytes; i++)
        out[2 + i] = (char)(n >> 8 * (bytes - 1 - i));
    return 2 + bytes;
}

static uint64_t moved(const struct http_ws *ws)
{
    return ws->req->bytes_out - wire_unsent(&ws->req->conn->wire);
}

static void on_impatient(struct deadline *deadline);

static void await_progress(struct http_ws *ws)
{
    struct http_server *s = ws->req->server;
    ws->moved = moved(ws);
    deadline_arm(s->loop, &ws->patience, s->options.stall_ms, on_impatient);
}

static bool send_frame(struct http_ws *ws, unsigned char opcode, const struct str *pieces, size_t count)
{
    struct str all[HTTP_WS_PIECES + 1];
    char head[10];
    uint64_t n = 0;
    assert(count <= HTTP_WS_PIECES);
    if (ws->state != WS_OPEN)
        return false;
    for (size_t i = 0; i < count; i++) {
        all[i + 1] = pieces[i];
        n += pieces[i].n;
    }
    all[0] = (struct str){head, put_frame_head(opcode, n, head)};
    bool more = http_reply_writev(ws->req, all, count + 1);
    if (!more)
        http_req_pause(ws->req); /* whose requests are not read gets no answers to pile up */
    if (!ws->patience.due_ms && wire_unsent(&ws->req->conn->wire))
        await_progress(ws);
    return more;
}

bool http_ws_sendv(struct http_ws *ws, const struct str *pieces, size_t count)
{
    return send_frame(ws, WSLAY_TEXT_FRAME, pieces, count);
}

bool http_ws_send(struct http_ws *ws, struct str text)
{
    return send_frame(ws, WSLAY_TEXT_FRAME, &text, 1);
}

bool http_ws_send_binary(struct http_ws *ws, struct str bytes)
{
    return send_frame(ws, WSLAY_BINARY_FRAME, &bytes, 1);
}

bool http_ws_is_open(const struct http_ws *ws)
{
    return ws->state == WS_OPEN;
}

bool http_ws_is_blocked(const struct http_ws *ws)
{
    return ws->req->conn->blocked;
}

static void on_proceed(struct http_req *req)
{
    struct http_ws *ws = req->conn->ws;
    http_req_resume(req);
    if (ws->state == WS_OPEN && ws->events->on_proceed)
        ws->events->on_proceed(ws->arg);
}

/* ---- the end ---- */

static void finish(struct http_ws *ws)
{
    http_reply_end(ws->req);
}

static void send_close(struct http_ws *ws, int code, const char *reason)
{
    char number[2] = {(char)(code >> 8), (char)code};
    size_t n = strlen(reason);
    if (n > LIMIT_WS_REASON)
        n = utf8_cut(reason, LIMIT_WS_REASON);
    struct str pieces[2] = {{number, code == HTTP_WS_NO_CODE ? 0 : 2}, {reason, n}};
    send_frame(ws, WSLAY_CONNECTION_CLOSE, pieces, 2);
    ws->state = WS_CLOSING;
    http_req_resume(ws->req); /* the client's close frame is awaited, however much waits for it */
}

static void on_no_close(struct deadline *deadline)
{
    struct http_ws *ws = container_of(deadline, struct http_ws, patience);
    if (wire_unsent(&ws->req->conn->wire))
        http_reply_abort(ws->req);
    else
        finish(ws);
}

void http_ws_close(struct http_ws *ws, int code, const char *reason)
{
    if (ws->state != WS_OPEN)
        return;
    ws->code = code;
    send_close(ws, code, reason);
    deadline_arm(ws->req->server->loop, &ws->patience, LIMIT_WS_CLOSE_MS, on_no_close);
}

/* Something that cannot be forgiven: nothing more is read. */
static void fail(struct http_ws *ws, int code, const char *reason)
{
    if (ws->state == WS_OPEN) {
        ws->code = code;
        send_close(ws, code, reason);
    }
    finish(ws);
}

static void on_impatient(struct deadline *deadline)
{
    struct http_ws *ws = container_of(deadline, struct http_ws, patience);
    if (wire_unsent(&ws->req->conn->wire) == 0)
        return;
    if (moved(ws) == ws->moved)
        http_ws_close(ws, HTTP_WS_SLOW, "nothing was read for too long");
    else
        await_progress(ws);
}

static void on_ping_due(struct deadline *deadline)
{
    struct http_ws *ws = container_of(deadline, struct http_ws, ping);
    if (ws->state != WS_OPEN)
        return;
    bool deaf = ws->req->conn->body_paused; /* then nothing is heard, and patience watches */
    ws->misses = ws->heard || deaf ? 0 : ws->misses + 1;
    ws->heard = false;
    if (ws->misses >= LIMIT_WS_MISSES) {
        fail(ws, HTTP_WS_SLOW, "no answer to pings");
        return;
    }
    if (!deaf)
        send_frame(ws, WSLAY_PING, NULL, 0);
    deadline_arm(ws->req->server->loop, &ws->ping, ws->ping_ms, on_ping_due);
}

static void on_dispose(void *arg)
{
    struct http_ws *ws = arg;
    struct http_server *s = ws->req->server;
    deadline_cancel(s->loop, &ws->ping);
    deadline_cancel(s->loop, &ws->patience);
    list_remove(&ws->link);
    s->websocket_count--;
    ws->state = WS_CLOSING; /* whoever is told cannot send any more */
    if (ws->events->on_closed)
        ws->events->on_closed(ws->arg, ws->code);
    buf_release(&ws->message);
    ws_frames_free(ws->frames);
}

/* ---- what comes in: control frames. false: the socket is gone. ---- */

static bool is_close_code(int code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

static bool on_close_frame(struct http_ws *ws, struct str payload)
{
    int code = payload.n >= 2 ? (unsigned char)payload.p[0] << 8 | (unsigned char)payload.p[1] : HTTP_WS_NO_CODE;
    if (payload.n == 1 || (payload.n && !is_close_code(code)))
        fail(ws, HTTP_WS_PROTOCOL_ERROR, "invalid close frame");
    else if (payload.n > 2 && !utf8_valid(payload.p + 2, payload.n - 2))
        fail(ws, HTTP_WS_BAD_TEXT, "the reason is not UTF-8");
    else {
        ws->code = code;
        if (ws->state == WS_OPEN)
            send_close(ws, code, "");
        finish(ws);
    }
    return false;
}

static bool on_control(struct http_ws *ws, unsigned char opcode, struct str payload)
{
    if (opcode == WSLAY_CONNECTION_CLOSE)
        return on_close_frame(ws, payload);
    if (opcode == WSLAY_PING)
        send_frame(ws, WSLAY_PONG, &payload, 1);
    return true;
}

static bool take_control(struct http_ws *ws, const struct wslay_frame_iocb *frame, bool whole)
{
    struct ws_frames *frames = ws->frames;
    size_t at = (size_t)(frames->seen - frame->data_length);
    memcpy(frames->control + at, frame->data, frame->data_length); /* wslay lets no longer control frame through */
    return !whole || on_control(ws, frame->opcode, (struct str){frames->control, (size_t)frame->payload_length});
}

/* ---- messages ---- */

/* The buffer leaves with its message: nothing of it is kept over the next one. */
static void deliver(struct http_ws *ws, struct str in_window)
{
    struct buf message = ws->message;
    bool binary = ws->opcode == WSLAY_BINARY_FRAME;
    buf_init(&ws->message, message.max);
    ws->opcode = 0;
    if (ws->state == WS_OPEN)
        ws->events->on_message(ws->arg, message.len ? buf_view(&message) : in_window, binary);
    buf_release(&message);
}

static bool take_data(struct http_ws *ws, const struct wslay_frame_iocb *frame, bool whole)
{
    struct str piece = {(const char *)frame->data, frame->data_length};
    bool last = whole && frame->fin, text = ws->opcode == WSLAY_TEXT_FRAME;
    if (ws->state != WS_OPEN)
        return true; /* only their close frame is of interest */
    if (text && (!utf8_check_feed(&ws->text, piece.p, piece.n) || (last && !utf8_check_whole(&ws->text)))) {
        fail(ws, HTTP_WS_BAD_TEXT, "the message is not UTF-8");
        return false;
    }
    if (!last || ws->message.len || piece.n < frame->payload_length) {
        buf_append(&ws->message, piece.p, piece.n);
        if (!buf_ok(&ws->message)) {
            fail(ws, HTTP_WS_TOO_LARGE, "there is no memory for the message");
            return false;
        }
    }
    if (last)
        deliver(ws, piece);
    return true;
}

/* ---- frames ---- */

/* What is wrong with a frame by its head: 0 or the code to close with. */
static int judge_frame(const struct http_ws *ws, const struct wslay_frame_iocb *frame, const char **ret_reason)
{
    bool control = wslay_is_ctrl_frame(frame->opcode), first = frame->opcode != WSLAY_CONTINUATION_FRAME;
    *ret_reason = "";
    if (!frame->mask)
        *ret_reason = "frame without a mask";
    else if (frame->rsv)
        *ret_reason = "reserved bits are set";
    else if (frame->opcode > WSLAY_PONG || (frame->opcode > WSLAY_BINARY_FRAME && !control))
        *ret_reason = "unknown opcode";
    else if (!control && first && ws->opcode)
        *ret_reason = "new message before the end of the last";
    else if (!control && !first && !ws->opcode)
        *ret_reason = "continuation without a beginning";
    if (**ret_reason)
        return HTTP_WS_PROTOCOL_ERROR;
    if (frame->opcode == WSLAY_BINARY_FRAME && !ws->binary) {
        *ret_reason = "messages must be text";
        return HTTP_WS_UNSUPPORTED;
    }
    if (!control && frame->payload_length > ws->message.max - ws->message.len) {
        *ret_reason = "the message is too large";
        return HTTP_WS_TOO_LARGE;
    }
    return 0;
}

static size_t frame_head_length(uint64_t payload)
{
    return 2 + (payload < 126 ? 0 : payload <= UINT16_MAX ? 2 : 8) + 4;
}

/* A frame's next piece, or all of it. false: the socket is gone. */
static bool take_frame(struct http_ws *ws, const struct wslay_frame_iocb *frame)
{
    struct ws_frames *frames = ws->frames;
    bool control = wslay_is_ctrl_frame(frame->opcode);
    const char *reason;
    int code = frames->seen == 0 ? judge_frame(ws, frame, &reason) : 0;
    if (code) {
        fail(ws, code, reason);
        return false;
    }
    if (frames->seen == 0 && !control && frame->opcode != WSLAY_CONTINUATION_FRAME) {
        ws->opcode = frame->opcode;
        ws->text = (struct utf8_check){0};
    }
    frames->seen += frame->data_length;
    bool whole = frames->seen == frame->payload_length;
    if (!(control ? take_control(ws, frame, whole) : take_data(ws, frame, whole)))
        return false;
    if (whole) {
        frames->taken -= frame_head_length(frame->payload_length) + frame->payload_length;
        frames->seen = 0;
    }
    return true;
}

static void feed(struct http_req *req, struct str piece)
{
    struct http_ws *ws = req->conn->ws;
    struct wslay_frame_iocb frame;
    ws->heard = true;
    if (!borrow_frames(ws)) {
        fail(ws, HTTP_WS_INTERNAL, "there is no memory");
        return;
    }
    ws->frames->input = piece;
    for (;;) {
        memset(&frame, 0, sizeof frame);
        ssize_t n = wslay_frame_recv(ws->frames->reader, &frame);
        if (n == WSLAY_ERR_WANT_READ)
            break;
        if (n < 0) {
            fail(ws, HTTP_WS_PROTOCOL_ERROR, "malformed frame");
            return;
        }
        if (!take_frame(ws, &frame))
            return;
    }
    return_frames(ws);
}

/* ---- the beginning, and the server's end ---- */

struct http_ws *http_ws_accept(struct http_req *req, const struct http_ws_options *options,
                               const struct http_ws_events *events, void *arg)
{
    struct http_conn *c = req->conn;
    struct http_server *s = req->server;
    if (!ws_handshake(req, options->subprotocol))
        return NULL;
    struct http_ws *ws = arena_calloc(&req->arena, sizeof *ws);
    ws->req = req;
    ws->events = events;
    ws->arg = arg;
    ws->ping_ms = options->ping_ms ? options->ping_ms : LIMIT_WS_PING_MS;
    ws->binary = options->binary;
    ws->code = HTTP_WS_LOST;
    ws->heard = true;
    buf_init(&ws->message, options->max_message ? options->max_message : LIMIT_WS_MESSAGE);
    list_push(&s->websockets, &ws->link);
    s->websocket_count++;
    arena_on_dispose(&req->arena, on_dispose, ws);
    c->ws = ws;
    c->wire.stall_ms = s->options.stall_ms + 2 * LIMIT_WS_CLOSE_MS; /* patience comes first */
    http_reply_on_proceed(req, on_proceed);
    conn_tunnel(c, false, feed, NULL);
    deadline_arm(s->loop, &ws->ping, ws->ping_ms, on_ping_due);
    return ws;
}

size_t http_ws_count(const struct http_server *server)
{
    return server->websocket_count;
}

void ws_drain(struct http_server *server)
{
    list_each (ws, &server->websockets, struct http_ws, link) {
        if (ws->state == WS_OPEN && ws->events->on_drain)
            ws->events->on_drain(ws->arg);
        else
            http_ws_close(ws, HTTP_WS_GOING_AWAY, "the server is shutting down");
    }
}

void ws_cut(struct http_server *server)
{
    list_each (ws, &server->websockets, struct http_ws, link)
        http_ws_close(ws, HTTP_WS_GOING_AWAY, "the server is shutting down");
}
