#include "api/system/snapshot.h"

#include <math.h>

#include "api/system/alias.h"
#include "api/system/gauges.h"
#include "api/system/machine.h"
#include "api/system/reserved.h"
#include "api/system/uptime.h"
#include "base/clock.h"
#include "base/version.h"

static void put_count(struct json *j, const char *key, double value)
{
    json_put_int(j, key, (int64_t)value);
}

static void put_inference(struct json *j, const struct metrics *m)
{
    double requests = metrics_total(m, METRIC_REQUESTS);
    double successful = metrics_total_where(m, METRIC_REQUESTS, "status", "2");
    json_open_object(j, "inference");
    put_count(j, "total_requests", requests);
    put_count(j, "successful_requests", successful);
    put_count(j, "failed_requests", requests - successful);
    put_count(j, "prompt_tokens", metrics_total(m, METRIC_PROMPT_TOKENS));
    put_count(j, "tokens_generated", metrics_total(m, METRIC_TOKENS_GENERATED));
    put_count(j, "active_requests", metrics_total(m, METRIC_ACTIVE_REQUESTS));
    put_count(j, "queued_requests", metrics_total(m, METRIC_QUEUE_PENDING));
    put_tenths(j, "avg_latency_ms", mean_latency_ms(m));
    put_tenths(j, "tokens_per_second", decode_rate(m));
    json_close(j);
}

static void put_system(struct json *j, const struct app *app, struct arena *arena)
{
    struct machine_load load;
    machine_load(app->machine, &load);
    json_open_object(j, "system");
    put_tenths(j, "cpu_usage_percent", load.cpu_known ? load.cpu_percent : NAN);
    json_put_int(j, "memory_usage_bytes", (int64_t)load.memory_used);
    json_put_int(j, "memory_total_bytes", (int64_t)load.memory_total);
    json_put_int(j, "process_memory_bytes", (int64_t)load.process_memory);
    put_tenths(j, "gpu_usage_percent", gpus_usage_percent(app));
    gpus_put(j, app);
    put_uptime(j, app, arena);
    json_close(j);
}

static void put_model(struct json *j, const struct metrics *m, const struct instance *i,
                      const struct instance_status *s)
{
    const char *const model[] = {instance_name(i)};
    const struct instance_histogram *duration = &s->counters->duration;
    double seconds = metrics_value(m, METRIC_DECODE_SECONDS, model);
    json_open_object(j, NULL);
    json_put_string(j, "id", instance_name(i));
    json_put_string(j, "status", s->model_state);
    json_put_string(j, "backend", instance_backend_type(i));
    put_count(j, "total_requests", (double)s->counters->requests);
    put_count(j, "failed_requests", (double)s->counters->failures);
    put_count(j, "active_requests", s->active);
    put_tenths(j, "avg_latency_ms", duration->count ? duration->sum * 1000 / (double)duration->count : NAN);
    put_count(j, "tokens_generated", metrics_value(m, METRIC_TOKENS_GENERATED, model));
    put_tenths(j, "tokens_per_second", seconds > 0 ? metrics_value(m, METRIC_DECODED_TOKENS, model) / seconds : NAN);
    put_tenths(j, "load_time_ms", s->load_ms > 0 ? s->load_ms : NAN);
    json_put_int(j, "memory_bytes", (int64_t)s->memory_bytes);
    reserved_put(j, &s->reserved);
    json_close(j);
}

/* loaded: only those that are. */
static void put_models(struct json *j, const struct app *app, bool loaded, struct arena *arena)
{
    json_open_array(j, "models");
    for (struct instance **i = instances_list(app->instances, true, arena); *i; i++) {
        struct instance_status s;
        instance_status(*i, &s);
        if (!loaded || strcmp(s.model_state, "loaded") == 0)
            put_model(j, app->metrics, *i, &s);
    }
    json_close(j);
}

/* Sums over the series of each family, under the names that Prometheus gets. */
static void put_families(struct json *j, const struct metrics *m, const char *key, enum metric_kind kind)
{
    json_open_object(j, key);
    for (enum metric metric = 0; metric < METRIC_COUNT; metric++)
        if (metrics_kind(metric) == kind)
            json_put_number(j, metrics_name(metric), metrics_total(m, metric));
    json_close(j);
}

void snapshot_reply(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    char now[CLOCK_RFC3339_SIZE];
    struct json *j = api_json_begin(req);
    (void)match;
    gauges_set(app, &req->arena);
    json_open_object(j, NULL);
    json_put_string(j, "timestamp", clock_rfc3339(clock_unix_ms(), now));
    put_inference(j, app->metrics);
    put_system(j, app, &req->arena);
    put_models(j, app, false, &req->arena);
    put_families(j, app->metrics, "counters", METRIC_COUNTER);
    json_close(j);
    api_reply_json(req, 200, j);
}

void status_reply(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct json *j = api_json_begin(req);
    (void)match;
    gauges_set(app, &req->arena);
    json_open_object(j, NULL);
    json_put_bool(j, "running", true);
    json_put_string(j, "status", http_server_draining(app->server) ? "draining" : "running");
    json_put_string(j, "version", INFERD_VERSION);
    put_uptime(j, app, &req->arena);
    put_inference(j, app->metrics);
    put_models(j, app, true, &req->arena);
    json_close(j);
    api_reply_json(req, 200, j);
}
