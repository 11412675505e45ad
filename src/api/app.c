#include "api/app.h"

#include "api/docs/openapi.h"
#include "base/clock.h"
#include "base/mem.h"
#include "openai/error.h"

const struct dialect openai_dialect = {.content_type = "application/json", .write = openai_error_write};

struct fresh_call {
    struct list link;
    struct arena_disposer *disposer;
    void (*on_fresh)(void *arg);
    void *arg;
};

void app_init(struct app *app, struct loop *loop, const struct conf *conf)
{
    *app = (struct app){.loop = loop, .conf = conf, .started_ms = clock_ms()};
    list_init(&app->catalogue_waiters);
    list_init(&app->event_streams);
    list_init(&app->pulls);
    list_init(&app->endless);
    list_init(&app->watches);
}

void app_release(struct app *app)
{
    model_catalogue_free(app->catalogue);
    http_router_free(app->router);
    openapi_free(app->openapi);
}

static void scan(struct loop_job *job)
{
    struct app *app = container_of(job, struct app, scan_job);
    app->scanned = model_catalogue_scan(app->conf, app->catalogue);
}

static void scan_done(struct loop_job *job)
{
    struct app *app = container_of(job, struct app, scan_job);
    struct list now;
    model_catalogue_free(app->catalogue);
    app->catalogue = app->scanned;
    app->scanned = NULL;
    app->scanning = false;
    list_init(&now);
    while (!list_empty(&app->catalogue_waiters)) {
        struct list *link = app->catalogue_waiters.next;
        list_remove(link);
        list_push(&now, link);
    }
    while (!list_empty(&now)) {
        struct fresh_call *call = list_first(&now, struct fresh_call, link);
        list_remove(&call->link);
        arena_forget(call->disposer);
        call->on_fresh(call->arg);
    }
}

static void on_call_dispose(void *arg)
{
    struct fresh_call *call = arg;
    list_remove(&call->link);
}

void app_refresh_catalogue(struct app *app, uint64_t max_age_ms, struct arena *arena, void (*on_fresh)(void *arg),
                           void *arg)
{
    if (app->catalogue && clock_ms() - app->catalogue->scanned_ms < max_age_ms) {
        on_fresh(arg);
        return;
    }
    struct fresh_call *call = arena_calloc(arena, sizeof *call);
    call->on_fresh = on_fresh;
    call->arg = arg;
    call->disposer = arena_on_dispose(arena, on_call_dispose, call);
    list_push(&app->catalogue_waiters, &call->link);
    if (!app->scanning) {
        app->scanning = true;
        loop_work(app->loop, &app->scan_job, scan, scan_done);
    }
}

/* ---- replies ---- */

struct document {
    struct json json;
    struct buf text;
};

static void document_release(void *arg)
{
    struct document *d = arg;
    buf_release(&d->text);
}

struct json *api_json_begin(struct http_req *req)
{
    struct document *d = arena_calloc(&req->arena, sizeof *d);
    buf_init(&d->text, LIMIT_JSON_TEXT);
    arena_on_dispose(&req->arena, document_release, d);
    json_begin(&d->json, &d->text);
    return &d->json;
}

void api_reply_json(struct http_req *req, int status, struct json *j)
{
    if (json_finish(j)) {
        http_reply(req, status, "application/json", buf_view(j->out));
        return;
    }
    struct err err;
    err_set(&err, ERR_INTERNAL, "the answer could not be written");
    http_reply_error(req, &err);
}

/* ---- finding a model ---- */

#define RESCAN_AGE_MS 0 /* an unknown name makes us look at the folders again; scans that overlap are one */

struct find_call {
    struct app *app;
    struct str name;
    void (*on_model)(void *arg, const struct model *model, const struct err *err);
    void *arg;
};

static void find_again(void *arg)
{
    struct find_call *call = arg;
    struct err err;
    const struct model *model = model_find(call->app->catalogue, call->name);
    if (!model)
        model_not_found(call->app->catalogue, call->name, &err);
    call->on_model(call->arg, model, model ? NULL : &err);
}

void app_find_model(struct app *app, struct arena *arena, struct str name,
                    void (*on_model)(void *arg, const struct model *model, const struct err *err), void *arg)
{
    const struct model *model = app->catalogue ? model_find(app->catalogue, name) : NULL;
    if (model) {
        on_model(arg, model, NULL);
        return;
    }
    struct find_call *call = arena_alloc(arena, sizeof *call);
    *call = (struct find_call){.app = app, .name = arena_str(arena, name), .on_model = on_model, .arg = arg};
    app_refresh_catalogue(app, RESCAN_AGE_MS, arena, find_again, call);
}

const char *const *api_environment(const char *const *over, struct arena *arena)
{
    size_t ours = 0, theirs = 0, n = 0;
    while (environ[ours])
        ours++;
    while (over[theirs])
        theirs++;
    const char **all = arena_calloc(arena, (ours + theirs + 1) * sizeof *all);
    while (*over)
        all[n++] = *over++; /* getenv takes the first of a name */
    for (size_t i = 0; i < ours; i++)
        all[n++] = environ[i];
    return all;
}
