/* Picks tokens, in llama.cpp's order: logit_bias, penalties, DRY; then top_n_sigma, top_k, typical_p, top_p, min_p and
 * xtc, each over what the one before it left; then temperature and the draw. Mirostat stands in place of all between
 * penalties and draw. Temperature 0 is argmax of what is left. Decode thread only. */
#ifndef WORKER_SAMPLE_H
#define WORKER_SAMPLE_H

#include "worker/dry.h"
#include "worker/engine.h"

struct sample_params {
    float temperature, top_p, min_p, typical_p;
    unsigned top_k;
    float top_n_sigma;                       /* 0: off, as below */
    float xtc_probability, xtc_threshold;    /* probability 0 or threshold above 0.5: off */
    float dynatemp_range, dynatemp_exponent; /* range 0: off */
    unsigned mirostat;                       /* 0: off, 1 or 2 */
    float mirostat_tau, mirostat_eta;        /* bits of surprise aimed at; share of the error corrected */
    struct dry_params dry;
    float presence_penalty, frequency_penalty, repeat_penalty;
    unsigned repeat_last_n;
    const engine_token *bias_tokens; /* must outlive the sampler */
    const float *bias_values;
    size_t bias_count;
    uint64_t seed;
};

/* Scratch for one vocabulary, shared by all samplers of a thread. */
struct sample_space {
    unsigned vocabulary;
    struct engine_candidate *candidates;
    float *weights;
    float *raw;
};

enum sampler_kind { SAMPLER_GREEDY, SAMPLER_PLAIN, SAMPLER_CUT, SAMPLER_MIROSTAT }; /* PLAIN: temperature only */

struct sampler {
    struct sample_params params;
    enum sampler_kind kind;
    unsigned vocabulary;
    uint64_t random[4];
    unsigned *counts;       /* generated tokens by id; NULL when no penalty asks for it */
    engine_token *distinct; /* those with a count */
    unsigned distinct_count, distinct_capacity;
    unsigned *stamps; /* for repeat_penalty: tokens already treated in this round */
    unsigned stamp;
    float mu, surprise; /* mirostat: most surprise allowed; that of the last pick */
    struct dry *dry;
};

void sample_space_init(struct sample_space *space, unsigned vocabulary);
void sample_space_release(struct sample_space *space);

void sampler_init(struct sampler *sampler, const struct sample_params *params, unsigned vocabulary);
void sampler_release(struct sampler *sampler);

/* Applies penalties and biases to logits in place. history[0..count): the sequence so far, prompt included. */
void sampler_adjust(struct sampler *sampler, float *logits, const engine_token *history, unsigned count);

/* The next token, or ENGINE_TOKEN_NONE when all logits are -INFINITY. May be asked again before sampler_accept. */
engine_token sampler_pick(struct sampler *sampler, struct sample_space *space, const float *logits);

/* For grammars. best[0..count): those of the most probable tokens that may be picked, best first; the others of them
 * are -INFINITY in logits. Of the rest, with logits of lowest at most, it is not known which may be. True: whichever it
 * is, sampler_pick picks the same. */
bool sampler_is_settled(const struct sampler *sampler, struct sample_space *space, const float *logits,
                        const struct engine_candidate *best, unsigned count, float lowest);

/* Counts a generated token: the last one picked. */
void sampler_accept(struct sampler *sampler, engine_token token);

/* Natural log of the sum of exp(logits). */
float sample_log_sum(const float *logits, unsigned count);

/* The count most probable tokens, most probable first; returns how many there are. logit of each as given. */
unsigned sample_top(const float *logits, unsigned vocabulary, struct engine_candidate *out, unsigned count);

#endif
