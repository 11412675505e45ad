/* What comes out of a step: log probabilities, picked tokens, text. */
#include "worker/sched_private.h"

#include <assert.h>

#include "base/clock.h"
#include "base/mem.h"

static void emit(struct sched *sched, struct branch *branch, bool final)
{
    struct gen *gen = branch->gen;
    buf_clear(&sched->text);
    unsigned out = detok_take(&branch->detok, final, &sched->text);
    if (out == 0 && sched->text.len == 0)
        return;
    unsigned scored = gen->params.want_logprobs ? out : 0;
    assert(scored <= branch->logprob_count);
    for (unsigned i = 0; i < scored; i++)
        branch->logprobs[i].top = branch->tops + (size_t)i * gen->params.logprobs;
    gen_add_event(gen, &(struct gen_event){.kind = GEN_EVENT_TEXT,
                                           .choice = branch->index,
                                           .text = buf_view(&sched->text),
                                           .logprobs = branch->logprobs,
                                           .logprob_count = scored,
                                           .token_count = out});
    if (scored == 0)
        return;
    branch->logprob_count -= scored;
    memmove(branch->logprobs, branch->logprobs + scored, branch->logprob_count * sizeof *branch->logprobs);
    if (gen->params.logprobs > 0)
        memmove(branch->tops, branch->tops + (size_t)scored * gen->params.logprobs,
                (size_t)branch->logprob_count * gen->params.logprobs * sizeof *branch->tops);
}

/* The token's log probability and the most probable alternatives, of the model's own distribution. */
static struct gen_logprob score(const struct sched *sched, const float *raw, engine_token token,
                                struct gen_alternative *tops, unsigned count)
{
    struct engine_candidate best[LIMIT_TOP_LOGPROBS];
    float log_sum = sample_log_sum(raw, sched->info->vocabulary);
    unsigned found =
        sample_top(raw, sched->info->vocabulary, best, count < LIMIT_TOP_LOGPROBS ? count : LIMIT_TOP_LOGPROBS);
    assert((tops || found == 0) && "there is room for what was asked for");
    for (unsigned i = 0; i < found; i++)
        tops[i] = (struct gen_alternative){.token = best[i].token, .logprob = best[i].logit - log_sum};
    return (struct gen_logprob){.token = token, .logprob = raw[token] - log_sum, .top = tops, .top_count = found};
}

static void remember_logprob(struct sched *sched, struct branch *branch, engine_token token)
{
    unsigned width = branch->gen->params.logprobs;
    if (branch->logprob_count == branch->logprob_capacity) {
        unsigned capacity = branch->logprob_capacity ? 2 * branch->logprob_capacity : 32;
        branch->logprobs = mem_realloc(branch->logprobs, capacity * sizeof *branch->logprobs);
        if (width > 0)
            branch->tops = mem_realloc(branch->tops, (size_t)capacity * width * sizeof *branch->tops);
        branch->logprob_capacity = capacity;
    }
    struct gen_alternative *tops = width > 0 ? branch->tops + (size_t)branch->logprob_count * width : NULL;
    struct gen_logprob logprob = score(sched, sched->space.raw, token, tops, width);
    branch->logprob_sum += logprob.logprob;
    branch->logprobs[branch->logprob_count++] = logprob;
}

/* Picks a token that the grammar allows: the sampler's choice is checked alone first, since it is nearly always
 * right, and the whole vocabulary is masked only when it is not. */
static engine_token pick(struct sched *sched, struct branch *branch, float *logits)
{
    engine_token token = sampler_pick(&branch->sampler, &sched->space, logits);
    if (!branch->grammar || token == ENGINE_TOKEN_NONE)
        return token;
    struct engine_candidate single = {.token = token, .logit = 0};
    sched->ops->grammar_mask(branch->grammar, &single, 1);
    if (single.logit == 0)
        return token;
    struct engine_candidate *all = sched->space.candidates;
    unsigned count = sched->info->vocabulary;
    for (unsigned i = 0; i < count; i++)
        all[i] = (struct engine_candidate){.token = (engine_token)i, .logit = logits[i]};
    sched->ops->grammar_mask(branch->grammar, all, count);
    for (unsigned i = 0; i < count; i++)
        logits[i] = all[i].logit;
    return sampler_pick(&branch->sampler, &sched->space, logits);
}

void sched_finish(struct sched *sched, struct branch *branch, enum gen_finish finish)
{
    emit(sched, branch, true);
    sched_finish_branch(sched, branch, finish);
}

static void sample(struct sched *sched, struct branch *branch)
{
    struct gen *gen = branch->gen;
    float *logits = sched->ops->logits(sched->engine, branch->first_row + branch->row_count - 1);
    if (gen->max_tokens == 0) {
        sched_finish(sched, branch, GEN_FINISH_LENGTH);
        return;
    }
    if (gen->params.want_logprobs)
        memcpy(sched->space.raw, logits, sched->info->vocabulary * sizeof *logits);
    sampler_adjust(&branch->sampler, logits, branch->tokens, branch->count);
    engine_token token = pick(sched, branch, logits);
    if (!gen->first_token_ns)
        gen->first_token_ns = clock_ns();
    bool end = token == ENGINE_TOKEN_NONE || (!gen->params.ignore_end && sched->ops->is_end(sched->engine, token));
    if (end) {
        sched_finish(sched, branch, GEN_FINISH_STOP);
        return;
    }
    branch->tokens[branch->count++] = token;
    branch->generated++;
    gen->timings.generated_tokens++;
    share_charge(&sched->shares, gen->share, 1);
    sched->stats.generated_tokens++;
    sampler_accept(&branch->sampler, token);
    if (branch->grammar)
        sched->ops->grammar_accept(branch->grammar, token);
    if (gen->params.want_logprobs)
        remember_logprob(sched, branch, token);
    if (detok_push(&branch->detok, token))
        sched_finish(sched, branch, GEN_FINISH_STOP);
    else if (branch->generated == gen->max_tokens)
        sched_finish(sched, branch, GEN_FINISH_LENGTH);
    else
        emit(sched, branch, false);
}

/* The logprobs of the prompt tokens that follow the rows just decoded. */
static void score_rows(struct sched *sched, struct branch *branch)
{
    struct gen *gen = branch->gen;
    unsigned width = gen->params.logprobs, start = branch->done - branch->row_count;
    if (!gen->scored) {
        gen->scored = arena_calloc(&gen->arena, gen->prompt_count * sizeof *gen->scored);
        gen->scored[0] = (struct gen_logprob){.token = gen->prompt[0], .first = true};
        gen->scored_count = 1;
    }
    for (unsigned i = 0; i < branch->row_count && gen->scored_count < gen->prompt_count; i++) {
        unsigned next = start + i + 1;
        if (next < gen->scored_count)
            continue;
        const float *logits = sched->ops->logits(sched->engine, branch->first_row + i);
        struct gen_alternative *tops = width ? arena_alloc(&gen->arena, width * sizeof *tops) : NULL;
        gen->scored[next] = score(sched, logits, gen->prompt[next], tops, width);
        gen->scored_count = next + 1;
    }
    if (gen->scored_count == gen->prompt_count)
        gen_add_event(gen, &(struct gen_event){
                               .kind = GEN_EVENT_PROMPT, .logprobs = gen->scored, .logprob_count = gen->scored_count});
}

/* After a decode: the table learns what the sequences hold now, and finished prefills and decodes are sampled. */
void sched_harvest(struct sched *sched)
{
    for (unsigned i = 0; i < sched->running_count; i++) {
        struct branch *branch = sched->running[i];
        if (branch->row_count > 0)
            seq_append(&sched->table, (unsigned)branch->sequence, branch->tokens + branch->done, branch->row_count);
        branch->done += branch->row_count;
        if (branch->checkpoint > 0 && branch->done == branch->checkpoint)
            sched_checkpoint(sched, branch);
    }
    for (unsigned i = 0; i < sched->running_count;) {
        struct branch *branch = sched->running[i];
        if (branch->row_count > 0 && branch_is_scoring(branch))
            score_rows(sched, branch);
        if (branch->row_count > 0 && branch->done == branch->count)
            sample(sched, branch);
        if (i < sched->running_count && sched->running[i] == branch)
            i++; /* otherwise it has ended, and the next one moved up */
    }
}
