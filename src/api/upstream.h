/* The one internal call to a model: what a WebSocket chat, an item of a batch and a request in another dialect are made
 * of. It finds what runs the model that the body names, checks that the caller may use it, waits for a lease, sends the
 * body on and hands the reply back event by event, with back-pressure and cancel through every hop; the request is
 * counted, metered and charged exactly as one that came in over HTTP. Nothing is parsed but the framing.
 *
 * Everything lives in the caller's arena: when that dies the call is cancelled, within one decode step of the worker,
 * and no event follows. Loop thread only. */
#ifndef API_UPSTREAM_H
#define API_UPSTREAM_H

#include "api/app.h"
#include "obs/trace.h"

struct upstream;

struct upstream_events {
    /* The reply is a stream and its head is here, long before its first event where a prompt is long. May be NULL, and
     * must not end the call. */
    void (*on_stream)(void *arg);
    /* One event of a streamed reply: its JSON text (never "[DONE]"), valid during the call. */
    void (*on_event)(void *arg, struct str data);
    /* The whole body of a reply that was not streamed (status 200), valid during the call; on_end follows. */
    void (*on_reply)(void *arg, struct str body);
    /* The last event, exactly once. NULL: complete. Else why not: refused before it began (model_not_found, rate limit,
     * context_length_exceeded... with status, param and retry_after), or broken off after events were given. */
    void (*on_end)(void *arg, const struct err *err);
};

struct upstream_request {
    struct str path;                   /* "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank" */
    struct str body;                   /* a JSON object that names its "model"; as long-lived as the arena */
    const struct caller *caller;       /* req->caller of who asked; NULL where no key was needed */
    struct str address;                /* the client's, for limits by address; as long-lived as the arena */
    const char *request_id;            /* goes on as x-request-id; NULL: none */
    const struct trace_context *trace; /* the span that the call belongs to; NULL: none */
    bool batch;                        /* scheduled behind interactive requests */
    bool charge; /* counts as a request against the caller's limits: not for what was charged when it
                  * came in over HTTP */
};

/* on_end may come before this returns (then NULL is returned). The pointer is valid until on_end. */
struct upstream *upstream_start(struct app *app, struct arena *arena, const struct upstream_request *request,
                                const struct upstream_events *events, void *arg);
void upstream_pause(struct upstream *upstream);  /* no more events (but for those of bytes that are here already) */
void upstream_resume(struct upstream *upstream); /* never from within on_event */
void upstream_cancel(struct upstream *upstream); /* no event follows; may be called from within one */

#endif
