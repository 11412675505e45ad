/* The scheduler's counters are looked at some times a second. When nothing has moved for LIMIT_TUNE_IDLE_MS, steps run
 * on a pool thread, one after the other, as long as nothing comes; what comes meanwhile is not held up, it only shares
 * the cores for the rest of one step, whose time is then thrown away. The contexts stay until the measurement is done:
 * they are small. */
#include "worker/serve_tune.h"

#include "obs/log.h"

#define LOOKS (LIMIT_TUNE_IDLE_MS / LIMIT_TUNE_LOOK_MS)

static void on_look(struct deadline *deadline);

static void look_later(struct serve_tune *s)
{
    deadline_arm(s->loop, &s->look, LIMIT_TUNE_LOOK_MS, on_look);
}

/* Has nothing happened since the last look? */
static bool is_quiet(struct serve_tune *s)
{
    struct sched_stats now;
    sched_stats(s->sched, &now);
    bool quiet = now.queued == 0 && now.running == 0 && now.steps == s->seen.steps;
    s->seen = now;
    return quiet;
}

static void end(struct serve_tune *s)
{
    deadline_cancel(s->loop, &s->look);
    tune_free(s->tune);
    s->tune = NULL;
}

static void finish(struct serve_tune *s)
{
    struct err err = ERR_INIT;
    struct tuned t;
    if (s->state == TUNE_FAILED)
        log_warn("attention cannot be measured", "reason=no memory for it");
    else if (!tune_finish(s->tune, &t, &err))
        log_warn("attention was not measured", "reason=%s", err.message);
    else
        log_info("attention measured for the next load",
                 "flash=%s decode_tps_on=%.1f decode_tps_off=%.1f prompt_tps_on=%.1f prompt_tps_off=%.1f ubatch=%u "
                 "ubatch_tps=%.1f ubatch_tps_default=%.1f",
                 t.flash ? "on" : "off", t.decode_tps_on, t.decode_tps_off, t.prompt_tps_on, t.prompt_tps_off, t.ubatch,
                 t.ubatch_tps, t.ubatch_tps_default);
    end(s);
}

static void step_work(struct loop_job *job)
{
    struct serve_tune *s = container_of(job, struct serve_tune, job);
    s->state = tune_step(s->tune);
}

static void step_done(struct loop_job *job);

static void step(struct serve_tune *s)
{
    s->stepping = true;
    loop_work(s->loop, &s->job, step_work, step_done);
}

static void step_done(struct loop_job *job)
{
    struct serve_tune *s = container_of(job, struct serve_tune, job);
    bool quiet = is_quiet(s);
    s->stepping = false;
    if (!quiet)
        tune_disturbed(s->tune);
    if (s->stopping) {
        end(s);
        s->on_stopped(s->arg);
    } else if (s->state != TUNE_MORE) {
        finish(s);
    } else if (quiet) {
        step(s);
    } else {
        s->idle_looks = 0;
        look_later(s);
    }
}

static void on_look(struct deadline *deadline)
{
    struct serve_tune *s = container_of(deadline, struct serve_tune, look);
    s->idle_looks = is_quiet(s) ? s->idle_looks + 1 : 0;
    if (s->idle_looks < LOOKS) {
        look_later(s);
        return;
    }
    log_debug("attention is being measured", "idle_ms=%d", LIMIT_TUNE_IDLE_MS);
    step(s);
}

void serve_tune_start(struct serve_tune *s, const struct tune_setup *setup, struct loop *loop, struct sched *sched)
{
    if (setup->info->attention.source != ENGINE_CHOICE_DEFAULT)
        return;
    *s = (struct serve_tune){.tune = tune_new(setup), .loop = loop, .sched = sched};
    if (s->tune)
        look_later(s);
}

bool serve_tune_stop(struct serve_tune *s, void (*on_stopped)(void *arg), void *arg)
{
    s->stopping = true;
    s->on_stopped = on_stopped;
    s->arg = arg;
    if (s->stepping)
        return false;
    if (s->tune)
        end(s);
    return true;
}
