/* The sampler's inside, shared by its files: sample.c (life, the choice of a path, draws), sample_pass.c (passes over a
 * row of logits), sample_cut.c (lists of candidates and what shortens them), sample_penalty.c (what comes before). */
#ifndef WORKER_SAMPLE_PRIVATE_H
#define WORKER_SAMPLE_PRIVATE_H

#include "worker/sample.h"

#define SAMPLE_BLOCK   1024
#define SAMPLE_COLDEST 1e-5f /* temperatures below are 0: their inverse would overflow */

#define SAMPLE_FAINT (-88.0f) /* exponents below are 0 */

/* exp(x) for SAMPLE_FAINT <= x <= 0, relative error below 3e-7: 2^n by the exponent's bits times a polynomial. The bits
 * come out as 0 at SAMPLE_FAINT. */
static inline float sample_exp(float x)
{
    float scaled = x * 1.44269504f;
    int whole = (int)(scaled - 0.5f);
    float f = (scaled - (float)whole) * 0.69314718f;
    float p = 1.0f / 5040;
    p = p * f + 1.0f / 720;
    p = p * f + 1.0f / 120;
    p = p * f + 1.0f / 24;
    p = p * f + 1.0f / 6;
    p = p * f + 0.5f;
    p = p * f + 1.0f;
    p = p * f + 1.0f;
    union {
        int bits;
        float value;
    } power = {.bits = (whole + 127) << 23};
    return p * power.value;
}

static inline float sample_exp_negative(float x) /* any x <= 0 */
{
    return sample_exp(x > SAMPLE_FAINT ? x : SAMPLE_FAINT);
}

/* sample_pass.c */
float sample_maximum(const float *logits, unsigned count);
engine_token sample_first_at(const float *logits, unsigned count, float value);
/* weights[i] = exp((logits[i] - top) * scale); returns their sum. */
float sample_weigh(const float *restrict logits, unsigned count, float top, float scale, float *restrict weights);
int sample_compare(const void *a, const void *b); /* candidates: higher logit first, lower id among equals */

/* sample_cut.c: the candidates that the truncations leave, in space->candidates; returns how many, at least one. top:
 * the largest logit, finite. May take a random number. */
unsigned sample_cut(struct sampler *sampler, struct sample_space *space, const float *logits, float top);
/* All tokens whose logit is floor or more, and not -INFINITY. */
unsigned sample_list(const struct sampler *sampler, struct sample_space *space, const float *logits, float floor);
/* space->weights[i] = exp((candidates[i].logit - top) * scale); returns their sum. */
float sample_weigh_list(struct sample_space *space, unsigned count, float top, float scale);

/* sample.c */
double sample_uniform(struct sampler *sampler); /* [0, 1) */

#endif
