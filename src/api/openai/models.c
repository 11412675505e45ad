/* GET /v1/models and /v1/models/{id}: OpenAI's object with what we know beside it under "inferno". */
#include "api/app.h"
#include "api/openai/models.h"

static void put_model(struct json *j, struct app *app, const struct model *m, const char *key)
{
    struct instance_status status;
    const struct gguf *g = &m->gguf;
    instances_status(app->instances, str_from(m->id), &status);
    json_open_object(j, key);
    json_put_string(j, "id", m->id);
    json_put_string(j, "object", "model");
    json_put_int(j, "created", m->created);
    json_put_string(j, "owned_by", *g->organization ? g->organization : "local");
    json_open_array(j, "permission");
    json_close(j);
    json_put_string(j, "root", m->id);
    json_put_null(j, "parent");
    json_open_object(j, "inferno");
    json_put_string(j, "status", m->problem.code != ERR_NONE ? "error" : status.state);
    json_put_string(j, "error", m->problem.code != ERR_NONE ? m->problem.message : NULL);
    json_put_string(j, "backend", "gguf");
    json_put_string(j, "format", "gguf");
    json_put_string(j, "arch", g->architecture);
    json_put_string(j, "quantization", g->quantization);
    json_put_int(j, "parameters", (int64_t)g->parameters);
    json_put_int(j, "context_length", g->context_length);
    json_put_int(j, "size_bytes", (int64_t)g->file_bytes);
    json_put_int(j, "memory_estimate_bytes", (int64_t)model_memory_estimate(m, model_context(m, app->conf)));
    json_open_array(j, "capabilities");
    if (g->causal)
        json_put_string(j, NULL, "completion");
    if (g->has_chat_template)
        json_put_string(j, NULL, "chat");
    if (g->has_fim)
        json_put_string(j, NULL, "infill");
    json_put_string(j, NULL, "embedding");
    json_close(j);
    json_close(j);
    json_close(j);
}

struct list_call {
    struct app *app;
    struct http_req *req;
};

static void list_fresh(void *arg)
{
    struct list_call *call = arg;
    const struct model_catalogue *c = call->app->catalogue;
    struct json *j = api_json_begin(call->req);
    json_open_object(j, NULL);
    json_put_string(j, "object", "list");
    json_open_array(j, "data");
    for (size_t i = 0; i < c->count; i++)
        put_model(j, call->app, &c->models[i], NULL);
    json_close(j);
    json_close(j);
    api_reply_json(call->req, 200, j);
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
    if (!model) {
        http_reply_error(call->req, err);
        return;
    }
    struct json *j = api_json_begin(call->req);
    put_model(j, call->app, model, NULL);
    api_reply_json(call->req, 200, j);
}

static void retrieve(void *arg, struct http_req *req, const struct http_match *match)
{
    struct list_call *call = arena_alloc(&req->arena, sizeof *call);
    *call = (struct list_call){.app = arg, .req = req};
    app_find_model(call->app, req, match->captures[0], on_model, call);
}

static const struct http_route routes[] = {
    {"GET", "/v1/models", list, (void *)&openai_dialect, "All models on this machine"},
    {"GET", "/v1/models/{id...}", retrieve, (void *)&openai_dialect, "One model"},
};

void models_list_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
