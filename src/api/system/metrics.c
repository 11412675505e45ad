/* GET /metrics in the Prometheus text format (0.0.4) or as OpenMetrics: every instance's state, starts, use and times,
 * and what obs/metrics.def lists. */
#include <math.h>

#include "api/admit.h"
#include "api/docs/doc.h"
#include "api/system/accept.h"
#include "api/system/alias.h"
#include "api/system/gauges.h"
#include "api/system/snapshot.h"

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

static void put_histogram(struct buf *out, enum metrics_format format, const char *name, const struct instance *i,
                          const struct instance_histogram *h)
{
    uint64_t below = 0;
    for (size_t n = 0; n <= INSTANCE_BUCKETS; n++) {
        below += h->counts[n];
        buf_printf(out, "%s_bucket", name);
        put_labels(out, i);
        buf_puts(out, ",le=");
        metrics_put_bound(out, format, n < INSTANCE_BUCKETS ? instance_bucket_bounds[n] : INFINITY);
        buf_printf(out, "} %llu\n", (unsigned long long)below);
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

static void put_metric(struct buf *out, enum metrics_format format, enum instance_metric metric,
                       const struct instance *i)
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
    case INSTANCE_METRIC_FIRST_BYTE: put_histogram(out, format, name, i, &s.counters->first_byte); break;
    case INSTANCE_METRIC_DURATION: put_histogram(out, format, name, i, &s.counters->duration); break;
    }
}

static void metrics(void *arg, struct http_req *req, const struct http_match *match)
{
    static const char *const types[] = {"text/plain; version=0.0.4; charset=utf-8",
                                        "application/openmetrics-text; version=1.0.0; charset=utf-8"};
    struct app *app = arg;
    struct instance **all = instances_list(app->instances, true, &req->arena);
    enum metrics_format format = metrics_format_of(http_head_find(&req->head, "accept"));
    struct buf out;
    (void)match;
    buf_init(&out, LIMIT_JSON_TEXT);
    for (size_t metric = 0; metric < sizeof rows / sizeof *rows; metric++) {
        metrics_put_head(&out, format, rows[metric].name, rows[metric].type, rows[metric].help);
        for (struct instance **i = all; *i; i++)
            put_metric(&out, format, (enum instance_metric)metric, *i);
    }
    gauges_set(app, &req->arena);
    metrics_write(app->metrics, format, &out);
    aliases_write(app->metrics, app->conf->metrics_old_names, format, &out);
    if (format == METRICS_OPENMETRICS)
        buf_puts(&out, "# EOF\n");
    http_reply_header(req, "Vary", "Accept");
    http_reply(req, 200, types[format], buf_view(&out));
    buf_release(&out);
}

#define OPENAI (void *)&openai_dialect

static const struct http_route fixed[] = {
    {"GET", METRICS_PREFIX "json", snapshot_reply, OPENAI, "The measurements as JSON", AUTH_METRICS | API_UNCHARGED,
     &doc_snapshot},
    {"GET", METRICS_PREFIX "snapshot", snapshot_reply, OPENAI, "The measurements as JSON", AUTH_METRICS | API_UNCHARGED,
     &doc_snapshot},
};

static const struct http_route status_route = {"GET",
                                               "/v1/status",
                                               status_reply,
                                               OPENAI,
                                               "What runs, since when, and how busy it is",
                                               AUTH_METRICS | API_UNCHARGED,
                                               &doc_status};

bool api_is_metrics_path(const struct app *app, struct str path)
{
    return str_eq(path, str_from(app->conf->metrics_path)) || str_starts(path, STR(METRICS_PREFIX));
}

/* A plain path that nothing else has. */
static bool check_path(const struct app *app, struct err *err)
{
    const char *path = app->conf->metrics_path;
    bool good = *path == '/' && path[1] &&
                path[strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_.-")] == '\0';
    for (size_t i = 0; good && http_router_at(app->router, i); i++)
        good = strcmp(http_router_at(app->router, i)->pattern, path) != 0;
    return good || err_set(err, ERR_CONFIG,
                           "metrics.path = \"%s\" must be '/' and letters, digits, '/', '_', '.' or '-', and no other "
                           "route's",
                           path);
}

bool metrics_routes(struct app *app, struct err *err)
{
    http_router_add(app->router, &status_route, 1);
    if (!app->conf->metrics_enabled)
        return true;
    http_router_add(app->router, fixed, sizeof fixed / sizeof *fixed);
    if (!check_path(app, err))
        return false;
    app->metrics_row = (struct http_route){"GET",       app->conf->metrics_path,       metrics,
                                           OPENAI,      "Measurements for Prometheus", AUTH_METRICS | API_UNCHARGED,
                                           &doc_metrics};
    http_router_add(app->router, &app->metrics_row, 1);
    return true;
}
