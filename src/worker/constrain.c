/* A grammar is asked as little as possible, since it costs more than a step of decoding to ask about a whole
 * vocabulary.
 *
 *   1. The sampler's free choice is nearly always right, and is asked about alone.
 *   2. If it is refused, the SHORTLIST most probable tokens are asked about, and the refused ones leave the logits.
 * Where all that the sampler can choose from is known then, it chooses (sampler_is_settled).
 *   3. A draw by temperature alone is repeated, each refused token leaving the logits, DRAWS times at most.
 *   4. The whole vocabulary is asked about.
 *
 * What comes out is distributed as after masking the whole vocabulary first, for these reasons. Greedy: the most
 * probable allowed token is in the shortlist, or step 4 decides. By temperature alone: each draw is from all allowed
 * tokens and some refused ones, so given that it is allowed, it is any allowed token in proportion to its weight,
 * however many draws were refused before. With truncations, as in llama.cpp: the free choice when it is allowed, else
 * one from the truncated masked distribution; settled means that the tokens not asked about cannot change that. */
#include "worker/constrain.h"

#include <math.h>

#define SHORTLIST 128
#define DRAWS     8

static bool allows(const struct engine_ops *ops, struct engine_grammar *grammar, engine_token token)
{
    struct engine_candidate single = {.token = token, .logit = 0};
    ops->grammar_mask(grammar, &single, 1);
    return single.logit == 0;
}

/* Asks about the most probable tokens; returns how many are allowed, best first. *ret_lowest: no token that was not
 * asked about has a larger logit. */
static unsigned ask_best(const struct engine_ops *ops, struct engine_grammar *grammar, float *logits,
                         unsigned vocabulary, struct engine_candidate best[SHORTLIST], float *ret_lowest)
{
    unsigned count = sample_top(logits, vocabulary, best, SHORTLIST), allowed = 0;
    *ret_lowest = count == SHORTLIST ? best[count - 1].logit : -INFINITY;
    ops->grammar_mask(grammar, best, count);
    for (unsigned i = 0; i < count; i++) {
        if (best[i].logit > -INFINITY)
            best[allowed++] = best[i];
        else
            logits[best[i].token] = -INFINITY;
    }
    return allowed;
}

engine_token constrain_pick(const struct engine_ops *ops, struct engine_grammar *grammar, struct sampler *sampler,
                            struct sample_space *space, float *logits)
{
    struct engine_candidate best[SHORTLIST];
    float lowest;
    engine_token token = sampler_pick(sampler, space, logits);
    if (token == ENGINE_TOKEN_NONE || allows(ops, grammar, token))
        return token;
    unsigned count = ask_best(ops, grammar, logits, sampler->vocabulary, best, &lowest);
    if (sampler_is_settled(sampler, space, logits, best, count, lowest))
        return sampler_pick(sampler, space, logits);
    for (unsigned i = 0; i < DRAWS && sampler->kind == SAMPLER_PLAIN; i++) {
        token = sampler_pick(sampler, space, logits);
        if (token == ENGINE_TOKEN_NONE || allows(ops, grammar, token))
            return token;
        logits[token] = -INFINITY;
    }
    ops->grammar_mask_all(grammar, logits);
    return sampler_pick(sampler, space, logits);
}
