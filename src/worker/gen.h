/* A request inside the scheduler: its copy of what was asked, its choices (branches), and the events on their way to
 * the loop thread. Only the sched_*.c and gen.c see this.
 *
 * A gen is made on the loop thread, handed to the decode thread through the inbox, and handed back with its last
 * event, whose delivery frees it. Each field has one owner: */
#ifndef WORKER_GEN_H
#define WORKER_GEN_H

#include <stdatomic.h>

#include "base/arena.h"
#include "base/list.h"
#include "worker/detok.h"
#include "worker/draft.h"
#include "worker/lookup.h"
#include "worker/sample.h"
#include "worker/sched.h"

/* One choice. Decode thread, after submit. */
struct branch {
    struct list link; /* in a waiting list, or alone */
    struct gen *gen;
    unsigned index;
    int sequence;                  /* -1: none */
    unsigned slot;                 /* its number among the running */
    uint64_t turn;                 /* virtual time of its prefill: see share.h */
    unsigned overtaken;            /* waiting branches with a hotter prefix that went first */
    unsigned checkpoint;           /* prefill stops behind so many tokens to keep the state; 0: nowhere */
    engine_token *tokens;          /* prompt, then what was generated */
    unsigned count, done;          /* tokens there are; of these decoded */
    unsigned first_row, row_count; /* in the step's batch */
    unsigned drafted;              /* of these rows, the last: guessed tokens; they lie in tokens[count..) */
    unsigned picked;               /* tokens picked from the rows; they lie in tokens[count..) until they count */
    struct lookup lookup;
    struct draft_record record;
    unsigned generated;
    bool ended;
    struct sampler sampler;
    struct detok detok;
    struct engine_grammar *grammar;
    struct gen_logprob *logprobs; /* of tokens whose text is not out yet */
    struct gen_alternative *tops; /* params.logprobs for each of them */
    unsigned logprob_count, logprob_capacity;
    unsigned unsummed; /* of logprobs, the last: not in the sum yet */
    double logprob_sum;
};

struct record;

struct gen {
    /* loop thread */
    struct list link; /* in sched->gens */
    struct sched *sched;
    gen_on_event *on_event;
    void *arg;
    bool muted; /* cancelled: no more events */

    /* either */
    atomic_bool cancel, paused;
    atomic_uint undelivered;

    /* fixed at submit; everything lies in the arena */
    struct arena arena;
    enum gen_kind kind;
    unsigned choices, prompt_count, max_tokens;
    const engine_token *prompt;
    const struct picture_place *pictures; /* with a reference to each */
    unsigned picture_count;
    bool score;
    struct gen_params params;
    uint64_t deadline_ms, submitted_ns;
    int priority;
    uint64_t client;

    /* decode thread */
    struct list queue; /* in the inbox, later in sched->active */
    struct share *share;
    struct branch *branches;
    unsigned live; /* branches that have not ended */
    bool started;
    uint64_t started_ns, first_token_ns;
    struct gen_logprob *scored; /* one a prompt token */
    unsigned scored_count;
    struct gen_timings timings;
    float *embedding;
    struct err err;
    struct record *first, *last; /* events of this step, not posted yet */
};

/* Copies the request. The grammar is parsed once and copied for the other choices: false and *err when it is wrong. */
struct gen *gen_new(const struct gen_request *request, const struct engine_ops *ops, const struct engine *engine,
                    struct err *err);
void gen_free(struct gen *gen);

/* The picture that has the cell at this position; NULL: none. */
const struct picture_place *gen_picture_at(const struct gen *gen, unsigned position);
/* Where the next picture behind position begins; UINT_MAX: nowhere. */
unsigned gen_next_picture(const struct gen *gen, unsigned position);
/* The longest beginning of at most length tokens that no picture's middle ends: pictures are found whole or not. */
unsigned gen_whole(const struct gen *gen, unsigned length);

void branch_release(struct branch *branch, const struct engine_ops *ops); /* sampler, detok, grammar; twice is fine */

/* Adds an event (copied, with its text and logprobs; the rest must live as long as the gen). */
void gen_add_event(struct gen *gen, const struct gen_event *event);
void gen_post_events(struct gen *gen, struct loop *loop, bool last); /* all added so far, as one post */

/* The reader is slow, or the loop has not taken what it was given: no step for this one. */
static inline bool gen_sits_out(const struct gen *gen)
{
    return atomic_load_explicit(&gen->paused, memory_order_relaxed) ||
           atomic_load_explicit(&gen->undelivered, memory_order_relaxed) >= LIMIT_UNDELIVERED;
}

void sched_kick(struct sched *sched); /* any thread: something changed */

#endif
