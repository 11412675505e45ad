/* What we need of libuv beyond its own calls: deadlines that cost nothing while nothing happens, blocking jobs,
 * posting from other threads. One loop per thread; everything here belongs to the loop's thread unless it says
 * otherwise. */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/list.h"

/* Deadlines of one duration are due in the order of arming, so each duration has a queue of its own; those beyond
 * the table share the last queue, kept in order by walking. */
#define LOOP_QUEUES     16
#define LOOP_READ_BYTES (64 * 1024)

struct loop {
    uv_loop_t uv;
    struct loop_queue {
        uint64_t after_ms;
        struct list deadlines; /* struct deadline, soonest first */
    } queues[LOOP_QUEUES];
    size_t queue_count;
    uint64_t timer_due_ms; /* 0: the timer is not running */
    uv_timer_t deadline_timer;
    struct list soon; /* struct loop_soon */
    uv_prepare_t before_wait;
    char *read_buffer; /* LOOP_READ_BYTES, shared by all sockets: valid inside one read callback */
    struct list posts; /* struct loop_post, guarded by post_lock */
    uv_mutex_t post_lock;
    uv_async_t post_wake;
    bool closing;
};

void loop_init(struct loop *loop);
void loop_run(struct loop *loop); /* until loop_stop */
void loop_stop(struct loop *loop);
/* Closes what loop_init opened and runs until every handle is closed. All users must have closed theirs. */
void loop_release(struct loop *loop);

uint64_t loop_now_ms(struct loop *loop); /* cached at the start of this turn */

/* A deadline embedded in its owner; zero-initialise it. Arming and cancelling are O(1) for the first durations that
 * the program uses. Resolution: one millisecond. */
struct deadline {
    struct list link;
    uint64_t due_ms; /* 0: not armed */
    void (*on_due)(struct deadline *deadline);
};

void deadline_arm(struct loop *loop, struct deadline *d, uint64_t after_ms, void (*on_due)(struct deadline *));
void deadline_cancel(struct loop *loop, struct deadline *d); /* not armed: nothing happens */

/* Something to do before the loop waits again, outside the caller's stack: how a callee avoids calling back into its
 * caller. Embed it, zero-initialised; asking twice runs it once. */
struct loop_soon {
    struct list link;
    void (*on_soon)(struct loop_soon *soon);
};

void loop_soon(struct loop *loop, struct loop_soon *soon, void (*on_soon)(struct loop_soon *soon));
void loop_soon_cancel(struct loop_soon *soon); /* not asked for: nothing happens */

/* A message from any thread to the loop's. on_post runs on the loop thread, in order of posting; the poster gives the
 * memory away and on_post releases it. One wake-up per burst. After loop_release nothing may be posted. */
struct loop_post {
    struct list link;
    void (*on_post)(struct loop_post *post);
};

void loop_send(struct loop *loop, struct loop_post *post, void (*on_post)(struct loop_post *post)); /* any thread */

/* Runs work(job) on a pool thread, then done(job) on the loop thread. The job is the caller's memory and must live
 * until done. */
struct loop_job {
    uv_work_t uv;
    void (*work)(struct loop_job *job);
    void (*done)(struct loop_job *job);
};

void loop_work(struct loop *loop, struct loop_job *job, void (*work)(struct loop_job *),
               void (*done)(struct loop_job *));

#endif
