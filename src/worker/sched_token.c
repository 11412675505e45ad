/* What comes out of a step: log probabilities, picked tokens, text. Picking is the only part that other threads help
 * with: branch by branch, each touching nothing but its own. */
#include "worker/sched_private.h"

#include <assert.h>

#include "base/clock.h"
#include "base/mem.h"
#include "worker/constrain.h"

#define HELP_BRANCHES   4     /* fewer are picked sooner than a thread wakes */
#define HELP_VOCABULARY 16384 /* as with fewer tokens */

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

static void remember_logprob(struct sched *sched, const float *raw, struct branch *branch, engine_token token)
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
    branch->logprobs[branch->logprob_count++] = score(sched, raw, token, tops, width);
    branch->unsummed++;
}

static engine_token pick(struct sched *sched, struct sample_space *space, struct branch *branch, float *logits)
{
    if (!branch->grammar)
        return sampler_pick(&branch->sampler, space, logits);
    return constrain_pick(sched->ops, branch->grammar, &branch->sampler, space, logits);
}

void sched_finish(struct sched *sched, struct branch *branch, enum gen_finish finish)
{
    emit(sched, branch, true);
    sched_finish_branch(sched, branch, finish);
}

static bool is_end(const struct sched *sched, const struct gen *gen, engine_token token)
{
    return token == ENGINE_TOKEN_NONE || (!gen->params.ignore_end && sched->ops->is_end(sched->engine, token));
}

/* Picks a token from the branch's last row, or, as long as they come true, from the rows of its guesses too, each as if
 * the one before had been generated already. Touches nothing but the branch: any thread. */
static void pick_rows(void *arg, struct sample_space *space, unsigned index)
{
    struct sched *sched = arg;
    struct branch *branch = sched->picking[index];
    const struct gen_params *params = &branch->gen->params;
    unsigned row = branch->first_row + branch->row_count - 1 - branch->drafted;
    bool foretold = true;
    branch->picked = branch->unsummed = 0;
    for (unsigned i = 0; i <= branch->drafted && foretold; i++) {
        float *logits = sched->row_logits[row + i];
        engine_token *next = &branch->tokens[branch->count + i];
        if (params->want_logprobs)
            memcpy(space->raw, logits, sched->info->vocabulary * sizeof *logits);
        sampler_adjust(&branch->sampler, logits, branch->tokens, branch->count + i);
        engine_token token = pick(sched, space, branch, logits);
        foretold = i < branch->drafted && token == *next;
        *next = token;
        branch->picked++;
        if (is_end(sched, branch->gen, token))
            return;
        sampler_accept(&branch->sampler, token);
        if (branch->grammar)
            sched->ops->grammar_accept(branch->grammar, token);
        if (params->want_logprobs)
            remember_logprob(sched, space->raw, branch, token);
    }
}

/* The sequence keeps what was decoded for tokens that count; guesses that were refused leave it. */
static void drop_guesses(struct sched *sched, struct branch *branch, unsigned accepted)
{
    struct gen *gen = branch->gen;
    if (branch->drafted == 0)
        return;
    gen->timings.draft_tokens += branch->drafted;
    gen->timings.draft_accepted += accepted;
    sched->stats.draft_tokens += branch->drafted;
    sched->stats.draft_accepted += accepted;
    draft_note_guess(&sched->governor, &branch->record, sched->decode_branches, branch->drafted, accepted);
    if (accepted < branch->drafted && !sched_trim(sched, (unsigned)branch->sequence, branch->done))
        branch->done = 0; /* it could only be emptied: prefilled again */
    branch->drafted = 0;
}

enum fate { GOES_ON, STOPPED, FULL };

/* The next of the picked tokens counts from now on. */
static enum fate take_token(struct sched *sched, struct branch *branch)
{
    struct gen *gen = branch->gen;
    engine_token token = branch->tokens[branch->count];
    if (is_end(sched, gen, token))
        return STOPPED;
    if (gen->params.want_logprobs)
        branch->logprob_sum += branch->logprobs[branch->logprob_count - branch->unsummed--].logprob;
    branch->count++;
    branch->generated++;
    gen->timings.generated_tokens++;
    share_charge(&sched->shares, gen->share, 1);
    sched->stats.generated_tokens++;
    if (detok_push(&branch->detok, token))
        return STOPPED;
    return branch->generated == gen->max_tokens ? FULL : GOES_ON;
}

/* Takes the picked tokens one by one, as if each had been the only one of its step. */
static void take_picks(struct sched *sched, struct branch *branch)
{
    enum fate fate = GOES_ON;
    unsigned taken = 0;
    if (!branch->gen->first_token_ns)
        branch->gen->first_token_ns = clock_ns();
    while (taken < branch->picked && fate == GOES_ON) {
        branch->done += taken > 0; /* the row of a guess that came true */
        fate = take_token(sched, branch);
        taken++;
        if (fate == GOES_ON)
            emit(sched, branch, false);
    }
    drop_guesses(sched, branch, taken - 1);
    if (fate != GOES_ON)
        sched_finish(sched, branch, fate == STOPPED ? GEN_FINISH_STOP : GEN_FINISH_LENGTH);
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

/* The table learns what the sequences hold now. Guesses are not done before they have come true. */
static void note_decoded(struct sched *sched)
{
    sched->guessless = false;
    sched->pictured = sched->span.count > 0;
    for (unsigned i = 0; i < sched->running_count; i++) {
        struct branch *branch = sched->running[i];
        if (branch->row_count == 0)
            continue;
        seq_append(&sched->table, (unsigned)branch->sequence, branch->tokens + branch->done, branch->row_count);
        branch->done += branch->row_count - branch->drafted;
        if (branch->checkpoint > 0 && branch->done == branch->checkpoint)
            sched_checkpoint(sched, branch);
    }
}

static void note_scores(struct sched *sched)
{
    for (unsigned i = 0; i < sched->running_count; i++)
        if (sched->running[i]->row_count > 0 && branch_is_scoring(sched->running[i]))
            score_rows(sched, sched->running[i]);
}

/* The branches whose rows say what comes next. Logits are fetched here, since only this thread may ask the engine. */
static void list_picking(struct sched *sched)
{
    sched->picking_count = 0;
    for (unsigned i = 0; i < sched->running_count; i++) {
        struct branch *branch = sched->running[i];
        branch->picked = 0;
        if (branch->row_count == 0 || branch->done < branch->count || branch->gen->max_tokens == 0)
            continue;
        sched->picking[sched->picking_count++] = branch;
        for (unsigned n = 0, row = branch->first_row + branch->row_count - 1; n <= branch->drafted; n++, row--)
            sched->row_logits[row] = sched->ops->logits(sched->engine, row);
    }
}

/* Whether a second thread has enough to do. Asked again each step: the threads are only made when they are. */
static bool wants_help(struct sched *sched)
{
    if (sched->picking_count < HELP_BRANCHES || sched->info->vocabulary < HELP_VOCABULARY || sched->info->threads < 2)
        return false;
    if (!sched->helpers && !sched->helpless)
        sched->helpers = sample_pool_new(sched->info->threads - 1, sched->info->vocabulary);
    sched->helpless = !sched->helpers;
    return !sched->helpless;
}

static void pick_all(struct sched *sched)
{
    list_picking(sched);
    if (wants_help(sched)) {
        sample_pool_run(sched->helpers, &sched->space, pick_rows, sched, sched->picking_count);
        return;
    }
    for (unsigned i = 0; i < sched->picking_count; i++)
        pick_rows(sched, &sched->space, i);
}

/* What was picked counts, in the order of the running branches: events and text come in one order, whoever picked. */
static void take_all(struct sched *sched)
{
    for (unsigned i = 0; i < sched->running_count;) {
        struct branch *branch = sched->running[i];
        if (branch->picked > 0)
            take_picks(sched, branch);
        else if (branch->row_count > 0 && branch->done == branch->count && branch->gen->max_tokens == 0)
            sched_finish(sched, branch, GEN_FINISH_LENGTH);
        if (i < sched->running_count && sched->running[i] == branch)
            i++; /* otherwise it has ended, and the next one moved up */
    }
}

void sched_harvest(struct sched *sched)
{
    uint64_t began = clock_ns(), before = sched->stats.generated_tokens;
    note_decoded(sched);
    note_scores(sched);
    pick_all(sched);
    take_all(sched);
    double seconds = (double)(clock_ns() - began) / 1e9;
    sched->stats.sample_seconds += seconds;
    if (sched->row_count == sched->decode_rows && sched->config.lookup != SCHED_LOOKUP_OFF)
        draft_note_step(&sched->governor, sched->decode_branches, sched->row_count,
                        (unsigned)(sched->stats.generated_tokens - before), sched->step_seconds + seconds);
}
