/* A vocabulary has up to 262 144 tokens, and this runs for every token of every stream, so nothing here sorts or even
 * lists the whole of it on the usual paths:
 *   greedy            one pass for the maximum, one for its first index
 *   temperature only  the maximum, one pass of exponentials that keeps a sum for every block of tokens, then a walk
 *                     over the block sums and inside one block
 *   truncations       sample_cut.c lists what is left; temperature, fixed or dynamic, and the draw come behind
 *   mirostat          stands in place of the truncations: which tokens are left follows from how surprising the last
 *                     ones were
 * Which of them a request takes is decided once, when its sampler is made. Nothing here allocates for a token. */
#include "worker/sample.h"

#include <assert.h>
#include <math.h>

#include "base/mem.h"
#include "worker/sample_private.h"

#define MIROSTAT_TOKENS 100 /* the most probable ones, from which version 1 estimates the distribution's tail */

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

double sample_uniform(struct sampler *sampler)
{
    uint64_t *s = sampler->random;
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return (double)(result >> 11) * 0x1.0p-53;
}

/* These may drop the most probable token, or heat a temperature of 0: they are asked even then. */
static bool moves_the_maximum(const struct sample_params *p)
{
    return p->dynatemp_range > 0 || p->typical_p < 1 || (p->xtc_probability > 0 && p->xtc_threshold <= 0.5f);
}

static bool cuts(const struct sample_params *p)
{
    return p->top_k > 0 || p->top_p < 1 || p->min_p > 0 || p->top_n_sigma > 0 || moves_the_maximum(p);
}

static enum sampler_kind choose_kind(const struct sample_params *p)
{
    bool cold = p->temperature < SAMPLE_COLDEST;
    if (cold && (p->mirostat || !moves_the_maximum(p)))
        return SAMPLER_GREEDY;
    if (p->mirostat)
        return SAMPLER_MIROSTAT;
    return cuts(p) ? SAMPLER_CUT : SAMPLER_PLAIN;
}

void sampler_init(struct sampler *sampler, const struct sample_params *params, unsigned vocabulary)
{
    *sampler = (struct sampler){.params = *params, .kind = choose_kind(params), .vocabulary = vocabulary};
    uint64_t seed = params->seed;
    for (int i = 0; i < 4; i++)
        sampler->random[i] = seed_next(&seed);
    sampler->mu = 2 * params->mirostat_tau;
    sampler->surprise = params->mirostat_tau;
    if (params->presence_penalty != 0 || params->frequency_penalty != 0)
        sampler->counts = mem_calloc(vocabulary, sizeof *sampler->counts);
    if (params->repeat_penalty != 1 && params->repeat_last_n > 0)
        sampler->stamps = mem_calloc(vocabulary, sizeof *sampler->stamps);
    sampler->dry = dry_new(&params->dry, vocabulary);
}

void sampler_release(struct sampler *sampler)
{
    mem_free(sampler->counts);
    mem_free(sampler->distinct);
    mem_free(sampler->stamps);
    dry_free(sampler->dry);
    *sampler = (struct sampler){0};
}

/* ---- draws ---- */

static engine_token draw_all(struct sampler *sampler, struct sample_space *space, const float *logits, float top)
{
    float scale = 1 / sampler->params.temperature, sums[1024];
    unsigned count = sampler->vocabulary, blocks = 0, size = SAMPLE_BLOCK;
    while ((count + size - 1) / size > 1024)
        size *= 2;
    double total = 0;
    for (unsigned i = 0; i < count; i += size, blocks++) {
        sums[blocks] = sample_weigh(logits + i, count - i < size ? count - i : size, top, scale, space->weights + i);
        total += sums[blocks];
    }
    double left = sample_uniform(sampler) * total;
    unsigned block = 0;
    while (block + 1 < blocks && left >= sums[block])
        left -= sums[block++];
    unsigned end = (block + 1) * size < count ? (block + 1) * size : count;
    engine_token last = sample_first_at(logits, count, top);
    for (unsigned i = block * size; i < end; i++) {
        if (space->weights[i] > 0)
            last = (engine_token)i;
        left -= space->weights[i];
        if (left < 0)
            break;
    }
    return last;
}

static unsigned best_of(const struct sample_space *space, unsigned count)
{
    unsigned best = 0;
    for (unsigned i = 1; i < count; i++)
        if (sample_compare(&space->candidates[i], &space->candidates[best]) < 0)
            best = i;
    return best;
}

/* Index of a candidate drawn at a temperature; its probability to *ret_probability. */
static unsigned draw_listed(struct sampler *sampler, struct sample_space *space, unsigned count, float temperature,
                            float *ret_probability)
{
    unsigned best = best_of(space, count), drawn = best;
    *ret_probability = 1;
    if (temperature < SAMPLE_COLDEST)
        return best;
    float sum = sample_weigh_list(space, count, space->candidates[best].logit, 1 / temperature);
    float left = (float)sample_uniform(sampler) * sum;
    for (unsigned i = 0; i < count; i++) {
        left -= space->weights[i];
        if (left < 0) {
            drawn = i;
            break;
        }
    } /* rounding may leave a trace: then the best is as likely as any */
    *ret_probability = space->weights[drawn] / sum;
    return drawn;
}

/* Between temperature - range and temperature + range: the nearer the candidates are to equal odds, the hotter. */
static float dynamic_temperature(const struct sampler *sampler, struct sample_space *space, unsigned count)
{
    const struct sample_params *p = &sampler->params;
    if (p->dynatemp_range <= 0 || count < 2)
        return p->temperature;
    float least = p->temperature > p->dynatemp_range ? p->temperature - p->dynatemp_range : 0;
    float most = p->temperature + p->dynatemp_range, top = space->candidates[best_of(space, count)].logit;
    float sum = sample_weigh_list(space, count, top, 1), mean = 0;
    for (unsigned i = 0; i < count; i++)
        mean += space->weights[i] / sum * (top - space->candidates[i].logit);
    float entropy = (logf(sum) + mean) / logf((float)count); /* of what it could be at most */
    return least + (most - least) * powf(entropy > 0 ? entropy : 0, p->dynatemp_exponent);
}

static engine_token draw_cut(struct sampler *sampler, struct sample_space *space, const float *logits, float top)
{
    float probability;
    unsigned count = sample_cut(sampler, space, logits, top);
    float temperature = dynamic_temperature(sampler, space, count);
    return space->candidates[draw_listed(sampler, space, count, temperature, &probability)].token;
}

/* ---- mirostat ---- */

/* How many tokens version 1 keeps: from the exponent of the power law that the best tokens seem to follow. */
static unsigned mirostat_width(const struct sampler *sampler, const struct sample_space *space, unsigned count)
{
    float by_rank = 0, squares = 0, vocabulary = (float)sampler->vocabulary;
    for (unsigned i = 0; i + 1 < count; i++) {
        float ranks = logf((float)(i + 2) / (float)(i + 1));
        by_rank += ranks * (space->candidates[i].logit - space->candidates[i + 1].logit) / sampler->params.temperature;
        squares += ranks * ranks;
    }
    float exponent = by_rank / squares, above = exponent - 1;
    float width = powf(above * exp2f(sampler->mu) / (1 - powf(vocabulary, -above)), 1 / exponent);
    return width >= 1 && width < vocabulary ? (unsigned)width : width >= vocabulary ? sampler->vocabulary : 1;
}

static unsigned list_mirostat_1(const struct sampler *sampler, struct sample_space *space, const float *logits)
{
    unsigned count = sample_top(logits, sampler->vocabulary, space->candidates, MIROSTAT_TOKENS);
    unsigned width = count > 1 ? mirostat_width(sampler, space, count) : 1;
    if (width <= count)
        return width;
    if (width >= sampler->vocabulary)
        return sample_list(sampler, space, logits, -INFINITY);
    return sample_top(logits, sampler->vocabulary, space->candidates, width);
}

/* Those whose surprise, in bits, is mu at most; the most probable in any case. */
static unsigned list_mirostat_2(const struct sampler *sampler, struct sample_space *space, const float *logits,
                                float top)
{
    float temperature = sampler->params.temperature;
    double sum = 0;
    for (unsigned i = 0; i < sampler->vocabulary; i += SAMPLE_BLOCK) {
        unsigned rest = sampler->vocabulary - i;
        sum += sample_weigh(logits + i, rest < SAMPLE_BLOCK ? rest : SAMPLE_BLOCK, top, 1 / temperature,
                            space->weights + i);
    }
    float floor = top + temperature * ((float)log(sum) - sampler->mu * 0.69314718f);
    return sample_list(sampler, space, logits, floor < top ? floor : top);
}

static engine_token draw_mirostat(struct sampler *sampler, struct sample_space *space, const float *logits, float top)
{
    float probability;
    unsigned count = sampler->params.mirostat == 1 ? list_mirostat_1(sampler, space, logits)
                                                   : list_mirostat_2(sampler, space, logits, top);
    unsigned drawn = draw_listed(sampler, space, count, sampler->params.temperature, &probability);
    sampler->surprise = probability > 0 ? -log2f(probability) : 0;
    return space->candidates[drawn].token;
}

engine_token sampler_pick(struct sampler *sampler, struct sample_space *space, const float *logits)
{
    float top = sample_maximum(logits, sampler->vocabulary);
    assert(space->vocabulary == sampler->vocabulary);
    if (top == -INFINITY)
        return ENGINE_TOKEN_NONE;
    if (sampler->kind == SAMPLER_GREEDY || top == INFINITY)
        return sample_first_at(logits, sampler->vocabulary, top);
    if (sampler->kind == SAMPLER_PLAIN)
        return draw_all(sampler, space, logits, top);
    if (sampler->kind == SAMPLER_CUT)
        return draw_cut(sampler, space, logits, top);
    return draw_mirostat(sampler, space, logits, top);
}
