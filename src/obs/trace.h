/* Spans of OpenTelemetry: who they are (W3C Trace Context) and how they are written (OTLP as JSON). Pure; any thread.
 * Times are nanoseconds since 1970. */
#ifndef OBS_TRACE_H
#define OBS_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json_write.h"

#define TRACE_ID_SIZE   16
#define TRACE_SPAN_SIZE 8

struct trace_context {
    unsigned char trace[TRACE_ID_SIZE], span[TRACE_SPAN_SIZE], parent[TRACE_SPAN_SIZE];
    bool has_parent, sampled;
};

/* A traceparent header's value. false: it is none, and whoever got it begins a trace of his own. */
bool trace_parse(struct str traceparent, struct trace_context *ret_remote);

/* A new span under parent, or (NULL) the first of a new trace, of which the share `sampling` (0..1) is sampled. */
struct trace_context trace_begin(const struct trace_context *parent, double sampling);

/* What the next hop gets. Returns out. */
#define TRACE_PARENT_TEXT 56
char *trace_parent(const struct trace_context *context, char out[TRACE_PARENT_TEXT]);

enum trace_kind { TRACE_INTERNAL = 1, TRACE_SERVER = 2, TRACE_CLIENT = 3 }; /* as OTLP numbers them */

struct trace_attribute {
    const char *key;
    struct str text; /* p NULL: the number */
    int64_t number;
};

struct trace_span {
    const char *name;
    enum trace_kind kind;
    uint64_t start_ns, end_ns;
    bool failed;
    const struct trace_attribute *attributes;
    size_t count;
};

/* One element of OTLP's "spans". */
void trace_write(struct json *j, const struct trace_context *context, const struct trace_span *span);

#endif
