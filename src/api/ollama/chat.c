/* Chat, generate and embeddings: one internal call each (api/upstream.h), or none when a request only loads a model or
 * lets it go. */
#include "api/ollama/ollama.h"
#include "api/ollama/reply.h"
#include "api/reach.h"
#include "api/relay.h"

struct call {
    struct relay relay;
    struct ollama_request request;
    struct ollama_reply reply;
    struct str whole; /* the reply when it is not streamed: a JSON text */
    struct err problem;
    bool was_loaded; /* when the request came in */
};

/* ---- how long a model stays ---- */

const struct model *ollama_model_of(struct app *app, struct str name)
{
    struct str inner = name, head = str_cut(&inner, '/');
    return app->catalogue && !instances_find(app->instances, head) ? model_find(app->catalogue, name) : NULL;
}

static unsigned grace_ms(const struct app *app)
{
    return (unsigned)app->conf->shutdown_grace_seconds * 1000;
}

/* Somebody else's requests are not cut off: then it goes a second after the last of them. */
static void let_go(struct app *app, const struct model *model)
{
    struct model_settings soon = MODEL_SETTINGS_INIT;
    struct instance_status status;
    instances_status(app->instances, str_from(model->id), &status);
    soon.ttl_seconds = 1;
    soon.pin = 0;
    if (status.active == 0 && status.waiting == 0)
        instances_unload(app->instances, str_from(model->id), grace_ms(app), NULL, NULL);
    else
        instances_keep(app->instances, model, &soon);
}

/* Only who may manage models can pin one; for others "for ever" is as long as nobody needs its memory. */
void ollama_keep_apply(struct app *app, const struct caller *caller, struct str name, const struct ollama_keep *keep)
{
    const struct model *model = ollama_model_of(app, name);
    struct model_settings life = MODEL_SETTINGS_INIT;
    if (!keep->given || !model)
        return;
    if (keep->seconds == 0) {
        let_go(app, model);
        return;
    }
    life.ttl_seconds = keep->seconds < 0 ? 0 : keep->seconds;
    if (api_allows(app, caller, AUTH_MODEL_MANAGEMENT))
        life.pin = keep->seconds < 0;
    instances_keep(app->instances, model, &life);
}

/* ---- a reply ---- */

/* Whether the model is loaded, and how long the request has waited for that; < 0: not known. */
static bool is_loaded(const struct call *c, double *ret_load_ms)
{
    const struct model *model = ollama_model_of(c->relay.app, c->request.name);
    struct instance_status status;
    *ret_load_ms = -1;
    if (!model)
        return false;
    instances_status(c->relay.app->instances, str_from(model->id), &status);
    *ret_load_ms = c->was_loaded ? 0 : status.load_ms;
    return strcmp(status.model_state, "loaded") == 0;
}

static void tell(void *arg, struct str line)
{
    struct call *c = arg;
    relay_send_line(&c->relay, OLLAMA_LINES, line);
}

/* Before anything was sent the error is the reply; later it is the last line. */
static void fail(struct call *c, const struct err *err)
{
    if (!http_reply_started(c->relay.req)) {
        http_reply_error(c->relay.req, err);
        return;
    }
    ollama_reply_fail(&c->reply, err);
    http_reply_end(c->relay.req);
}

static void on_event(void *arg, struct str data)
{
    struct call *c = arg;
    if (ollama_reply_feed(&c->reply, data, &c->problem))
        return;
    upstream_cancel(c->relay.upstream);
    c->relay.upstream = NULL;
    fail(c, &c->problem);
}

/* A backend that does not stream though it was asked to is answered for as one that does, in one piece. */
static void on_reply(void *arg, struct str body)
{
    struct call *c = arg;
    struct buf out;
    if (c->request.stream) {
        ollama_reply_feed(&c->reply, body, &c->problem);
        return;
    }
    is_loaded(c, &c->reply.load_ms);
    buf_init(&out, LIMIT_JSON_TEXT);
    bool embeds = c->request.form == OLLAMA_EMBED || c->request.form == OLLAMA_EMBEDDINGS;
    if ((embeds ? ollama_embedding_write : ollama_reply_write)(&c->reply, body, &out, &c->problem))
        c->whole = arena_str(&c->relay.req->arena, buf_view(&out));
    buf_release(&out);
}

static void end(struct call *c)
{
    ollama_keep_apply(c->relay.app, c->relay.req->caller, c->request.name, &c->request.keep);
    if (c->request.stream)
        http_reply_end(c->relay.req);
    else
        http_reply(c->relay.req, 200, "application/json", c->whole);
}

static void on_end(void *arg, const struct err *err)
{
    struct call *c = arg;
    c->relay.upstream = NULL;
    if (!err && c->problem.code != ERR_NONE)
        err = &c->problem;
    is_loaded(c, &c->reply.load_ms);
    if (!err && c->request.stream && !ollama_reply_end(&c->reply, &c->problem))
        err = &c->problem;
    if (err)
        fail(c, err);
    else
        end(c);
}

static const struct upstream_events events = {.on_event = on_event, .on_reply = on_reply, .on_end = on_end};

/* ---- only loading, or letting go ---- */

static void reply_empty(struct call *c, const char *done_reason)
{
    struct arena *arena = &c->relay.req->arena;
    struct err err;
    struct buf out;
    buf_init(&out, LIMIT_JSON_TEXT);
    bool embeds = c->request.form == OLLAMA_EMBED || c->request.form == OLLAMA_EMBEDDINGS;
    bool good = embeds ? ollama_embedding_write(&c->reply, STR_NONE, &out, &err)
                       : ollama_reply_empty(&c->reply, done_reason, &out);
    if (good && c->request.stream)
        buf_putc(&out, '\n');
    struct str text = arena_str(arena, buf_view(&out));
    buf_release(&out);
    http_reply(c->relay.req, 200, c->request.stream ? OLLAMA_LINES : "application/json", text);
}

static void on_loaded(void *arg, const struct reached *reached, const struct err *err)
{
    struct call *c = arg;
    if (!reached) {
        http_reply_error(c->relay.req, err);
        return;
    }
    lease_end(reached->lease);
    ollama_keep_apply(c->relay.app, c->relay.req->caller, c->request.name, &c->request.keep);
    reply_empty(c, "load");
}

static void on_unwanted(void *arg, const struct model *model, const struct err *err)
{
    struct call *c = arg;
    if (!model) {
        http_reply_error(c->relay.req, err);
        return;
    }
    let_go(c->relay.app, model);
    reply_empty(c, "unload");
}

static void unload(struct call *c)
{
    struct app *app = c->relay.app;
    struct http_req *req = c->relay.req;
    struct str inner = c->request.name, head = str_cut(&inner, '/');
    struct err err;
    bool good = api_may_use_model(req->caller, c->request.name, &err) && caller_may_use(req->caller, NULL, &err);
    if (good && instances_find(app->instances, head))
        good = err_set_param(&err, ERR_NOT_SUPPORTED, "keep_alive",
                             "'" STR_FMT "' is an instance: it stops when its own options or its manager say so",
                             STR_ARG(head));
    if (good)
        app_find_model(app, &req->arena, c->request.name, on_unwanted, c);
    else
        http_reply_error(req, &err);
}

/* ---- requests ---- */

static void start(struct call *c, struct str body, enum ollama_form form)
{
    struct http_req *req = c->relay.req;
    struct err err;
    double unused;
    if (!ollama_request_read(body, form, &req->arena, &c->request, &err)) {
        http_reply_error(req, &err);
        return;
    }
    c->was_loaded = is_loaded(c, &unused);
    ollama_reply_init(&c->reply, &c->request, &req->arena, tell, c);
    if (!c->request.empty)
        relay_call(&c->relay, c->request.path, c->request.body, &events, c);
    else if (c->request.keep.given && c->request.keep.seconds == 0)
        unload(c);
    else
        api_reach(c->relay.app, &req->arena, req->caller, c->request.name, on_loaded, c);
}

/* A handler a form: the form is all that the body's reader has to know. */
#define HANDLER(name, form)                                                                                            \
    static void on_##name##_body(struct relay *relay, struct str body)                                                 \
    {                                                                                                                  \
        start(container_of(relay, struct call, relay), body, form);                                                    \
    }                                                                                                                  \
                                                                                                                       \
    void ollama_##name(void *arg, struct http_req *req, const struct http_match *match)                                \
    {                                                                                                                  \
        struct call *c = arena_calloc(&req->arena, sizeof *c);                                                         \
        (void)match;                                                                                                   \
        relay_begin(&c->relay, arg, req, on_##name##_body);                                                            \
    }

HANDLER(chat, OLLAMA_CHAT)
HANDLER(generate, OLLAMA_GENERATE)
HANDLER(embed, OLLAMA_EMBED)
HANDLER(embeddings, OLLAMA_EMBEDDINGS)
