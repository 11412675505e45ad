/* One client connection and the request it is answering: shared by conn.c (reading), reply.c (writing), policy.c and
 * server.c, which own it together; nobody else includes this. */
#ifndef HTTP_CONN_H
#define HTTP_CONN_H

#include "http/server.h"
#include "http/wire.h"

enum conn_state {
    CONN_HEAD,    /* waiting for a head or its rest */
    CONN_REQUEST, /* a request is alive */
    CONN_DISCARD, /* the reply is sent, the rest of its request's body is read over */
    CONN_LINGER,  /* the last reply is being sent; then our side ends and the client's end is awaited */
    CONN_CLOSED
};

/* A response header added before the start, in the request's arena. */
struct reply_line {
    struct reply_line *next;
    size_t n;
    char text[];
};

struct http_conn {
    struct wire wire;
    struct list link; /* server's idle or busy */
    struct http_server *server;
    struct http_req req;
    struct buf in;            /* bytes that wait; holds memory only while there are some */
    struct str window;        /* while processing: the bytes not taken yet */
    size_t scanned;           /* of an incomplete head */
    struct deadline deadline; /* of the present state */
    struct loop_soon soon;

    struct http_body body; /* the request's */
    void (*on_data)(struct http_req *req, struct str piece);
    void (*on_end)(struct http_req *req);
    struct collector *collector; /* req.c's, in the request's arena */
    uint64_t discarded;

    struct reply_line *lines; /* newest first */
    void (*on_proceed)(struct http_req *req);
    int64_t reply_left;            /* bytes still owed of a reply of known length; -1: unknown */
    void *sse, *proxy, *file, *ws; /* state of those modules, in the request's arena */

    char peer[HTTP_PEER_SIZE]; /* "" until somebody asks */
    enum conn_state state;
    signed char tag;     /* of the listener */
    bool check_host : 1; /* accepted on loopback */
    bool processing : 1;
    bool head_parsed : 1; /* req holds a real request */
    bool body_wanted : 1, body_paused : 1, body_ended : 1, continue_sent : 1;
    bool body_refused : 1; /* on_end is to be called at once, without the body */
    bool close_after : 1;  /* no further request on this connection */
    bool chunked : 1, bodiless : 1, blocked : 1;
    bool tunnel : 1;       /* the connection speaks another protocol now; it is half-open */
    bool client_ended : 1; /* its direction of the tunnel */
    bool reply_ended : 1;  /* ours, of the tunnel: shut down once everything is sent */
};

struct http_listener {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    struct list link;
    struct http_server *server;
    signed char tag;
    bool loopback, waiting; /* waiting: a connection is there, but there is no room for it */
};

struct http_server {
    struct loop *loop;
    struct http_server_options options;
    struct tls_context *tls; /* NULL: plain */
    struct list listeners, idle, busy;
    struct list websockets; /* ws.c's */
    size_t websocket_count;
    void *ws_frames; /* a frame reader that no socket needs right now, or NULL */
    size_t connections, listeners_open;
    struct buf head;          /* the reply head being built, of the corked connection */
    struct http_conn *corked; /* its head waits for the first bytes of the body, this turn at most */
    struct loop_soon uncork;
    char date[32];
    uint64_t date_ms;
    char id_prefix[13];
    uint64_t next_id;
    struct deadline drain_deadline;
    struct loop_soon drained;
    void (*on_drained)(void *arg);
    void *drained_arg;
    bool draining, freed;
};

/* conn.c */
void conn_accepted(struct http_conn *conn);
void conn_process(struct http_conn *conn); /* goes on with what waits in `in` */
void conn_process_soon(struct http_conn *conn);
void conn_fail(struct http_conn *conn, const struct err *err); /* answers if possible, ends the request, closes */
void conn_finish(struct http_conn *conn);                      /* the reply is complete */
void conn_drop(struct http_conn *conn, bool reset);            /* ends request and connection now */
/* What the client sends from here on, early bytes included, is no HTTP: it comes as a body without length or timeout.
 * half_open: each direction ends for itself; else a client that ends its own is gone, and on_end is not called. */
void conn_tunnel(struct http_conn *conn, bool half_open, void (*on_data)(struct http_req *req, struct str piece),
                 void (*on_end)(struct http_req *req));
extern const struct wire_events conn_wire_events;

/* policy.c: what is decided on the head alone. false: answered already. */
bool policy_check(struct http_conn *conn);
void policy_cors_headers(struct http_conn *conn, struct buf *head);

/* reply.c */
void reply_reset(struct http_conn *conn);
void reply_uncork(struct http_server *server);
void reply_sent(struct http_conn *conn); /* the wire holds nothing any more */

/* ws.c: the server drains, its grace is over, it is freed. */
void ws_drain(struct http_server *server);
void ws_cut(struct http_server *server);
void ws_release(struct http_server *server);

/* server.c */
void server_conn_closed(struct http_conn *conn);

/* Starts a reply with the status and end-to-end headers of an upstream's reply. Used by proxy.c. */
void reply_pass(struct http_req *req, const struct http_head *head);

/* As reply_pass for a 101: what is written afterwards goes out bare. The request is still ended by http_reply_end, or
 * first only its direction towards the client by reply_end_half. */
void reply_pass_upgrade(struct http_req *req, const struct http_head *head);
/* Starts a reply that goes on in the protocol of that name, once the handler's headers are added. Used by ws.c. */
void reply_switch(struct http_req *req, const char *protocol);
void reply_end_half(struct http_req *req);

/* The stream is driven by files: called when the socket takes bytes again. static.c. */
void reply_file_go_on(struct http_conn *conn);

#endif
