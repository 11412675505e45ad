/* Where branches and gens start, end and fail: the only place that takes them out of lists and sequences. */
#include "worker/sched_private.h"

#include "base/clock.h"

/* Takes the branch out of its sequence, whose tokens stay as a cache. */
void sched_leave_sequence(struct sched *sched, struct branch *branch)
{
    unsigned at = 0;
    while (sched->running[at] != branch)
        at++;
    sched->running_count--;
    memmove(&sched->running[at], &sched->running[at + 1], (sched->running_count - at) * sizeof *sched->running);
    seq_give(&sched->table, (unsigned)branch->sequence);
    branch->gen->share->running--;
    sched->left = true;
    branch->sequence = -1;
    branch->row_count = 0;
}

void sched_end_branch(struct sched *sched, struct branch *branch)
{
    list_remove(&branch->link);
    if (branch_is_running(branch))
        sched_leave_sequence(sched, branch);
    branch_release(branch, sched->ops);
    branch->ended = true;
    branch->gen->live--;
}

static void count_started(struct sched *sched)
{
    pthread_mutex_lock(&sched->lock);
    sched->queued--;
    pthread_mutex_unlock(&sched->lock);
}

/* Ends the gen with its last event; the loop owns it from here on. */
static void gen_end(struct sched *sched, struct gen *gen, const struct gen_event *event)
{
    for (unsigned i = 0; i < gen->choices; i++)
        if (!gen->branches[i].ended)
            sched_end_branch(sched, &gen->branches[i]);
    list_remove(&gen->queue);
    if (!gen->started)
        count_started(sched);
    share_leave(gen->share);
    gen_add_event(gen, event);
    gen_post_events(gen, sched->config.loop, true);
}

void sched_fail_gen(struct sched *sched, struct gen *gen, enum err_code code, const char *message)
{
    err_set(&gen->err, code, "%s", message);
    gen_end(sched, gen, &(struct gen_event){.kind = GEN_EVENT_FAILED, .err = &gen->err});
}

static double ms_between(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) / 1e6 : 0;
}

void sched_gen_done(struct sched *sched, struct gen *gen)
{
    uint64_t now = clock_ns(), first = gen->first_token_ns ? gen->first_token_ns : now;
    gen->timings.queue_ms = ms_between(gen->submitted_ns, gen->started_ns);
    gen->timings.prefill_ms = ms_between(gen->started_ns, first);
    gen->timings.decode_ms = ms_between(first, now);
    sched->stats.requests++;
    gen_end(sched, gen, &(struct gen_event){.kind = GEN_EVENT_DONE, .timings = &gen->timings});
}

void sched_finish_branch(struct sched *sched, struct branch *branch, enum gen_finish finish)
{
    struct gen *gen = branch->gen;
    int stop = branch->detok.stopped;
    gen_add_event(gen,
                  &(struct gen_event){.kind = GEN_EVENT_FINISHED,
                                      .choice = branch->index,
                                      .finish = finish,
                                      .stop = stop >= 0 ? gen->params.stops[stop] : STR_NONE,
                                      .generated_tokens = branch->generated,
                                      .mean_logprob = branch->generated ? branch->logprob_sum / branch->generated : 0});
    sched_end_branch(sched, branch);
    if (gen->live == 0)
        sched_gen_done(sched, gen);
}

void sched_start_gen(struct sched *sched, struct gen *gen)
{
    if (gen->started)
        return;
    gen->started = true;
    gen->started_ns = clock_ns();
    count_started(sched);
    gen_add_event(gen, &(struct gen_event){.kind = GEN_EVENT_STARTED});
}
