/* Connections to upstreams and where they wait between calls: shared by link.c, which opens, keeps and closes them, and
 * client.c, which talks over them; nobody else includes this. */
#ifndef HTTP_LINK_H
#define HTTP_LINK_H

#include "base/map.h"
#include "http/client.h"
#include "http/wire.h"

struct pool {
    struct http_target target;
    struct list idle; /* struct link, most recently used first */
    size_t count;
};

struct link {
    struct wire wire;
    struct list list; /* the pool's idle, or the client's busy */
    struct http_client *client;
    struct pool *pool;
    struct http_call *call; /* NULL: idle */
    struct buf in;          /* an incomplete head, or bytes that wait while paused */
    struct deadline deadline;
    uv_connect_t *connecting;
    bool fresh; /* no reply has come over it yet */
};

struct http_client {
    struct loop *loop;
    struct map pools; /* by target */
    struct list busy;
    size_t links; /* not closed yet, idle ones too */
    unsigned connect_ms;
    bool freed;
};

struct pool *pool_find(struct http_client *client, const struct http_target *target, bool create);
void pool_put(struct link *link);          /* the call is over and the link is clean: for the next one */
struct link *pool_take(struct pool *pool); /* NULL: none is idle */
void pool_close_idle(struct pool *pool);

struct link *link_new(struct http_client *client, struct pool *pool);
int link_connect(struct link *link); /* 0: begun, link_gone tells of its failure; else a libuv error */
void link_close(struct link *link);  /* takes it out of wherever it is */
void link_closed(struct wire *wire); /* the wire's on_closed: frees it */
void client_free_when_done(struct http_client *client);

/* client.c: what happens on a link while a call runs, and when it is gone. */
extern const struct wire_events link_events;
void link_ready(struct link *link); /* connected */
void link_gone(struct link *link, int status);

#endif
