/* Why a window: one request may carry 2048 inputs, and the scheduler's queue is shared. A request holds at most twice
 * as many places as the engine has sequences, so that the engine never waits for it and others still find a place. A
 * full queue is an error for a request's first prompt only; later ones wait for one of its own to end. */
#include "worker/serve_task.h"

#include <stdio.h>

#include "base/json_write.h"
#include "http/sse.h"
#include "openai/error.h"

struct serve_task_item {
    struct serve_task *task;
    size_t index;
    struct gen *gen; /* NULL: not submitted, or over */
};

static void on_gen_event(void *arg, const struct gen_event *event);

static void cancel_all(struct serve_task *task)
{
    for (size_t i = 0; i < task->next && task->running > 0; i++) {
        struct gen *gen = task->items[i].gen;
        if (!gen)
            continue;
        task->items[i].gen = NULL;
        task->running--;
        gen_cancel(gen);
    }
    task->next = task->count;
}

static void on_dispose(void *arg)
{
    struct serve_task *task = arg;
    deadline_cancel(&task->serve->loop, &task->quiet);
    cancel_all(task);
}

/* Whose request it is, as the gateway says; 0: it does not. */
static uint64_t client_of(const struct http_req *req)
{
    struct str digits = http_head_find(&req->head, "x-inferd-client");
    uint64_t client = 0;
    for (size_t i = 0; i < digits.n && i < 16; i++) {
        char c = digits.p[i];
        client = client * 16 + (uint64_t)(c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 0);
    }
    return client;
}

static bool submit_next(struct serve_task *task, struct err *err)
{
    struct gen_request request = {.choices = 1};
    struct serve_task_item *item = &task->items[task->next];
    unsigned timeout = task->serve->options->request_timeout_ms;
    gen_params_default(&request.params);
    request.priority = str_ieq(http_head_find(&task->req->head, "x-inferd-priority"), STR("batch"));
    request.client = client_of(task->req);
    task->on_fill(task, task->next, &request);
    if (timeout)
        request.deadline_ms = loop_now_ms(&task->serve->loop) + timeout;
    item->gen = sched_submit(task->serve->sched, &request, on_gen_event, item, err);
    if (!item->gen && err->code == ERR_CONTEXT_LENGTH_EXCEEDED) /* a queue does not know whose prompt it was */
        snprintf(err->param, sizeof err->param, "%s", task->member);
    if (!item->gen)
        return false;
    task->next++;
    task->running++;
    if (task->paused)
        gen_pause(item->gen);
    return true;
}

/* Fills the window. False: the task has failed and is gone. */
static bool pump(struct serve_task *task)
{
    size_t window = 2 * (size_t)task->serve->info->sequences;
    while (task->next < task->count && task->running < window) {
        struct err err = ERR_INIT;
        if (submit_next(task, &err))
            continue;
        if (err.code == ERR_SERVER_OVERLOADED && task->running > 0)
            return true;
        serve_task_fail(task, &err);
        return false;
    }
    return true;
}

static void add_timings(struct serve_task *task, const struct gen_timings *t)
{
    task->timings.prompt_tokens += t->prompt_tokens;
    task->timings.cached_tokens += t->cached_tokens;
    task->timings.generated_tokens += t->generated_tokens;
    task->timings.draft_tokens += t->draft_tokens;
    task->timings.draft_accepted += t->draft_accepted;
    task->timings.prompt_ms += t->prefill_ms;
    task->timings.generated_ms += t->decode_ms;
    task->timings.queue_ms += t->queue_ms;
    if (task->timings.queue_position < t->queue_position)
        task->timings.queue_position = t->queue_position;
}

/* A reply that is no stream tells in its head where the time went (W3C Server Timing). */
static void put_server_timing(struct serve_task *task)
{
    const struct openai_timings *t = &task->timings;
    http_reply_header(task->req, "Server-Timing",
                      arena_printf(&task->req->arena, "queue;dur=%.3f, prefill;dur=%.3f, decode;dur=%.3f", t->queue_ms,
                                   t->prompt_ms, t->generated_ms));
}

static void end(struct serve_task *task)
{
    if (!task->stream)
        put_server_timing(task);
    task->on_end(task);
}

static void on_gen_event(void *arg, const struct gen_event *event)
{
    struct serve_task_item *item = arg;
    struct serve_task *task = item->task;
    switch (event->kind) {
    case GEN_EVENT_FAILED:
        item->gen = NULL;
        task->running--;
        serve_task_fail(task, event->err);
        return;
    case GEN_EVENT_DONE:
        item->gen = NULL;
        task->running--;
        task->done++;
        add_timings(task, event->timings);
        task->on_event(task, item->index, event);
        if (task->done == task->count)
            end(task);
        else
            pump(task);
        return;
    default: task->on_event(task, item->index, event);
    }
}

static void on_quiet(struct deadline *deadline)
{
    struct serve_task *task = container_of(deadline, struct serve_task, quiet);
    if (!http_reply_started(task->req))
        http_sse_start(task->req);
}

static void on_dispose_waiting(void *arg)
{
    struct serve_task *task = arg;
    deadline_cancel(&task->serve->loop, &task->quiet);
}

void serve_task_wait(struct serve_task *task)
{
    arena_on_dispose(&task->req->arena, on_dispose_waiting, task);
    if (task->stream)
        deadline_arm(&task->serve->loop, &task->quiet, LIMIT_PING_MS, on_quiet);
}

void serve_task_start(struct serve_task *task)
{
    task->items = arena_calloc(&task->req->arena, task->count * sizeof *task->items);
    for (size_t i = 0; i < task->count; i++)
        task->items[i] = (struct serve_task_item){.task = task, .index = i};
    arena_on_dispose(&task->req->arena, on_dispose, task);
    deadline_cancel(&task->serve->loop, &task->quiet);
    if (pump(task) && task->stream)
        deadline_arm(&task->serve->loop, &task->quiet, LIMIT_PING_MS, on_quiet);
}

void serve_task_fail(struct serve_task *task, const struct err *err)
{
    struct http_req *req = task->req;
    struct err copy = *err;
    cancel_all(task);
    if (!http_reply_started(req)) {
        http_reply_error(req, &copy);
        return;
    }
    struct buf body;
    buf_init(&body, LIMIT_JSON_TEXT);
    openai_error_write(&body, &copy);
    http_sse_data(req, buf_view(&body));
    buf_release(&body);
    http_sse_end(req);
}

bool serve_task_check_memory(struct serve_task *task, const struct arena *memory)
{
    struct err err;
    if (memory->used <= LIMIT_LOGPROB_BYTES)
        return true;
    err_set_param(&err, ERR_REQUEST_TOO_LARGE, "logprobs",
                  "the log probabilities take more than %u bytes; ask for fewer", LIMIT_LOGPROB_BYTES);
    serve_task_fail(task, &err);
    return false;
}

static void on_proceed(struct http_req *req)
{
    struct serve_task *task = req->user;
    if (!task->paused)
        return;
    task->paused = false;
    for (size_t i = 0; i < task->next; i++)
        if (task->items[i].gen)
            gen_resume(task->items[i].gen);
}

static void pause_task(struct serve_task *task)
{
    task->paused = true;
    for (size_t i = 0; i < task->next; i++)
        if (task->items[i].gen)
            gen_pause(task->items[i].gen);
}

void serve_task_send(struct serve_task *task, struct str data)
{
    if (!http_reply_started(task->req))
        http_sse_start(task->req);
    http_reply_on_proceed(task->req, on_proceed);
    if (!http_sse_data(task->req, data) && !task->paused)
        pause_task(task);
}

/* The gateway counts tokens whether or not the client asked for usage: it asks for a comment, which clients of event
 * streams pass over. */
static void put_account(struct serve_task *task)
{
    const struct openai_timings *t = &task->timings;
    struct buf line;
    struct json j;
    buf_init(&line, LIMIT_USAGE_BYTES);
    buf_puts(&line, ": ");
    json_begin(&j, &line);
    json_open_object(&j, NULL);
    json_open_object(&j, "usage");
    json_put_int(&j, "prompt_tokens", t->prompt_tokens);
    json_put_int(&j, "completion_tokens", t->generated_tokens);
    json_open_object(&j, "prompt_tokens_details");
    json_put_int(&j, "cached_tokens", t->cached_tokens);
    json_close(&j);
    json_put_number(&j, "queue_ms", task->timings.queue_ms);
    json_close(&j);
    json_close(&j);
    json_finish(&j);
    buf_puts(&line, "\n\n");
    http_reply_write(task->req, buf_view(&line));
    buf_release(&line);
}

void serve_task_finish_stream(struct serve_task *task, bool done_mark)
{
    if (http_head_find(&task->req->head, "x-inferd-account").p && http_reply_started(task->req))
        put_account(task);
    if (done_mark)
        serve_task_send(task, STR("[DONE]"));
    http_sse_end(task->req);
}
