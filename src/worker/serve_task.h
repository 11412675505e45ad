/* One HTTP request's prompts on their way through the scheduler: a few are submitted at a time, their events come to
 * one place, and the request's death cancels what still runs. A surface embeds a struct serve_task as the first
 * member of its own struct, which lies in the request's arena and in req->user. */
#ifndef WORKER_SERVE_TASK_H
#define WORKER_SERVE_TASK_H

#include "worker/serve.h"

struct serve_task_item;

struct serve_task {
    struct serve *serve;
    struct http_req *req;
    size_t count;       /* prompts */
    const char *member; /* of the request's JSON that holds them: what errors speak of */
    bool stream;

    /* What to submit for prompt index: tokens, choices, params; the deadline is filled in here. */
    void (*on_fill)(struct serve_task *task, size_t index, struct gen_request *request);
    /* Every event but FAILED. */
    void (*on_event)(struct serve_task *task, size_t index, const struct gen_event *event);
    /* All prompts are done: the surface ends the reply, and must not touch the task afterwards. */
    void (*on_end)(struct serve_task *task);

    struct openai_timings timings; /* sums over the prompts that are done */

    struct serve_task_item *items;
    size_t next, running, done;
    bool paused;
    struct deadline quiet; /* a stream without a token starts its reply then, for the sake of keep-alives */
};

/* The prompt takes time to make: until serve_task_start a stream's connection is kept alive. */
void serve_task_wait(struct serve_task *task);

/* Submits. The task's public members are filled in. */
void serve_task_start(struct serve_task *task);

/* Answers with the error, or ends the stream with it, and cancels everything. The task is gone afterwards. */
void serve_task_fail(struct serve_task *task, const struct err *err);

/* Are the log probabilities kept in memory within LIMIT_LOGPROB_BYTES? False: the task has failed and is gone. */
bool serve_task_check_memory(struct serve_task *task, const struct arena *memory);

/* An event of the stream, in a write of its own; starts the reply. A slow reader pauses the task's sequences. */
void serve_task_send(struct serve_task *task, struct str data);

/* Ends a stream: with [DONE] when done_mark. */
void serve_task_finish_stream(struct serve_task *task, bool done_mark);

#endif
