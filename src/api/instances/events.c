/* What happens, as it happens: /api/v1/events, one server-sent event a change. `instance` when one changes state
 * (all of them once at the beginning), `instance_deleted`, `download`, and with ?logs=NAME (or ?logs=* for all) `log`.
 * A reader that is too slow is dropped by the server and comes back to a fresh beginning. */
#include "api/docs/doc.h"
#include "api/instances/instances.h"
#include "http/sse.h"
#include "instance/output.h"

struct stream {
    struct list link; /* of app->event_streams */
    struct http_req *req;
    struct str logs; /* STR_NONE: none */
};

struct log_source {
    struct stream *stream;
    const char *name;
};

static void send_event(struct stream *s, const char *event, void (*put)(struct json *j, const void *what),
                       const void *what)
{
    struct buf text;
    struct json j;
    buf_init(&text, LIMIT_SSE_EVENT);
    json_begin(&j, &text);
    put(&j, what);
    if (json_finish(&j))
        http_sse_event(s->req, event, buf_view(&text));
    buf_release(&text);
}

static void put_instance(struct json *j, const void *what)
{
    instance_put(j, NULL, what);
}

static void put_gone(struct json *j, const void *what)
{
    json_open_object(j, NULL);
    json_put_string(j, "name", instance_name(what));
    json_close(j);
}

static void put_download(struct json *j, const void *what)
{
    download_put(j, NULL, what);
}

struct log_line {
    const char *instance;
    struct str line;
};

static void put_log(struct json *j, const void *what)
{
    const struct log_line *l = what;
    json_open_object(j, NULL);
    json_put_string(j, "instance", l->instance);
    json_put_text(j, "line", l->line);
    json_close(j);
}

static void on_line(void *arg, struct str line)
{
    const struct log_source *source = arg;
    struct log_line l = {source->name, line};
    send_event(source->stream, "log", put_log, &l);
}

static void follow(struct stream *s, const struct instance *i)
{
    bool all = str_eq(s->logs, STR("*"));
    if (!s->logs.p || !instance_output(i) || (!all && !str_eq(s->logs, str_from(instance_name(i)))))
        return;
    struct log_source *source = arena_alloc(&s->req->arena, sizeof *source);
    *source = (struct log_source){s, arena_strdup(&s->req->arena, instance_name(i))};
    output_follow(instance_output(i), &s->req->arena, on_line, source);
}

static void on_change(void *arg, struct instance *i, bool gone)
{
    struct stream *s = arg;
    if (gone)
        send_event(s, "instance_deleted", put_gone, i);
    else
        send_event(s, "instance", put_instance, i);
}

void events_download(struct app *app, const struct fetch_job *job)
{
    list_each (s, &app->event_streams, struct stream, link)
        send_event(s, "download", put_download, job);
}

/* ---- streams that end with the server ---- */

struct endless {
    struct list link; /* of app->endless */
    struct http_req *req;
};

static void on_endless_gone(void *arg)
{
    struct endless *e = arg;
    list_remove(&e->link);
}

void api_endless(struct app *app, struct http_req *req)
{
    struct endless *e = arena_alloc(&req->arena, sizeof *e);
    e->req = req;
    list_push(&app->endless, &e->link);
    api_watch_caller(app, req);
    arena_on_dispose(&req->arena, on_endless_gone, e);
}

void api_end_endless(struct app *app)
{
    while (!list_empty(&app->endless)) {
        struct endless *e = list_first(&app->endless, struct endless, link);
        list_remove(&e->link);
        http_sse_end(e->req);
    }
}

static void on_gone(void *arg)
{
    struct stream *s = arg;
    list_remove(&s->link);
}

static void events(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct stream *s = arena_calloc(&req->arena, sizeof *s);
    (void)match;
    *s = (struct stream){.req = req, .logs = query_text(req, "logs")};
    http_sse_start(req);
    api_endless(app, req);
    list_push(&app->event_streams, &s->link);
    arena_on_dispose(&req->arena, on_gone, s);
    for (struct instance **i = instances_list(app->instances, true, &req->arena); *i; i++) {
        send_event(s, "instance", put_instance, *i);
        follow(s, *i);
    }
    instances_watch(app->instances, &req->arena, on_change, s);
}

const struct http_route event_routes[] = {
    {"GET", "/api/v1/events", events, (void *)&manager_dialect,
     "Instance states and downloads as they change, and logs with ?logs=NAME", AUTH_MANAGEMENT, &doc_events},
    {0},
};
