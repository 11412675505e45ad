/* POST /api/show: what a model file says about itself. Its header is read again, by a pool thread, since the catalogue
 * keeps but little of it. */
#include "api/ollama/ollama.h"
#include "base/clock.h"
#include "base/mem.h"

struct show {
    struct loop_job job;
    struct app *app;
    struct http_req *req; /* NULL: the client is gone */
    struct arena_disposer *disposer;
    struct arena arena;
    const char *id, *path;
    struct gguf gguf;
    int64_t modified;
    uint64_t context;
    struct buf info; /* model_info */
    struct json writer;
    struct str template;
    bool sees;
    bool embeds; /* it says how its vectors are pooled */
    struct err err;
    bool good;
};

/* ---- on the pool ---- */

static void on_pair(void *arg, const struct gguf_pair *pair)
{
    struct show *s = arg;
    struct json *j = &s->writer;
    if (strcmp(pair->key, "tokenizer.chat_template") == 0) {
        s->template = arena_str(&s->arena, pair->text);
        return;
    }
    if (str_ends(str_from(pair->key), STR(".pooling_type")))
        s->embeds = true;
    switch (pair->kind) {
    case GGUF_INTEGER: json_put_int(j, pair->key, pair->integer); break;
    case GGUF_NUMBER: json_put_number(j, pair->key, pair->number); break;
    case GGUF_BOOL: json_put_bool(j, pair->key, pair->boolean); break;
    case GGUF_STRING: json_put_text(j, pair->key, pair->text); break;
    case GGUF_LEFT_OUT: json_put_null(j, pair->key); break;
    }
}

static void look(struct loop_job *job)
{
    struct show *s = container_of(job, struct show, job);
    json_begin(&s->writer, &s->info);
    json_open_object(&s->writer, NULL);
    s->good = gguf_walk(s->path, on_pair, s, &s->err);
    json_put_int(&s->writer, "general.parameter_count", (int64_t)s->gguf.parameters);
    json_close(&s->writer);
    if (!json_finish(&s->writer) && s->good)
        s->good = err_set(&s->err, ERR_MODEL_LOAD_FAILED, "the model's header says too much of itself");
}

/* ---- the reply ---- */

static bool mentions(struct str text, const char *word)
{
    return text.p && text.n && memmem(text.p, text.n, word, strlen(word));
}

static void put_capabilities(const struct show *s, struct json *j)
{
    json_open_array(j, "capabilities");
    if (s->gguf.causal && !s->embeds)
        json_put_string(j, NULL, "completion");
    if (s->embeds || !s->gguf.causal)
        json_put_string(j, NULL, "embedding");
    if (mentions(s->template, "tools"))
        json_put_string(j, NULL, "tools");
    if (s->gguf.has_fim)
        json_put_string(j, NULL, "insert");
    if (s->sees)
        json_put_string(j, NULL, "vision");
    if (mentions(s->template, "<think>") || mentions(s->template, "enable_thinking"))
        json_put_string(j, NULL, "thinking");
    json_close(j);
}

static void put_modelfile(const struct show *s, struct json *j)
{
    struct buf text;
    buf_init(&text, LIMIT_OLLAMA_INFO);
    buf_printf(&text, "FROM %s\n", s->id);
    if (s->template.n)
        buf_printf(&text, "TEMPLATE \"\"\"" STR_FMT "\"\"\"\n", STR_ARG(s->template));
    buf_printf(&text, "PARAMETER num_ctx %llu\n", (unsigned long long)s->context);
    json_put_text(j, "modelfile", buf_view(&text));
    buf_release(&text);
}

static void reply(struct show *s)
{
    char text[CLOCK_RFC3339_SIZE];
    struct json *j = api_json_begin(s->req);
    json_open_object(j, NULL);
    put_modelfile(s, j);
    json_put_string(j, "parameters", arena_printf(&s->req->arena, "num_ctx %llu", (unsigned long long)s->context));
    json_put_text(j, "template", s->template.p ? s->template : STR(""));
    ollama_put_details(j, s->req, &s->gguf);
    json_put_raw(j, "model_info", buf_view(&s->info));
    put_capabilities(s, j);
    json_put_string(j, "modified_at", clock_rfc3339(s->modified * 1000, text));
    json_close(j);
    api_reply_json(s->req, 200, j);
}

static void looked(struct loop_job *job)
{
    struct show *s = container_of(job, struct show, job);
    if (s->req) {
        arena_forget(s->disposer);
        if (s->good)
            reply(s);
        else
            http_reply_error(s->req, &s->err);
    }
    buf_release(&s->info);
    arena_dispose(&s->arena);
    mem_free(s);
}

/* ---- the request ---- */

static void on_client_gone(void *arg)
{
    struct show *s = arg;
    s->req = NULL;
}

static void on_model(void *arg, const struct model *model, const struct err *err)
{
    struct http_req *req = arg;
    struct app *app = req->user;
    if (!model) {
        http_reply_error(req, err);
        return;
    }
    if (model->upstream || model->problem.code != ERR_NONE) {
        struct err why = model->problem;
        if (model->upstream)
            err_set_param(&why, ERR_NOT_SUPPORTED, "model", "'%s' runs elsewhere: there is no file here to look at",
                          model->id);
        http_reply_error(req, &why);
        return;
    }
    struct show *s = mem_calloc(1, sizeof *s);
    arena_init(&s->arena);
    s->app = app;
    s->req = req;
    s->id = arena_strdup(&s->arena, model->id);
    s->path = arena_strdup(&s->arena, model->path);
    s->gguf = model->gguf;
    s->modified = model->created;
    s->sees = model->projector != NULL;
    s->context = model_context(model, app->conf);
    buf_init(&s->info, LIMIT_OLLAMA_INFO);
    s->disposer = arena_on_dispose(&req->arena, on_client_gone, s);
    loop_work(app->loop, &s->job, look, looked);
}

static void on_body(struct http_req *req, struct str body)
{
    ollama_find_named(req->user, req, body, on_model);
}

void ollama_show(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    req->user = arg;
    http_req_read_body(req, LIMIT_OPTIONS_BYTES, on_body);
}
