/* The inference routes: look into the body once for the model's name, get a lease on the instance of that name — a
 * named one first, else the one behind that model file — and pass the bytes on. Nothing here knows what a chat is; what
 * runs behind the instance does.
 *
 * "instance/model" names a model inside a named instance (a router, a vLLM): then, and where the backend knows its
 * model by another name, the bytes of the value are replaced in place. Nothing else in the body moves. */
#include "api/account.h"
#include "api/docs/doc.h"
#include "api/openai/cache.h"
#include "api/openai/models.h"
#include "api/reach.h"
#include "base/clock.h"
#include "base/json_scan.h"
#include "http/multipart.h"
#include "http/sse.h"

struct inference {
    struct app *app;
    struct http_req *req;
    struct account *account;
    struct str pieces[3]; /* of the body: before the model's value, the value, behind it */
    bool form;            /* multipart: the value stands there as it is, not as JSON */
    struct str name;      /* as the client says it */
    struct str body;
    const char *model_id; /* this and the next: of the cache of replies */
    struct cache_key key;
    struct cache_fill *fill;
};

static void on_reached(void *arg, const struct reached *reached, const struct err *err)
{
    struct inference *inference = arg;
    struct http_req *req = inference->req;
    if (!reached) {
        http_reply_error(req, err);
        return;
    }
    if (reached->instance)
        api_backend_headers(inference->app, req, reached->instance);
    if (reached->model.p)
        inference->pieces[1] = inference->form ? reached->model : api_quote(reached->model, &req->arena);
    account_model(inference->account, reached->model_id);
    account_leased(inference->account, reached->lease);
    struct api_watch watch = {inference->account, inference->fill, reached->model_id};
    api_pass(inference->app, req, reached->lease, api_target(req), inference->pieces, 3, &watch);
}

static void reach(void *arg)
{
    struct inference *inference = arg;
    struct http_req *req = inference->req;
    api_reach(inference->app, &req->arena, req->caller, inference->name, on_reached, inference);
}

/* ---- the cache of replies ---- */

/* Event by event, as they were sent: naive readers parse one a read. */
static void replay_stream(struct http_req *req, struct str body)
{
    http_sse_start(req);
    while (body.n > 0) {
        const char *end = memmem(body.p, body.n, "\n\n", 2);
        size_t n = end ? (size_t)(end - body.p) + 2 : body.n;
        http_reply_write(req, (struct str){body.p, n});
        body = (struct str){body.p + n, body.n - n};
    }
    http_sse_end(req);
}

static void replay(struct inference *inference, const struct cache_reply *reply)
{
    struct http_req *req = inference->req;
    account_model(inference->account, inference->model_id);
    http_reply_header(req, "X-Inferno-Cache", "HIT");
    http_reply_header(req, "Age", arena_printf(&req->arena, "%llu", (unsigned long long)reply->age_seconds));
    if (inference->key.streamed)
        replay_stream(req, reply->body);
    else
        http_reply(req, 200, reply->content_type, reply->body);
}

static void look_up(void *arg)
{
    struct inference *inference = arg;
    struct http_req *req = inference->req;
    struct cache *cache = inference->app->cache;
    struct instance_status status;
    struct cache_reply reply;
    instances_status(inference->app->instances, str_from(inference->model_id), &status);
    if (!http_head_has_token(&req->head, "cache-control", "no-cache") &&
        cache_get(cache, &inference->key, status.counters->starts, clock_ms(), &reply)) {
        replay(inference, &reply);
        return;
    }
    inference->fill = cache_fill_begin(cache, &inference->key, &req->arena);
    if (!inference->fill && !inference->key.streamed) {
        cache_wait(cache, &inference->key, &req->arena, look_up, inference);
        return;
    }
    http_reply_header(req, "X-Inferno-Cache", "MISS");
    reach(inference);
}

static bool wants_cache(const struct http_req *req)
{
    return !http_head_has_token(&req->head, "cache-control", "no-store") &&
           !str_ieq(http_head_find(&req->head, "x-inferno-cache"), STR("off"));
}

static void on_cache_model(void *arg, const struct model *model, const struct err *not_found)
{
    struct inference *inference = arg;
    struct http_req *req = inference->req;
    const struct caller *caller = req->caller;
    struct err err;
    (void)not_found; /* reach() says it */
    if (model && !model->upstream && caller_may_use(caller, NULL, &err) &&
        api_may_use_model(caller, str_from(model->id), &err) && wants_cache(req) &&
        cache_key_of(req->head.path, inference->body, model->id, caller ? caller->key_id : 0, &inference->key)) {
        inference->model_id = arena_strdup(&req->arena, model->id);
        look_up(inference);
    } else {
        http_reply_header(req, "X-Inferno-Cache", "BYPASS");
        reach(inference);
    }
}

/* Only replies of model files are kept: what stands behind a named instance can change unseen. */
static void start(struct inference *inference, struct str body)
{
    struct str rest = inference->name, head = str_cut(&rest, '/');
    inference->body = body;
    if (inference->app->cache && !inference->form && !instances_find(inference->app->instances, head))
        app_find_model(inference->app, &inference->req->arena, inference->name, on_cache_model, inference);
    else
        reach(inference);
}

/* ---- the request ---- */

/* The model's name and the three pieces of the body. */
static bool read_body(struct inference *inference, struct str body, struct err *err)
{
    struct str type = http_head_find(&inference->req->head, "content-type"), value = STR_NONE;
    struct json_scan wanted = {.key = "model"};
    inference->form = http_multipart_is(type);
    if (inference->form) {
        if (!http_multipart_find(body, type, STR("model"), &value, err))
            return false;
        inference->name = value;
    } else {
        if (!json_scan(body, &wanted, 1, err) ||
            !api_read_model_name(wanted.raw, &inference->req->arena, &inference->name, err))
            return false;
        value = wanted.raw;
    }
    if (!api_check_model_name(inference->name, err))
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
    if (read_body(inference, body, &err))
        start(inference, body);
    else
        http_reply_error(req, &err);
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
    inference->account = account_open_for(app, req);
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
    {"POST", "/rerank", infer, OPENAI, "Order documents by relevance", AUTH_INFERENCE, &doc_rerank},
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
