/* Design: libuv tells of a peer's end only while it reads. Owners keep reading while they can, and when they must not
 * (back-pressure), a poll handle on a duplicate of the descriptor waits for the peer's hang-up instead; it is made on
 * first use, since most connections never pause. (What no server can see is an end that lies behind bytes for which
 * its own closed window leaves no room.) The same handle waits for writability when a file is sent.
 *
 * On a half-open wire the peer's end is no hang-up, so the handle then waits for errors alone. The kernel reports those
 * whatever is asked for; libuv must ask for something, and urgent data is what hardly anybody sends.
 *
 * Unsent bytes: `flying` belongs to libuv until its write is done, `next` collects what comes meanwhile, so that many
 * small writes of a slow stream become one. Both go as soon as everything is written: an idle stream holds none.
 *
 * TLS lies between the socket and both directions: ciphertext is put into the session, whose plain bytes then reuse the
 * loop's read buffer; plain pieces of one write become as few records as they can. When the owner stops reading in the
 * middle, what came stays in the session, at most one read of the socket.
 *
 * Invariant: callbacks come from the loop, never from inside a wire_ function; after wire_close only on_closed comes.
 */
#include "http/wire.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "base/limits.h"
#include "base/mem.h"
#include "http/tls.h"

#define TLS_RECORD (16 * 1024) /* most plain bytes of one record */

struct wire_out {
    uv_write_t req;
    struct buf flying, next;
};

struct wire_watch {
    uv_poll_t poll;
    struct wire *wire;
    int fd;
    int events;
};

static void on_stall(struct deadline *deadline);
static void report(struct loop_soon *soon);
static void watch_set(struct wire *w, int events);
static void write_raw(struct wire *w, const struct str *pieces, size_t count);
static void flush_tls(struct wire *w);
static void decrypt(struct wire *w);

/* Remembers the failure; the owner hears of it before the loop waits again. */
static void fail(struct wire *w, int status)
{
    if (w->closing || w->gone)
        return;
    if (status == UV_EOF && w->half_open) {
        w->ended = true;
        watch_set(w, (w->watch ? w->watch->events : 0) | UV_PRIORITIZED);
    } else {
        w->gone = status;
    }
    loop_soon(w->loop, &w->soon, report);
}

static void report(struct loop_soon *soon)
{
    struct wire *w = container_of(soon, struct wire, soon);
    if (w->closing || w->told)
        return;
    if (!w->gone) {
        w->events->on_end(w);
        return;
    }
    w->told = true;
    w->events->on_gone(w, w->gone);
}

static void init(struct wire *w, struct loop *loop, const struct wire_events *events, unsigned stall_ms)
{
    w->loop = loop;
    w->events = events;
    w->stall_ms = stall_ms;
    w->closers = 1;
}

void wire_init_tcp(struct wire *wire, struct loop *loop, const struct wire_events *events, unsigned stall_ms)
{
    *wire = (struct wire){0};
    uv_tcp_init(&loop->uv, &wire->tcp);
    init(wire, loop, events, stall_ms);
}

void wire_init_pipe(struct wire *wire, struct loop *loop, const struct wire_events *events, unsigned stall_ms)
{
    *wire = (struct wire){0};
    uv_pipe_init(&loop->uv, &wire->pipe, 0);
    init(wire, loop, events, stall_ms);
}

int wire_fd(const struct wire *wire)
{
    uv_os_fd_t fd;
    return uv_fileno(&wire->handle, &fd) == 0 ? fd : -1;
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct wire *w = container_of(handle, struct wire, handle);
    *buf = uv_buf_init(w->loop->read_buffer, LOOP_READ_BYTES);
}

static void stop_reading(struct wire *w, int status)
{
    uv_read_stop(&w->stream);
    w->reading = false;
    fail(w, status);
}

static void refuse_plain(struct wire *w)
{
    const struct str reply = STR("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                                 "Content-Length: 42\r\n\r\nThis port speaks HTTPS: use an https:// URL");
    write_raw(w, &reply, 1);
    stop_reading(w, UV_EPROTO);
}

/* Gives the owner what can be decrypted. It may stop reading, or close, within on_bytes. */
static void decrypt(struct wire *w)
{
    while (w->reading && !w->closing && !w->gone) {
        size_t n = 0;
        enum tls_result result = tls_session_read(w->tls, w->loop->read_buffer, LOOP_READ_BYTES, &n);
        if (result == TLS_PLAIN) {
            refuse_plain(w);
            return;
        }
        flush_tls(w);
        switch (result) {
        case TLS_BYTES: w->events->on_bytes(w, w->loop->read_buffer, n); break;
        case TLS_HUNGRY: w->undecrypted = false; return;
        case TLS_ENDED: stop_reading(w, UV_EOF); return;
        default: stop_reading(w, UV_EPROTO); return;
        }
    }
    w->undecrypted = true;
}

static void on_more(struct loop_soon *soon)
{
    decrypt(container_of(soon, struct wire, more));
}

void wire_secure(struct wire *wire, struct tls_context *context)
{
    wire->tls = tls_session_new(context);
}

bool wire_is_secure(const struct wire *wire)
{
    return wire->tls != NULL;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct wire *w = container_of(stream, struct wire, stream);
    if (n > 0 && w->tls) {
        tls_session_put(w->tls, buf->base, (size_t)n);
        decrypt(w);
    } else if (n > 0) {
        w->events->on_bytes(w, buf->base, (size_t)n);
    } else if (n < 0) {
        uv_read_stop(stream);
        w->reading = false;
        fail(w, (int)n);
    }
}

/* What tells of the peer's end while nothing is read. */
static int end_event(const struct wire *w)
{
    return w->half_open ? UV_PRIORITIZED : UV_DISCONNECT;
}

void wire_read(struct wire *wire)
{
    if (wire->closing || wire->gone || wire->reading || wire->ended)
        return;
    if (wire->paused)
        watch_set(wire, wire->watch->events & ~end_event(wire));
    wire->paused = false;
    wire->reading = true;
    int rc = uv_read_start(&wire->stream, on_alloc, on_read);
    if (rc != 0)
        fail(wire, rc);
    else if (wire->undecrypted)
        loop_soon(wire->loop, &wire->more, on_more);
}

void wire_pause(struct wire *wire, bool watch)
{
    if (wire->closing || wire->gone || !wire->reading)
        return;
    uv_read_stop(&wire->stream);
    wire->reading = false;
    wire->paused = watch;
    if (watch)
        watch_set(wire, (wire->watch ? wire->watch->events : 0) | end_event(wire));
}

void wire_half_open(struct wire *wire)
{
    if (wire->closing || wire->gone || wire->half_open)
        return;
    wire->half_open = true;
    if (wire->paused)
        watch_set(wire, (wire->watch->events & ~UV_DISCONNECT) | UV_PRIORITIZED);
}

/* ---- the second look at the descriptor ---- */

/* The error the socket has, if any: urgent data and an orderly end are none. */
static void fail_of_socket(struct wire *w)
{
    int error = 0;
    socklen_t n = sizeof error;
    if (getsockopt(w->watch->fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error)
        fail(w, uv_translate_sys_error(error));
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct wire *w = ((struct wire_watch *)poll)->wire;
    if (status < 0 || events & UV_DISCONNECT) {
        watch_set(w, 0);
        fail(w, status < 0 ? status : UV_EOF);
        return;
    }
    if (events & UV_PRIORITIZED) {
        watch_set(w, w->watch->events & ~UV_PRIORITIZED); /* whatever it was would be told for ever */
        fail_of_socket(w);
    }
    if (events & UV_WRITABLE) {
        watch_set(w, w->watch->events & ~UV_WRITABLE);
        if (w->events->on_writable)
            w->events->on_writable(w);
    }
}

static bool watch_new(struct wire *w)
{
    int fd = fcntl(wire_fd(w), F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return false;
    struct wire_watch *watch = mem_calloc(1, sizeof *watch);
    watch->wire = w;
    watch->fd = fd;
    if (uv_poll_init(&w->loop->uv, &watch->poll, fd) != 0) {
        close(fd);
        mem_free(watch);
        return false;
    }
    w->watch = watch;
    w->closers++;
    return true;
}

static void watch_set(struct wire *w, int events)
{
    if (!w->watch && !watch_new(w)) {
        fail(w, UV_EMFILE);
        return;
    }
    w->watch->events = events;
    if (events)
        uv_poll_start(&w->watch->poll, events, on_poll);
    else
        uv_poll_stop(&w->watch->poll);
}

void wire_want_writable(struct wire *wire)
{
    if (!wire->closing && !wire->gone)
        watch_set(wire, (wire->watch ? wire->watch->events : 0) | UV_WRITABLE);
}

/* ---- writing ---- */

static void on_written(uv_write_t *req, int status);

static void out_free(struct wire *w)
{
    if (!w->out)
        return;
    buf_release(&w->out->flying);
    buf_release(&w->out->next);
    mem_free(w->out);
    w->out = NULL;
}

static void fly(struct wire *w)
{
    struct wire_out *out = w->out;
    struct buf empty = out->flying;
    buf_clear(&empty);
    out->flying = out->next;
    out->next = empty;
    uv_buf_t piece = uv_buf_init(out->flying.data, (unsigned)out->flying.len);
    int rc = uv_write(&out->req, &w->stream, &piece, 1, on_written);
    if (rc != 0)
        fail(w, rc);
}

static void on_written(uv_write_t *req, int status)
{
    struct wire_out *out = container_of(req, struct wire_out, req);
    struct wire *w = container_of(req->handle, struct wire, stream);
    if (w->closing)
        return;
    if (status < 0) {
        fail(w, status);
        return;
    }
    buf_clear(&out->flying);
    if (out->next.len) {
        fly(w);
        return;
    }
    out_free(w);
    deadline_cancel(w->loop, &w->stall);
    if (w->ending)
        shutdown(wire_fd(w), SHUT_WR);
    w->events->on_sent(w);
}

static void on_stall(struct deadline *deadline)
{
    struct wire *w = container_of(deadline, struct wire, stall);
    size_t unsent = uv_stream_get_write_queue_size(&w->stream);
    if (unsent == w->stall_seen) {
        fail(w, UV_ETIMEDOUT);
        return;
    }
    w->stall_seen = unsent;
    deadline_arm(w->loop, &w->stall, w->stall_ms, on_stall);
}

/* Copies the pieces behind the first `skip` bytes and sees that they are written. */
static void keep(struct wire *w, const struct str *pieces, size_t count, size_t skip)
{
    bool idle = !w->out;
    if (idle) {
        w->out = mem_calloc(1, sizeof *w->out);
        buf_init(&w->out->flying, LIMIT_REPLY_BYTES);
        buf_init(&w->out->next, LIMIT_REPLY_BYTES);
    }
    for (size_t i = 0; i < count; i++) {
        size_t cut = skip < pieces[i].n ? skip : pieces[i].n;
        skip -= cut;
        buf_append(&w->out->next, pieces[i].p + cut, pieces[i].n - cut);
    }
    if (!buf_ok(&w->out->next)) {
        fail(w, UV_ENOBUFS);
        return;
    }
    if (!idle)
        return;
    fly(w);
    w->stall_seen = uv_stream_get_write_queue_size(&w->stream);
    deadline_arm(w->loop, &w->stall, w->stall_ms, on_stall);
}

static void write_raw(struct wire *wire, const struct str *pieces, size_t count)
{
    size_t written = 0, total = 0;
    for (size_t i = 0; i < count; i++)
        total += pieces[i].n;
    if (total == 0)
        return;
    if (!wire->out) {
        uv_buf_t bufs[WIRE_PIECES];
        for (size_t i = 0; i < count; i++)
            bufs[i] = (uv_buf_t){.base = (char *)pieces[i].p, .len = pieces[i].n};
        int rc = uv_try_write(&wire->stream, bufs, (unsigned)count);
        if (rc < 0 && rc != UV_EAGAIN) {
            fail(wire, rc);
            return;
        }
        written = rc > 0 ? (size_t)rc : 0;
    }
    if (written < total)
        keep(wire, pieces, count, written);
}

static void flush_tls(struct wire *w)
{
    struct str output = tls_session_output(w->tls);
    if (output.n && !w->closing && !w->gone)
        write_raw(w, &output, 1);
    tls_session_sent(w->tls);
}

/* A head and a short body are one record, not two. */
static bool encrypt(struct wire *w, const struct str *pieces, size_t count)
{
    char joined[TLS_RECORD];
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += pieces[i].n;
    if (count > 1 && total <= sizeof joined) {
        size_t n = 0;
        for (size_t i = 0; i < count; i++) {
            memcpy(joined + n, pieces[i].p, pieces[i].n);
            n += pieces[i].n;
        }
        return tls_session_write(w->tls, (struct str){joined, n});
    }
    for (size_t i = 0; i < count; i++)
        if (!tls_session_write(w->tls, pieces[i]))
            return false;
    return true;
}

void wire_write(struct wire *wire, const struct str *pieces, size_t count)
{
    assert(count <= WIRE_PIECES);
    if (wire->closing || wire->gone)
        return;
    if (!wire->tls)
        write_raw(wire, pieces, count);
    else if (encrypt(wire, pieces, count))
        flush_tls(wire);
    else
        fail(wire, UV_EPROTO);
}

size_t wire_unsent(const struct wire *wire)
{
    return wire->out ? uv_stream_get_write_queue_size(&wire->stream) + wire->out->next.len : 0;
}

bool wire_broken(const struct wire *wire)
{
    return wire->gone || wire->closing;
}

/* ---- ending ---- */

void wire_shutdown(struct wire *wire)
{
    if (wire->tls && !wire->gone) {
        tls_session_goodbye(wire->tls);
        flush_tls(wire);
    }
    if (wire->out)
        wire->ending = true;
    else
        shutdown(wire_fd(wire), SHUT_WR); /* fails when the peer is gone already: reading tells */
}

static void closed_one(struct wire *w)
{
    if (--w->closers > 0)
        return;
    out_free(w);
    tls_session_free(w->tls);
    w->events->on_closed(w);
}

static void on_stream_closed(uv_handle_t *handle)
{
    closed_one(container_of(handle, struct wire, handle));
}

static void on_watch_closed(uv_handle_t *handle)
{
    struct wire_watch *watch = (struct wire_watch *)handle;
    struct wire *w = watch->wire;
    close(watch->fd);
    mem_free(watch);
    closed_one(w);
}

void wire_close(struct wire *wire, bool reset)
{
    assert(!wire->closing);
    if (wire->tls && !reset && !wire->gone && !wire->out) {
        tls_session_goodbye(wire->tls);
        flush_tls(wire);
    }
    wire->closing = true;
    deadline_cancel(wire->loop, &wire->stall);
    loop_soon_cancel(&wire->soon);
    loop_soon_cancel(&wire->more);
    if (wire->watch) {
        uv_poll_stop(&wire->watch->poll);
        uv_close((uv_handle_t *)&wire->watch->poll, on_watch_closed);
    }
    if (reset && wire->handle.type == UV_TCP && uv_tcp_close_reset(&wire->tcp, on_stream_closed) == 0)
        return;
    uv_close(&wire->handle, on_stream_closed);
}
