/* Loading, unloading and looking at a model by hand (seeds/002, "Model Management"). */
#include <math.h>

#include "api/app.h"
#include "api/docs/doc.h"
#include "api/system/reserved.h"
#include "base/clock.h"
#include "base/json_read.h"
#include "base/mem.h"
#include "obs/log.h"

struct manage_call {
    struct app *app;
    struct http_req *req;
    const char *id;
    struct str name;
    struct arena_disposer *disposer;
    struct manage_body {
        bool force, wait, pin;
        struct model_settings settings;
    } body;
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

/* Human and exact, null where nobody can know. */
static void put_progress(struct json *j, struct http_req *req, const struct instance_status *s)
{
    double eta = s->eta_seconds;
    json_put_int(j, "progress", (int64_t)(s->progress * 100));
    json_put_string(j, "eta", eta < 0 ? NULL : arena_printf(&req->arena, "%.0fs", ceil(eta)));
    if (eta < 0)
        json_put_null(j, "eta_seconds");
    else
        json_put_number(j, "eta_seconds", round(eta * 10) / 10);
}

static struct manage_call *call_new(void *arg, struct http_req *req)
{
    struct manage_call *call = arena_calloc(&req->arena, sizeof *call);
    call->app = arg;
    call->req = req;
    call->body = (struct manage_body){.wait = true, .settings = MODEL_SETTINGS_INIT};
    req->user = call;
    return call;
}

/* The body of both calls may be left out. */
static bool read_body(struct manage_call *call, struct str body, const struct json_field *fields, size_t count)
{
    struct err err;
    json_t *document = body.n ? json_read(body, &err) : json_object();
    bool good = document &&
                (json_is_object(document) || err_set(&err, ERR_INVALID_PARAMETERS, "the body must be a JSON object")) &&
                json_fields(document, fields, count, &call->body, "", &err);
    if (good && json_is_boolean(json_object_get(document, "pin")))
        call->body.settings.pin = call->body.pin;
    json_decref(document);
    if (!good)
        http_reply_error(call->req, &err);
    return good;
}

/* ---- load ---- */

static void reply_loaded(struct manage_call *call, const char *status, const char *message)
{
    struct instance_status s;
    instances_status(call->app->instances, str_from(call->id), &s);
    struct json *j = api_json_begin(call->req);
    json_open_object(j, NULL);
    json_put_string(j, "status", status);
    json_put_string(j, "message", message);
    json_put_string(j, "model_id", call->id);
    json_put_string(j, "backend", "gguf");
    put_memory(j, call->req, s.memory_bytes);
    put_progress(j, call->req, &s);
    json_put_number(j, "load_ms", s.load_ms);
    json_close(j);
    api_reply_json(call->req, 200, j);
}

static void on_loaded(void *arg, struct lease *lease, const struct err *err)
{
    struct manage_call *call = arg;
    if (!lease) {
        http_reply_error(call->req, err);
        return;
    }
    lease_end(lease);
    reply_loaded(call, "success", "Model loaded successfully");
}

/* A load that nobody waits for: it has an arena of its own. */
struct background_load {
    struct arena arena;
    char *id;
    bool settled; /* before load_behind returned */
    bool left;    /* load_behind has returned */
    struct err err;
};

static void background_end(struct background_load *load)
{
    arena_dispose(&load->arena);
    mem_free(load->id);
    mem_free(load);
}

static void on_background(void *arg, struct lease *lease, const struct err *err)
{
    struct background_load *load = arg;
    if (!lease) {
        load->err = *err;
        log_error("model could not be loaded", "model=%s reason=%s", load->id, err->message);
    }
    if (load->left)
        background_end(load);
    else
        load->settled = true;
}

static void load_behind(struct manage_call *call, const struct model *model, unsigned grace_ms)
{
    struct background_load *load = mem_calloc(1, sizeof *load);
    load->err = ERR_INIT;
    load->id = mem_strdup(call->id);
    arena_init(&load->arena);
    instances_load(call->app->instances, model, &call->body.settings, call->body.force, grace_ms, &load->arena,
                   on_background, load);
    bool settled = load->settled;
    struct err err = load->err;
    load->left = true;
    if (settled)
        background_end(load);
    if (settled && err.code != ERR_NONE)
        http_reply_error(call->req, &err);
    else if (settled)
        reply_loaded(call, "success", "Model loaded successfully");
    else
        reply_loaded(call, "loading", "Model is being loaded; see its status");
}

/* Found, and the caller's to look after; else answered. */
static bool is_for_caller(const struct manage_call *call, const struct model *model, const struct err *not_found)
{
    struct err err;
    if (model && api_may_use_model(call->req->caller, str_from(model->id), &err))
        return true;
    http_reply_error(call->req, model ? &err : not_found);
    return false;
}

static void load_model(void *arg, const struct model *model, const struct err *err)
{
    struct manage_call *call = arg;
    if (!is_for_caller(call, model, err))
        return;
    unsigned grace_ms = (unsigned)call->app->conf->shutdown_grace_seconds * 1000;
    call->id = arena_strdup(&call->req->arena, model->id);
    if (!call->body.wait)
        load_behind(call, model, grace_ms);
    else
        instances_load(call->app->instances, model, &call->body.settings, call->body.force, grace_ms, &call->req->arena,
                       on_loaded, call);
}

static void on_load_body(struct http_req *req, struct str body)
{
    struct manage_call *call = req->user;
    static const struct json_field fields[] = {
        JSON_FIELD(struct manage_body, settings.gpu_layers, "gpu_layers", JSON_KIND_INT, 0, 100000),
        JSON_FIELD(struct manage_body, settings.context_size, "context_size", JSON_KIND_INT, 0, 16777216),
        JSON_FIELD(struct manage_body, settings.batch_size, "batch_size", JSON_KIND_INT, 32, 65536),
        JSON_FIELD(struct manage_body, settings.threads, "threads", JSON_KIND_INT, 0, 1024),
        JSON_FIELD(struct manage_body, settings.ttl_seconds, "ttl", JSON_KIND_INT, 0, 31536000),
        JSON_FIELD(struct manage_body, pin, "pin", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(struct manage_body, wait, "wait", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(struct manage_body, force, "force", JSON_KIND_BOOL, 0, 0),
    };
    if (!read_body(call, body, fields, sizeof fields / sizeof *fields))
        return;
    app_find_model(call->app, &req->arena, call->name, load_model, call);
}

static void load(void *arg, struct http_req *req, const struct http_match *match)
{
    struct manage_call *call = call_new(arg, req);
    call->name = match->captures[0];
    http_req_read_body(req, 0, on_load_body);
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
    if (!is_for_caller(call, model, err))
        return;
    call->id = arena_strdup(&call->req->arena, model->id);
    struct unload_watch *watch = mem_alloc(sizeof *watch);
    watch->call = call;
    call->disposer = arena_on_dispose(&call->req->arena, on_unload_client_gone, watch);
    unsigned grace = call->body.force ? 0 : (unsigned)call->app->conf->shutdown_grace_seconds * 1000;
    instances_unload(call->app->instances, str_from(call->id), grace, on_unloaded, watch);
}

static void on_unload_body(struct http_req *req, struct str body)
{
    static const struct json_field fields[] = {JSON_FIELD(struct manage_body, force, "force", JSON_KIND_BOOL, 0, 0)};
    struct manage_call *call = req->user;
    if (read_body(call, body, fields, 1))
        app_find_model(call->app, &req->arena, call->name, unload_model, call);
}

static void unload(void *arg, struct http_req *req, const struct http_match *match)
{
    struct manage_call *call = call_new(arg, req);
    call->name = match->captures[0];
    http_req_read_body(req, 0, on_unload_body);
}

/* ---- status ---- */

static void put_rate(struct json *j, const struct app *app, const char *id)
{
    const char *const model[] = {id};
    double seconds = metrics_value(app->metrics, METRIC_DECODE_SECONDS, model);
    if (seconds > 0)
        json_put_number(j, "tokens_per_second",
                        round(metrics_value(app->metrics, METRIC_DECODED_TOKENS, model) / seconds * 10) / 10);
    else
        json_put_null(j, "tokens_per_second");
}

/* Since the start of the server: an unload forgets nothing of it. */
static void put_metrics(struct json *j, const struct app *app, const char *id, const struct instance_status *s)
{
    char text[CLOCK_RFC3339_SIZE];
    json_open_object(j, "metrics");
    const struct instance_histogram *duration = &s->counters->duration;
    json_put_int(j, "total_requests", (int64_t)s->counters->requests);
    if (duration->count)
        json_put_number(j, "avg_latency_ms", duration->sum * 1000 / (double)duration->count);
    else
        json_put_null(j, "avg_latency_ms");
    put_rate(j, app, id);
    json_put_string(j, "last_used", s->last_used ? clock_rfc3339(s->last_used * 1000, text) : NULL);
    json_close(j);
}

static void status_model(void *arg, const struct model *model, const struct err *err)
{
    struct manage_call *call = arg;
    struct instance_status s;
    if (!is_for_caller(call, model, err))
        return;
    instances_status(call->app->instances, str_from(model->id), &s);
    const struct err *problem = model->problem.code != ERR_NONE ? &model->problem : &s.problem;
    struct json *j = api_json_begin(call->req);
    json_open_object(j, NULL);
    json_put_string(j, "model_id", model->id);
    json_put_string(j, "status", model->problem.code != ERR_NONE ? "error" : s.model_state);
    json_put_string(j, "backend", "gguf");
    put_memory(j, call->req, s.memory_bytes);
    reserved_put(j, &s.reserved);
    put_progress(j, call->req, &s);
    json_put_int(j, "active_requests", s.active);
    json_put_int(j, "queued_requests", s.waiting);
    if (s.pid)
        json_put_int(j, "pid", s.pid);
    else
        json_put_null(j, "pid");
    json_put_string(j, "error", problem->code != ERR_NONE ? problem->message : NULL);
    put_metrics(j, call->app, model->id, &s);
    json_close(j);
    api_reply_json(call->req, 200, j);
}

static void status(void *arg, struct http_req *req, const struct http_match *match)
{
    app_find_model(arg, &req->arena, match->captures[0], status_model, call_new(arg, req));
}

static const struct http_route routes[] = {
    {"POST", "/v1/models/{id...}/load", load, (void *)&openai_dialect, "Load a model and wait until it is ready",
     AUTH_MODEL_MANAGEMENT, &doc_model_load},
    {"POST", "/v1/models/{id...}/unload", unload, (void *)&openai_dialect,
     "Unload a model; {\"force\": true} cuts running requests", AUTH_MODEL_MANAGEMENT, &doc_model_unload},
    {"GET", "/v1/models/{id...}/status", status, (void *)&openai_dialect, "State, memory and use of a model",
     AUTH_MODELS_READ, &doc_model_status},
};

void models_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
