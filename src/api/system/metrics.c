/* GET /metrics in the Prometheus text format (0.0.4): every instance's state, starts, use and times, and what
 * obs/metrics.def lists. */
#include "api/admit.h"
#include "api/docs/doc.h"
#include "api/system/gauges.h"

static void put_labels(struct buf *out, const struct instance *i)
{
    buf_puts(out, "{instance=");
    metrics_put_label(out, instance_name(i)); /* of a model's file name: anything */
}

static void put_value(struct buf *out, const char *name, const struct instance *i, double value)
{
    buf_puts(out, name);
    put_labels(out, i);
    buf_printf(out, "} %.17g\n", value);
}

static void put_states(struct buf *out, const struct instance *i, const struct instance_status *s)
{
    static const char *const states[] = {"stopped", "starting", "running", "stopping", "restarting", "failed"};
    for (size_t n = 0; n < sizeof states / sizeof *states; n++) {
        buf_puts(out, "inferd_instance_state");
        put_labels(out, i);
        buf_printf(out, ",state=\"%s\"} %d\n", states[n], strcmp(states[n], s->state) == 0);
    }
}

static void put_histogram(struct buf *out, const char *name, const struct instance *i,
                          const struct instance_histogram *h)
{
    uint64_t below = 0;
    for (size_t n = 0; n <= INSTANCE_BUCKETS; n++) {
        below += h->counts[n];
        buf_printf(out, "%s_bucket", name);
        put_labels(out, i);
        if (n < INSTANCE_BUCKETS)
            buf_printf(out, ",le=\"%g\"} %llu\n", instance_bucket_bounds[n], (unsigned long long)below);
        else
            buf_printf(out, ",le=\"+Inf\"} %llu\n", (unsigned long long)below);
    }
    buf_printf(out, "%s_sum", name);
    put_labels(out, i);
    buf_printf(out, "} %.9g\n%s_count", h->sum, name);
    put_labels(out, i);
    buf_printf(out, "} %llu\n", (unsigned long long)h->count);
}

/* One row a metric: its name, type, help, and how it is told of one instance. */
enum instance_metric {
    INSTANCE_METRIC_STATE,
    INSTANCE_METRIC_STARTS,
    INSTANCE_METRIC_RESTARTS,
    INSTANCE_METRIC_EVICTIONS,
    INSTANCE_METRIC_REQUESTS,
    INSTANCE_METRIC_FAILURES,
    INSTANCE_METRIC_ACTIVE,
    INSTANCE_METRIC_WAITING,
    INSTANCE_METRIC_MEMORY,
    INSTANCE_METRIC_FIRST_BYTE,
    INSTANCE_METRIC_DURATION
};

static const struct row {
    const char *name, *type, *help;
} rows[] = {
    [INSTANCE_METRIC_STATE] = {"inferd_instance_state", "gauge", "1 for the state that the instance is in"},
    [INSTANCE_METRIC_STARTS] = {"inferd_instance_starts_total", "counter", "Processes started for it"},
    [INSTANCE_METRIC_RESTARTS] = {"inferd_instance_restarts_total", "counter", "Starts after a crash or on a restart"},
    [INSTANCE_METRIC_EVICTIONS] = {"inferd_instance_evictions_total", "counter", "Times it was stopped to make room"},
    [INSTANCE_METRIC_REQUESTS] = {"inferd_instance_requests_total", "counter", "Requests passed to it"},
    [INSTANCE_METRIC_FAILURES] = {"inferd_instance_failures_total", "counter", "Of these, answered with 5xx"},
    [INSTANCE_METRIC_ACTIVE] = {"inferd_instance_active_requests", "gauge", "Requests it is answering"},
    [INSTANCE_METRIC_WAITING] = {"inferd_instance_waiting_requests", "gauge", "Requests waiting for it to start"},
    [INSTANCE_METRIC_MEMORY] = {"inferd_instance_memory_bytes", "gauge", "Resident memory of its process"},
    [INSTANCE_METRIC_FIRST_BYTE] = {"inferd_instance_first_byte_seconds", "histogram",
                                    "From the lease to the reply's head"},
    [INSTANCE_METRIC_DURATION] = {"inferd_instance_request_seconds", "histogram", "From the lease to the last byte"},
};

static void put_metric(struct buf *out, enum instance_metric metric, const struct instance *i)
{
    struct instance_status s;
    const char *name = rows[metric].name;
    instance_status(i, &s);
    switch (metric) {
    case INSTANCE_METRIC_STATE: put_states(out, i, &s); break;
    case INSTANCE_METRIC_STARTS: put_value(out, name, i, (double)s.counters->starts); break;
    case INSTANCE_METRIC_RESTARTS: put_value(out, name, i, (double)s.counters->restarts); break;
    case INSTANCE_METRIC_EVICTIONS: put_value(out, name, i, (double)s.counters->evictions); break;
    case INSTANCE_METRIC_REQUESTS: put_value(out, name, i, (double)s.counters->requests); break;
    case INSTANCE_METRIC_FAILURES: put_value(out, name, i, (double)s.counters->failures); break;
    case INSTANCE_METRIC_ACTIVE: put_value(out, name, i, s.active); break;
    case INSTANCE_METRIC_WAITING: put_value(out, name, i, s.waiting); break;
    case INSTANCE_METRIC_MEMORY: put_value(out, name, i, (double)s.memory_bytes); break;
    case INSTANCE_METRIC_FIRST_BYTE: put_histogram(out, name, i, &s.counters->first_byte); break;
    case INSTANCE_METRIC_DURATION: put_histogram(out, name, i, &s.counters->duration); break;
    }
}

static void metrics(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct instance **all = instances_list(app->instances, true, &req->arena);
    struct buf out;
    (void)match;
    buf_init(&out, LIMIT_JSON_TEXT);
    for (size_t metric = 0; metric < sizeof rows / sizeof *rows; metric++) {
        metrics_put_head(&out, rows[metric].name, rows[metric].type, rows[metric].help);
        for (struct instance **i = all; *i; i++)
            put_metric(&out, (enum instance_metric)metric, *i);
    }
    gauges_set(app, &req->arena);
    metrics_write(app->metrics, &out);
    http_reply(req, 200, "text/plain; version=0.0.4; charset=utf-8", buf_view(&out));
    buf_release(&out);
}

static const struct http_route routes[] = {
    {"GET", "/metrics", metrics, (void *)&openai_dialect, "Measurements for Prometheus", AUTH_METRICS | API_UNCHARGED,
     &doc_metrics},
};

void metrics_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
