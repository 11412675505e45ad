/* Passes over a row of logits. Loops are written so that the compiler vectorises them: LANES independent accumulators,
 * an exponential without branches, no early exit. */
#include "worker/sample_private.h"

#include <math.h>

#define LANES 16

float sample_maximum(const float *logits, unsigned count)
{
    float lane[LANES];
    for (unsigned j = 0; j < LANES; j++)
        lane[j] = -INFINITY;
    unsigned i = 0;
    for (; i + LANES <= count; i += LANES)
        for (unsigned j = 0; j < LANES; j++)
            lane[j] = logits[i + j] > lane[j] ? logits[i + j] : lane[j];
    for (; i < count; i++)
        lane[0] = logits[i] > lane[0] ? logits[i] : lane[0];
    for (unsigned j = 1; j < LANES; j++)
        lane[0] = lane[j] > lane[0] ? lane[j] : lane[0];
    return lane[0];
}

engine_token sample_first_at(const float *logits, unsigned count, float value)
{
    for (unsigned i = 0; i < count; i++)
        if (logits[i] == value)
            return (engine_token)i;
    return ENGINE_TOKEN_NONE;
}

static inline __attribute__((always_inline)) float weigh(const float *restrict logits, unsigned count, float top,
                                                         float scale, float *restrict weights)
{
    float lane[LANES] = {0}, rest = 0;
    unsigned i = 0;
    for (unsigned j = 0; j < count; j++) {
        float x = (logits[j] - top) * scale;
        weights[j] = x > SAMPLE_FAINT ? x : SAMPLE_FAINT;
    }
    for (unsigned j = 0; j < count; j++) /* in a loop of its own: joined, the bound becomes a branch */
        weights[j] = sample_exp(weights[j]);
    for (; i + LANES <= count; i += LANES)
        for (unsigned j = 0; j < LANES; j++)
            lane[j] += weights[i + j];
    for (; i < count; i++)
        rest += weights[i];
    for (unsigned j = 0; j < LANES; j++)
        rest += lane[j];
    return rest;
}

/* The program is built for any x86-64; this is the one pass whose arithmetic, not memory, takes the time. */
#ifdef __x86_64__
static __attribute__((target("avx2,fma"))) float weigh_wide(const float *restrict logits, unsigned count, float top,
                                                            float scale, float *restrict weights)
{
    return weigh(logits, count, top, scale, weights);
}

float sample_weigh(const float *restrict logits, unsigned count, float top, float scale, float *restrict weights)
{
    bool wide = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    return wide ? weigh_wide(logits, count, top, scale, weights) : weigh(logits, count, top, scale, weights);
}
#else
float sample_weigh(const float *restrict logits, unsigned count, float top, float scale, float *restrict weights)
{
    return weigh(logits, count, top, scale, weights);
}
#endif

float sample_log_sum(const float *logits, unsigned count)
{
    float top = sample_maximum(logits, count), block[SAMPLE_BLOCK];
    double sum = 0;
    for (unsigned i = 0; i < count; i += SAMPLE_BLOCK)
        sum += sample_weigh(logits + i, count - i < SAMPLE_BLOCK ? count - i : SAMPLE_BLOCK, top, 1, block);
    return top + (float)log(sum);
}

/* Higher logit first, lower id among equals. */
static bool before(const struct engine_candidate *a, const struct engine_candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->token < b->token);
}

int sample_compare(const void *a, const void *b)
{
    return before(a, b) ? -1 : 1;
}

static void sift_down(struct engine_candidate *heap, unsigned count, unsigned at)
{
    for (;;) {
        unsigned child = 2 * at + 1;
        if (child >= count)
            return;
        if (child + 1 < count && before(&heap[child], &heap[child + 1]))
            child++;
        if (before(&heap[child], &heap[at]))
            return;
        struct engine_candidate swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
        at = child;
    }
}

unsigned sample_top(const float *logits, unsigned vocabulary, struct engine_candidate *out, unsigned count)
{
    count = count < vocabulary ? count : vocabulary;
    if (count == 0)
        return 0;
    for (unsigned i = 0; i < count; i++)
        out[i] = (struct engine_candidate){.token = (engine_token)i, .logit = logits[i]};
    for (unsigned i = count / 2; i-- > 0;)
        sift_down(out, count, i);
    float worst = out[0].logit;
    for (unsigned i = count; i < vocabulary; i++) {
        if (!(logits[i] > worst))
            continue;
        out[0] = (struct engine_candidate){.token = (engine_token)i, .logit = logits[i]};
        sift_down(out, count, 0);
        worst = out[0].logit;
    }
    qsort(out, count, sizeof *out, sample_compare);
    while (count > 0 && out[count - 1].logit == -INFINITY)
        count--;
    return count;
}
