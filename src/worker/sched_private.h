/* The scheduler's inside, shared by its files: sched.c (steps, life, the loop thread's side), sched_room.c (sequences
 * and their cells), sched_batch.c (what a step decodes), sched_token.c (what comes out), sched_end.c (starts and ends).
 * Design and invariants stand at the head of sched.c. All functions here are the decode thread's. */
#ifndef WORKER_SCHED_PRIVATE_H
#define WORKER_SCHED_PRIVATE_H

#include <pthread.h>

#include "worker/gen.h"
#include "worker/sched.h"
#include "worker/seq.h"

#define PRIORITIES 2

struct fatal_post;

struct sched {
    struct sched_config config;
    const struct engine_ops *ops;
    struct engine *engine;
    const struct engine_info *info;
    pthread_t thread;

    struct list gens; /* loop thread: all that live */
    struct fatal_post *fatal;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool kicked, stopping, failed; /* under lock */
    struct list inbox;
    unsigned queued;
    struct sched_stats snapshot;
    struct sched_slot *slots;

    /* decode thread */
    struct list active;                                  /* all gens taken from the inbox and not ended */
    struct list waiting[PRIORITIES], embeds[PRIORITIES]; /* 0 interactive, 1 batch */
    bool batch_held;     /* in this step: interactive work runs, and it is not batch's turn */
    unsigned steps_held; /* since batch had a turn */
    struct branch **running;
    unsigned running_count;
    struct seq_table table;
    struct engine_row *rows;
    unsigned row_count, decode_rows;
    unsigned row_limit;
    struct sample_space space;
    struct buf text;
    struct sched_stats stats;
    double prefill_rate; /* tokens a second, moving average; 0: not known yet */
};

static inline bool branch_is_running(const struct branch *branch)
{
    return branch->sequence >= 0;
}

static inline bool branch_is_decoding(const struct branch *branch)
{
    return branch->generated > 0 && branch->count - branch->done == 1;
}

static inline bool branch_is_held(const struct sched *sched, const struct branch *branch)
{
    return sched->batch_held && branch->gen->priority > 0;
}

static inline bool branch_is_scoring(const struct branch *branch)
{
    return branch->gen->score && branch->index == 0 && branch->gen->scored_count < branch->gen->prompt_count;
}

/* sched_end.c */
void sched_start_gen(struct sched *sched, struct gen *gen);            /* counts it as started; twice is fine */
void sched_leave_sequence(struct sched *sched, struct branch *branch); /* its tokens stay there as a cache */
void sched_end_branch(struct sched *sched, struct branch *branch);
void sched_finish_branch(struct sched *sched, struct branch *branch, enum gen_finish finish);
void sched_gen_done(struct sched *sched, struct gen *gen);
void sched_fail_gen(struct sched *sched, struct gen *gen, enum err_code code, const char *message);

/* sched_room.c */
bool sched_trim(struct sched *sched, unsigned id, unsigned length);     /* false: the sequence had to be emptied */
bool sched_make_room(struct sched *sched, unsigned needed, int except); /* forgets idle sequences, never `except` */
bool sched_preempt(struct sched *sched);                                /* false: only one branch runs */
bool sched_admit(struct sched *sched); /* waiting branches to sequences; true: some were placed */

/* sched_batch.c */
void sched_build_batch(struct sched *sched);

/* sched_token.c */
void sched_harvest(struct sched *sched); /* after a decode: tables, scores, sampling */
void sched_finish(struct sched *sched, struct branch *branch, enum gen_finish finish); /* with the text held back */

#endif
