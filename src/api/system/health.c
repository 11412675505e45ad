/* /health and its kin, and the index at /. Public: they say nothing a stranger must not know on an open server. */
#include <math.h>

#include "api/app.h"
#include "api/docs/doc.h"
#include "api/system/machine.h"
#include "base/clock.h"
#include "base/version.h"

static const char *human_uptime(struct http_req *req, uint64_t seconds)
{
    return arena_printf(&req->arena, "%lluh %llum %llus", (unsigned long long)(seconds / 3600),
                        (unsigned long long)(seconds / 60 % 60), (unsigned long long)(seconds % 60));
}

static void put_number_or_null(struct json *j, const char *key, double value, bool known)
{
    if (known)
        json_put_number(j, key, round(value * 10) / 10); /* a tenth of a percent */
    else
        json_put_null(j, key);
}

static void put_system(struct json *j, struct app *app, struct http_req *req)
{
    struct machine_load load;
    uint64_t uptime = (clock_ms() - app->started_ms) / 1000;
    machine_load(app->machine, &load);
    json_open_object(j, "system");
    put_number_or_null(j, "cpu_usage", load.cpu_percent, load.cpu_known);
    json_put_string(j, "memory_usage",
                    load.memory_used ? arena_printf(&req->arena, "%.1fGB", (double)load.memory_used / 1e9) : NULL);
    json_put_int(j, "memory_usage_bytes", (int64_t)load.memory_used);
    json_put_int(j, "memory_total_bytes", (int64_t)load.memory_total);
    json_put_int(j, "process_memory_bytes", (int64_t)load.process_memory);
    json_put_null(j, "gpu_usage");
    json_put_string(j, "uptime", human_uptime(req, uptime));
    json_put_int(j, "uptime_seconds", (int64_t)uptime);
    json_close(j);
}

static void health(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    bool draining = http_server_draining(app->server);
    struct json *j = api_json_begin(req);
    (void)match;
    json_open_object(j, NULL);
    json_put_string(j, "status", draining ? "draining" : "healthy");
    json_put_string(j, "version", INFERD_VERSION);
    json_open_array(j, "models_loaded");
    for (const char *const *id = instances_loaded(app->instances, &req->arena); *id; id++)
        json_put_string(j, NULL, *id);
    json_close(j);
    put_system(j, app, req);
    json_close(j);
    api_reply_json(req, draining ? 503 : 200, j);
}

static void put_status(struct http_req *req, int status, const char *text)
{
    struct json *j = api_json_begin(req);
    json_open_object(j, NULL);
    json_put_string(j, "status", text);
    json_close(j);
    api_reply_json(req, status, j);
}

static void live(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)arg;
    (void)match;
    put_status(req, 200, "alive");
}

static void ready(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    (void)match;
    if (http_server_draining(app->server))
        put_status(req, 503, "draining");
    else if (!app->catalogue)
        put_status(req, 503, "starting");
    else
        put_status(req, 200, "ready");
}

static void index_page(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct json *j = api_json_begin(req);
    (void)match;
    json_open_object(j, NULL);
    json_put_string(j, "name", "inferd");
    json_put_string(j, "version", INFERD_VERSION);
    json_open_array(j, "endpoints");
    for (size_t i = 0; http_router_at(app->router, i); i++) {
        const struct http_route *route = http_router_at(app->router, i);
        json_open_object(j, NULL);
        json_put_string(j, "method", route->method);
        json_put_string(j, "path", route->pattern);
        json_put_string(j, "summary", route->summary);
        json_close(j);
    }
    json_close(j);
    json_close(j);
    api_reply_json(req, 200, j);
}

static const struct http_route routes[] = {
    {"GET", "/", index_page, (void *)&openai_dialect, "This list", AUTH_NONE, &doc_index},
    {"GET", "/health", health, (void *)&openai_dialect, "Health, loaded models, load of the machine", AUTH_NONE,
     &doc_health},
    {"GET", "/health/live", live, (void *)&openai_dialect, "200 while the process runs", AUTH_NONE, &doc_live},
    {"GET", "/health/ready", ready, (void *)&openai_dialect, "200 while new work is taken", AUTH_NONE, &doc_ready},
};

void system_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
