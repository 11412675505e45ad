/* The spans of inference: one of an HTTP request, one of each call to a model in it, and in that where the time went
 * (queue, prefill, decode). Without observability.otlp_endpoint nothing is traced, every context is NULL, and no header
 * is touched. Names and attributes are those of OpenTelemetry's HTTP and generative AI conventions; what was said to
 * the model and by it, and who said it, is in none of them. Loop thread only. */
#ifndef API_TRACED_H
#define API_TRACED_H

#include "api/app.h"
#include "obs/export.h"

/* The request's own span, which ends with the request: begun at the first call, under the client's traceparent. */
const struct trace_context *traced_request(struct app *app, struct http_req *req);

/* What a long request (a WebSocket) says its calls belong to; NULL: nothing. In arena. */
const struct trace_context *traced_remote(const struct app *app, const struct http_req *req, struct arena *arena);

/* Request headers that traced_head_lines replaces, NULL-terminated; NULL: none. */
const char *const *traced_replaced(const struct http_req *req);

/* The line for the backend, in arena; "" without a call. */
struct str traced_head_lines(const struct trace_context *call, struct arena *arena);

/* A call to a model that has ended. Times of clock_ns(). */
struct traced_call {
    struct trace_context context;
    const char *operation, *model; /* model NULL: none was found */
    struct http_target target;     /* the backend; address "": it came to none */
    int status;
    bool failed;
    bool usage_known;
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
    uint64_t started_ns, ended_ns;
    uint64_t queued_ns;  /* when the wait for the model and in it was over; 0: never, or nobody knows */
    uint64_t first_ns;   /* when the prompt had been computed; 0: nobody knows */
    uint64_t decoded_ns; /* the last token; 0: nobody knows */
};

void traced_end(struct app *app, const struct traced_call *call);

#endif
