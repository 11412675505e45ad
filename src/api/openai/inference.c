/* The inference routes: look into the body once for the model's name, get a lease on its instance, pass the bytes on.
 * Nothing here knows what a chat is; the worker does. */
#include "api/app.h"
#include "api/openai/models.h"
#include "base/json_scan.h"
#include "http/proxy.h"

struct inference {
    struct app *app;
    struct http_req *req;
    struct str body;
    struct lease *lease;
};

static bool explain_failure(void *arg, struct http_req *req, const struct err *cause)
{
    struct inference *inference = arg;
    struct err err;
    lease_explain(inference->lease, cause, &err);
    http_reply_error(req, &err);
    return true;
}

static void on_lease(void *arg, struct lease *lease, const struct err *err)
{
    struct inference *inference = arg;
    if (!lease) {
        http_reply_error(inference->req, err);
        return;
    }
    inference->lease = lease;
    struct http_proxy_options options = {.target = *lease_target(lease),
                                         .body = {inference->body},
                                         .body_count = 1,
                                         .drop_authorization = true,
                                         .on_error = explain_failure,
                                         .arg = inference};
    http_proxy(inference->req, instances_client(inference->app->instances), &options);
}

static void on_model(void *arg, const struct model *model, const struct err *err)
{
    struct inference *inference = arg;
    struct app *app = inference->app;
    struct instance_status status;
    struct err not_loaded;
    if (!model) {
        http_reply_error(inference->req, err);
        return;
    }
    if (!app->conf->auto_load) {
        instances_status(app->instances, str_from(model->id), &status);
        if (strcmp(status.state, "loaded") != 0) {
            err_set_param(
                &not_loaded, ERR_MODEL_NOT_LOADED, "model",
                "The model '%s' is not loaded and cache.auto_load is off; load it with POST /v1/models/%s/load",
                model->id, model->id);
            http_reply_error(inference->req, &not_loaded);
            return;
        }
    }
    instances_acquire(app->instances, model, &inference->req->arena, on_lease, inference);
}

/* The model's name out of the body; false: answered already. */
static bool read_model_name(struct http_req *req, struct str body, struct str *ret_name)
{
    struct err err;
    struct json_scan wanted = {.key = "model"};
    struct str raw;
    if (json_scan(body, &wanted, 1, &err)) {
        raw = wanted.raw;
        if (!raw.p || str_eq(raw, STR("null")))
            err_set_param(&err, ERR_INVALID_PARAMETERS, "model",
                          "'model' is required: the name of a model, see GET /v1/models");
        else if (*raw.p != '"')
            err_set_param(&err, ERR_INVALID_PARAMETERS, "model", "'model' must be a string");
        else if (!json_scan_text(raw, &req->arena, ret_name))
            err_set_param(&err, ERR_INVALID_JSON, "model", "'model' is not a valid JSON string");
        else if (ret_name->n == 0 || ret_name->n > LIMIT_MODEL_NAME)
            err_set_param(&err, ERR_INVALID_PARAMETERS, "model", "'model' must have between 1 and %d bytes",
                          LIMIT_MODEL_NAME);
        else
            return true;
    }
    http_reply_error(req, &err);
    return false;
}

static void on_body(struct http_req *req, struct str body)
{
    struct inference *inference = req->user;
    struct str name;
    inference->body = body;
    if (read_model_name(req, body, &name))
        app_find_model(inference->app, req, name, on_model, inference);
}

static bool media_type_ok(const struct http_req *req)
{
    struct str type = http_head_find(&req->head, "content-type");
    struct str parameters = type;
    if (!type.p)
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
        err_set(&err, ERR_UNSUPPORTED_MEDIA_TYPE, "the body must be JSON: send Content-Type: application/json");
        http_reply_error(req, &err);
        return;
    }
    struct inference *inference = arena_calloc(&req->arena, sizeof *inference);
    inference->app = app;
    inference->req = req;
    req->user = inference;
    http_req_read_body(req, 0, on_body);
}

static const struct http_route inference_routes[] = {
    {"POST", "/v1/chat/completions", infer, (void *)&openai_dialect, "Chat completion, streamed with \"stream\": true"},
    {"POST", "/v1/completions", infer, (void *)&openai_dialect, "Text completion"},
    {"POST", "/v1/embeddings", infer, (void *)&openai_dialect, "Embedding vectors of texts"},
};

void openai_routes(struct http_router *router)
{
    http_router_add(router, inference_routes, sizeof inference_routes / sizeof *inference_routes);
    models_list_routes(router);
}
