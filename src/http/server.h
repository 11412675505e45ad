/* HTTP/1.1 server on one loop: TCP and Unix listeners, streamed bodies both ways, back-pressure, drain.
 *
 * A request's memory is its arena. It dies, with everything that registered a disposer on it, when the reply is
 * complete or the client is gone, whichever comes first: that is how work learns that nobody waits any more. A
 * half-closing client counts as gone, except in a tunnel (proxy.h). Handlers never block and never format errors: they
 * call http_reply_error, and the server's dialect dresses it.
 *
 * After http_reply_end, http_reply, http_reply_error or http_reply_abort the request must not be touched: it may
 * be gone already. Everything runs on the loop's thread. */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "http/head.h"
#include "loop/loop.h"

struct http_server;
struct http_conn;

#define HTTP_REQUEST_ID_SIZE 72

struct http_req {
    struct arena arena;
    struct http_head head;
    struct http_server *server;
    struct http_conn *conn;
    char id[HTTP_REQUEST_ID_SIZE]; /* x-request-id: the client's own when sane (printable ASCII, <= 64), else ours */
    uint64_t started_ns;
    int status;         /* of the reply once started, else 0 */
    uint64_t bytes_out; /* payload bytes of the reply so far */
    void *dialect;      /* for on_error: whose errors to speak; set by the router, NULL at first */
    void *user;         /* the handler's */
    const void *caller; /* who sent it: the guard's */
    const void *trace;  /* its span: whoever traces it */
};

typedef void http_on_request(void *arg, struct http_req *req); /* head complete, body not read yet */

struct http_server_options {
    http_on_request *on_request;
    /* Dresses an error: appends the body, returns its content type. Called also for errors of the HTTP layer itself
     * (then req->dialect may be NULL, and req itself may be NULL when no head could be parsed). */
    const char *(*on_error)(void *arg, const struct http_req *req, const struct err *err, struct buf *body);
    void (*on_log)(void *arg, const struct http_req *req); /* a finished or abandoned request; may be NULL */
    void *arg;
    unsigned max_connections;        /* this and the times: 0 means the maximum or default of limits.h */
    unsigned header_timeout_ms;      /* from the first byte of a head to its end */
    unsigned keep_alive_ms;          /* idle between requests */
    unsigned body_timeout_ms;        /* longest pause of a request body, or of a tunnel's last direction */
    unsigned ping_ms;                /* between comments on an event stream that is quiet */
    unsigned stall_ms;               /* a client that takes nothing for so long is dropped */
    uint64_t max_body;               /* bytes; http_req_read_body's default maximum */
    const char *const *cors_origins; /* NULL-terminated, may be NULL: none; "*" allows all */
    const char *const
        *allowed_hosts;      /* NULL-terminated names beside loopback ones; checked on loopback TCP listeners */
    const char *server_name; /* Server: header; NULL for none */
};

struct http_server *http_server_new(struct loop *loop, const struct http_server_options *options);

/* port 0 takes a free one; *ret_port (may be NULL) tells which. ERR_IO names the address and the system's reason;
 * a port in use is ERR_CONFLICT. Any number of listeners. */
bool http_server_listen_tcp(struct http_server *server, const char *address, int port, int *ret_port, struct err *err);
/* The same for a listener of its own kind: http_req_tag tells a request's; 0 is the ordinary one. */
bool http_server_listen_tagged(struct http_server *server, const char *address, int port, int tag, int *ret_port,
                               struct err *err);
int http_req_tag(const struct http_req *req);
/* A socket file left by a dead process is replaced; one that answers is ERR_CONFLICT. mode: file permission bits. */
bool http_server_listen_unix(struct http_server *server, const char *path, int mode, struct err *err);

/* TCP connections accepted from now on speak TLS with that certificate; those that exist go on with theirs. The context
 * is the caller's and must outlive the server, or the next call. NULL: plain. */
struct tls_context;
void http_server_secure(struct http_server *server, struct tls_context *context);

/* Stops accepting, closes idle connections, lets running replies end with Connection: close; after grace_ms the rest
 * is cut. on_drained runs once no connection is left. A second call with a shorter grace shortens it. */
void http_server_drain(struct http_server *server, unsigned grace_ms, void (*on_drained)(void *arg), void *arg);
bool http_server_draining(const struct http_server *server);
size_t http_server_connections(const struct http_server *server);
struct loop *http_server_loop(struct http_server *server);

/* Only after on_drained ran (or before anything listened). Closing finishes in later turns of the loop. */
void http_server_free(struct http_server *server);

/* ---- request body ---- */

/* Collects the body (at most max bytes, 0: the server's max_body; gzip content coding is undone, the limit applies
 * to the result) and calls on_body once, body valid as long as the arena. When the body is too large, late, broken or
 * the client leaves, the error is answered here and on_body is never called. */
void http_req_read_body(struct http_req *req, uint64_t max, void (*on_body)(struct http_req *req, struct str body));

/* Frees a collected body before the request ends: nobody will look at it again. Without one, nothing happens. */
void http_req_drop_body(struct http_req *req);

/* Streams the body as it comes: on_data with each piece (valid during the call), on_end after the last. Failure
 * answers and disposes the request as above. */
void http_req_stream_body(struct http_req *req, void (*on_data)(struct http_req *req, struct str piece),
                          void (*on_end)(struct http_req *req));
void http_req_pause(struct http_req *req); /* no more on_data until resumed; the socket is not read */
void http_req_resume(struct http_req *req);

/* The client's address as text, or "" on a Unix socket. Returns out. */
#define HTTP_PEER_SIZE 48
char *http_req_peer(const struct http_req *req, char out[HTTP_PEER_SIZE]);

/* ---- reply ---- */

/* Adds a response header before the start; copied. Sanitised: a value with CR, LF or NUL is dropped. */
void http_reply_header(struct http_req *req, const char *name, const char *value);

/* A complete reply. content_type may be NULL. HEAD requests get the headers only. */
void http_reply(struct http_req *req, int status, const char *content_type, struct str body);
void http_reply_error(struct http_req *req, const struct err *err); /* before the start; Retry-After, x-should-retry */

/* A streamed reply: length -1 streams chunked (or until close for HTTP/1.0). */
void http_reply_start(struct http_req *req, int status, const char *content_type, int64_t length);
bool http_reply_started(const struct http_req *req);

/* Sends a piece: written to the socket at once when it is free, else kept. true: go on. false: more than
 * LIMIT_UNSENT_BYTES wait (the piece is still kept): stop until on_proceed. A client that takes nothing for
 * LIMIT_STALL_MS is dropped. */
bool http_reply_write(struct http_req *req, struct str piece);
/* As one write of several pieces (one system call, one chunk). */
bool http_reply_writev(struct http_req *req, const struct str *pieces, size_t count);
void http_reply_on_proceed(struct http_req *req, void (*on_proceed)(struct http_req *req)); /* NULL: none */
void http_reply_end(struct http_req *req);
/* Ends a started reply so that the client can tell it is incomplete: the connection is reset. */
void http_reply_abort(struct http_req *req);

/* A file descriptor's bytes [offset, offset + length) as body by sendfile; takes ownership of fd. Used by static.h. */
void http_reply_file(struct http_req *req, int status, const char *content_type, int fd, uint64_t offset,
                     uint64_t length);

#endif
