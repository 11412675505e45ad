/* Continuous batching. The decode thread repeats one step for ever:
 *
 *   take the inbox, drop what was cancelled or is overdue, admit waiting branches to free sequences, build one batch
 *   (one row for each decoding branch, then as much prefill as the step may carry), decode it, sample, post events
 *
 * and sleeps on a condition variable when a step found nothing to do.
 *
 * Branches. A request's choices are branches of their own: each waits, is admitted, is pre-empted and ends alone. What
 * makes them cheap is that admission reuses the longest prefix any sequence holds, by trimming that sequence if it is
 * idle or by copying from it if it is busy. A branch whose prompt shares its beginning with one that is being
 * prefilled right now waits until that beginning is there; so n choices, and a burst of requests with one system
 * prompt, pay for it once. The last prompt token is always decoded anew: its logits are needed.
 *
 * Fullness. The sequences share the cells. seq_table mirrors them, so a step knows beforehand whether its batch fits.
 * If it does not: idle sequences are forgotten, oldest first; then the youngest running branch (a paused one first)
 * gives its cells up and goes back to the head of the queue with the tokens it has, its sampler, grammar and held text
 * kept. It is prefilled again later and goes on where it was; nobody notices but the clock. A branch that alone fills
 * everything ends with LENGTH.
 *
 * Invariants. Only the decode thread touches engine, table, branches and the waiting lists. lock guards the inbox, the
 * counters and the snapshot, and is held for moments. running is in the order of admission. A branch is in one of:
 * a waiting list, running (then it has a sequence), ended. */
#include "worker/sched.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>

#include "base/clock.h"
#include "base/mem.h"
#include "obs/log.h"
#include "worker/gen.h"
#include "worker/seq.h"

#define PRIORITIES 2
#define ADMIT_SCAN 64 /* waiting branches looked at in one step */

struct fatal_post {
    struct loop_post post;
    struct sched *sched; /* NULL once the scheduler is gone */
    struct err err;
};

struct sched {
    struct sched_config config;
    const struct engine_ops *ops;
    struct engine *engine;
    const struct engine_info *info;
    pthread_t thread;

    struct list gens; /* loop thread: all that live */
    struct fatal_post *fatal;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool kicked, stopping, failed; /* under lock */
    struct list inbox;
    unsigned queued;
    struct sched_stats snapshot;
    struct sched_slot *slots;

    /* decode thread */
    struct list active; /* all gens taken from the inbox and not ended */
    struct list waiting[PRIORITIES], embeds;
    struct branch **running;
    unsigned running_count;
    struct seq_table table;
    struct engine_row *rows;
    unsigned row_count, decode_rows;
    unsigned row_limit;
    struct sample_space space;
    struct buf text;
    struct sched_stats stats;
    double prefill_rate; /* tokens a second, moving average; 0: not known yet */
};

void gen_params_default(struct gen_params *params)
{
    params->max_tokens = 2048;
    params->temperature = 0.7f;
    params->top_p = params->typical_p = 1;
    params->repeat_penalty = 1;
    params->repeat_last_n = 64;
}

void sched_kick(struct sched *sched)
{
    pthread_mutex_lock(&sched->lock);
    sched->kicked = true;
    pthread_cond_signal(&sched->wake);
    pthread_mutex_unlock(&sched->lock);
}

/* ---- ends ---- */

static bool is_running(const struct branch *branch)
{
    return branch->sequence >= 0;
}

/* Takes the branch out of its sequence, whose tokens stay as a cache. */
static void leave_sequence(struct sched *sched, struct branch *branch)
{
    unsigned at = 0;
    while (sched->running[at] != branch)
        at++;
    sched->running_count--;
    memmove(&sched->running[at], &sched->running[at + 1], (sched->running_count - at) * sizeof *sched->running);
    seq_give(&sched->table, (unsigned)branch->sequence);
    branch->sequence = -1;
    branch->row_count = 0;
}

static void branch_end(struct sched *sched, struct branch *branch)
{
    list_remove(&branch->link);
    if (is_running(branch))
        leave_sequence(sched, branch);
    branch_release(branch, sched->ops);
    branch->ended = true;
    branch->gen->live--;
}

static void count_started(struct sched *sched)
{
    pthread_mutex_lock(&sched->lock);
    sched->queued--;
    pthread_mutex_unlock(&sched->lock);
}

/* Ends the gen with its last event; the loop owns it from here on. */
static void gen_end(struct sched *sched, struct gen *gen, const struct gen_event *event)
{
    for (unsigned i = 0; i < gen->choices; i++)
        if (!gen->branches[i].ended)
            branch_end(sched, &gen->branches[i]);
    list_remove(&gen->queue);
    if (!gen->started)
        count_started(sched);
    gen_add_event(gen, event);
    gen_post_events(gen, sched->config.loop, true);
}

static void gen_fail(struct sched *sched, struct gen *gen, enum err_code code, const char *message)
{
    err_set(&gen->err, code, "%s", message);
    gen_end(sched, gen, &(struct gen_event){.kind = GEN_EVENT_FAILED, .err = &gen->err});
}

static double ms_between(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) / 1e6 : 0;
}

static void gen_done(struct sched *sched, struct gen *gen)
{
    uint64_t now = clock_ns(), first = gen->first_token_ns ? gen->first_token_ns : now;
    gen->timings.queue_ms = ms_between(gen->submitted_ns, gen->started_ns);
    gen->timings.prefill_ms = ms_between(gen->started_ns, first);
    gen->timings.decode_ms = ms_between(first, now);
    sched->stats.requests++;
    gen_end(sched, gen, &(struct gen_event){.kind = GEN_EVENT_DONE, .timings = &gen->timings});
}

static void branch_finish(struct sched *sched, struct branch *branch, enum gen_finish finish)
{
    struct gen *gen = branch->gen;
    int stop = branch->detok.stopped;
    gen_add_event(gen, &(struct gen_event){.kind = GEN_EVENT_FINISHED, .choice = branch->index, .finish = finish,
                                           .stop = stop >= 0 ? gen->params.stops[stop] : STR_NONE,
                                           .generated_tokens = branch->generated,
                                           .mean_logprob = branch->generated
                                                               ? branch->logprob_sum / branch->generated
                                                               : 0});
    branch_end(sched, branch);
    if (gen->live == 0)
        gen_done(sched, gen);
}

/* ---- arrivals and departures ---- */

static void take_inbox(struct sched *sched)
{
    pthread_mutex_lock(&sched->lock);
    sched->kicked = false;
    list_each (gen, &sched->inbox, struct gen, queue) {
        list_remove(&gen->queue);
        list_push(&sched->active, &gen->queue);
        struct list *lane = gen->kind == GEN_EMBED ? &sched->embeds : &sched->waiting[gen->priority];
        for (unsigned i = 0; i < gen->choices; i++)
            list_push(lane, &gen->branches[i].link);
    }
    pthread_mutex_unlock(&sched->lock);
}

static void reap(struct sched *sched)
{
    uint64_t now = clock_ms();
    list_each (gen, &sched->active, struct gen, queue) {
        if (atomic_load(&gen->cancel)) {
            sched->stats.cancelled++;
            gen_fail(sched, gen, ERR_CLIENT_CLOSED, "the request was cancelled");
        } else if (gen->deadline_ms && now >= gen->deadline_ms) {
            gen_fail(sched, gen, ERR_TIMEOUT, "the request did not end before its deadline");
        }
    }
}

static void post_all(struct sched *sched)
{
    list_each (gen, &sched->active, struct gen, queue)
        gen_post_events(gen, sched->config.loop, false);
}

static void gen_start(struct sched *sched, struct gen *gen)
{
    if (gen->started)
        return;
    gen->started = true;
    gen->started_ns = clock_ns();
    count_started(sched);
    gen_add_event(gen, &(struct gen_event){.kind = GEN_EVENT_STARTED});
}

/* ---- room ---- */

static bool trim(struct sched *sched, unsigned id, unsigned length)
{
    if (length > 0 && !sched->ops->sequence_trim(sched->engine, id, length))
        length = 0;
    if (length == 0)
        sched->ops->sequence_trim(sched->engine, id, 0);
    seq_trim(&sched->table, id, length);
    return length > 0;
}

/* Forgets idle sequences, oldest first but never `not`, until needed cells are free. */
static bool make_room(struct sched *sched, unsigned needed, int not)
{
    while (sched->table.cells - sched->table.cells_used < needed) {
        int oldest = seq_idle_oldest(&sched->table, not);
        if (oldest < 0)
            return false;
        trim(sched, (unsigned)oldest, 0);
    }
    return true;
}

/* The youngest running branch, a paused one first, goes back to the queue. False when only one runs. */
static bool preempt(struct sched *sched)
{
    if (sched->running_count < 2)
        return false;
    struct branch *victim = NULL;
    for (unsigned i = sched->running_count; i-- > 0 && !victim;)
        if (gen_sits_out(sched->running[i]->gen))
            victim = sched->running[i];
    if (!victim)
        victim = sched->running[sched->running_count - 1];
    unsigned sequence = (unsigned)victim->sequence;
    leave_sequence(sched, victim);
    trim(sched, sequence, 0);
    victim->done = 0;
    list_push_front(&sched->waiting[victim->gen->priority], &victim->link);
    return true;
}

/* ---- admission ---- */

static bool is_decoding(const struct branch *branch)
{
    return branch->generated > 0 && branch->count - branch->done == 1;
}

static bool is_scoring(const struct branch *branch)
{
    return branch->gen->score && branch->index == 0 && branch->gen->scored_count < branch->gen->prompt_count;
}

enum placement { PLACED, LATER, BLOCKED };

/* Whether a branch that is being prefilled will soon hold a longer beginning of tokens than there is now. */
static bool worth_waiting(const struct sched *sched, const struct branch *branch, unsigned limit, unsigned have)
{
    for (unsigned i = 0; i < sched->running_count && sched->info->can_trim; i++) {
        const struct branch *other = sched->running[i];
        if (other->count - other->done <= 1 || gen_sits_out(other->gen))
            continue;
        unsigned common = seq_common(other->tokens, other->count, branch->tokens, limit);
        unsigned gain = other->gen == branch->gen ? 1 : LIMIT_SIBLING_TOKENS;
        if (common > other->done && common >= have + gain)
            return true;
    }
    return false;
}

/* An idle sequence emptied for a new branch. */
static int empty_sequence(struct sched *sched, int not)
{
    int id = seq_idle_empty(&sched->table);
    if (id >= 0)
        return id;
    id = seq_idle_oldest(&sched->table, not);
    if (id >= 0)
        trim(sched, (unsigned)id, 0);
    return id;
}

/* Finds a sequence that begins with the match: the matching one itself when it is idle and has little else, or is the
 * only one to be had; else another one into which the beginning is copied. Returns its id; -1: none is idle. */
static int choose_sequence(struct sched *sched, struct seq_match *match)
{
    if (match->id < 0)
        return empty_sequence(sched, -1);
    unsigned from = (unsigned)match->id;
    const struct seq *seq = &sched->table.seqs[from];
    int other = seq->busy || match->length < seq->count / 2 ? empty_sequence(sched, match->id) : -1;
    if (other >= 0) {
        sched->ops->sequence_copy(sched->engine, from, (unsigned)other, match->length);
        seq_copy(&sched->table, from, (unsigned)other, match->length);
        return other;
    }
    if (seq->busy)
        return -1;
    if (seq->count > match->length && !trim(sched, from, match->length))
        match->length = 0;
    return match->id;
}

static bool any_idle(const struct seq_table *table)
{
    for (unsigned i = 0; i < table->count; i++)
        if (!table->seqs[i].busy)
            return true;
    return false;
}

/* How many of its tokens need no decoding when a sequence holds them: all but the last, whose logits are needed, or
 * all before the first whose successor has no score yet. */
static unsigned reusable(const struct branch *branch)
{
    unsigned scored = branch->gen->scored_count;
    return !is_scoring(branch) ? branch->count - 1 : scored > 0 ? scored - 1 : 0;
}

static enum placement place(struct sched *sched, struct branch *branch)
{
    struct gen *gen = branch->gen;
    if (!any_idle(&sched->table))
        return BLOCKED;
    unsigned limit = reusable(branch);
    struct seq_match match = seq_match(&sched->table, branch->tokens, limit, !sched->info->can_trim);
    if (worth_waiting(sched, branch, limit, match.length))
        return LATER;
    unsigned needed = branch->count - match.length + sched->running_count;
    if (!make_room(sched, needed, match.id) && sched->running_count > 0)
        return BLOCKED;
    int id = choose_sequence(sched, &match);
    if (id < 0)
        return BLOCKED;
    seq_take(&sched->table, (unsigned)id);
    list_remove(&branch->link);
    branch->sequence = id;
    branch->done = match.length;
    sched->running[sched->running_count++] = branch;
    if (branch->index == 0 && branch->generated == 0 && !gen->started) {
        gen->timings.cached_tokens = match.length;
        sched->stats.cached_tokens += match.length;
        sched->stats.prompt_tokens += gen->prompt_count;
    }
    gen_start(sched, gen);
    return PLACED;
}

static bool admit(struct sched *sched)
{
    bool placed = false;
    for (unsigned lane = 0; lane < PRIORITIES; lane++) {
        unsigned scanned = 0;
        list_each (branch, &sched->waiting[lane], struct branch, link) {
            if (scanned++ == ADMIT_SCAN)
                break;
            enum placement placement = gen_sits_out(branch->gen) ? LATER : place(sched, branch);
            placed |= placement == PLACED;
            if (placement == BLOCKED)
                return placed;
        }
    }
    return placed;
}

/* ---- the batch ---- */

static void add_rows(struct sched *sched, struct branch *branch, unsigned count)
{
    branch->first_row = sched->row_count;
    branch->row_count = count;
    bool scoring = is_scoring(branch);
    for (unsigned i = 0; i < count; i++) {
        unsigned position = branch->done + i;
        sched->rows[sched->row_count++] = (struct engine_row){
            .token = branch->tokens[position], .position = position, .sequence = (unsigned)branch->sequence,
            .logits = position + 1 == branch->count || (scoring && position + 1 >= branch->gen->scored_count)};
    }
}

/* Prefill tokens that this step may carry: all that fits one micro-batch, or, beside running decodes, what delays
 * them by LIMIT_STALL_STEP_MS. */
static unsigned prefill_budget(const struct sched *sched)
{
    unsigned room = sched->row_limit - sched->decode_rows;
    if (sched->decode_rows == 0)
        return room;
    unsigned piece = LIMIT_PREFILL_PIECE;
    if (sched->prefill_rate > 0 && sched->prefill_rate * LIMIT_STALL_STEP_MS / 1000 < piece)
        piece = (unsigned)(sched->prefill_rate * LIMIT_STALL_STEP_MS / 1000);
    piece = piece < 16 ? 16 : piece;
    return piece < room ? piece : room;
}

static void build_batch(struct sched *sched)
{
    sched->row_count = sched->decode_rows = 0;
    for (unsigned i = 0; i < sched->running_count; i++) {
        struct branch *branch = sched->running[i];
        branch->row_count = 0;
        if (is_decoding(branch) && !gen_sits_out(branch->gen) && sched->row_count < sched->row_limit)
            add_rows(sched, branch, 1);
    }
    sched->decode_rows = sched->row_count;
    unsigned budget = prefill_budget(sched);
    unsigned scores = sched->info->outputs - sched->info->sequences; /* every sequence may want one row besides */
    for (unsigned i = 0; i < sched->running_count && budget > 0; i++) {
        struct branch *branch = sched->running[i];
        unsigned count = branch->count - branch->done;
        if (is_decoding(branch) || gen_sits_out(branch->gen))
            continue;
        count = count < budget ? count : budget;
        if (is_scoring(branch)) {
            count = count < scores ? count : scores;
            scores -= count;
        }
        add_rows(sched, branch, count);
        budget -= count;
    }
}

/* ---- tokens out ---- */

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
    gen_add_event(gen, &(struct gen_event){.kind = GEN_EVENT_TEXT, .choice = branch->index,
                                           .text = buf_view(&sched->text), .logprobs = branch->logprobs,
                                           .logprob_count = scored, .token_count = out});
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
    unsigned found = sample_top(raw, sched->info->vocabulary, best, count < LIMIT_TOP_LOGPROBS ? count : LIMIT_TOP_LOGPROBS);
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

static void finish_with(struct sched *sched, struct branch *branch, enum gen_finish finish)
{
    emit(sched, branch, true);
    branch_finish(sched, branch, finish);
}

static void sample(struct sched *sched, struct branch *branch)
{
    struct gen *gen = branch->gen;
    float *logits = sched->ops->logits(sched->engine, branch->first_row + branch->row_count - 1);
    if (gen->max_tokens == 0) {
        finish_with(sched, branch, GEN_FINISH_LENGTH);
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
        finish_with(sched, branch, GEN_FINISH_STOP);
        return;
    }
    branch->tokens[branch->count++] = token;
    branch->generated++;
    gen->timings.generated_tokens++;
    sched->stats.generated_tokens++;
    sampler_accept(&branch->sampler, token);
    if (branch->grammar)
        sched->ops->grammar_accept(branch->grammar, token);
    if (gen->params.want_logprobs)
        remember_logprob(sched, branch, token);
    if (detok_push(&branch->detok, token))
        finish_with(sched, branch, GEN_FINISH_STOP);
    else if (branch->generated == gen->max_tokens)
        finish_with(sched, branch, GEN_FINISH_LENGTH);
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
        gen_add_event(gen, &(struct gen_event){.kind = GEN_EVENT_PROMPT, .logprobs = gen->scored,
                                               .logprob_count = gen->scored_count});
}

/* After a decode: the table learns what the sequences hold now, and finished prefills and decodes are sampled. */
static void harvest(struct sched *sched)
{
    for (unsigned i = 0; i < sched->running_count; i++) {
        struct branch *branch = sched->running[i];
        if (branch->row_count > 0)
            seq_append(&sched->table, (unsigned)branch->sequence, branch->tokens + branch->done, branch->row_count);
        branch->done += branch->row_count;
    }
    for (unsigned i = 0; i < sched->running_count;) {
        struct branch *branch = sched->running[i];
        if (branch->row_count > 0 && is_scoring(branch))
            score_rows(sched, branch);
        if (branch->row_count > 0 && branch->done == branch->count)
            sample(sched, branch);
        if (i < sched->running_count && sched->running[i] == branch)
            i++; /* otherwise it has ended, and the next one moved up */
    }
}

/* ---- steps ---- */

static void account(struct sched *sched, uint64_t began_ns)
{
    double seconds = (double)(clock_ns() - began_ns) / 1e9;
    unsigned prefilled = sched->row_count - sched->decode_rows;
    double share = (double)prefilled / sched->row_count;
    sched->stats.steps++;
    sched->stats.prefill_seconds += seconds * share;
    sched->stats.decode_seconds += seconds * (1 - share);
    if (prefilled >= 32 && seconds > 0) {
        double rate = sched->row_count / seconds;
        sched->prefill_rate = sched->prefill_rate > 0 ? 0.7 * sched->prefill_rate + 0.3 * rate : rate;
    }
}

static void publish(struct sched *sched)
{
    pthread_mutex_lock(&sched->lock);
    sched->snapshot = sched->stats;
    sched->snapshot.running = sched->running_count;
    sched->snapshot.cells_used = sched->table.cells_used;
    for (unsigned i = 0; i < sched->table.count; i++)
        sched->slots[i] = (struct sched_slot){.id = i, .tokens = sched->table.seqs[i].count};
    for (unsigned i = 0; i < sched->running_count; i++) {
        const struct branch *branch = sched->running[i];
        struct sched_slot *slot = &sched->slots[branch->sequence];
        slot->busy = true;
        slot->prefilling = !is_decoding(branch);
        slot->prompt_tokens = branch->gen->prompt_count;
        slot->generated_tokens = branch->generated;
    }
    pthread_mutex_unlock(&sched->lock);
}

static void deliver_fatal(struct loop_post *post)
{
    struct fatal_post *fatal = container_of(post, struct fatal_post, post);
    if (fatal->sched) {
        fatal->sched->fatal = NULL;
        fatal->sched->config.on_fatal(fatal->sched->config.arg, &fatal->err);
    }
    mem_free(fatal);
}

/* The engine is in doubt: everyone is told, and nothing runs any more. */
static void give_up(struct sched *sched)
{
    pthread_mutex_lock(&sched->lock);
    sched->failed = true;
    pthread_mutex_unlock(&sched->lock);
    take_inbox(sched);
    list_each (gen, &sched->active, struct gen, queue)
        gen_fail(sched, gen, ERR_MODEL_CRASHED, "the engine has failed while it computed this request");
    if (sched->config.on_fatal)
        loop_send(sched->config.loop, &sched->fatal->post, deliver_fatal);
}

/* Builds a batch that fits, making room as it must. */
static void fit_batch(struct sched *sched)
{
    build_batch(sched);
    while (sched->row_count > 0 && !make_room(sched, sched->row_count, -1)) {
        if (!preempt(sched))
            finish_with(sched, sched->running[0], GEN_FINISH_LENGTH);
        build_batch(sched);
    }
}

static bool decode(struct sched *sched)
{
    uint64_t began = clock_ns();
    enum engine_status status = sched->ops->decode(sched->engine, sched->rows, sched->row_count);
    while (status == ENGINE_FULL) { /* fuller than the table knew: fragments, or a limit of the engine's own */
        int oldest = seq_idle_oldest(&sched->table, -1);
        if (oldest >= 0)
            trim(sched, (unsigned)oldest, 0);
        else if (!preempt(sched))
            finish_with(sched, sched->running[0], GEN_FINISH_LENGTH);
        fit_batch(sched);
        if (sched->row_count == 0)
            return true;
        status = sched->ops->decode(sched->engine, sched->rows, sched->row_count);
    }
    if (status == ENGINE_FAILED)
        return false;
    account(sched, began);
    harvest(sched);
    return true;
}

/* One embedding a step, so that running decodes wait for one at most. False: the engine has failed. */
static bool embed_next(struct sched *sched)
{
    struct branch *branch = list_first(&sched->embeds, struct branch, link);
    struct gen *gen = branch->gen;
    gen_start(sched, gen);
    gen->embedding = arena_calloc(&gen->arena, sched->info->embedding_size * sizeof *gen->embedding);
    enum engine_status status = sched->ops->embed(sched->engine, gen->prompt, gen->prompt_count, gen->embedding);
    if (status == ENGINE_FAILED)
        return false;
    sched->stats.prompt_tokens += gen->prompt_count;
    if (status == ENGINE_FULL) {
        gen_fail(sched, gen, ERR_INSUFFICIENT_MEMORY, "there is not enough memory to embed an input of this length");
        return true;
    }
    gen_add_event(gen, &(struct gen_event){.kind = GEN_EVENT_EMBEDDING, .embedding = gen->embedding});
    branch_end(sched, branch);
    gen_done(sched, gen);
    return true;
}

enum progress { WORKED, IDLE, BROKEN };

static enum progress step(struct sched *sched)
{
    bool worked = admit(sched);
    if (!list_empty(&sched->embeds)) {
        if (!embed_next(sched))
            return BROKEN;
        worked = true;
    }
    fit_batch(sched);
    post_all(sched);
    if (sched->row_count > 0) {
        if (!decode(sched))
            return BROKEN;
        post_all(sched);
        worked = true;
    }
    publish(sched);
    return worked ? WORKED : IDLE;
}

static uint64_t soonest_deadline(const struct sched *sched)
{
    uint64_t soonest = 0;
    list_each (gen, &sched->active, const struct gen, queue)
        if (gen->deadline_ms && (!soonest || gen->deadline_ms < soonest))
            soonest = gen->deadline_ms;
    return soonest;
}

/* Until something changes or a deadline passes. False: the thread shall end. */
static bool wait_for_change(struct sched *sched, bool may_sleep)
{
    uint64_t deadline = may_sleep ? soonest_deadline(sched) : 0;
    struct timespec until = {.tv_sec = (time_t)(deadline / 1000), .tv_nsec = (long)(deadline % 1000) * 1000000};
    pthread_mutex_lock(&sched->lock);
    bool overdue = false;
    while (may_sleep && !sched->kicked && !sched->stopping && !overdue) {
        if (deadline)
            overdue = pthread_cond_timedwait(&sched->wake, &sched->lock, &until) != 0;
        else
            pthread_cond_wait(&sched->wake, &sched->lock);
    }
    bool go_on = !sched->stopping;
    pthread_mutex_unlock(&sched->lock);
    return go_on;
}

static void *decode_thread(void *arg)
{
    struct sched *sched = arg;
    enum progress progress = IDLE;
    while (wait_for_change(sched, progress != WORKED)) {
        take_inbox(sched);
        reap(sched);
        progress = step(sched);
        if (progress == BROKEN) {
            give_up(sched);
            break;
        }
    }
    take_inbox(sched);
    list_each (gen, &sched->active, struct gen, queue)
        gen_fail(sched, gen, ERR_DRAINING, "the server is going down");
    publish(sched);
    return NULL;
}

/* ---- life ---- */

static void init_sizes(struct sched *sched)
{
    const struct engine_info *info = sched->info;
    sched->row_limit = info->ubatch < info->batch ? info->ubatch : info->batch;
    if (sched->row_limit < info->sequences) /* every sequence decodes in every step */
        sched->row_limit = info->sequences;
    sched->rows = mem_calloc(sched->row_limit, sizeof *sched->rows);
    sched->running = mem_calloc(info->sequences + 1, sizeof *sched->running);
    sched->slots = mem_calloc(info->sequences, sizeof *sched->slots);
    seq_table_init(&sched->table, info->sequences, info->context);
    sample_space_init(&sched->space, info->vocabulary);
    buf_init(&sched->text, LIMIT_HELD_BYTES * 4);
    sched->stats.sequences = info->sequences;
    sched->stats.cells = info->context;
}

struct sched *sched_new(const struct sched_config *config)
{
    struct sched *sched = mem_calloc(1, sizeof *sched);
    sched->config = *config;
    sched->ops = config->ops;
    sched->engine = config->engine;
    sched->info = config->ops->info(config->engine);
    list_init(&sched->gens);
    list_init(&sched->inbox);
    list_init(&sched->active);
    list_init(&sched->embeds);
    for (unsigned i = 0; i < PRIORITIES; i++)
        list_init(&sched->waiting[i]);
    init_sizes(sched);
    sched->fatal = mem_calloc(1, sizeof *sched->fatal);
    sched->fatal->sched = sched;
    err_set(&sched->fatal->err, ERR_MODEL_CRASHED, "the engine has failed");
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&sched->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&sched->lock, NULL);
    publish(sched);
    if (pthread_create(&sched->thread, NULL, decode_thread, sched) != 0)
        abort(); /* a worker that cannot have a second thread can do nothing */
    return sched;
}

static void mute_all(struct sched *sched)
{
    list_each (gen, &sched->gens, struct gen, link) {
        gen->muted = true;
        list_remove(&gen->link);
    }
}

void sched_free(struct sched *sched)
{
    if (!sched)
        return;
    mute_all(sched);
    pthread_mutex_lock(&sched->lock);
    sched->stopping = true;
    pthread_cond_signal(&sched->wake);
    pthread_mutex_unlock(&sched->lock);
    pthread_join(sched->thread, NULL);
    if (sched->fatal && sched->failed && sched->config.on_fatal)
        sched->fatal->sched = NULL; /* its post is on the way and frees it */
    else
        mem_free(sched->fatal);
    sched->ops->close(sched->engine);
    seq_table_release(&sched->table);
    sample_space_release(&sched->space);
    buf_release(&sched->text);
    mem_free(sched->rows);
    mem_free(sched->running);
    mem_free(sched->slots);
    pthread_cond_destroy(&sched->wake);
    pthread_mutex_destroy(&sched->lock);
    mem_free(sched);
}

/* ---- the loop thread's side ---- */

static bool check_request(const struct sched *sched, const struct gen_request *request, struct err *err)
{
    const struct engine_info *info = sched->info;
    unsigned limit = info->context_sequence < info->context ? info->context_sequence : info->context;
    bool generates = request->kind == GEN_GENERATE && request->params.max_tokens > 0;
    assert(request->choices <= LIMIT_CHOICES && (request->kind == GEN_EMBED || request->choices > 0));
    assert(request->kind == GEN_EMBED || request->params.max_tokens > 0 || request->score_prompt);
    if (request->kind == GEN_GENERATE && info->embedding_only)
        return err_set(err, ERR_NOT_SUPPORTED, "this model computes embeddings only; it cannot generate text");
    if (request->token_count == 0)
        return err_set_param(err, ERR_INVALID_PARAMETERS, request->kind == GEN_EMBED ? "input" : "prompt",
                             "the input holds no tokens");
    if (request->token_count + generates > limit)
        return err_set(err, ERR_CONTEXT_LENGTH_EXCEEDED,
                       "this model's context is %u tokens, and the input alone is %zu tokens", limit,
                       request->token_count);
    for (size_t i = 0; i < request->token_count; i++)
        if (request->tokens[i] < 0 || (unsigned)request->tokens[i] >= info->vocabulary)
            return err_set_param(err, ERR_INVALID_PARAMETERS, "prompt", "token %d is not in the model's vocabulary of %u",
                                 (int)request->tokens[i], info->vocabulary);
    return true;
}

static bool enqueue(struct sched *sched, struct gen *gen, struct err *err)
{
    pthread_mutex_lock(&sched->lock);
    bool failed = sched->failed, full = sched->queued >= sched->config.queue_size;
    if (!failed && !full) {
        list_push(&sched->inbox, &gen->queue);
        sched->queued++;
        sched->kicked = true;
        pthread_cond_signal(&sched->wake);
    }
    pthread_mutex_unlock(&sched->lock);
    if (failed)
        return err_set(err, ERR_MODEL_CRASHED, "the engine has failed");
    if (full && err_set(err, ERR_SERVER_OVERLOADED, "%u requests are waiting already; try again later",
                        sched->config.queue_size) == false && err)
        err->retry_after_ms = LIMIT_RETRY_AFTER_MS;
    return !full;
}

struct gen *sched_submit(struct sched *sched, const struct gen_request *request, gen_on_event *on_event, void *arg,
                         struct err *err)
{
    if (!check_request(sched, request, err))
        return NULL;
    struct gen *gen = gen_new(request, sched->ops, sched->engine, err);
    if (!gen)
        return NULL;
    gen->sched = sched;
    gen->on_event = on_event;
    gen->arg = arg;
    if (!enqueue(sched, gen, err)) {
        for (unsigned i = 0; i < gen->choices; i++)
            branch_release(&gen->branches[i], sched->ops);
        gen_free(gen);
        return NULL;
    }
    list_push(&sched->gens, &gen->link);
    return gen;
}

void gen_cancel(struct gen *gen)
{
    gen->muted = true;
    atomic_store(&gen->cancel, true);
    sched_kick(gen->sched);
}

void gen_pause(struct gen *gen)
{
    atomic_store(&gen->paused, true);
}

void gen_resume(struct gen *gen)
{
    atomic_store(&gen->paused, false);
    sched_kick(gen->sched);
}

void sched_stats(struct sched *sched, struct sched_stats *ret_stats)
{
    pthread_mutex_lock(&sched->lock);
    *ret_stats = sched->snapshot;
    ret_stats->queued = sched->queued;
    pthread_mutex_unlock(&sched->lock);
}

bool sched_slot(struct sched *sched, unsigned index, struct sched_slot *ret_slot)
{
    if (index >= sched->info->sequences)
        return false;
    pthread_mutex_lock(&sched->lock);
    *ret_slot = sched->slots[index];
    pthread_mutex_unlock(&sched->lock);
    return true;
}
