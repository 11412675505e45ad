#include "api/traced.h"

#include "base/clock.h"

#define ATTRIBUTES 16

struct attributes {
    struct trace_attribute items[ATTRIBUTES];
    size_t count;
};

static void add_text(struct attributes *a, const char *key, struct str text)
{
    if (!text.p)
        return;
    text.n = text.n < LIMIT_TRACE_TEXT ? text.n : LIMIT_TRACE_TEXT;
    a->items[a->count++] = (struct trace_attribute){.key = key, .text = text};
}

static void add_number(struct attributes *a, const char *key, int64_t number)
{
    a->items[a->count++] = (struct trace_attribute){.key = key, .number = number};
}

/* A monotonic time as one of the calendar. */
static uint64_t unix_ns(uint64_t ns)
{
    return clock_unix_ns() - (clock_ns() - ns);
}

/* ---- the request ---- */

struct traced_request {
    struct trace_context context;
    struct app *app;
    struct http_req *req;
};

/* Two of them are none (W3C Trace Context 3.2.2). */
static struct str trace_header(const struct http_req *req)
{
    struct str found = STR_NONE;
    for (size_t i = 0; i < req->head.header_count; i++) {
        if (!str_ieq(req->head.headers[i].name, STR("traceparent")))
            continue;
        if (found.p)
            return STR_NONE;
        found = req->head.headers[i].value;
    }
    return found;
}

const struct trace_context *traced_remote(const struct app *app, const struct http_req *req, struct arena *arena)
{
    struct trace_context remote;
    if (!app->tracer || !trace_parse(trace_header(req), &remote))
        return NULL;
    struct trace_context *kept = arena_alloc(arena, sizeof *kept);
    *kept = remote;
    return kept;
}

static void add_server(struct attributes *a, const struct http_req *req)
{
    struct str host = http_head_find(&req->head, "host");
    const char *colon = host.p ? memrchr(host.p, ':', host.n) : NULL, *end = host.p ? host.p + host.n : NULL;
    uint64_t port = 0;
    if (colon && str_u64((struct str){colon + 1, (size_t)(end - colon - 1)}, 65535, &port))
        host.n = (size_t)(colon - host.p);
    add_text(a, "server.address", host);
    if (port)
        add_number(a, "server.port", (int64_t)port);
}

static void end_request(void *arg)
{
    const struct traced_request *t = arg;
    const struct http_req *req = t->req;
    int status = req->status ? req->status : err_status(ERR_CLIENT_CLOSED);
    struct attributes a = {0};
    add_text(&a, "http.request.method", req->head.method_name);
    add_text(&a, "http.route", req->head.path);
    add_text(&a, "url.path", req->head.path);
    add_text(&a, "url.scheme", *t->app->conf->tls_cert ? STR("https") : STR("http"));
    add_server(&a, req);
    add_number(&a, "http.response.status_code", status);
    add_text(&a, "inferd.request.id", str_from(req->id));
    struct str path = {req->head.path.p, req->head.path.n < LIMIT_TRACE_TEXT ? req->head.path.n : LIMIT_TRACE_TEXT};
    struct trace_span span = {
        .name = arena_printf(&t->req->arena, STR_FMT " " STR_FMT, STR_ARG(req->head.method_name), STR_ARG(path)),
        .kind = TRACE_SERVER,
        .start_ns = unix_ns(req->started_ns),
        .end_ns = clock_unix_ns(),
        .failed = status >= 500,
        .attributes = a.items,
        .count = a.count};
    tracer_add(t->app->tracer, &t->context, &span);
}

const struct trace_context *traced_request(struct app *app, struct http_req *req)
{
    struct trace_context remote;
    if (!app->tracer || req->trace)
        return req->trace;
    struct traced_request *t = arena_alloc(&req->arena, sizeof *t);
    bool known = trace_parse(trace_header(req), &remote);
    *t = (struct traced_request){trace_begin(known ? &remote : NULL, tracer_sampling(app->tracer)), app, req};
    arena_on_dispose(&req->arena, end_request, t);
    req->trace = &t->context;
    return &t->context;
}

/* What another tracer says of a trace goes on only with that trace. */
const char *const *traced_replaced(const struct http_req *req)
{
    static const char *const continued[] = {"traceparent", NULL}, *const fresh[] = {"traceparent", "tracestate", NULL};
    const struct trace_context *context = req->trace;
    if (!context)
        return NULL;
    return context->has_parent ? continued : fresh;
}

/* ---- a call ---- */

struct str traced_head_lines(const struct trace_context *call, struct arena *arena)
{
    char text[TRACE_PARENT_TEXT];
    return call ? str_from(arena_printf(arena, "traceparent: %s\r\n", trace_parent(call, text))) : STR("");
}

static void add_usage(struct attributes *a, const struct traced_call *call)
{
    if (!call->usage_known)
        return;
    add_number(a, "gen_ai.usage.input_tokens", (int64_t)call->prompt_tokens);
    add_number(a, "gen_ai.usage.output_tokens", (int64_t)call->completion_tokens);
    add_number(a, "gen_ai.usage.cache_read.input_tokens", (int64_t)call->cached_tokens);
}

static void add_part(struct app *app, const struct traced_call *call, const char *name, uint64_t from, uint64_t to)
{
    if (!from || to <= from)
        return;
    struct trace_context context = trace_begin(&call->context, 0);
    struct trace_span span = {.name = name, .kind = TRACE_INTERNAL, .start_ns = unix_ns(from), .end_ns = unix_ns(to)};
    tracer_add(app->tracer, &context, &span);
}

void traced_end(struct app *app, const struct traced_call *call)
{
    char status[12], name[LIMIT_TRACE_TEXT];
    struct attributes a = {0};
    if (!call->context.sampled)
        return;
    snprintf(name, sizeof name, "%s%s%s", call->operation, call->model ? " " : "", call->model ? call->model : "");
    snprintf(status, sizeof status, "%d", call->status);
    add_text(&a, "gen_ai.operation.name", str_from(call->operation));
    add_text(&a, "gen_ai.provider.name", STR("inferd"));
    add_text(&a, "gen_ai.request.model", str_from(call->model));
    if (*call->target.address)
        add_text(&a, "server.address", str_from(call->target.address));
    if (call->target.port)
        add_number(&a, "server.port", call->target.port);
    add_number(&a, "http.response.status_code", call->status);
    if (call->failed)
        add_text(&a, "error.type", call->status >= 400 ? str_from(status) : STR("broken_reply"));
    add_usage(&a, call);
    struct trace_span span = {.name = name,
                              .kind = TRACE_CLIENT,
                              .start_ns = unix_ns(call->started_ns),
                              .end_ns = unix_ns(call->ended_ns),
                              .failed = call->failed,
                              .attributes = a.items,
                              .count = a.count};
    tracer_add(app->tracer, &call->context, &span);
    add_part(app, call, "queue", call->started_ns, call->queued_ns);
    add_part(app, call, "prefill", call->queued_ns, call->first_ns);
    add_part(app, call, "decode", call->first_ns, call->decoded_ns);
}
