/* GET /v1/models and /v1/models/{id}: named instances as llamactl lists them, the models inside those that route to
 * several, then the model files of this machine with what we know of them under "inferno". */
#include "api/openai/models.h"

#include "api/app.h"
#include "api/docs/doc.h"
#include "api/system/reserved.h"
#include "instance/memory.h"
#include "instance/router.h"

#define ROUTERS_MS 25 /* what the routers have not said by then is taken from their last answer */

static void put_instance(struct json *j, const struct instance *i)
{
    struct instance_status s;
    instance_status(i, &s);
    json_open_object(j, NULL);
    json_put_string(j, "id", instance_name(i));
    json_put_string(j, "object", "model");
    json_put_int(j, "created", instance_created(i));
    json_put_string(j, "owned_by", "llamactl");
    json_open_object(j, "inferno");
    json_put_string(j, "status", s.model_state);
    json_put_string(j, "backend", instance_backend_type(i));
    json_close(j);
    json_close(j);
}

static void put_inner(struct json *j, const struct instance *i, const char *model)
{
    char id[LIMIT_INSTANCE_NAME + LIMIT_MODEL_NAME + 2];
    snprintf(id, sizeof id, "%s/%s", instance_name(i), model);
    json_open_object(j, NULL);
    json_put_string(j, "id", id);
    json_put_string(j, "object", "model");
    json_put_int(j, "created", instance_created(i));
    json_put_string(j, "owned_by", instance_name(i));
    json_close(j);
}

static void put_model(struct json *j, struct app *app, const struct model *m)
{
    struct instance_status status;
    const struct gguf *g = &m->gguf;
    instances_status(app->instances, str_from(m->id), &status);
    json_open_object(j, NULL);
    json_put_string(j, "id", m->id);
    json_put_string(j, "object", "model");
    json_put_int(j, "created", m->created);
    json_put_string(j, "owned_by", *g->organization ? g->organization : "local");
    json_open_array(j, "permission");
    json_close(j);
    json_put_string(j, "root", m->id);
    json_put_null(j, "parent");
    json_open_object(j, "inferno");
    json_put_string(j, "status", m->problem.code != ERR_NONE ? "error" : status.model_state);
    json_put_string(j, "error", m->problem.code != ERR_NONE ? m->problem.message : NULL);
    json_put_string(j, "backend", "gguf");
    json_put_string(j, "format", "gguf");
    json_put_string(j, "arch", g->architecture);
    json_put_string(j, "quantization", g->quantization);
    json_put_int(j, "parameters", (int64_t)g->parameters);
    json_put_int(j, "context_length", g->context_length);
    json_put_int(j, "size_bytes", (int64_t)g->file_bytes);
    json_put_int(j, "memory_estimate_bytes", (int64_t)memory_estimate(m, model_context(m, app->conf), app->conf));
    reserved_put(j, &status.reserved);
    json_open_array(j, "capabilities");
    if (g->causal)
        json_put_string(j, NULL, "completion");
    if (g->has_chat_template)
        json_put_string(j, NULL, "chat");
    if (g->has_fim)
        json_put_string(j, NULL, "infill");
    if (m->projector)
        json_put_string(j, NULL, "vision");
    json_put_string(j, NULL, "embedding");
    json_close(j);
    json_close(j);
    json_close(j);
}

struct list_call {
    struct app *app;
    struct http_req *req;
};

/* The models of a router stand for it when there is more than one. */
static void put_named(struct json *j, const struct instance *i)
{
    const char *const *inner = router_models_of(i);
    size_t count = 0;
    while (inner && inner[count])
        count++;
    if (count <= 1)
        put_instance(j, i);
    for (size_t n = 0; n < count; n++)
        put_inner(j, i, inner[n]);
}

static bool is_shown(const struct list_call *call, const struct instance *i, const char *name)
{
    return api_may_see(call->req, i) && api_may_use_model(call->req->caller, str_from(name), NULL);
}

/* Local clients are shown what is loaded (seeds/000, "List loaded models"). */
static void list_loaded(struct list_call *call, struct json *j)
{
    struct app *app = call->app;
    for (struct instance **i = instances_list(app->instances, false, &call->req->arena); *i; i++) {
        struct instance_status status;
        instance_status(*i, &status);
        if (strcmp(status.model_state, "loaded") == 0 && is_shown(call, *i, instance_name(*i)))
            put_named(j, *i);
    }
    for (const char *const *id = instances_loaded(app->instances, &call->req->arena); *id; id++) {
        const struct model *model = model_find(app->catalogue, str_from(*id));
        if (model && is_shown(call, NULL, *id))
            put_model(j, app, model);
    }
}

static void list_known(void *arg)
{
    struct list_call *call = arg;
    const struct model_catalogue *c = call->app->catalogue;
    struct instances *instances = call->app->instances;
    struct json *j = api_json_begin(call->req);
    json_open_object(j, NULL);
    json_put_string(j, "object", "list");
    json_open_array(j, "data");
    bool local = http_req_tag(call->req) == API_LISTENER_LOCAL;
    if (local)
        list_loaded(call, j);
    for (struct instance **i = instances_list(instances, false, &call->req->arena); *i && !local; i++)
        if (is_shown(call, *i, instance_name(*i)))
            put_named(j, *i);
    for (size_t i = 0; i < c->count && !local; i++)
        if (!instances_find(instances, str_from(c->models[i].id)) && is_shown(call, NULL, c->models[i].id))
            put_model(j, call->app, &c->models[i]);
    json_close(j);
    json_close(j);
    api_reply_json(call->req, 200, j);
}

static void list_fresh(void *arg)
{
    struct list_call *call = arg;
    routers_refresh(call->app->instances, ROUTERS_MS, &call->req->arena, list_known, call);
}

static void list(void *arg, struct http_req *req, const struct http_match *match)
{
    struct list_call *call = arena_alloc(&req->arena, sizeof *call);
    (void)match;
    *call = (struct list_call){.app = arg, .req = req};
    app_refresh_catalogue(call->app, 0, &req->arena, list_fresh, call);
}

static void on_model(void *arg, const struct model *model, const struct err *err)
{
    struct list_call *call = arg;
    struct err denied;
    if (!model) {
        http_reply_error(call->req, err);
        return;
    }
    if (!api_may_use_model(call->req->caller, str_from(model->id), &denied)) {
        http_reply_error(call->req, &denied);
        return;
    }
    struct json *j = api_json_begin(call->req);
    put_model(j, call->app, model);
    api_reply_json(call->req, 200, j);
}

static void retrieve(void *arg, struct http_req *req, const struct http_match *match)
{
    struct list_call *call = arena_alloc(&req->arena, sizeof *call);
    *call = (struct list_call){.app = arg, .req = req};
    struct instance *i = instances_find(call->app->instances, match->captures[0]);
    if (!api_may_use(req, i))
        return;
    if (!i) {
        app_find_model(call->app, &req->arena, match->captures[0], on_model, call);
        return;
    }
    struct json *j = api_json_begin(req);
    put_instance(j, i);
    api_reply_json(req, 200, j);
}

static const struct http_route routes[] = {
    {"GET", "/v1/models", list, (void *)&openai_dialect, "All instances, and all models on this machine",
     AUTH_MODELS_READ, &doc_model_list},
    {"GET", "/v1/models/{id...}", retrieve, (void *)&openai_dialect, "One of them", AUTH_MODELS_READ, &doc_model},
};

void models_list_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
