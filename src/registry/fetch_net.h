/* HTTP and HTTPS requests of downloads: GET with libcurl, blocking, on the downloads' own threads. Knows nothing of
 * hubs or files. Proxies come from the environment, as with curl. */
#ifndef REGISTRY_FETCH_NET_H
#define REGISTRY_FETCH_NET_H

#include <stdatomic.h>
#include <uv.h>

#include "base/err.h"
#include "base/str.h"

/* A wish to end, seen by every thread of a job: requests notice it within a second, pauses at once. */
struct fetch_stop {
    atomic_bool wanted;
    uv_mutex_t lock;
    uv_cond_t changed;
};

void fetch_stop_init(struct fetch_stop *stop);
void fetch_stop_release(struct fetch_stop *stop);
void fetch_stop_set(struct fetch_stop *stop); /* any thread */
bool fetch_stopped(const struct fetch_stop *stop);
bool fetch_stop_wait(struct fetch_stop *stop, uint64_t ms); /* false: the stop came */

/* What all requests of a job share. */
struct fetch_net {
    const char
        *token; /* bearer; NULL: none. Sent to the origin of the URL asked for, never behind a redirect to another */
    unsigned stall_seconds; /* no byte for so long fails the try */
    struct fetch_stop *stop;
};

enum fetch_net_result {
    FETCH_NET_DONE,
    FETCH_NET_RETRY, /* the same request may succeed later: network, 408, 429, 5xx */
    FETCH_NET_FAILED,
    FETCH_NET_STOPPED
};

struct fetch_net_reply {
    long status; /* of the last reply; 0: there was none */
    bool has_range;
    uint64_t range_first, range_total; /* Content-Range; total UINT64_MAX when it says "*" */
    unsigned retry_after_ms;           /* 0: not said */
    char next[LIMIT_FETCH_URL];        /* target of Link's rel="next", or "" */
};

struct fetch_net_get {
    const char *url;
    const char *name; /* what is asked for, in messages */
    uint64_t from;    /* > 0: asks for the bytes from there on */
    /* A piece of the body of a 200 or 206, in order. Other than FETCH_NET_DONE ends the request with that result, and
     * *err must say why. */
    enum fetch_net_result (*on_body)(void *arg, const struct fetch_net_reply *reply, struct str piece, struct err *err);
    void *arg;
};

void fetch_net_setup(void); /* before the first thread; may be called again */

/* One try. Everything but FETCH_NET_DONE sets *err. *reply is set in every case. */
enum fetch_net_result fetch_net_get(const struct fetch_net *net, const struct fetch_net_get *get,
                                    struct fetch_net_reply *reply, struct err *err);

/* Waits before try number failed + 1: a doubling pause, or what the server asked for. false: stopped. */
bool fetch_net_pause(const struct fetch_net *net, unsigned failed, const struct fetch_net_reply *reply);

#endif
