/* The scheduler: a decode thread that owns the engine and steps all running sequences together (continuous
 * batching). Sequences join and leave at every step; a long prompt is prefilled in pieces beside running decodes; a
 * bounded queue feeds it; cancel takes effect within one step. Requests come from, and events go to, the worker's
 * loop thread; JSON never enters here. */
#ifndef WORKER_SCHED_H
#define WORKER_SCHED_H

#include "loop/loop.h"
#include "worker/engine.h"
#include "worker/kv_store.h"
#include "worker/picture.h"

struct sched;
struct gen; /* a submitted request, the loop thread's handle */

struct gen_bias {
    engine_token token;
    float bias;
};

/* How to pick tokens. Zero-initialise, then gen_params_default. */
struct gen_params {
    unsigned max_tokens;           /* per choice; 0 is allowed only with score_prompt; clamped to the context's room */
    float temperature;             /* 0: argmax, lowest id wins ties */
    float top_p, min_p, typical_p; /* 1, 0, 1: off */
    unsigned top_k;                /* 0: off */
    float top_n_sigma;             /* 0 or less: off */
    float xtc_probability, xtc_threshold;    /* 0, or above 0.5: off */
    float dynatemp_range, dynatemp_exponent; /* 0, any: off */
    unsigned mirostat;                       /* 0: off; 1 or 2 */
    float mirostat_tau, mirostat_eta;
    float dry_multiplier, dry_base; /* 0, any: off */
    unsigned dry_allowed_length;
    int dry_penalty_last_n; /* tokens, prompt included; -1: all that the context holds */
    const struct str *dry_breakers;
    size_t dry_breaker_count;
    float presence_penalty, frequency_penalty; /* over the generated tokens only, as OpenAI defines them */
    float repeat_penalty;                      /* 1: off */
    int repeat_last_n;                         /* tokens repeat_penalty looks back over, as dry_penalty_last_n */
    bool has_seed;
    uint64_t seed; /* choice i uses seed + i */
    const struct gen_bias *bias;
    size_t bias_count;
    unsigned logprobs; /* alternatives a token wants besides itself; with want_logprobs */
    bool want_logprobs;
    bool ignore_end;               /* go on behind end-of-generation tokens (benchmarks) */
    bool special_text;             /* render control tokens into the text (chat parsing needs some) */
    const engine_token *preserved; /* control tokens rendered even without special_text */
    size_t preserved_count;
    const struct str *stops; /* stop strings: matched on text, never leaked */
    size_t stop_count;
    const char *grammar; /* GBNF or NULL */
    bool grammar_lazy;
    const char *const *trigger_patterns;
    size_t trigger_pattern_count;
    const engine_token *trigger_tokens;
    size_t trigger_token_count;
    const char *grammar_prefill; /* text already in the prompt that the grammar has to accept first, or NULL */
};

void gen_params_default(struct gen_params *params);

enum gen_kind { GEN_GENERATE, GEN_EMBED };

struct gen_request {
    enum gen_kind kind;
    const engine_token *tokens; /* the prompt; copied */
    size_t token_count;
    const struct picture_place *pictures; /* in the prompt, by their start, apart; the ids of their cells are tokens */
    size_t picture_count;                 /* 0 with score_prompt and GEN_EMBED; each is referenced while needed */
    unsigned choices;                     /* sequences that share this prompt's prefill; 1.. */
    bool score_prompt;                    /* log probabilities of the prompt's own tokens (echo + logprobs) */
    struct gen_params params;             /* everything it points to is copied */
    uint64_t deadline_ms;                 /* loop_now_ms scale; 0: none. Passed while queued or running: ERR_TIMEOUT */
    int priority;                         /* 0 interactive, 1 batch */
    uint64_t client; /* whose request it is: clients share the engine fairly; 0: nobody in particular */
};

enum gen_finish { GEN_FINISH_STOP, GEN_FINISH_LENGTH };

struct gen_alternative {
    engine_token token;
    float logprob;
};

struct gen_logprob {
    engine_token token;
    float logprob;                     /* natural log, of the model's distribution at temperature 1 */
    const struct gen_alternative *top; /* most probable first */
    size_t top_count;
    bool first; /* the prompt's first token: no probability exists */
};

struct gen_timings {
    double queue_ms, prefill_ms, decode_ms;
    unsigned prompt_tokens, cached_tokens, generated_tokens;
    unsigned draft_tokens, draft_accepted; /* guessed by prompt lookup, and found right */
    unsigned queue_position;               /* requests that waited already when it came */
};

enum gen_event_kind {
    GEN_EVENT_STARTED,   /* left the queue; once */
    GEN_EVENT_PROMPT,    /* score_prompt: logprobs of all prompt tokens; once, before any text */
    GEN_EVENT_TEXT,      /* more of a choice: whole characters; text may be empty when only logprobs are due */
    GEN_EVENT_FINISHED,  /* a choice has ended */
    GEN_EVENT_EMBEDDING, /* GEN_EMBED's result, not normalised */
    GEN_EVENT_DONE,      /* all choices have ended; the last event */
    GEN_EVENT_FAILED     /* instead of DONE; the last event */
};

struct gen_event { /* valid during the call */
    enum gen_event_kind kind;
    unsigned choice;
    struct str text;
    const struct gen_logprob *logprobs; /* one a token, for the tokens whose text is now out */
    size_t logprob_count;
    unsigned token_count;      /* TEXT: generated tokens behind this text */
    enum gen_finish finish;    /* FINISHED */
    struct str stop;           /* FINISHED by a stop string: which, else STR_NONE */
    unsigned generated_tokens; /* FINISHED: this choice's tokens, end token not counted */
    double mean_logprob;       /* FINISHED with want_logprobs: for best_of */
    const float *embedding;
    const struct gen_timings *timings; /* DONE */
    const struct err *err;             /* FAILED */
};

typedef void gen_on_event(void *arg, const struct gen_event *event); /* loop thread */

/* Speculation by prompt lookup: what followed the last tokens before is decoded along with them and kept as far as it
 * is what would have been picked anyway. */
enum sched_lookup {
    SCHED_LOOKUP_OFF,
    SCHED_LOOKUP_AUTO, /* when it pays (draft.h) */
    SCHED_LOOKUP_EAGER /* wherever something repeats: for tests */
};

struct sched_config {
    const struct engine_ops *ops;
    struct engine *engine; /* taken over; closed by sched_free */
    struct loop *loop;     /* where events go */
    unsigned queue_size;
    uint64_t kv_memory, kv_disk; /* bytes that states outside the cache may take; 0: none are kept */
    const char *kv_folder;       /* for states that outlive the worker, or NULL */
    const char *kv_identity;     /* see kv_store.h; with kv_folder */
    enum sched_lookup lookup;
    void (*on_fatal)(void *arg, const struct err *err); /* loop thread: the engine failed; the worker must end */
    void *arg;
};

struct sched *sched_new(const struct sched_config *config); /* starts the decode thread */
/* Cancels everything, joins the thread, and writes what the cache holds to kv_folder (LIMIT_KV_FLUSH_MS at most). */
void sched_free(struct sched *sched);

/* NULL and *err: ERR_SERVER_OVERLOADED (queue full, with Retry-After), ERR_CONTEXT_LENGTH_EXCEEDED,
 * ERR_INVALID_PARAMETERS (grammar). The handle is valid until DONE or FAILED was delivered or gen_cancel called. */
struct gen *sched_submit(struct sched *sched, const struct gen_request *request, gen_on_event *on_event, void *arg,
                         struct err *err);
void gen_cancel(struct gen *gen); /* no event follows; the sequences are free within one step */
void gen_pause(struct gen *gen);  /* the reader is slow: its sequences sit out the steps until gen_resume */
void gen_resume(struct gen *gen);

struct sched_stats { /* a snapshot, any thread */
    unsigned queued, running, sequences, cells_used, cells_idle, cells;
    uint64_t prompt_tokens, cached_tokens, generated_tokens, steps, requests, cancelled;
    uint64_t draft_tokens, draft_accepted;
    double decode_seconds, prefill_seconds;
    uint64_t interrupted, preempted; /* steps of batch work cut short; branches sent back to the queue */
    struct kv_store_stats kv;
    double sample_seconds; /* between the engine's end and the next step's beginning: scoring, picking, text */
};
void sched_stats(struct sched *sched, struct sched_stats *ret_stats);

/* For /slots: state of sequence index; false behind the last. */
struct sched_slot {
    unsigned id;
    bool busy, prefilling, paused; /* paused: it waits for its reader */
    unsigned tokens, prompt_tokens, generated_tokens;
};
bool sched_slot(struct sched *sched, unsigned index, struct sched_slot *ret_slot);

#endif
