/* /health and its kin, and the index at /. Public: they say nothing a stranger must not know. */
#include <math.h>

#include "api/app.h"
#include "api/docs/doc.h"
#include "api/system/check.h"
#include "api/system/condition.h"
#include "api/system/machine.h"
#include "api/system/reserved.h"
#include "api/system/uptime.h"
#include "base/clock.h"
#include "base/version.h"

struct problem {
    const char *component, *name, *message;
};

struct findings {
    enum condition condition;
    struct problem problems[LIMIT_HEALTH_PROBLEMS];
    size_t count;
};

static void add(struct findings *f, const char *component, const char *name, const char *message)
{
    if (f->count < LIMIT_HEALTH_PROBLEMS)
        f->problems[f->count++] = (struct problem){component, name, message};
}

static uint64_t since(uint64_t ms)
{
    return ms ? clock_ms() - ms : CONDITION_NEVER;
}

/* How long ago the last trouble of any model was. */
static uint64_t look_at_models(struct app *app, struct findings *f, struct arena *arena)
{
    uint64_t newest = CONDITION_NEVER;
    for (struct instance **i = instances_list(app->instances, true, arena); *i; i++) {
        struct instance_status s;
        instance_status(*i, &s);
        uint64_t ago = since(s.trouble_ms);
        newest = ago < newest ? ago : newest;
        if (condition_recent(ago))
            add(f, "model", arena_strdup(arena, instance_name(*i)),
                s.problem.code != ERR_NONE ? arena_strdup(arena, s.problem.message) : "it had to be started again");
    }
    return newest;
}

static void find_out(struct app *app, struct findings *f, struct arena *arena)
{
    struct check_result check = check_now(app->check);
    *f = (struct findings){0};
    struct condition_facts facts = {.draining = http_server_draining(app->server),
                                    .store_lost = check.store_lost,
                                    .folder_lost = check.folder_lost,
                                    .store_failed = since(store_failed_ms(app->store)),
                                    .disk_free = check.disk_free};
    if (check.store_lost)
        add(f, "store", NULL, arena_strdup(arena, check.store_problem));
    else if (condition_recent(facts.store_failed))
        add(f, "store", NULL, "a change could not be stored in the last minutes");
    if (check.folder_lost)
        add(f, "state_dir", NULL, "the folder is gone, or cannot be written");
    if (condition_disk_low(check.disk_free))
        add(f, "disk", NULL, arena_printf(arena, "%llu MiB are free", (unsigned long long)check.disk_free >> 20));
    facts.model_trouble = look_at_models(app, f, arena);
    f->condition = condition_of(&facts);
}

static void put_system(struct json *j, struct app *app, struct http_req *req)
{
    struct machine_load load;
    machine_load(app->machine, &load);
    json_open_object(j, "system");
    put_tenths(j, "cpu_usage", load.cpu_known ? load.cpu_percent : NAN);
    json_put_string(j, "memory_usage",
                    load.memory_used ? arena_printf(&req->arena, "%.1fGB", (double)load.memory_used / 1e9) : NULL);
    json_put_int(j, "memory_usage_bytes", (int64_t)load.memory_used);
    json_put_int(j, "memory_total_bytes", (int64_t)load.memory_total);
    json_put_int(j, "process_memory_bytes", (int64_t)load.process_memory);
    put_tenths(j, "gpu_usage", gpus_usage_percent(app));
    put_uptime(j, app, &req->arena);
    json_close(j);
}

static void put_details(struct json *j, struct app *app, struct http_req *req, const struct findings *f)
{
    json_open_array(j, "problems");
    for (size_t i = 0; i < f->count; i++) {
        json_open_object(j, NULL);
        json_put_string(j, "component", f->problems[i].component);
        json_put_string(j, "name", f->problems[i].name);
        json_put_string(j, "message", f->problems[i].message);
        json_close(j);
    }
    json_close(j);
    json_open_array(j, "models_loaded");
    for (const char *const *id = instances_loaded(app->instances, &req->arena); *id; id++)
        json_put_string(j, NULL, *id);
    json_close(j);
    put_system(j, app, req);
}

/* A stranger learns whether the server is well, and no more. */
static void reply_health(struct app *app, struct http_req *req, bool known)
{
    struct findings f;
    struct json *j = api_json_begin(req);
    find_out(app, &f, &req->arena);
    json_open_object(j, NULL);
    json_put_string(j, "status", condition_name(f.condition));
    json_put_string(j, "version", INFERD_VERSION);
    if (known)
        put_details(j, app, req, &f);
    json_close(j);
    api_reply_json(req, f.condition >= DRAINING ? 503 : 200, j);
}

struct health_call {
    struct app *app;
    struct http_req *req;
};

static void on_caller(void *arg, const struct caller *caller, const struct err *err)
{
    const struct health_call *call = arg;
    (void)err;
    reply_health(call->app, call->req, caller && api_allows(call->app, caller, AUTH_METRICS));
}

static void health(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct str presented = api_presented(req);
    (void)match;
    if (!keys_required(app->keys, AUTH_METRICS)) {
        reply_health(app, req, true);
    } else if (!presented.n) {
        reply_health(app, req, false);
    } else {
        struct health_call *call = arena_alloc(&req->arena, sizeof *call);
        *call = (struct health_call){app, req};
        api_identify(app, req, presented, on_caller, call);
    }
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
    struct check_result check = check_now(app->check);
    (void)match;
    if (http_server_draining(app->server))
        put_status(req, 503, "draining");
    else if (check.store_lost || check.folder_lost)
        put_status(req, 503, "unhealthy");
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
