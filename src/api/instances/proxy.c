/* Straight to an instance's own HTTP server: /api/v1/instances/{name}/proxy/... for whoever manages it (it is never
 * started for that), /llama-cpp/{name}/... for whoever uses models (it is). Method, query, body, upgrade: all pass. */
#include "api/docs/doc.h"
#include "api/instances/instances.h"
#include "base/json_read.h"

struct pass {
    struct app *app;
    struct http_req *req;
    struct str path;
    struct str body; /* ours, instead of the request's; STR_NONE: the request's */
    const char *name;
};

/* What follows the first `segments` segments of the target, as it was sent; at least "/". */
static struct str behind(struct str target, unsigned segments, struct arena *arena)
{
    size_t at = 0;
    for (unsigned seen = 0; at < target.n && target.p[at] != '?'; at++)
        if (target.p[at] == '/' && seen++ == segments)
            break;
    struct str rest = {target.p + at, target.n - at};
    if (rest.n && rest.p[0] == '/')
        return rest;
    return str_from(arena_printf(arena, "/" STR_FMT, STR_ARG(rest)));
}

static void on_lease(void *arg, struct lease *lease, const struct err *err)
{
    struct pass *p = arg;
    if (!lease) {
        http_reply_error(p->req, err);
        return;
    }
    struct instance *i = instances_find(p->app->instances, str_from(p->name));
    if (i && instance_is_remote(i)) /* the node has the same routes */
        p->path = api_target(p->req);
    if (i)
        api_backend_headers(p->app, p->req, i);
    api_pass(p->app, p->req, lease, p->path, &p->body, p->body.p != NULL, NULL);
}

static struct pass *pass_new(void *arg, struct http_req *req, struct str path, const struct instance *i)
{
    struct pass *p = arena_calloc(&req->arena, sizeof *p);
    *p = (struct pass){.app = arg, .req = req, .path = path, .name = arena_strdup(&req->arena, instance_name(i))};
    return p;
}

static void proxy(void *arg, struct http_req *req, const struct http_match *match)
{
    struct instance *i = instance_of_match(arg, req, match);
    if (!i)
        return;
    struct pass *p = pass_new(arg, req, behind(api_target(req), 5, &req->arena), i);
    instance_acquire(i, false, &req->arena, on_lease, p);
}

/* ---- native llama.cpp paths ---- */

static bool speaks_llama(struct http_req *req, const struct instance *i)
{
    struct err err;
    const char *type = instance_backend_type(i);
    if (strcmp(type, "llama_cpp") == 0 || strcmp(type, "worker") == 0)
        return true;
    err_set(&err, ERR_INVALID_PARAMETERS, "'%s' runs %s, which has no llama.cpp paths", instance_name(i), type);
    http_reply_error(req, &err);
    return false;
}

static void native(void *arg, struct http_req *req, const struct http_match *match)
{
    struct instance *i = instance_of_match(arg, req, match);
    if (i && api_may_use(req, i) && speaks_llama(req, i))
        instance_acquire(i, true, &req->arena, on_lease,
                         pass_new(arg, req, behind(api_target(req), 2, &req->arena), i));
}

/* llama-server's own page, which knows nothing of keys. */
static void page(void *arg, struct http_req *req, const struct http_match *match)
{
    struct instance *i = instance_of_match(arg, req, match);
    if (i && speaks_llama(req, i))
        instance_acquire(i, false, &req->arena, on_lease,
                         pass_new(arg, req, behind(api_target(req), 2, &req->arena), i));
}

/* ---- models of a router ---- */

static void router_models(void *arg, struct http_req *req, const struct http_match *match)
{
    struct instance *i = instance_of_match(arg, req, match);
    if (i && speaks_llama(req, i))
        instance_acquire(i, true, &req->arena, on_lease, pass_new(arg, req, STR("/models"), i));
}

/* The model may stand in the path or in the body; the backend wants it in the body. */
static void on_model_body(struct http_req *req, struct str body)
{
    struct pass *p = req->user;
    struct instance *i = instances_find(p->app->instances, str_from(p->name));
    struct err err;
    p->body = body.n ? body : p->body;
    if (i) {
        instance_acquire(i, true, &req->arena, on_lease, p);
        return;
    }
    err_set(&err, ERR_INSTANCE_NOT_FOUND, "the instance '%s' was deleted meanwhile", p->name);
    http_reply_error(req, &err);
}

static void router_model(void *arg, struct http_req *req, const struct http_match *match, struct str path)
{
    struct instance *i = instance_of_match(arg, req, match);
    if (!i || !speaks_llama(req, i))
        return;
    struct pass *p = pass_new(arg, req, path, i);
    struct buf text;
    struct json j;
    buf_init(&text, LIMIT_OPTIONS_BYTES);
    json_begin(&j, &text);
    json_open_object(&j, NULL);
    json_put_text(&j, "model", match->captures[1]);
    json_close(&j);
    json_finish(&j);
    p->body = arena_str(&req->arena, buf_view(&text));
    buf_release(&text);
    req->user = p;
    http_req_read_body(req, LIMIT_OPTIONS_BYTES, on_model_body);
}

static void load_model(void *arg, struct http_req *req, const struct http_match *match)
{
    router_model(arg, req, match, STR("/models/load"));
}

static void unload_model(void *arg, struct http_req *req, const struct http_match *match)
{
    router_model(arg, req, match, STR("/models/unload"));
}

#define MANAGER (void *)&manager_dialect

const struct http_route proxy_routes[] = {
    {"*", "/api/v1/instances/{name}/proxy", proxy, MANAGER, "The instance's own server, path \"/\"", AUTH_MANAGEMENT,
     &doc_proxy},
    {"*", "/api/v1/instances/{name}/proxy/{path...}", proxy, MANAGER, "The instance's own server, any path and method",
     AUTH_MANAGEMENT, &doc_proxy},
    {"GET", "/llama-cpp/{name}/", page, MANAGER, "llama-server's own page", AUTH_NONE, &doc_native_page},
    {"*", "/llama-cpp/{name}/{path...}", native, MANAGER, "llama.cpp's native paths; starts the instance",
     AUTH_INFERENCE, &doc_native},
    {"GET", "/api/v1/llama-cpp/{name}/models", router_models, MANAGER, "Models of a llama-server in router mode",
     AUTH_MANAGEMENT, &doc_router_models},
    {"POST", "/api/v1/llama-cpp/{name}/models/{model...}/load", load_model, MANAGER, "Load one of them",
     AUTH_MANAGEMENT, &doc_router_model},
    {"POST", "/api/v1/llama-cpp/{name}/models/{model...}/unload", unload_model, MANAGER, "Unload one of them",
     AUTH_MANAGEMENT, &doc_router_model},
    {0},
};
