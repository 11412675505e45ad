/* What changes logits before any choice: logit_bias, then penalties on repeated tokens, then DRY. */
#include <math.h>

#include "base/mem.h"
#include "worker/sample_private.h"

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
    for (size_t i = 0; i < params->bias_count; i++)
        if ((unsigned)params->bias_tokens[i] < sampler->vocabulary)
            logits[params->bias_tokens[i]] += params->bias_values[i];
    if (sampler->stamps)
        penalise_repeats(sampler, logits, history, count);
    for (unsigned i = 0; i < sampler->distinct_count; i++) {
        engine_token token = sampler->distinct[i];
        logits[token] -= (float)sampler->counts[token] * params->frequency_penalty + params->presence_penalty;
    }
    if (sampler->dry)
        dry_apply(sampler->dry, logits, history, count);
}

void sampler_accept(struct sampler *sampler, engine_token token)
{
    if (sampler->kind == SAMPLER_MIROSTAT)
        sampler->mu -= sampler->params.mirostat_eta * (sampler->surprise - sampler->params.mirostat_tau);
    if (!sampler->counts || (unsigned)token >= sampler->vocabulary || sampler->counts[token]++ > 0)
        return;
    if (sampler->distinct_count == sampler->distinct_capacity) {
        sampler->distinct_capacity = sampler->distinct_capacity ? 2 * sampler->distinct_capacity : 64;
        sampler->distinct = mem_realloc(sampler->distinct, sampler->distinct_capacity * sizeof *sampler->distinct);
    }
    sampler->distinct[sampler->distinct_count++] = token;
}
