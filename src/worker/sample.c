/* A vocabulary has up to 262 144 tokens, and this runs for every token of every stream, so nothing here sorts or even
 * lists the whole of it on the usual paths:
 *   greedy            one pass for the maximum, one for its first index
 *   temperature only  the maximum, one pass of exponentials that keeps a sum for every block of tokens, then a walk
 *                     over the block sums and inside one block
 *   top_k             one pass with a heap of k
 *   top_p, min_p      a histogram of probability mass over the distance from the maximum finds the few bins that
 *                     matter; only the bin in which the mass crosses top_p is sorted
 * Loops are written so that the compiler vectorises them: LANES independent accumulators, an exponential without
 * branches, no early exit. */
#include "worker/sample.h"

#include <assert.h>
#include <math.h>

#include "base/mem.h"

#define LANES     16
#define BLOCK     1024
#define BINS      512
#define COLDEST   1e-5f /* below, its inverse would overflow: argmax */
#define BIN_RANGE 32.0f /* nats below the maximum that the histogram resolves; the rest shares the last bin */

void sample_space_init(struct sample_space *space, unsigned vocabulary)
{
    space->vocabulary = vocabulary;
    space->candidates = mem_calloc(vocabulary, sizeof *space->candidates);
    space->weights = mem_calloc(vocabulary, sizeof *space->weights);
    space->raw = mem_calloc(vocabulary, sizeof *space->raw);
}

void sample_space_release(struct sample_space *space)
{
    mem_free(space->candidates);
    mem_free(space->weights);
    mem_free(space->raw);
    *space = (struct sample_space){0};
}

/* splitmix64 fills the state of xoshiro256** */
static uint64_t seed_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotate(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static double uniform(uint64_t s[4]) /* [0, 1) */
{
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return (double)(result >> 11) * 0x1.0p-53;
}

void sampler_init(struct sampler *sampler, const struct sample_params *params, unsigned vocabulary)
{
    *sampler = (struct sampler){.params = *params, .vocabulary = vocabulary};
    uint64_t seed = params->seed;
    for (int i = 0; i < 4; i++)
        sampler->random[i] = seed_next(&seed);
    if (params->presence_penalty != 0 || params->frequency_penalty != 0)
        sampler->counts = mem_calloc(vocabulary, sizeof *sampler->counts);
    if (params->repeat_penalty != 1 && params->repeat_last_n > 0)
        sampler->stamps = mem_calloc(vocabulary, sizeof *sampler->stamps);
}

void sampler_release(struct sampler *sampler)
{
    mem_free(sampler->counts);
    mem_free(sampler->distinct);
    mem_free(sampler->stamps);
    *sampler = (struct sampler){0};
}

static void penalise_repeats(struct sampler *sampler, float *logits, const engine_token *history, unsigned count)
{
    unsigned window = sampler->params.repeat_last_n < count ? sampler->params.repeat_last_n : count;
    float penalty = sampler->params.repeat_penalty;
    sampler->stamp++;
    for (unsigned i = count - window; i < count; i++) {
        unsigned token = (unsigned)history[i];
        if (token >= sampler->vocabulary || sampler->stamps[token] == sampler->stamp)
            continue;
        sampler->stamps[token] = sampler->stamp;
        logits[token] = logits[token] > 0 ? logits[token] / penalty : logits[token] * penalty;
    }
}

void sampler_adjust(struct sampler *sampler, float *logits, const engine_token *history, unsigned count)
{
    const struct sample_params *params = &sampler->params;
    if (sampler->stamps)
        penalise_repeats(sampler, logits, history, count);
    for (unsigned i = 0; i < sampler->distinct_count; i++) {
        engine_token token = sampler->distinct[i];
        logits[token] -= (float)sampler->counts[token] * params->frequency_penalty + params->presence_penalty;
    }
    for (size_t i = 0; i < params->bias_count; i++)
        if ((unsigned)params->bias_tokens[i] < sampler->vocabulary)
            logits[params->bias_tokens[i]] += params->bias_values[i];
}

void sampler_accept(struct sampler *sampler, engine_token token)
{
    if (!sampler->counts || (unsigned)token >= sampler->vocabulary || sampler->counts[token]++ > 0)
        return;
    if (sampler->distinct_count == sampler->distinct_capacity) {
        sampler->distinct_capacity = sampler->distinct_capacity ? 2 * sampler->distinct_capacity : 64;
        sampler->distinct = mem_realloc(sampler->distinct, sampler->distinct_capacity * sizeof *sampler->distinct);
    }
    sampler->distinct[sampler->distinct_count++] = token;
}

static float maximum(const float *logits, unsigned count)
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

static engine_token first_at(const float *logits, unsigned count, float value)
{
    for (unsigned i = 0; i < count; i++)
        if (logits[i] == value)
            return (engine_token)i;
    return ENGINE_TOKEN_NONE;
}

/* exp(x) for x <= 0, relative error below 3e-7, 0 below -87: 2^n by the exponent's bits times a polynomial. */
static inline float exp_negative(float x)
{
    float clamped = x > -87.0f ? x : -87.0f;
    float scaled = clamped * 1.44269504f;
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
    return x > -87.0f ? p * power.value : 0.0f;
}

/* weights[i] = exp((logits[i] - top) * scale); returns their sum. */
static float weigh(const float *restrict logits, unsigned count, float top, float scale, float *restrict weights)
{
    float lane[LANES] = {0}, rest = 0;
    unsigned i = 0;
    for (; i + LANES <= count; i += LANES)
        for (unsigned j = 0; j < LANES; j++) {
            float w = exp_negative((logits[i + j] - top) * scale);
            weights[i + j] = w;
            lane[j] += w;
        }
    for (; i < count; i++)
        rest += weights[i] = exp_negative((logits[i] - top) * scale);
    for (unsigned j = 0; j < LANES; j++)
        rest += lane[j];
    return rest;
}

float sample_log_sum(const float *logits, unsigned count)
{
    float top = maximum(logits, count), block[BLOCK];
    double sum = 0;
    for (unsigned i = 0; i < count; i += BLOCK)
        sum += weigh(logits + i, count - i < BLOCK ? count - i : BLOCK, top, 1, block);
    return top + (float)log(sum);
}

static engine_token draw_all(struct sampler *sampler, struct sample_space *space, const float *logits, float top)
{
    float scale = 1 / sampler->params.temperature, sums[1024];
    unsigned count = sampler->vocabulary, blocks = 0, size = BLOCK;
    while ((count + size - 1) / size > 1024)
        size *= 2;
    double total = 0;
    for (unsigned i = 0; i < count; i += size, blocks++) {
        sums[blocks] = weigh(logits + i, count - i < size ? count - i : size, top, scale, space->weights + i);
        total += sums[blocks];
    }
    double left = uniform(sampler->random) * total;
    unsigned block = 0;
    while (block + 1 < blocks && left >= sums[block])
        left -= sums[block++];
    unsigned end = (block + 1) * size < count ? (block + 1) * size : count;
    engine_token last = first_at(logits, count, top);
    for (unsigned i = block * size; i < end; i++) {
        if (space->weights[i] > 0)
            last = (engine_token)i;
        left -= space->weights[i];
        if (left < 0)
            break;
    }
    return last;
}

/* Higher logit first, lower id among equals. */
static bool before(const struct engine_candidate *a, const struct engine_candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->token < b->token);
}

static int compare(const void *a, const void *b)
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
    qsort(out, count, sizeof *out, compare);
    while (count > 0 && out[count - 1].logit == -INFINITY)
        count--;
    return count;
}

static unsigned bin_of(float distance)
{
    float bin = distance * (BINS / BIN_RANGE);
    return bin < BINS - 1 ? (unsigned)bin : BINS - 1;
}

/* Fewest most probable tokens whose mass reaches top_p of the whole, unsorted, as candidates. */
static unsigned nucleus(const struct sampler *sampler, struct sample_space *space, const float *logits, float top)
{
    unsigned vocabulary = sampler->vocabulary, count = 0, first = 0;
    float scale = 1 / sampler->params.temperature, total = 0;
    double mass[BINS] = {0}, sum = 0;
    for (unsigned i = 0; i < vocabulary; i += BLOCK)
        total += weigh(logits + i, vocabulary - i < BLOCK ? vocabulary - i : BLOCK, top, scale, space->weights + i);
    for (unsigned i = 0; i < vocabulary; i++)
        if (space->weights[i] > 0)
            mass[bin_of((top - logits[i]) * scale)] += space->weights[i];
    double wanted = (double)sampler->params.top_p * total;
    unsigned edge = 0;
    while (edge + 1 < BINS && sum + mass[edge] < wanted)
        sum += mass[edge++];
    for (int pass = 0; pass < 2; pass++) { /* the bins before the edge, then the edge's own */
        first = count;
        for (unsigned i = 0; i < vocabulary; i++) {
            if (space->weights[i] <= 0)
                continue;
            unsigned bin = bin_of((top - logits[i]) * scale);
            if (pass == 0 ? bin < edge : bin == edge)
                space->candidates[count++] = (struct engine_candidate){.token = (engine_token)i, .logit = logits[i]};
        }
    }
    qsort(space->candidates + first, count - first, sizeof *space->candidates, compare);
    for (unsigned i = first; i < count; i++) {
        sum += space->weights[space->candidates[i].token];
        if (sum >= wanted)
            return i + 1;
    }
    return count;
}

/* Weighs candidates in place (space->weights by position from now on); returns the sum. */
static float weigh_candidates(const struct sampler *sampler, struct sample_space *space, unsigned count, float top)
{
    float scale = 1 / sampler->params.temperature, sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += space->weights[i] = exp_negative((space->candidates[i].logit - top) * scale);
    return sum;
}

static unsigned cut_top_p(const struct sampler *sampler, struct sample_space *space, unsigned count, float top)
{
    qsort(space->candidates, count, sizeof *space->candidates, compare);
    float wanted = sampler->params.top_p * weigh_candidates(sampler, space, count, top), sum = 0;
    for (unsigned i = 0; i < count; i++) {
        sum += space->weights[i];
        if (sum >= wanted)
            return i + 1;
    }
    return count;
}

struct surprise {
    float distance, weight;
    struct engine_candidate candidate;
};

static int compare_surprise(const void *a, const void *b)
{
    const struct surprise *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    return x->candidate.token < y->candidate.token ? -1 : 1;
}

/* Locally typical sampling: the tokens whose surprise is nearest to the entropy, until typical_p of the mass. */
static unsigned cut_typical(const struct sampler *sampler, struct sample_space *space, unsigned count, float top)
{
    float total = weigh_candidates(sampler, space, count, top), entropy = 0, sum = 0;
    for (unsigned i = 0; i < count; i++) {
        float p = space->weights[i] / total;
        entropy -= p > 0 ? p * logf(p) : 0;
    }
    struct surprise *order = mem_alloc(count * sizeof *order);
    for (unsigned i = 0; i < count; i++) {
        float p = space->weights[i] / total;
        order[i] = (struct surprise){
            .distance = p > 0 ? fabsf(-logf(p) - entropy) : INFINITY, .weight = p, .candidate = space->candidates[i]};
    }
    qsort(order, count, sizeof *order, compare_surprise);
    unsigned kept = 0;
    while (kept < count && (kept == 0 || sum < sampler->params.typical_p)) {
        sum += order[kept].weight;
        space->candidates[kept] = order[kept].candidate;
        kept++;
    }
    mem_free(order);
    return kept;
}

static unsigned cut_min_p(const struct sampler *sampler, struct sample_space *space, unsigned count)
{
    float top = -INFINITY;
    for (unsigned i = 0; i < count; i++)
        top = space->candidates[i].logit > top ? space->candidates[i].logit : top;
    float least = top + sampler->params.temperature * logf(sampler->params.min_p);
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++)
        if (space->candidates[i].logit >= least)
            space->candidates[kept++] = space->candidates[i];
    return kept;
}

static unsigned list_all(const struct sampler *sampler, struct sample_space *space, const float *logits)
{
    unsigned count = 0;
    for (unsigned i = 0; i < sampler->vocabulary; i++)
        if (logits[i] > -INFINITY)
            space->candidates[count++] = (struct engine_candidate){.token = (engine_token)i, .logit = logits[i]};
    return count;
}

static engine_token draw_some(struct sampler *sampler, struct sample_space *space, const float *logits, float top)
{
    const struct sample_params *params = &sampler->params;
    bool listed = params->top_k > 0 || params->typical_p < 1;
    unsigned count;
    if (params->top_k > 0)
        count = sample_top(logits, sampler->vocabulary, space->candidates, params->top_k);
    else if (listed || params->top_p >= 1)
        count = list_all(sampler, space, logits);
    else
        count = nucleus(sampler, space, logits, top);
    if (params->typical_p < 1)
        count = cut_typical(sampler, space, count, top);
    if (params->top_p < 1 && listed)
        count = cut_top_p(sampler, space, count, top);
    if (params->min_p > 0)
        count = cut_min_p(sampler, space, count);
    float left = (float)uniform(sampler->random) * weigh_candidates(sampler, space, count, top);
    for (unsigned i = 0; i < count; i++) {
        left -= space->weights[i];
        if (left < 0)
            return space->candidates[i].token;
    }
    return space->candidates[0].token; /* rounding left a trace: the first is as likely as any */
}

engine_token sampler_pick(struct sampler *sampler, struct sample_space *space, const float *logits)
{
    const struct sample_params *params = &sampler->params;
    float top = maximum(logits, sampler->vocabulary);
    assert(space->vocabulary == sampler->vocabulary);
    if (top == -INFINITY)
        return ENGINE_TOKEN_NONE;
    if (params->temperature < COLDEST || top == INFINITY)
        return first_at(logits, sampler->vocabulary, top);
    if (params->top_k == 0 && params->top_p >= 1 && params->min_p <= 0 && params->typical_p >= 1)
        return draw_all(sampler, space, logits, top);
    return draw_some(sampler, space, logits, top);
}
