/* The models that Ollama's clients are shown: files and named instances, and what of them is loaded. A digest is left
 * out: nothing here reads whole files to make one. */
#include "api/ollama/ollama.h"
#include "api/system/reserved.h"
#include "base/clock.h"
#include "openai/request.h"

struct listing {
    struct app *app;
    struct http_req *req;
};

/* "134.5M", "7.2B": as people say it. */
static const char *human_count(struct http_req *req, uint64_t count)
{
    if (count >= 1000000000u)
        return arena_printf(&req->arena, "%.1fB", (double)count / 1e9);
    if (count >= 1000000u)
        return arena_printf(&req->arena, "%.1fM", (double)count / 1e6);
    return arena_printf(&req->arena, "%.1fK", (double)count / 1e3);
}

void ollama_put_details(struct json *j, struct http_req *req, const struct gguf *gguf)
{
    json_open_object(j, "details");
    json_put_string(j, "parent_model", "");
    json_put_string(j, "format", "gguf");
    json_put_string(j, "family", gguf->architecture);
    json_open_array(j, "families");
    json_put_string(j, NULL, gguf->architecture);
    json_close(j);
    json_put_string(j, "parameter_size", gguf->parameters ? human_count(req, gguf->parameters) : "");
    json_put_string(j, "quantization_level", gguf->quantization);
    json_close(j);
}

static void put_name(struct json *j, const char *name)
{
    json_put_string(j, "name", name);
    json_put_string(j, "model", name);
}

static bool is_shown(const struct listing *l, const struct instance *i, const char *name)
{
    return api_may_see(l->req, i) && api_may_use_model(l->req->caller, str_from(name), NULL);
}

/* ---- tags ---- */

static void put_file(const struct listing *l, struct json *j, const struct model *m)
{
    char text[CLOCK_RFC3339_SIZE];
    json_open_object(j, NULL);
    put_name(j, m->id);
    json_put_string(j, "modified_at", clock_rfc3339(m->created * 1000, text));
    json_put_int(j, "size", (int64_t)m->gguf.file_bytes);
    ollama_put_details(j, l->req, &m->gguf);
    json_close(j);
}

static void put_instance(struct json *j, const struct instance *i)
{
    char text[CLOCK_RFC3339_SIZE];
    json_open_object(j, NULL);
    put_name(j, instance_name(i));
    json_put_string(j, "modified_at", clock_rfc3339(instance_created(i) * 1000, text));
    json_close(j);
}

static void on_fresh(void *arg)
{
    const struct listing *l = arg;
    const struct model_catalogue *c = l->app->catalogue;
    struct json *j = api_json_begin(l->req);
    json_open_object(j, NULL);
    json_open_array(j, "models");
    for (struct instance **i = instances_list(l->app->instances, false, &l->req->arena); *i; i++)
        if (is_shown(l, *i, instance_name(*i)))
            put_instance(j, *i);
    for (size_t i = 0; i < c->count; i++)
        if (c->models[i].problem.code == ERR_NONE && ollama_model_of(l->app, str_from(c->models[i].id)) &&
            is_shown(l, NULL, c->models[i].id))
            put_file(l, j, &c->models[i]);
    json_close(j);
    json_close(j);
    api_reply_json(l->req, 200, j);
}

static struct listing *listing_new(void *arg, struct http_req *req)
{
    struct listing *l = arena_alloc(&req->arena, sizeof *l);
    *l = (struct listing){.app = arg, .req = req};
    return l;
}

void ollama_tags(void *arg, struct http_req *req, const struct http_match *match)
{
    struct listing *l = listing_new(arg, req);
    (void)match;
    app_refresh_catalogue(l->app, 0, &req->arena, on_fresh, l);
}

/* ---- ps ---- */

/* size is the process's own memory and what it holds of GPUs; size_vram, of those, only our workers say. */
static void put_loaded(const struct listing *l, struct json *j, const char *name, const struct instance_status *s,
                       const struct model *m)
{
    char text[CLOCK_RFC3339_SIZE];
    json_open_object(j, NULL);
    put_name(j, name);
    uint64_t on_gpus = reserved_on_gpus(&s->reserved);
    if (s->memory_bytes)
        json_put_int(j, "size", (int64_t)(s->memory_bytes + on_gpus));
    if (s->reserved.weights)
        json_put_int(j, "size_vram", (int64_t)on_gpus);
    if (m)
        ollama_put_details(j, l->req, &m->gguf);
    if (s->expires_ms)
        json_put_string(j, "expires_at", clock_rfc3339(s->expires_ms, text));
    if (m)
        json_put_int(j, "context_length", (int64_t)model_context(m, l->app->conf));
    json_close(j);
}

static void put_all_loaded(void *arg)
{
    const struct listing *l = arg;
    struct instances *all = l->app->instances;
    struct instance_status s;
    struct json *j = api_json_begin(l->req);
    json_open_object(j, NULL);
    json_open_array(j, "models");
    for (struct instance **i = instances_list(all, false, &l->req->arena); *i; i++) {
        instance_status(*i, &s);
        if (strcmp(s.model_state, "loaded") == 0 && is_shown(l, *i, instance_name(*i)))
            put_loaded(l, j, instance_name(*i), &s, NULL);
    }
    for (const char *const *id = instances_loaded(all, &l->req->arena); *id; id++) {
        instances_status(all, str_from(*id), &s);
        if (is_shown(l, NULL, *id))
            put_loaded(l, j, *id, &s, model_find(l->app->catalogue, str_from(*id)));
    }
    json_close(j);
    json_close(j);
    api_reply_json(l->req, 200, j);
}

void ollama_ps(void *arg, struct http_req *req, const struct http_match *match)
{
    struct listing *l = listing_new(arg, req);
    (void)match;
    app_refresh_catalogue(l->app, UINT64_MAX, &req->arena, put_all_loaded, l);
}

/* ---- bodies that name a model ---- */

bool ollama_named_read(struct str body, struct arena *arena, struct str *ret_model, bool *ret_stream, struct err *err)
{
    struct {
        struct str model, name;
        bool stream;
    } in = {.stream = true};
    static const struct json_field rows[] = {
        JSON_FIELD(__typeof__(in), model, "model", JSON_KIND_TEXT, 0, LIMIT_MODEL_NAME),
        JSON_FIELD(__typeof__(in), name, "name", JSON_KIND_TEXT, 0, LIMIT_MODEL_NAME),
        JSON_FIELD(__typeof__(in), stream, "stream", JSON_KIND_BOOL, 0, 0),
    };
    const json_t *document = openai_document_read(body, arena, err);
    if (!document || !json_fields(document, rows, sizeof rows / sizeof *rows, &in, "", err))
        return false;
    *ret_model = in.model.n ? in.model : in.name;
    *ret_stream = in.stream;
    return ret_model->n || err_set_param(err, ERR_INVALID_PARAMETERS, "model", "'model' is required");
}

void ollama_find_named(struct app *app, struct http_req *req, struct str body,
                       void (*on_model)(void *arg, const struct model *model, const struct err *err))
{
    struct err err;
    struct str name;
    bool unused;
    if (!ollama_named_read(body, &req->arena, &name, &unused, &err)) {
        http_reply_error(req, &err);
        return;
    }
    name = ollama_model_name(name, &req->arena);
    if (!api_may_use_model(req->caller, name, &err) || !caller_may_use(req->caller, NULL, &err))
        http_reply_error(req, &err);
    else
        app_find_model(app, &req->arena, name, on_model, req);
}
