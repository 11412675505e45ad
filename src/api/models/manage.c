/* Loading, unloading and looking at a model by hand (seeds/002, "Model Management"). */
#include "api/app.h"
#include "api/docs/doc.h"
#include "base/clock.h"
#include "base/json_read.h"
#include "base/mem.h"

struct manage_call {
    struct app *app;
    struct http_req *req;
    const char *id;
    struct str name;
    bool force;
    struct arena_disposer *disposer;
};

/* "4.2GB": seeds' human form; a GB is 10^9 bytes. */
static const char *human_bytes(struct http_req *req, uint64_t bytes)
{
    if (bytes >= 1000000000u)
        return arena_printf(&req->arena, "%.1fGB", (double)bytes / 1e9);
    return arena_printf(&req->arena, "%.0fMB", (double)bytes / 1e6);
}

static void put_memory(struct json *j, struct http_req *req, uint64_t bytes)
{
    json_put_string(j, "memory_usage", bytes ? human_bytes(req, bytes) : NULL);
    json_put_int(j, "memory_usage_bytes", (int64_t)bytes);
}

static struct manage_call *call_new(void *arg, struct http_req *req)
{
    struct manage_call *call = arena_calloc(&req->arena, sizeof *call);
    call->app = arg;
    call->req = req;
    req->user = call;
    return call;
}

/* ---- load ---- */

static void on_loaded(void *arg, struct lease *lease, const struct err *err)
{
    struct manage_call *call = arg;
    struct instance_status status;
    if (!lease) {
        http_reply_error(call->req, err);
        return;
    }
    instances_status(call->app->instances, str_from(call->id), &status);
    struct json *j = api_json_begin(call->req);
    json_open_object(j, NULL);
    json_put_string(j, "status", "success");
    json_put_string(j, "message", "Model loaded successfully");
    json_put_string(j, "model_id", call->id);
    json_put_string(j, "backend", "gguf");
    put_memory(j, call->req, status.memory_bytes);
    json_put_number(j, "load_ms", status.load_ms);
    json_close(j);
    lease_end(lease);
    api_reply_json(call->req, 200, j);
}

static void load_model(void *arg, const struct model *model, const struct err *err)
{
    struct manage_call *call = arg;
    if (!model) {
        http_reply_error(call->req, err);
        return;
    }
    call->id = arena_strdup(&call->req->arena, model->id);
    instances_acquire(call->app->instances, model, &call->req->arena, on_loaded, call);
}

static void load(void *arg, struct http_req *req, const struct http_match *match)
{
    app_find_model(arg, &req->arena, match->captures[0], load_model, call_new(arg, req));
}

/* ---- unload ---- */

/* The unload goes on when the client leaves; what it reports to must then be gone quietly. */
struct unload_watch {
    struct manage_call *call; /* NULL: the client is gone */
};

static void on_unload_client_gone(void *arg)
{
    struct unload_watch *watch = arg;
    watch->call = NULL;
}

static void on_unloaded(void *arg, uint64_t freed)
{
    struct unload_watch *watch = arg;
    struct manage_call *call = watch->call;
    mem_free(watch);
    if (!call)
        return;
    arena_forget(call->disposer);
    struct json *j = api_json_begin(call->req);
    json_open_object(j, NULL);
    json_put_string(j, "status", "success");
    json_put_string(j, "message", freed ? "Model unloaded successfully" : "Model was not loaded");
    json_put_string(j, "model_id", call->id);
    json_put_string(j, "memory_freed", human_bytes(call->req, freed));
    json_put_int(j, "memory_freed_bytes", (int64_t)freed);
    json_close(j);
    api_reply_json(call->req, 200, j);
}

static void unload_model(void *arg, const struct model *model, const struct err *err)
{
    struct manage_call *call = arg;
    if (!model) {
        http_reply_error(call->req, err);
        return;
    }
    call->id = arena_strdup(&call->req->arena, model->id);
    struct unload_watch *watch = mem_alloc(sizeof *watch);
    watch->call = call;
    call->disposer = arena_on_dispose(&call->req->arena, on_unload_client_gone, watch);
    unsigned grace = call->force ? 0 : (unsigned)call->app->conf->shutdown_grace_seconds * 1000;
    instances_unload(call->app->instances, str_from(call->id), grace, on_unloaded, watch);
}

static void on_unload_body(struct http_req *req, struct str body)
{
    static const struct json_field fields[] = {JSON_FIELD(struct manage_call, force, "force", JSON_KIND_BOOL, 0, 0)};
    struct manage_call *call = req->user;
    struct err err;
    json_t *document = body.n ? json_read(body, &err) : json_object();
    bool good = document && json_fields(document, fields, 1, call, "", &err);
    json_decref(document);
    if (good)
        app_find_model(call->app, &req->arena, call->name, unload_model, call);
    else
        http_reply_error(req, &err);
}

static void unload(void *arg, struct http_req *req, const struct http_match *match)
{
    struct manage_call *call = call_new(arg, req);
    call->name = match->captures[0];
    http_req_read_body(req, 0, on_unload_body);
}

/* ---- status ---- */

static void put_metrics(struct json *j, const struct instance_status *s)
{
    char text[CLOCK_RFC3339_SIZE];
    json_open_object(j, "metrics");
    const struct instance_histogram *duration = &s->counters->duration;
    json_put_int(j, "total_requests", (int64_t)s->counters->requests);
    if (duration->count)
        json_put_number(j, "avg_latency_ms", duration->sum * 1000 / (double)duration->count);
    else
        json_put_null(j, "avg_latency_ms");
    json_put_null(j, "tokens_per_second");
    json_put_string(j, "last_used", s->last_used ? clock_rfc3339(s->last_used * 1000, text) : NULL);
    json_close(j);
}

static void status_model(void *arg, const struct model *model, const struct err *err)
{
    struct manage_call *call = arg;
    struct instance_status s;
    if (!model) {
        http_reply_error(call->req, err);
        return;
    }
    instances_status(call->app->instances, str_from(model->id), &s);
    const struct err *problem = model->problem.code != ERR_NONE ? &model->problem : &s.problem;
    struct json *j = api_json_begin(call->req);
    json_open_object(j, NULL);
    json_put_string(j, "model_id", model->id);
    json_put_string(j, "status", model->problem.code != ERR_NONE ? "error" : s.model_state);
    json_put_string(j, "backend", "gguf");
    put_memory(j, call->req, s.memory_bytes);
    json_put_int(j, "progress", (int64_t)(s.progress * 100));
    json_put_int(j, "active_requests", s.active);
    json_put_int(j, "queued_requests", s.waiting);
    if (s.pid)
        json_put_int(j, "pid", s.pid);
    else
        json_put_null(j, "pid");
    json_put_string(j, "error", problem->code != ERR_NONE ? problem->message : NULL);
    put_metrics(j, &s);
    json_close(j);
    api_reply_json(call->req, 200, j);
}

static void status(void *arg, struct http_req *req, const struct http_match *match)
{
    app_find_model(arg, &req->arena, match->captures[0], status_model, call_new(arg, req));
}

static const struct http_route routes[] = {
    {"POST", "/v1/models/{id...}/load", load, (void *)&openai_dialect, "Load a model and wait until it is ready",
     AUTH_MANAGEMENT, &doc_model_load},
    {"POST", "/v1/models/{id...}/unload", unload, (void *)&openai_dialect,
     "Unload a model; {\"force\": true} cuts running requests", AUTH_MANAGEMENT, &doc_model_unload},
    {"GET", "/v1/models/{id...}/status", status, (void *)&openai_dialect, "State, memory and use of a model",
     AUTH_MANAGEMENT, &doc_model_status},
};

void models_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
