/* The scheduler's inside, shared by its files: sched.c (steps, life, the loop thread's side), sched_room.c (sequences
 * and their cells), sched_admit.c (who gets one), sched_batch.c (what a step decodes), sched_token.c (what comes out),
 * sched_end.c (starts and ends). Design and invariants stand at the head of sched.c. All functions here are the decode
 * thread's. */
#ifndef WORKER_SCHED_PRIVATE_H
#define WORKER_SCHED_PRIVATE_H

#include <pthread.h>

#include "worker/gen.h"
#include "worker/sample_pool.h"
#include "worker/sched.h"
#include "worker/seq.h"
#include "worker/share.h"

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
    struct list active;        /* all gens taken from the inbox and not ended */
    struct share_table shares; /* clients, with their waiting branches */
    bool batch_held;           /* in this step: interactive work runs or ran just now, and it is not batch's turn */
    bool yielding;             /* in this step: clients with many streams make room for another's prefill */
    bool made_way;             /* in this step: entirely, as that prefill is short; never in two in a row */
    unsigned turn;             /* whose they are, in turn */
    unsigned steps_held;       /* since batch had a turn */
    uint64_t interactive_ms;   /* when interactive work was last seen */
    bool left;                 /* in this step: a branch has left its sequence */
    uint64_t worked_ms;        /* when a step last found something to do */
    bool untidy;               /* since sched_tidy last had nothing to do */
    double clearing;           /* tokens of idle sequences that may be copied away beside the work */
    uint64_t tidied;           /* idle sequences left until then (seq_table's clock) were looked at by sched_tidy */
    struct branch **running;
    unsigned running_count;
    struct branch **order; /* of this step's prefills */
    struct seq_table table;
    struct kv_store *store;
    atomic_bool arrived;             /* interactive work is in the inbox; written under lock */
    _Atomic uint64_t arrived_client; /* whose, the last of it */
    bool gave_up;                    /* the last step */
    struct engine_row *rows;
    unsigned row_count, decode_rows;
    struct engine_span span; /* what is decoded instead of rows when its count, the row_count then, is not 0 */
    bool pictured;           /* the last step was one of a picture */
    unsigned row_limit;
    unsigned decode_branches; /* with rows in this step; the rest of decode_rows is guessed */
    struct draft_governor governor;
    struct draft_bid *bids; /* one a running branch at most, as the next two */
    struct branch **bidders;
    struct branch **picking; /* whose rows are being picked from */
    unsigned picking_count;
    float **row_logits;          /* of their rows */
    struct sample_pool *helpers; /* NULL until it has been worth it */
    bool guessless;              /* the engine had no room for guesses in this step */
    bool helpless;               /* no thread could be had */
    double step_seconds;         /* of this step's decode */
    struct sample_space space;
    struct buf text;
    struct sched_stats stats;
    double prefill_rate;   /* tokens a second, moving average; 0: not known yet */
    double decode_seconds; /* a step of one row a stream takes, moving average; 0: not known yet */
    double piece_rate;     /* tokens a second of prefill beside streams, moving average; 0: not known yet */
    double allowance;      /* prefill tokens that running streams have not noticed lately */
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

/* At work in this step, as far as others let it. */
static inline bool branch_is_stepped(const struct sched *sched, const struct branch *branch)
{
    return !gen_sits_out(branch->gen) && !branch_is_held(sched, branch);
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
void sched_forget(struct sched *sched, unsigned id);                    /* an idle sequence leaves the cache */
bool sched_make_room(struct sched *sched, unsigned needed, int except); /* forgets idle sequences, never `except` */
void sched_clear_way(struct sched *sched);    /* before a step: idle sequences that would make it slower leave */
void sched_forget_stale(struct sched *sched); /* one idle sequence, if they have more than their part of the cache */
bool sched_preempt(struct sched *sched);      /* false: only one branch runs */
void sched_checkpoint(struct sched *sched, struct branch *branch); /* its prefill has come to its checkpoint */
bool sched_tidy(struct sched *sched); /* one piece of work for a quiet moment; false: there is none */

/* sched_admit.c */
void sched_await(struct sched *sched, struct branch *branch, bool first); /* to its client's lane, its head if first */
bool sched_admit(struct sched *sched);              /* waiting branches to sequences; true: some were placed */
uint64_t sched_lull_end(const struct sched *sched); /* when batch work may run again; 0: it may, or there is none */

/* sched_batch.c */
void sched_batch_init(struct sched *sched); /* once the sizes are known */
void sched_batch_release(struct sched *sched);
void sched_build_batch(struct sched *sched);
bool sched_forgo_guesses(
    struct sched *sched); /* none in the batches built until one is decoded; false: there was none */

/* sched_token.c */
void sched_harvest(struct sched *sched); /* after a decode: tables, scores, sampling */
void sched_finish(struct sched *sched, struct branch *branch, enum gen_finish finish); /* with the text held back */

#endif
