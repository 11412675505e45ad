#include "api/account.h"

#include <stdlib.h>

#include "api/admit.h"
#include "api/traced.h"
#include "base/clock.h"
#include "openai/usage_tap.h"

struct account {
    struct app *app;
    const struct caller *caller;
    struct str address;
    const char *endpoint, *model;
    const int *status;
    uint64_t started_ns, leased_ns, first_ns;
    struct usage_tap tap;
    struct {
        double queue_ms, prefill_ms, decode_ms;
        bool known;
    } timing; /* as the worker told it in the head */
    bool streamed, broken;
    struct traced_call *trace; /* NULL: nothing is traced */
};

/* The labels that the documents' dashboards know. */
static const char *endpoint_of(struct str path)
{
    static const struct {
        const char *path, *name;
    } rows[] = {{"/v1/chat/completions", "chat"}, {"/v1/completions", "completions"}, {"/v1/embeddings", "embeddings"},
                {"/v1/rerank", "rerank"},         {"/v1/reranking", "rerank"},        {"/v1/score", "score"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (str_eq(path, str_from(rows[i].path)))
            return rows[i].name;
    return "other";
}

static double seconds(uint64_t from_ns, uint64_t to_ns)
{
    return (double)(to_ns - from_ns) / 1e9;
}

static void count_tokens(const struct account *a, const struct usage_counts *usage, uint64_t now)
{
    struct metrics *metrics = a->app->metrics;
    const char *const model[] = {a->model};
    metrics_add(metrics, METRIC_PROMPT_TOKENS, model, (double)usage->prompt_tokens);
    metrics_add(metrics, METRIC_CACHED_PROMPT_TOKENS, model, (double)usage->cached_tokens);
    api_charge_tokens(a->app, a->caller, a->address, usage->prompt_tokens + usage->completion_tokens);
    metrics_add(metrics, METRIC_TOKENS_GENERATED, model, (double)usage->completion_tokens);
    double decode = a->streamed && a->first_ns ? seconds(a->first_ns, now) : a->timing.decode_ms / 1000;
    if (usage->completion_tokens < 2 || decode <= 0)
        return;
    metrics_add(metrics, METRIC_DECODE_SECONDS, model, decode);
    metrics_add(metrics, METRIC_DECODED_TOKENS, model, (double)(usage->completion_tokens - 1));
    if (a->streamed)
        metrics_observe(metrics, METRIC_TOKEN_SECONDS, model, decode / (double)(usage->completion_tokens - 1));
}

static void count_times(const struct account *a, double queue_ms, uint64_t now)
{
    struct metrics *metrics = a->app->metrics;
    const char *const model[] = {a->model}, *const endpoint[] = {a->endpoint};
    metrics_observe(metrics, METRIC_REQUEST_SECONDS, endpoint, seconds(a->started_ns, now));
    metrics_observe(metrics, METRIC_INFERENCE_SECONDS, model, seconds(a->started_ns, now));
    if (a->streamed && a->first_ns)
        metrics_observe(metrics, METRIC_FIRST_TOKEN_SECONDS, model, seconds(a->started_ns, a->first_ns));
    if (a->leased_ns)
        metrics_observe(metrics, METRIC_QUEUE_SECONDS, model,
                        seconds(a->started_ns, a->leased_ns) + (queue_ms > 0 ? queue_ms / 1000 : 0));
}

/* When the parts of the call ended, as far as the worker has told it. */
static void trace_parts(const struct account *a, double queue_ms, uint64_t now)
{
    struct traced_call *t = a->trace;
    if (!a->leased_ns)
        return;
    if (a->streamed) {
        t->queued_ns = a->leased_ns + (queue_ms > 0 ? (uint64_t)(queue_ms * 1e6) : 0);
        t->first_ns = queue_ms >= 0 ? a->first_ns : 0;
        t->decoded_ns = now;
    } else if (a->timing.known) {
        t->queued_ns = a->leased_ns + (uint64_t)(a->timing.queue_ms * 1e6);
        t->first_ns = t->queued_ns + (uint64_t)(a->timing.prefill_ms * 1e6);
        t->decoded_ns = t->first_ns + (uint64_t)(a->timing.decode_ms * 1e6);
    }
}

static void trace_close(const struct account *a, const struct usage_counts *usage, int status, uint64_t now)
{
    struct traced_call *t = a->trace;
    t->operation = strcmp(a->endpoint, "completions") == 0 ? "text_completion" : a->endpoint;
    t->model = strcmp(a->model, "other") == 0 ? NULL : a->model;
    t->status = status;
    t->failed = status >= 500 || a->broken;
    t->usage_known = usage->known;
    t->prompt_tokens = usage->prompt_tokens;
    t->completion_tokens = usage->completion_tokens;
    t->cached_tokens = usage->cached_tokens;
    t->started_ns = a->started_ns;
    t->ended_ns = now;
    trace_parts(a, usage->queue_ms, now);
    traced_end(a->app, t);
}

static void account_close(void *arg)
{
    struct account *a = arg;
    struct usage_counts usage = usage_tap_read(&a->tap);
    int status = *a->status ? *a->status : 499;
    uint64_t now = clock_ns();
    char text[12];
    snprintf(text, sizeof text, "%d", status);
    const char *const request[] = {a->model, a->endpoint, text}, *const model[] = {a->model};
    usage_tap_release(&a->tap);
    metrics_add(a->app->metrics, METRIC_REQUESTS, request, 1);
    if (status >= 500 || a->broken)
        metrics_add(a->app->metrics, METRIC_INFERENCE_ERRORS, model, 1);
    count_times(a, a->streamed ? usage.queue_ms : a->timing.queue_ms, now);
    if (usage.known)
        count_tokens(a, &usage, now);
    if (a->trace)
        trace_close(a, &usage, status, now);
}

static struct traced_call *trace_open(const struct app *app, struct arena *arena, const struct trace_context *parent)
{
    if (!app->tracer)
        return NULL;
    struct traced_call *t = arena_calloc(arena, sizeof *t);
    t->context = trace_begin(parent, tracer_sampling(app->tracer));
    return t;
}

struct account *account_open(struct app *app, struct arena *arena, const struct caller *caller, struct str path,
                             struct str address, const int *status, const struct trace_context *parent)
{
    struct account *a = arena_alloc(arena, sizeof *a);
    *a = (struct account){.app = app,
                          .caller = caller,
                          .address = address,
                          .endpoint = endpoint_of(path),
                          .model = "other",
                          .status = status,
                          .started_ns = clock_ns(),
                          .trace = trace_open(app, arena, parent)};
    usage_tap_init(&a->tap);
    arena_on_dispose(arena, account_close, a);
    return a;
}

struct account *account_open_for(struct app *app, struct http_req *req)
{
    struct str address = api_limit_address(app, req);
    return account_open(app, &req->arena, req->caller, req->head.path, address, &req->status, traced_request(app, req));
}

void account_model(struct account *a, const char *model)
{
    a->model = model;
}

void account_leased(struct account *a, const struct lease *lease)
{
    a->leased_ns = clock_ns();
    if (a->trace)
        a->trace->target = *lease_target(lease);
}

struct str account_head_lines(const struct account *a, const struct lease *lease, struct arena *arena)
{
    struct str lines = lease_head_lines(lease);
    if (!a || !a->trace)
        return lines;
    struct str trace = traced_head_lines(&a->trace->context, arena);
    return str_from(arena_printf(arena, STR_FMT STR_FMT, STR_ARG(lines), STR_ARG(trace)));
}

/* "queue;dur=1.25, prefill;dur=..." (W3C Server Timing): our worker's, of replies that are no streams. */
static void read_timing(struct account *a, struct str header)
{
    while (header.p) {
        struct str metric = str_trim(str_cut(&header, ','));
        a->timing.known |= str_starts(metric, STR("queue;dur="));
        if (str_starts(metric, STR("queue;dur=")))
            a->timing.queue_ms = strtod(metric.p + strlen("queue;dur="), NULL); /* a head's line ends in a control */
        else if (str_starts(metric, STR("prefill;dur=")))
            a->timing.prefill_ms = strtod(metric.p + strlen("prefill;dur="), NULL);
        else if (str_starts(metric, STR("decode;dur=")))
            a->timing.decode_ms = strtod(metric.p + strlen("decode;dur="), NULL);
    }
}

void account_head(struct account *a, const struct http_head *head)
{
    a->streamed = str_starts(http_head_find(head, "content-type"), STR("text/event-stream"));
    if (!a->streamed)
        read_timing(a, http_head_find(head, "server-timing"));
}

void account_data(struct account *a, struct str piece)
{
    if (!a->first_ns)
        a->first_ns = clock_ns();
    usage_tap_feed(&a->tap, piece);
}

void account_broken(struct account *a)
{
    a->broken = true;
}
