/* subscribe_metrics: a sample at once, then one every interval. A socket that takes nothing gets no backlog: one
 * sample, the newest, when it does again.
 *
 * The loop has a queue for each duration that the program uses, and clients may ask for any; so an interval is waited
 * for in steps of three lengths. A sample may be late by the shortest, the next one is not. */
#include <math.h>

#include "api/system/machine.h"
#include "api/system/reserved.h"
#include "api/ws/session.h"
#include "base/clock.h"
#include "base/json_read.h"

#define INTERVAL_DEFAULT 1000
#define INTERVAL_LEAST   100
#define INTERVAL_MOST    60000
#define STEP_LONG        1000
#define STEP_MIDDLE      100
#define STEP_SHORT       20

struct metric_sample {
    struct machine_load load;
    struct worker_load work; /* of all workers of ours */
    unsigned active;         /* requests that instances are answering */
    unsigned waiting;        /* for a model to start */
    double requests;         /* ended since the start */
    double seconds;          /* since the sample before; 0: this is the first */
    double tokens_before, requests_before;
    double gpu, vram; /* percent of the GPUs' memory, see reserved.h */
};

#define METRIC(name, expression)                                                                                       \
    static double metric_##name(const struct metric_sample *s)                                                         \
    {                                                                                                                  \
        (void)s;                                                                                                       \
        return expression;                                                                                             \
    }
#include "api/ws/metric.def"
#undef METRIC

static const struct live_metric {
    const char *name;
    double (*value)(const struct metric_sample *s);
} metrics[] = {
#define METRIC(name, expression) {#name, metric_##name},
#include "api/ws/metric.def"
#undef METRIC
};

#define METRICS (sizeof metrics / sizeof *metrics)

struct metrics_subscription {
    struct ws_subscription base;
    int64_t interval; /* ms */
    uint64_t due_ms;  /* of the next sample */
    const json_t *names;
    bool wanted[METRICS];
    uint64_t sampled_ms; /* when the last sample was taken; 0: none yet */
    double tokens, requests;
};

static void take_sample(struct metrics_subscription *sub, struct metric_sample *sample)
{
    struct app *app = sub->base.session->app;
    struct arena arena;
    uint64_t now = clock_ms();
    arena_init(&arena);
    *sample = (struct metric_sample){.tokens_before = sub->tokens, .requests_before = sub->requests};
    if (sub->sampled_ms)
        sample->seconds = (double)(now - sub->sampled_ms) / 1000;
    sample->requests = metrics_total(app->metrics, METRIC_REQUESTS);
    machine_load(app->machine, &sample->load);
    sample->gpu = gpus_usage_percent(app);
    sample->vram = gpus_held_percent(app);
    instances_load_now(app->instances, &sample->work);
    for (struct instance **i = instances_list(app->instances, true, &arena); *i; i++) {
        struct instance_status status;
        instance_status(*i, &status);
        sample->active += status.active;
        sample->waiting += status.waiting;
    }
    arena_dispose(&arena);
    sub->sampled_ms = now;
    sub->tokens = (double)sample->work.generated;
    sub->requests = sample->requests;
}

static void send_sample(struct ws_subscription *base)
{
    struct metrics_subscription *sub = container_of(base, struct metrics_subscription, base);
    struct metric_sample sample;
    struct buf out;
    struct json j;
    char now[CLOCK_RFC3339_SIZE];
    take_sample(sub, &sample);
    buf_init(&out, 1024);
    json_begin(&j, &out);
    json_open_object(&j, NULL);
    json_put_string(&j, "timestamp", clock_rfc3339(clock_unix_ms(), now));
    for (size_t i = 0; i < METRICS; i++)
        if (sub->wanted[i])
            json_put_number(&j, metrics[i].name, round(metrics[i].value(&sample) * 10) / 10);
    json_close(&j);
    json_finish(&j);
    ws_subscription_send(base, "metrics_update", buf_view(&out));
    buf_release(&out);
}

static void on_due(struct deadline *deadline)
{
    struct ws_subscription *base = container_of(deadline, struct ws_subscription, deadline);
    struct metrics_subscription *sub = container_of(base, struct metrics_subscription, base);
    struct loop *loop = base->session->app->loop;
    uint64_t now = loop_now_ms(loop), interval = (uint64_t)sub->interval;
    bool due = now >= sub->due_ms;
    if (due)
        sub->due_ms = (now - sub->due_ms < interval ? sub->due_ms : now) + interval;
    uint64_t left = sub->due_ms - now;
    deadline_arm(loop, &base->deadline,
                 left >= STEP_LONG     ? STEP_LONG
                 : left >= STEP_MIDDLE ? STEP_MIDDLE
                                       : STEP_SHORT,
                 on_due);
    if (!due)
        return;
    if (http_ws_is_blocked(base->session->ws))
        base->behind = true;
    else
        send_sample(base);
}

static bool want(struct metrics_subscription *sub, struct str name, struct err *err)
{
    for (size_t i = 0; i < METRICS; i++) {
        if (!str_eq(name, str_from(metrics[i].name)))
            continue;
        sub->wanted[i] = true;
        return true;
    }
    struct buf names;
    buf_init(&names, LIMIT_ERR_MESSAGE);
    for (size_t i = 0; i < METRICS; i++)
        buf_printf(&names, "%s%s", i ? ", " : "", metrics[i].name);
    err_set_param(err, ERR_INVALID_PARAMETERS, "metrics", "there is no metric '%.*s'; there are: %s",
                  name.n > 64 ? 64 : (int)name.n, name.p, names.data);
    buf_release(&names);
    return false;
}

static bool read_wish(struct metrics_subscription *sub, const json_t *data, struct err *err)
{
    static const struct json_field fields[] = {
        JSON_FIELD(struct metrics_subscription, interval, "interval", JSON_KIND_INT, INTERVAL_LEAST, INTERVAL_MOST),
        JSON_FIELD(struct metrics_subscription, names, "metrics", JSON_KIND_ARRAY, 0, 64),
    };
    const json_t *name;
    size_t i;
    if (!json_fields(data, fields, 2, sub, "", err))
        return false;
    for (i = 0; i < METRICS; i++)
        sub->wanted[i] = !sub->names;
    json_array_foreach(sub->names, i, name)
    {
        if (!json_is_string(name))
            return err_set_param(err, ERR_INVALID_PARAMETERS, "metrics", "'metrics' must hold names");
        if (!want(sub, json_str(name), err))
            return false;
    }
    sub->names = NULL; /* of a document that goes */
    return true;
}

void ws_metrics_subscribe(struct ws_session *s, const struct ws_envelope *envelope)
{
    struct err err;
    struct metrics_subscription wish = {.interval = INTERVAL_DEFAULT}, *sub = NULL;
    if (!ws_session_may(s, AUTH_METRICS, envelope->raw_id))
        return;
    json_t *data = json_read(envelope->data, &err);
    if (data && read_wish(&wish, data, &err))
        sub = ws_subscription_new(s, envelope, sizeof *sub, &err);
    json_decref(data);
    if (!sub) {
        ws_session_error(s, envelope->raw_id, &err);
        return;
    }
    sub->interval = wish.interval;
    sub->due_ms = loop_now_ms(s->app->loop);
    memcpy(sub->wanted, wish.wanted, sizeof sub->wanted);
    sub->base.catch_up = send_sample;
    on_due(&sub->base.deadline);
}
