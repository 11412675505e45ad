/* Included by the scheduler's tests after cmocka.h. */
#ifndef TESTS_UNIT_WORKER_GATE_H
#define TESTS_UNIT_WORKER_GATE_H

#include <pthread.h>
#include <sched.h>

#include "../../model/drive.h"

/* The fake engine behind a gate: every decode waits until the test lets it through, so that "during the third step"
 * is a place and not a guess. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool closed; /* decodes wait for permits */
    unsigned permits, waiting;
    unsigned decodes, rows; /* since reset */
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};

static inline enum engine_status gated_decode(struct engine *engine, const struct engine_row *rows, unsigned count,
                                              const struct engine_stop *stop)
{
    pthread_mutex_lock(&gate.lock);
    gate.waiting++;
    pthread_cond_broadcast(&gate.change);
    while (gate.closed && gate.permits == 0)
        pthread_cond_wait(&gate.change, &gate.lock);
    gate.permits -= gate.closed;
    gate.waiting--;
    gate.decodes++;
    gate.rows += count;
    pthread_mutex_unlock(&gate.lock);
    return engine_fake.decode(engine, rows, count, stop);
}

static inline void gate_set(bool closed, unsigned permits)
{
    pthread_mutex_lock(&gate.lock);
    gate.closed = closed;
    gate.permits = permits;
    pthread_cond_broadcast(&gate.change);
    pthread_mutex_unlock(&gate.lock);
}

static inline void gate_await(void) /* until a decode stands before the gate with no permit left */
{
    pthread_mutex_lock(&gate.lock);
    while (gate.waiting == 0 || gate.permits > 0)
        pthread_cond_wait(&gate.change, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

static inline void gate_count_anew(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.decodes = gate.rows = 0;
    pthread_mutex_unlock(&gate.lock);
}

static struct engine_ops ops;
static struct drive drive;

static inline void open_fake_with(const char *settings, struct sched_config config)
{
    struct err err = ERR_INIT;
    struct engine_config engine = {.path = settings};
    ops = engine_fake;
    ops.decode = gated_decode;
    gate_set(false, 0);
    gate.decodes = gate.rows = 0;
    config.ops = &ops;
    assert_true(drive_open_with(&drive, &engine, config, &err));
}

static inline void open_fake(const char *settings, unsigned queue)
{
    open_fake_with(settings, (struct sched_config){.queue_size = queue});
}

static inline void close_fake(void)
{
    gate_set(false, 0);
    drive_close(&drive);
}

static inline void start(struct drive_reply *reply, const char *prompt, unsigned max_tokens)
{
    struct gen_params params = drive_greedy(max_tokens);
    drive_reply_init(&drive, reply);
    assert_true(drive_text_request(&drive, reply, prompt, &params));
}

static inline void run(struct drive_reply *reply, const char *prompt, unsigned max_tokens)
{
    start(reply, prompt, max_tokens);
    loop_run(&drive.loop);
}

/* Waits until the decode thread has nothing running or queued: its steps are over. */
static inline void settle(void)
{
    struct sched_stats stats;
    do {
        sched_stats(drive.sched, &stats);
        uv_run(&drive.loop.uv, UV_RUN_NOWAIT);
        sched_yield();
    } while (stats.running > 0 || stats.queued > 0);
}

#endif
