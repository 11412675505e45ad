/* Sends spans to an OpenTelemetry collector by OTLP over HTTP, as JSON, in batches and beside everything else: nobody
 * waits for it. What cannot be sent is dropped and counted. Loop thread only. */
#ifndef OBS_EXPORT_H
#define OBS_EXPORT_H

#include "base/err.h"
#include "loop/loop.h"
#include "obs/metrics.h"
#include "obs/trace.h"

struct tracer;

struct tracer_options {
    const char *endpoint;       /* http://HOST:PORT[/PATH], HOST an address or localhost; "/v1/traces" is appended */
    const char *const *headers; /* "name=value", NULL-terminated; never logged */
    const char *service, *version;
    unsigned interval_ms; /* a span waits no longer, unless the collector fails */
    double sampling;      /* of traces that begin here, 0..1 */
};

/* metrics must outlive the tracer. NULL: ERR_CONFIG, which names the option and shows no header's value. */
struct tracer *tracer_new(struct loop *loop, const struct tracer_options *options, struct metrics *metrics,
                          struct err *err);
void tracer_free(struct tracer *tracer); /* NULL is fine; what waits is lost. Finishes in later turns of the loop */

double tracer_sampling(const struct tracer *tracer);

/* Takes the span over as text; nothing happens when the context is not sampled. */
void tracer_add(struct tracer *tracer, const struct trace_context *context, const struct trace_span *span);

/* Sends what waits, each batch once, for LIMIT_TRACE_FLUSH_MS at most; then on_flushed(arg), maybe at once. Once. */
void tracer_flush(struct tracer *tracer, void (*on_flushed)(void *arg), void *arg);

#endif
