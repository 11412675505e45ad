/* Picks tokens. Penalties and logit_bias first, then temperature, top_k, typical_p, top_p and min_p in this order,
 * each over what the one before it left; temperature 0 is argmax. Decode thread only. */
#ifndef WORKER_SAMPLE_H
#define WORKER_SAMPLE_H

#include "worker/engine.h"

struct sample_params {
    float temperature, top_p, min_p, typical_p;
    unsigned top_k;
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

struct sampler {
    struct sample_params params;
    unsigned vocabulary;
    uint64_t random[4];
    unsigned *counts;       /* generated tokens by id; NULL when no penalty asks for it */
    engine_token *distinct; /* those with a count */
    unsigned distinct_count, distinct_capacity;
    unsigned *stamps; /* for repeat_penalty: tokens already treated in this round */
    unsigned stamp;
};

void sample_space_init(struct sample_space *space, unsigned vocabulary);
void sample_space_release(struct sample_space *space);

void sampler_init(struct sampler *sampler, const struct sample_params *params, unsigned vocabulary);
void sampler_release(struct sampler *sampler);

/* Applies penalties and biases to logits in place. history[0..count): the sequence so far, prompt included. */
void sampler_adjust(struct sampler *sampler, float *logits, const engine_token *history, unsigned count);

/* The next token, or ENGINE_TOKEN_NONE when all logits are -INFINITY. */
engine_token sampler_pick(struct sampler *sampler, struct sample_space *space, const float *logits);

void sampler_accept(struct sampler *sampler, engine_token token); /* counts a generated token */

/* Natural log of the sum of exp(logits). */
float sample_log_sum(const float *logits, unsigned count);

/* The count most probable tokens, most probable first; returns how many there are. logit of each as given. */
unsigned sample_top(const float *logits, unsigned vocabulary, struct engine_candidate *out, unsigned count);

#endif
