/* The inference routes: look into the body once for the model's name, get a lease on the instance of that name — a
 * named one first, else the one behind that model file — and pass the bytes on. Nothing here knows what a chat is; what
 * runs behind the instance does.
 *
 * "instance/model" names a model inside a named instance (a router, a vLLM): then, and where the backend knows its
 * model by another name, the bytes of the value are replaced in place. Nothing else in the body moves. */
#include "api/app.h"
#include "api/docs/doc.h"
#include "api/openai/models.h"
#include "base/json_scan.h"
#include "http/multipart.h"

struct inference {
    struct app *app;
    struct http_req *req;
    struct str pieces[3]; /* of the body: before the model's value, the value, behind it */
    bool form;            /* multipart: the value stands there as it is, not as JSON */
    struct str name;      /* as the client says it */
};

static void on_lease(void *arg, struct lease *lease, const struct err *err)
{
    struct inference *inference = arg;
    if (!lease) {
        http_reply_error(inference->req, err);
        return;
    }
    api_pass(inference->app, inference->req, lease, api_target(inference->req), inference->pieces, 3);
}

/* ---- a model file ---- */

static bool may_load(struct inference *inference, const struct model *model)
{
    struct app *app = inference->app;
    struct instance_status status;
    struct err err;
    if (app->conf->auto_load)
        return true;
    instances_status(app->instances, str_from(model->id), &status);
    if (strcmp(status.model_state, "loaded") == 0)
        return true;
    err_set_param(&err, ERR_MODEL_NOT_LOADED, "model",
                  "The model '%s' is not loaded and cache.auto_load is off; load it with POST /v1/models/%s/load",
                  model->id, model->id);
    http_reply_error(inference->req, &err);
    return false;
}

static void on_model(void *arg, const struct model *model, const struct err *err)
{
    struct inference *inference = arg;
    if (!model)
        http_reply_error(inference->req, err);
    else if (api_may_use(inference->req, NULL) && may_load(inference, model))
        instances_acquire(inference->app->instances, model, &inference->req->arena, on_lease, inference);
}

/* ---- a named instance ---- */

static void set_model(struct inference *inference, struct str model)
{
    struct arena *arena = &inference->req->arena;
    if (inference->form) {
        inference->pieces[1] = model;
        return;
    }
    struct buf text;
    buf_init(&text, 8 * LIMIT_MODEL_NAME);
    json_escape(&text, model);
    inference->pieces[1] = arena_str(arena, buf_view(&text));
    buf_release(&text);
}

static void infer_on(struct inference *inference, struct instance *i, struct str inner)
{
    const char *served = instance_served_model(i);
    if (!api_may_use(inference->req, i))
        return;
    if (inner.n && !instance_is_remote(i)) /* the other node cuts its own name off */
        set_model(inference, inner);
    else if (served && !inner.n)
        set_model(inference, str_from(served));
    api_backend_headers(inference->app, inference->req, i);
    instance_acquire(i, true, &inference->req->arena, on_lease, inference);
}

/* ---- the request ---- */

static bool name_error(const struct inference *inference, struct err *err)
{
    if (!inference->name.p)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "model",
                             "'model' is required: the name of a model, see GET /v1/models");
    if (inference->name.n == 0 || inference->name.n > LIMIT_MODEL_NAME)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "model", "'model' must have between 1 and %d bytes",
                             LIMIT_MODEL_NAME);
    return true;
}

static bool find_in_json(struct inference *inference, struct str body, struct str *ret_value, struct err *err)
{
    struct json_scan wanted = {.key = "model"};
    if (!json_scan(body, &wanted, 1, err))
        return false;
    *ret_value = wanted.raw;
    if (!wanted.raw.p || str_eq(wanted.raw, STR("null")))
        return true;
    if (*wanted.raw.p != '"')
        return err_set_param(err, ERR_INVALID_PARAMETERS, "model", "'model' must be a string");
    return json_scan_text(wanted.raw, &inference->req->arena, &inference->name) ||
           err_set_param(err, ERR_INVALID_JSON, "model", "'model' is not a valid JSON string");
}

/* The model's name and the three pieces of the body. */
static bool read_body(struct inference *inference, struct str body, struct err *err)
{
    struct str type = http_head_find(&inference->req->head, "content-type"), value = STR_NONE;
    inference->form = http_multipart_is(type);
    bool good = inference->form ? http_multipart_find(body, type, STR("model"), &value, err)
                                : find_in_json(inference, body, &value, err);
    if (inference->form)
        inference->name = value;
    if (!good || !name_error(inference, err))
        return false;
    const char *end = body.p + body.n, *behind = value.p + value.n;
    inference->pieces[0] = (struct str){body.p, (size_t)(value.p - body.p)};
    inference->pieces[1] = value;
    inference->pieces[2] = (struct str){behind, (size_t)(end - behind)};
    return true;
}

static void on_body(struct http_req *req, struct str body)
{
    struct inference *inference = req->user;
    struct err err;
    if (!read_body(inference, body, &err)) {
        http_reply_error(req, &err);
        return;
    }
    struct str inner = inference->name, head = str_cut(&inner, '/');
    struct instance *i = instances_find(inference->app->instances, head);
    if (i)
        infer_on(inference, i, inner);
    else
        app_find_model(inference->app, req, inference->name, on_model, inference);
}

static bool media_type_ok(const struct http_req *req)
{
    struct str type = http_head_find(&req->head, "content-type");
    struct str parameters = type;
    if (!type.p || http_multipart_is(type))
        return true;
    return str_ieq(str_trim(str_cut(&parameters, ';')), STR("application/json"));
}

static void infer(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct err err;
    (void)match;
    if (http_server_draining(app->server)) {
        err_set(&err, ERR_DRAINING, "the server is shutting down");
        err.retry_after_ms = 5000;
        http_reply_error(req, &err);
        return;
    }
    if (!media_type_ok(req)) {
        err_set(&err, ERR_UNSUPPORTED_MEDIA_TYPE,
                "the body must be JSON (Content-Type: application/json) or a multipart form");
        http_reply_error(req, &err);
        return;
    }
    struct inference *inference = arena_calloc(&req->arena, sizeof *inference);
    inference->app = app;
    inference->req = req;
    req->user = inference;
    http_req_read_body(req, 0, on_body);
}

#define OPENAI (void *)&openai_dialect

static const struct http_route inference_routes[] = {
    {"POST", "/v1/chat/completions", infer, OPENAI, "Chat completion, streamed with \"stream\": true", AUTH_INFERENCE,
     &doc_chat},
    {"POST", "/v1/completions", infer, OPENAI, "Text completion", AUTH_INFERENCE, &doc_completion},
    {"POST", "/v1/embeddings", infer, OPENAI, "Embedding vectors of texts", AUTH_INFERENCE, &doc_embedding},
    {"POST", "/v1/rerank", infer, OPENAI, "Order documents by relevance", AUTH_INFERENCE, &doc_rerank},
    {"POST", "/v1/reranking", infer, OPENAI, "Order documents by relevance", AUTH_INFERENCE, &doc_rerank},
    {"POST", "/v1/responses", infer, OPENAI, "Responses, on backends that have them", AUTH_INFERENCE,
     &doc_backend_inference},
    {"POST", "/v1/messages", infer, OPENAI, "Messages, on backends that have them", AUTH_INFERENCE,
     &doc_backend_inference},
    {"POST", "/v1/messages/count_tokens", infer, OPENAI, "Tokens of messages, on backends that count them",
     AUTH_INFERENCE, &doc_backend_inference},
    {"POST", "/v1/score", infer, OPENAI, "Similarity of texts, on backends that score", AUTH_INFERENCE,
     &doc_backend_inference},
    {"POST", "/v1/audio/{what}", infer, OPENAI, "Speech and transcription, on backends that do audio", AUTH_INFERENCE,
     &doc_upload},
    {"POST", "/v1/images/{what}", infer, OPENAI, "Images, on backends that make them", AUTH_INFERENCE, &doc_upload},
};

void openai_routes(struct http_router *router)
{
    http_router_add(router, inference_routes, sizeof inference_routes / sizeof *inference_routes);
    models_list_routes(router);
}
