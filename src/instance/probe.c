#include "instance/probe.h"

#include "base/mem.h"

struct probe {
    struct loop *loop;
    struct http_client *client;
    struct http_target target;
    char *path;
    struct http_call *call; /* runs, or NULL */
    struct deadline next, answer;
    bool healthy; /* the head said so */
    void (*on_healthy)(void *arg);
    void *arg;
};

static void ask(struct probe *p);

static void on_next(struct deadline *deadline)
{
    ask(container_of(deadline, struct probe, next));
}

static void ask_later(struct probe *p)
{
    p->call = NULL;
    deadline_cancel(p->loop, &p->answer);
    deadline_arm(p->loop, &p->next, LIMIT_PROBE_MS, on_next);
}

static void on_head(void *arg, const struct http_head *head)
{
    struct probe *p = arg;
    p->healthy = head->status == 200;
}

static void on_data(void *arg, struct str piece)
{
    (void)arg;
    (void)piece;
}

static void on_end(void *arg)
{
    struct probe *p = arg;
    if (!p->healthy) {
        ask_later(p);
        return;
    }
    p->call = NULL;
    deadline_cancel(p->loop, &p->answer);
    p->on_healthy(p->arg);
}

static void on_error(void *arg, const struct err *err)
{
    (void)err;
    ask_later(arg);
}

static void on_answer_late(struct deadline *deadline)
{
    struct probe *p = container_of(deadline, struct probe, answer);
    http_call_cancel(p->call);
    ask_later(p);
}

static void ask(struct probe *p)
{
    static const struct http_call_events events = {
        .on_head = on_head, .on_data = on_data, .on_end = on_end, .on_error = on_error};
    p->healthy = false;
    deadline_arm(p->loop, &p->answer, LIMIT_PROBE_ANSWER_MS, on_answer_late);
    p->call = http_call_start(p->client, &p->target, STR("GET"), str_from(p->path), STR(""), 0, STR_NONE, &events, p);
}

struct probe *probe_new(struct loop *loop, struct http_client *client, const struct http_target *target,
                        const char *path, void (*on_healthy)(void *arg), void *arg)
{
    struct probe *p = mem_calloc(1, sizeof *p);
    *p = (struct probe){.loop = loop,
                        .client = client,
                        .target = *target,
                        .path = mem_strdup(path),
                        .on_healthy = on_healthy,
                        .arg = arg};
    ask_later(p);
    return p;
}

void probe_free(struct probe *p)
{
    if (!p)
        return;
    if (p->call)
        http_call_cancel(p->call);
    deadline_cancel(p->loop, &p->next);
    deadline_cancel(p->loop, &p->answer);
    mem_free(p->path);
    mem_free(p);
}
