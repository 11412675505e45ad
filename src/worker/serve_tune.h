/* Measures which attention is faster while the worker has nothing to do, for the next load of the model. */
#ifndef WORKER_SERVE_TUNE_H
#define WORKER_SERVE_TUNE_H

#include "loop/loop.h"
#include "worker/sched.h"
#include "worker/tune.h"

/* Loop thread, but for the step that runs on a pool thread while stepping is true. */
struct serve_tune {
    struct tune *tune; /* NULL: nothing to measure, or done */
    struct loop *loop;
    struct sched *sched;
    struct deadline look;
    struct loop_job job;
    bool stepping, stopping;
    enum tune_state state;   /* of the last step */
    struct sched_stats seen; /* at the last look */
    unsigned idle_looks;     /* in a row */
    void (*on_stopped)(void *arg);
    void *arg;
};

/* Begins to look for idle time when there is something to measure: setup->dir is set, the choice is left to us, and
 * nothing is known yet. What setup points to must stay until the end. */
void serve_tune_start(struct serve_tune *s, const struct tune_setup *setup, struct loop *loop, struct sched *sched);

/* Before the scheduler goes. true: stopped. false: a step is running (at most TUNE_PIECE tokens), on_stopped will be
 * called when it has ended. A second call changes nothing. */
bool serve_tune_stop(struct serve_tune *s, void (*on_stopped)(void *arg), void *arg);

#endif
