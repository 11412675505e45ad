/* A stream socket as server and client both use it: reads into the loop's shared buffer, writes at once when the
 * socket is free and keeps the rest, notices the peer's death also while nothing is read, and never calls its owner
 * back from inside a call of the owner. Embedded in its owner, which frees itself in on_closed. Loop thread only. */
#ifndef HTTP_WIRE_H
#define HTTP_WIRE_H

#include "base/buf.h"
#include "base/str.h"
#include "loop/loop.h"

#define WIRE_PIECES 12 /* most pieces of one write */

struct wire;
struct wire_out;
struct wire_watch;
struct tls_context;
struct tls_session;

struct wire_events {
    void (*on_bytes)(struct wire *wire, const char *bytes, size_t n); /* bytes: valid during the call */
    /* The peer closed or half-closed (UV_EOF), the connection broke, or takes nothing (UV_ETIMEDOUT). Once; the owner
     * then closes. */
    void (*on_gone)(struct wire *wire, int status);
    void (*on_end)(struct wire *wire);      /* the peer ended its direction of a half-open wire; once */
    void (*on_sent)(struct wire *wire);     /* everything that was kept is written */
    void (*on_writable)(struct wire *wire); /* asked for by wire_want_writable; may be NULL */
    void (*on_closed)(struct wire *wire);
};

struct wire {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    };
    struct loop *loop;
    const struct wire_events *events;
    struct wire_out *out;     /* NULL while nothing waits to be written */
    struct wire_watch *watch; /* NULL until it was needed */
    struct tls_session *tls;  /* NULL: plain */
    struct deadline stall;
    struct loop_soon soon, more;
    size_t stall_seen;
    unsigned stall_ms;
    int gone; /* status to report */
    bool reading, paused, closing, told;
    bool undecrypted;      /* reading stopped before everything that came was */
    bool ending;           /* our direction ends once everything is written */
    bool half_open, ended; /* ended: the peer's direction, of a half-open wire */
    signed char closers;   /* handles not closed yet */
};

void wire_init_tcp(struct wire *wire, struct loop *loop, const struct wire_events *events, unsigned stall_ms);
void wire_init_pipe(struct wire *wire, struct loop *loop, const struct wire_events *events, unsigned stall_ms);

/* Before the first read: the peer is a client that speaks TLS; the rest is the same. */
void wire_secure(struct wire *wire, struct tls_context *context);
bool wire_is_secure(const struct wire *wire);

void wire_read(struct wire *wire); /* starts or goes on reading */
/* Stops reading. watch: the peer's end is noticed all the same, though bytes before it may still be unread. */
void wire_pause(struct wire *wire, bool watch);
/* From now on each direction ends for itself: the peer's end comes as on_end, behind the last of its bytes and also
 * when reading paused before them, and writing goes on. A broken connection is on_gone as ever, also after on_end. */
void wire_half_open(struct wire *wire);

/* Writes the pieces in order, as one system call when the socket is free; what it does not take is copied and
 * follows. After a failure (reported soon through on_gone) it does nothing. */
void wire_write(struct wire *wire, const struct str *pieces, size_t count);
size_t wire_unsent(const struct wire *wire);
bool wire_broken(const struct wire *wire);
void wire_want_writable(struct wire *wire); /* on_writable once the socket takes bytes again */
int wire_fd(const struct wire *wire);       /* -1 when closed */

void wire_shutdown(struct wire *wire);          /* ends our direction; nothing may be unsent */
void wire_close(struct wire *wire, bool reset); /* once; kept bytes are dropped; only on_closed follows */

#endif
