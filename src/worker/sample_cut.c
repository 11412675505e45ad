/* Lists of candidates. A vocabulary is listed whole only where a truncation needs it:
 *   top_k         one pass with a heap of k
 *   top_p         a histogram of probability mass over the distance from the maximum finds the few bins that matter;
 *                 only the bin in which the mass crosses top_p is sorted
 *   top_n_sigma,  a threshold on the logits, known before anything is listed
 *   min_p first
 * The order is llama.cpp's: top_n_sigma, top_k, typical_p, top_p, min_p, xtc, each over what the one before it left,
 * all on the model's own distribution; temperature comes behind. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "worker/sample_private.h"

#define BINS      512
#define BIN_RANGE 32.0f /* nats below the maximum that the histogram resolves; the rest shares the last bin */

static unsigned bin_of(float distance)
{
    float bin = distance * (BINS / BIN_RANGE);
    return bin < BINS - 1 ? (unsigned)bin : BINS - 1;
}

/* Fewest most probable tokens whose mass reaches top_p of the whole, unsorted, as candidates. */
static unsigned nucleus(const struct sampler *sampler, struct sample_space *space, const float *logits, float top)
{
    unsigned vocabulary = sampler->vocabulary, count = 0, first = 0;
    float total = 0;
    double mass[BINS] = {0}, sum = 0;
    for (unsigned i = 0; i < vocabulary; i += SAMPLE_BLOCK)
        total += sample_weigh(logits + i, vocabulary - i < SAMPLE_BLOCK ? vocabulary - i : SAMPLE_BLOCK, top, 1,
                              space->weights + i);
    for (unsigned i = 0; i < vocabulary; i++)
        if (space->weights[i] > 0)
            mass[bin_of(top - logits[i])] += space->weights[i];
    double wanted = (double)sampler->params.top_p * total;
    unsigned edge = 0;
    while (edge + 1 < BINS && sum + mass[edge] < wanted)
        sum += mass[edge++];
    for (int pass = 0; pass < 2; pass++) { /* the bins before the edge, then the edge's own */
        first = count;
        for (unsigned i = 0; i < vocabulary; i++) {
            if (space->weights[i] <= 0)
                continue;
            unsigned bin = bin_of(top - logits[i]);
            if (pass == 0 ? bin < edge : bin == edge)
                space->candidates[count++] = (struct engine_candidate){.token = (engine_token)i, .logit = logits[i]};
        }
    }
    qsort(space->candidates + first, count - first, sizeof *space->candidates, sample_compare);
    for (unsigned i = first; i < count; i++) {
        sum += space->weights[space->candidates[i].token];
        if (sum >= wanted)
            return i + 1;
    }
    return count;
}

float sample_weigh_list(struct sample_space *space, unsigned count, float top, float scale)
{
    float sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += space->weights[i] = sample_exp_negative((space->candidates[i].logit - top) * scale);
    return sum;
}

unsigned sample_list(const struct sampler *sampler, struct sample_space *space, const float *logits, float floor)
{
    unsigned count = 0;
    for (unsigned i = 0; i < sampler->vocabulary; i++)
        if (logits[i] >= floor && logits[i] > -INFINITY)
            space->candidates[count++] = (struct engine_candidate){.token = (engine_token)i, .logit = logits[i]};
    return count;
}

/* n standard deviations below the maximum; tokens that are ruled out already count for nothing. */
static float sigma_floor(const float *logits, unsigned vocabulary, float top, float n)
{
    double sum = 0, squares = 0;
    unsigned count = 0;
    for (unsigned i = 0; i < vocabulary; i++) {
        bool counts = logits[i] > -INFINITY;
        double below = counts ? (double)(top - logits[i]) : 0; /* small numbers: nothing is lost in the squares */
        count += counts;
        sum += below;
        squares += below * below;
    }
    double mean = sum / count, variance = squares / count - mean * mean;
    return top - n * (float)sqrt(variance > 0 ? variance : 0);
}

static unsigned cut_top_p(const struct sampler *sampler, struct sample_space *space, unsigned count, float top)
{
    qsort(space->candidates, count, sizeof *space->candidates, sample_compare);
    float wanted = sampler->params.top_p * sample_weigh_list(space, count, top, 1), sum = 0;
    for (unsigned i = 0; i < count; i++) {
        sum += space->weights[i];
        if (sum >= wanted)
            return i + 1;
    }
    return count;
}

static int compare_distance(const void *a, const void *b)
{
    const struct engine_candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit < y->logit ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

/* Locally typical sampling: the tokens whose surprise is nearest to the entropy, until typical_p of the mass. Surprise
 * is a constant minus the logit, so that its distance from the entropy is the logit's distance from a centre. */
static unsigned cut_typical(const struct sampler *sampler, struct sample_space *space, const float *logits,
                            unsigned count, float top)
{
    struct engine_candidate *list = space->candidates;
    double total = (double)sample_weigh_list(space, count, top, 1), mean = 0, sum = 0;
    for (unsigned i = 0; i < count; i++)
        mean += (double)(space->weights[i] * list[i].logit) / total;
    for (unsigned i = 0; i < count; i++)
        list[i].logit = fabsf(list[i].logit - (float)mean);
    qsort(list, count, sizeof *list, compare_distance);
    unsigned kept = 0;
    while (kept < count && sum <= (double)sampler->params.typical_p) {
        list[kept].logit = logits[list[kept].token];
        sum += (double)sample_exp_negative(list[kept].logit - top) / total;
        kept++;
    }
    return kept;
}

static float highest(const struct sample_space *space, unsigned count)
{
    float top = -INFINITY;
    for (unsigned i = 0; i < count; i++)
        top = space->candidates[i].logit > top ? space->candidates[i].logit : top;
    return top;
}

static unsigned cut_below(struct sample_space *space, unsigned count, float floor)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++)
        if (space->candidates[i].logit >= floor)
            space->candidates[kept++] = space->candidates[i];
    return kept;
}

/* Exclude top choices: of the tokens that reach the threshold only the least probable stays. */
static unsigned cut_xtc(struct sampler *sampler, struct sample_space *space, unsigned count)
{
    struct engine_candidate *list = space->candidates;
    if (count < 2 || sample_uniform(sampler) > (double)sampler->params.xtc_probability)
        return count;
    float least = sampler->params.xtc_threshold * sample_weigh_list(space, count, highest(space, count), 1);
    unsigned reach = 0, last = 0, kept = 0;
    for (unsigned i = 0; i < count; i++) {
        if (space->weights[i] < least)
            continue;
        if (reach++ == 0 || sample_compare(&list[last], &list[i]) < 0)
            last = i;
    }
    if (reach < 2)
        return count;
    for (unsigned i = 0; i < count; i++)
        if (space->weights[i] < least || i == last)
            list[kept++] = list[i];
    return kept;
}

static unsigned list_first(const struct sampler *sampler, struct sample_space *space, const float *logits, float top)
{
    const struct sample_params *p = &sampler->params;
    float floor = p->top_n_sigma > 0 ? sigma_floor(logits, sampler->vocabulary, top, p->top_n_sigma) : -INFINITY;
    if (p->top_k > 0) {
        unsigned count = sample_top(logits, sampler->vocabulary, space->candidates, p->top_k);
        return cut_below(space, count, floor);
    }
    if (p->top_p < 1 && p->typical_p >= 1 && floor == -INFINITY)
        return nucleus(sampler, space, logits, top);
    if (p->min_p > 0 && p->top_p >= 1 && p->typical_p >= 1 && top + logf(p->min_p) > floor)
        floor = top + logf(p->min_p);
    return sample_list(sampler, space, logits, floor);
}

unsigned sample_cut(struct sampler *sampler, struct sample_space *space, const float *logits, float top)
{
    const struct sample_params *p = &sampler->params;
    bool nuclear = p->top_k == 0 && p->typical_p >= 1 && p->top_n_sigma <= 0; /* list_first has seen to top_p */
    unsigned count = list_first(sampler, space, logits, top);
    if (p->typical_p < 1)
        count = cut_typical(sampler, space, logits, count, top);
    if (p->top_p < 1 && !nuclear)
        count = cut_top_p(sampler, space, count, highest(space, count));
    if (p->min_p > 0)
        count = cut_below(space, count, highest(space, count) + logf(p->min_p));
    if (p->xtc_probability > 0 && p->xtc_threshold <= 0.5f)
        count = cut_xtc(sampler, space, count);
    return count;
}

#define UNBOUNDED UINT_MAX

/* How many of the best tokens' weights reach wanted; UNBOUNDED: all together do not. */
static unsigned reach(const struct sample_space *space, unsigned count, double wanted)
{
    double sum = 0;
    for (unsigned i = 0; i < count; i++) {
        sum += (double)space->weights[i];
        if (sum >= wanted)
            return i + 1;
    }
    return UNBOUNDED;
}

/* At most so much weight, in that of best[0], lies in the tokens behind the best ones that top_k leaves. */
static double rest_weight(const struct sampler *sampler, const float *logits, const struct engine_candidate *best,
                          unsigned count, float lowest, double known)
{
    if (sampler->params.top_k > 0)
        return (sampler->params.top_k - count) * (double)sample_exp_negative(lowest - best[0].logit);
    double rest = exp((double)(sample_log_sum(logits, sampler->vocabulary) - best[0].logit)) - known;
    return rest > 0 ? rest : 0;
}

/* How many of the best tokens min_p leaves; UNBOUNDED: it may leave others. */
static unsigned above_min_p(float min_p, const struct engine_candidate *best, unsigned count, float lowest)
{
    float floor = min_p > 0 ? best[0].logit + logf(min_p) : -INFINITY;
    unsigned above = 0;
    if (floor <= lowest)
        return UNBOUNDED;
    while (above < count && best[above].logit >= floor)
        above++;
    return above;
}

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Is what top_p and min_p leave the same whether all the rest may be picked, or nothing of it? A nucleus grows with
 * what may be picked, so that it then is the same for everything in between. */
bool sampler_is_settled(const struct sampler *sampler, struct sample_space *space, const float *logits,
                        const struct engine_candidate *best, unsigned count, float lowest)
{
    const struct sample_params *p = &sampler->params;
    unsigned least = UNBOUNDED, most = UNBOUNDED;
    if (count == 0 || lowest == -INFINITY || sampler->kind == SAMPLER_GREEDY)
        return count > 0;
    if (sampler->kind != SAMPLER_CUT || p->top_n_sigma > 0)
        return false;
    if (p->top_k > 0 && count >= p->top_k)
        return true; /* all that follows looks at these alone */
    if (p->typical_p < 1)
        return false;
    if (p->top_p < 1) {
        double known = 0;
        for (unsigned i = 0; i < count; i++)
            known += (double)(space->weights[i] = sample_exp_negative(best[i].logit - best[0].logit));
        double rest = rest_weight(sampler, logits, best, count, lowest, known);
        least = reach(space, count, (double)p->top_p * known);
        most = reach(space, count, (double)p->top_p * (known + rest));
    }
    unsigned above = above_min_p(p->min_p, best, count, lowest);
    return smaller(least, above) == smaller(most, above) && smaller(most, above) != UNBOUNDED;
}
