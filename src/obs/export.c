/* Spans wait as JSON text in a bounded queue; a full one loses its oldest. One batch at a time is on its way: its body
 * is made once and kept until the collector has answered, or until it has been tried often enough. A single tick,
 * which runs only while there is something to do, sends, gives up on answers and tries again: pauses and time-outs are
 * multiples of it, so that the loop knows one duration more and not a dozen.
 *
 * Invariants: `body` holds a batch exactly while `in_batch` > 0. `call` is set while it runs. */
#include "obs/export.h"

#include <uv.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/rand.h"
#include "http/client.h"
#include "obs/log.h"

#define FIRST_PAUSE_MS 1000
#define TRACES_PATH    "/v1/traces"

struct waiting {
    struct list link;
    size_t length;
    char *text;
};

struct tracer {
    struct loop *loop;
    struct metrics *metrics;
    struct http_client *client;
    struct http_target target;
    struct arena arena;
    struct str path, head_lines;
    struct str opening; /* of a batch, up to its first span */
    unsigned interval_ms;
    double sampling;
    struct list queue; /* struct waiting, oldest first */
    size_t waiting;
    struct buf body;
    size_t in_batch; /* spans */
    unsigned tries;
    uint64_t sent_ms, due_ms; /* of the batch: when it left, when it may leave again */
    struct http_call *call;
    int status;
    uint64_t retry_after_ms;
    bool failing; /* said so in the log */
    struct deadline tick, flush_end;
    struct loop_soon done;
    void (*on_flushed)(void *arg); /* set: the end */
    void *arg;
};

static void dropped(struct tracer *t, const char *reason, size_t count)
{
    const char *const label[] = {reason};
    metrics_add(t->metrics, METRIC_TRACE_DROPPED, label, (double)count);
}

static void drop_oldest(struct tracer *t)
{
    struct waiting *w = list_first(&t->queue, struct waiting, link);
    list_remove(&w->link);
    mem_free(w->text);
    mem_free(w);
    t->waiting--;
}

/* ---- one batch ---- */

static void on_tick(struct deadline *deadline);
static void send_batch(struct tracer *t);

static void fill_batch(struct tracer *t)
{
    buf_clear(&t->body);
    buf_str(&t->body, t->opening);
    for (; t->waiting && t->in_batch < LIMIT_TRACE_BATCH; t->in_batch++) {
        struct waiting *w = list_first(&t->queue, struct waiting, link);
        if (t->in_batch)
            buf_putc(&t->body, ',');
        buf_append(&t->body, w->text, w->length);
        drop_oldest(t);
    }
    buf_puts(&t->body, "]}]}]}");
    t->tries = 0;
    t->due_ms = 0;
}

static void end_batch(struct tracer *t)
{
    buf_release(&t->body);
    t->in_batch = 0;
}

static void on_done(struct loop_soon *soon)
{
    struct tracer *t = container_of(soon, struct tracer, done);
    void (*on_flushed)(void *arg) = t->on_flushed;
    t->on_flushed = NULL;
    on_flushed(t->arg);
}

/* The batch is over: the next one when it is full already, or at the tick. */
static void next(struct tracer *t)
{
    if (t->on_flushed && !t->waiting) {
        deadline_cancel(t->loop, &t->flush_end);
        loop_soon(t->loop, &t->done, on_done);
    } else if (t->on_flushed || t->waiting >= LIMIT_TRACE_BATCH) {
        fill_batch(t);
        send_batch(t);
    }
}

static void give_up(struct tracer *t, const char *reason)
{
    dropped(t, reason, t->in_batch);
    end_batch(t);
    next(t);
}

static uint64_t pause_ms(const struct tracer *t)
{
    uint64_t pause = (uint64_t)FIRST_PAUSE_MS << (t->tries - 1);
    pause = t->retry_after_ms > pause ? t->retry_after_ms : pause;
    return pause < LIMIT_TRACE_PAUSE_MS ? pause : LIMIT_TRACE_PAUSE_MS;
}

static void failed(struct tracer *t, const char *why)
{
    if (!t->failing)
        log_warn("traces are not being taken", "reason=%s", why);
    t->failing = true;
    if (t->tries >= LIMIT_TRACE_TRIES || t->on_flushed)
        give_up(t, "unreachable");
    else
        t->due_ms = clock_ms() + pause_ms(t);
}

/* ---- the call ---- */

static void on_head(void *arg, const struct http_head *head)
{
    struct tracer *t = arg;
    uint64_t seconds = 0;
    t->status = head->status;
    if (str_u64(http_head_find(head, "retry-after"), 86400, &seconds))
        t->retry_after_ms = seconds * 1000;
}

static void on_data(void *arg, struct str piece)
{
    (void)arg;
    (void)piece;
}

/* What OTLP says may be tried again. */
static bool is_temporary(int status)
{
    return status == 429 || status == 502 || status == 503 || status == 504;
}

static void on_end(void *arg)
{
    struct tracer *t = arg;
    t->call = NULL;
    if (t->status >= 200 && t->status < 300) {
        metrics_add(t->metrics, METRIC_TRACE_EXPORTED, NULL, (double)t->in_batch);
        if (t->failing)
            log_info("traces are taken again", NULL);
        t->failing = false;
        end_batch(t);
        next(t);
    } else if (is_temporary(t->status)) {
        failed(t, "the collector is busy");
    } else {
        log_warn("the collector refuses spans", "status=%d count=%zu", t->status, t->in_batch);
        give_up(t, "refused");
    }
}

static void on_error(void *arg, const struct err *err)
{
    struct tracer *t = arg;
    t->call = NULL;
    failed(t, err->message);
}

static void send_batch(struct tracer *t)
{
    static const struct http_call_events events = {
        .on_head = on_head, .on_data = on_data, .on_end = on_end, .on_error = on_error};
    t->tries++;
    t->status = 0;
    t->retry_after_ms = 0;
    t->sent_ms = clock_ms();
    t->call = http_call_start(t->client, &t->target, STR("POST"), t->path, t->head_lines, (int64_t)t->body.len,
                              buf_view(&t->body), &events, t);
}

static void arm(struct tracer *t)
{
    if (!t->tick.due_ms && (t->waiting || t->in_batch))
        deadline_arm(t->loop, &t->tick, t->interval_ms, on_tick);
}

static void on_tick(struct deadline *deadline)
{
    struct tracer *t = container_of(deadline, struct tracer, tick);
    uint64_t now = clock_ms();
    if (t->call && now - t->sent_ms >= LIMIT_TRACE_CALL_MS) {
        http_call_cancel(t->call);
        t->call = NULL;
        failed(t, "the collector does not answer");
    } else if (!t->call && t->in_batch && now >= t->due_ms) {
        send_batch(t);
    } else if (!t->in_batch && t->waiting) {
        fill_batch(t);
        send_batch(t);
    }
    arm(t);
}

/* ---- spans ---- */

void tracer_add(struct tracer *t, const struct trace_context *context, const struct trace_span *span)
{
    struct buf text;
    struct json j;
    if (!context->sampled)
        return;
    buf_init(&text, LIMIT_TRACE_SPAN);
    json_begin(&j, &text);
    trace_write(&j, context, span);
    if (!json_finish(&j)) {
        dropped(t, "too_long", 1);
        buf_release(&text);
        return;
    }
    if (t->waiting == LIMIT_TRACE_QUEUE) {
        drop_oldest(t);
        dropped(t, "queue_full", 1);
    }
    struct waiting *w = mem_calloc(1, sizeof *w);
    w->text = buf_take(&text, &w->length);
    list_push(&t->queue, &w->link);
    t->waiting++;
    if (t->waiting >= LIMIT_TRACE_BATCH && !t->in_batch) {
        fill_batch(t);
        send_batch(t);
    }
    arm(t);
}

double tracer_sampling(const struct tracer *t)
{
    return t->sampling;
}

static void on_flush_late(struct deadline *deadline)
{
    struct tracer *t = container_of(deadline, struct tracer, flush_end);
    if (t->call)
        http_call_cancel(t->call);
    t->call = NULL;
    dropped(t, "unreachable", t->in_batch + t->waiting);
    log_warn("traces were lost", "spans=%zu", t->in_batch + t->waiting);
    end_batch(t);
    while (t->waiting)
        drop_oldest(t);
    next(t);
}

void tracer_flush(struct tracer *t, void (*on_flushed)(void *arg), void *arg)
{
    t->on_flushed = on_flushed;
    t->arg = arg;
    deadline_cancel(t->loop, &t->tick);
    deadline_arm(t->loop, &t->flush_end, LIMIT_TRACE_FLUSH_MS, on_flush_late);
    if (!t->in_batch)
        next(t);
    else if (!t->call)
        send_batch(t);
}

/* ---- the beginning and the end ---- */

static bool set_target(struct tracer *t, const char *endpoint, struct err *err)
{
    struct err why;
    struct in6_addr numeric;
    const char *path = strncmp(endpoint, "http://", 7) == 0 ? strchr(endpoint + 7, '/') : NULL;
    if (strncmp(endpoint, "https://", 8) == 0)
        return err_set(err, ERR_CONFIG,
                       "observability.otlp_endpoint: https is not supported; send to a collector on this machine or "
                       "network by http, which can pass on by https");
    if (strncmp(endpoint, "http://", 7) != 0 || strpbrk(endpoint, "?# \t\r\n"))
        return err_set(err, ERR_CONFIG, "observability.otlp_endpoint: '%s' is not http://HOST:PORT", endpoint);
    if (!http_target_parse(endpoint, &t->target, &why))
        return err_set(err, ERR_CONFIG, "observability.otlp_endpoint: %s", why.message);
    if (uv_inet_pton(AF_INET, t->target.address, &numeric) != 0 &&
        uv_inet_pton(AF_INET6, t->target.address, &numeric) != 0)
        return err_set(err, ERR_CONFIG, "observability.otlp_endpoint: '%s' is no numeric address, nor localhost",
                       t->target.address);
    struct str base = str_from(path ? path : "");
    while (base.n && base.p[base.n - 1] == '/')
        base.n--;
    const char *suffix = str_ends(base, STR(TRACES_PATH)) ? "" : TRACES_PATH;
    t->path = str_from(arena_printf(&t->arena, STR_FMT "%s", STR_ARG(base), suffix));
    return true;
}

static bool is_name(struct str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!strchr("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!#$%&'*+-.^_`|~", name.p[i]))
            return false;
    return name.n > 0;
}

static bool is_value(struct str value)
{
    for (size_t i = 0; i < value.n; i++)
        if ((unsigned char)value.p[i] < ' ' || value.p[i] == 0x7f)
            return false;
    return true;
}

static bool is_ours(struct str name)
{
    static const char *const ours[] = {"host",         "connection", "content-length", "transfer-encoding",
                                       "content-type", "expect",     "upgrade"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (str_ieq(name, str_from(ours[i])))
            return true;
    return false;
}

static bool set_headers(struct tracer *t, const char *const *headers, struct err *err)
{
    struct buf lines;
    size_t n = 0;
    buf_init(&lines, LIMIT_HEAD_BYTES / 2);
    buf_puts(&lines, "Content-Type: application/json\r\n");
    for (; headers[n] && n < LIMIT_TRACE_HEADERS; n++) {
        struct str value = str_from(headers[n]), name = str_trim(str_cut(&value, '='));
        if (!value.p || !is_name(name) || !is_value(value) || is_ours(name))
            break;
        buf_printf(&lines, STR_FMT ": " STR_FMT "\r\n", STR_ARG(name), STR_ARG(str_trim(value)));
    }
    bool good = !headers[n] && buf_ok(&lines);
    t->head_lines = arena_str(&t->arena, buf_view(&lines));
    buf_release(&lines);
    return good ||
           err_set(err, ERR_CONFIG,
                   "observability.otlp_headers: entry %zu is no \"name=value\" that can be a header of its own", n + 1);
}

static void put_resource(struct json *j, const char *key, const char *value)
{
    json_open_object(j, NULL);
    json_put_string(j, "key", key);
    json_open_object(j, "value");
    json_put_string(j, "stringValue", value);
    json_close(j);
    json_close(j);
}

/* {"resourceSpans":[{"resource":{...},"scopeSpans":[{"scope":{...},"spans":[ */
static void set_opening(struct tracer *t, const struct tracer_options *options)
{
    unsigned char id[TRACE_ID_SIZE];
    char instance[2 * TRACE_ID_SIZE + 1];
    struct buf text;
    struct json j;
    rand_bytes(id, sizeof id);
    buf_init(&text, LIMIT_TRACE_SPAN);
    buf_puts(&text, "{\"resourceSpans\":[{\"resource\":{\"attributes\":");
    json_begin(&j, &text);
    json_open_array(&j, NULL);
    put_resource(&j, "service.name", options->service);
    put_resource(&j, "service.version", options->version);
    put_resource(&j, "service.instance.id", hash_hex(id, sizeof id, instance));
    json_close(&j);
    json_finish(&j);
    buf_puts(&text, "},\"scopeSpans\":[{\"scope\":{\"name\":\"inferd\"},\"spans\":[");
    t->opening = arena_str(&t->arena, buf_view(&text));
    buf_release(&text);
}

struct tracer *tracer_new(struct loop *loop, const struct tracer_options *options, struct metrics *metrics,
                          struct err *err)
{
    struct tracer *t = mem_calloc(1, sizeof *t);
    t->loop = loop;
    t->metrics = metrics;
    t->interval_ms = options->interval_ms;
    t->sampling = options->sampling;
    arena_init(&t->arena);
    list_init(&t->queue);
    buf_init(&t->body, (size_t)LIMIT_TRACE_BATCH * (LIMIT_TRACE_SPAN + 1) + LIMIT_TRACE_SPAN + 16);
    if (set_target(t, options->endpoint, err) && set_headers(t, options->headers, err)) {
        set_opening(t, options);
        t->client = http_client_new(loop);
        return t;
    }
    arena_dispose(&t->arena);
    mem_free(t);
    return NULL;
}

void tracer_free(struct tracer *t)
{
    if (!t)
        return;
    deadline_cancel(t->loop, &t->tick);
    deadline_cancel(t->loop, &t->flush_end);
    loop_soon_cancel(&t->done);
    if (t->call)
        http_call_cancel(t->call);
    while (t->waiting)
        drop_oldest(t);
    buf_release(&t->body);
    http_client_free(t->client);
    arena_dispose(&t->arena);
    mem_free(t);
}
