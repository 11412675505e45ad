/* Continuous batching. The decode thread repeats one step for ever:
 *
 *   take the inbox, drop what was cancelled or is overdue, admit waiting branches to sequences, build one batch (one
 * row for each decoding branch, then as much prefill as the step may carry), decode it, sample, post events
 *
 * and sleeps on a condition variable when a step found nothing to do.
 *
 * Branches. A request's choices are branches of their own: each waits, is admitted, is pre-empted and ends alone. What
 * makes them cheap is that admission reuses the longest prefix any sequence holds (a radix tree finds it), by trimming
 * that sequence if it is idle or by copying from it if it is busy. A branch whose prompt shares its beginning with one
 * that is being prefilled right now waits until that beginning is there; so n choices, and a burst of requests with one
 * system prompt, pay for it once. The last prompt token is always decoded anew: its logits are needed.
 *
 * Fullness. The sequences share the cells. seq_table mirrors them, so a step knows beforehand whether its batch fits.
 * If it does not: idle sequences are forgotten, oldest first; then a running branch (a paused one, one of batch, the
 * youngest) gives its cells up and goes back to the head of its client's queue with the tokens it has, its sampler,
 * grammar and held text kept. What is forgotten is copied to the KV store first, so that it comes back as a copy. A
 * branch that alone fills everything ends with LENGTH.
 *
 * Priority. While an interactive branch is at work, and for a moment after, batch branches keep their sequences but are
 * not stepped, except in one step of BATCH_EVERY, so that they never stand still for ever; a step of batch work alone
 * is given up when interactive work arrives. Clients share the engine by tokens (share.h).
 *
 * Invariants. Only the decode thread touches engine, table, store, branches and shares. lock guards the inbox, the
 * counters and the snapshot, and is held for moments. running is in the order of admission. A branch is in one of: its
 * client's waiting list, running (then it has a sequence), ended. */
#include "worker/sched_private.h"

#include <assert.h>

#include "base/clock.h"
#include "base/mem.h"

struct fatal_post {
    struct loop_post post;
    struct sched *sched; /* NULL once the scheduler is gone */
    struct err err;
};

void gen_params_default(struct gen_params *params)
{
    params->max_tokens = 2048;
    params->temperature = 0.7f;
    params->top_p = params->typical_p = 1;
    params->repeat_penalty = params->dynatemp_exponent = 1;
    params->repeat_last_n = params->dry_penalty_last_n = 64;
    params->dry_base = 1.75f;
    params->dry_allowed_length = 2;
    params->xtc_threshold = 0.1f;
    params->mirostat_tau = 5;
    params->mirostat_eta = 0.1f;
    params->top_n_sigma = -1;
}

void sched_kick(struct sched *sched)
{
    pthread_mutex_lock(&sched->lock);
    sched->kicked = true;
    pthread_cond_signal(&sched->wake);
    pthread_mutex_unlock(&sched->lock);
}

/* ---- arrivals and departures ---- */

static void take_inbox(struct sched *sched)
{
    pthread_mutex_lock(&sched->lock);
    sched->kicked = false;
    atomic_store(&sched->arrived, false);
    list_each (gen, &sched->inbox, struct gen, queue) {
        list_remove(&gen->queue);
        list_push(&sched->active, &gen->queue);
        gen->share = share_join(&sched->shares, gen->client);
        for (unsigned i = 0; i < gen->choices; i++)
            sched_await(sched, &gen->branches[i], false);
    }
    pthread_mutex_unlock(&sched->lock);
}

static void reap(struct sched *sched)
{
    uint64_t now = clock_ms();
    list_each (gen, &sched->active, struct gen, queue) {
        if (atomic_load(&gen->cancel)) {
            sched->stats.cancelled++;
            sched_fail_gen(sched, gen, ERR_CLIENT_CLOSED, "the request was cancelled");
        } else if (gen->deadline_ms && now >= gen->deadline_ms) {
            sched_fail_gen(sched, gen, ERR_TIMEOUT, "the request did not end before its deadline");
        }
    }
}

static void post_all(struct sched *sched)
{
    list_each (gen, &sched->active, struct gen, queue)
        gen_post_events(gen, sched->config.loop, false);
}

/* ---- steps ---- */

static double average(double old, double value)
{
    return old > 0 ? 0.7 * old + 0.3 * value : value;
}

/* What a step without prefill would have taken without its guesses. */
static double plain_seconds(const struct sched *sched)
{
    const struct draft_governor *g = &sched->governor;
    unsigned streams = sched->decode_branches, rows = sched->row_count;
    return rows > streams && rows <= LIMIT_DRAFT_ROWS ? sched->step_seconds * g->cost[streams] / g->cost[rows]
                                                      : sched->step_seconds;
}

/* What prefill has added to a step of running streams: it depends on how small the piece is and on how much the prompt
 * has before it, and follows both. */
static double piece_seconds(const struct sched *sched)
{
    double added = sched->step_seconds - sched->decode_seconds, least = sched->step_seconds / 8;
    return added > least ? added : least;
}

static void account(struct sched *sched, uint64_t began_ns)
{
    double seconds = (double)(clock_ns() - began_ns) / 1e9;
    unsigned prefilled = sched->row_count - sched->decode_rows;
    double share = (double)prefilled / sched->row_count;
    sched->step_seconds = seconds;
    sched->stats.steps++;
    sched->stats.prefill_seconds += seconds * share;
    sched->stats.decode_seconds += seconds * (1 - share);
    if (prefilled >= 32 && seconds > 0)
        sched->prefill_rate = average(sched->prefill_rate, sched->row_count / seconds);
    if (prefilled == 0)
        sched->decode_seconds = average(sched->decode_seconds, plain_seconds(sched));
    else if (sched->decode_rows > 0 && sched->decode_seconds > 0)
        sched->piece_rate = average(sched->piece_rate, prefilled / piece_seconds(sched));
}

static void publish(struct sched *sched)
{
    pthread_mutex_lock(&sched->lock);
    sched->snapshot = sched->stats;
    sched->snapshot.kv = *kv_store_stats(sched->store);
    sched->snapshot.running = sched->running_count;
    sched->snapshot.cells_used = sched->table.cells_used;
    sched->snapshot.cells_idle = seq_idle_cells(&sched->table);
    for (unsigned i = 0; i < sched->info->sequences; i++)
        sched->slots[i] = (struct sched_slot){.id = i};
    for (unsigned i = 0; i < sched->running_count; i++) {
        const struct branch *branch = sched->running[i];
        struct sched_slot *slot = &sched->slots[branch->slot];
        slot->tokens = sched->table.seqs[branch->sequence].count;
        slot->busy = true;
        slot->prefilling = !branch_is_decoding(branch);
        slot->paused = gen_sits_out(branch->gen);
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
        sched_fail_gen(sched, gen, ERR_MODEL_CRASHED, "the engine has failed while it computed this request");
    if (sched->config.on_fatal)
        loop_send(sched->config.loop, &sched->fatal->post, deliver_fatal);
}

/* Builds a batch that fits, making room as it must. */
static void fit_batch(struct sched *sched)
{
    sched_build_batch(sched);
    while (sched->row_count > 0 && !sched_make_room(sched, sched->row_count, -1)) {
        if (!sched_preempt(sched))
            sched_finish(sched, sched->running[0], GEN_FINISH_LENGTH);
        sched_build_batch(sched);
    }
}

/* What may be given up half-way for whoever arrives: steps of batch work alone, and steps of one client with many
 * streams alone, for another client. Not twice in a row, so that the work is done at last. */
static bool only_batch(const struct sched *sched)
{
    for (unsigned i = 0; i < sched->running_count; i++)
        if (sched->running[i]->row_count > 0 && sched->running[i]->gen->priority == 0)
            return false;
    return true;
}

/* The one client whose many streams are all that steps; NULL: it is not so. */
static const struct share *crowd(const struct sched *sched)
{
    const struct share *one = NULL;
    for (unsigned i = 0; i < sched->running_count; i++) {
        const struct share *share = sched->running[i]->gen->share;
        if (sched->running[i]->row_count > 0 && one && one != share)
            return NULL;
        if (sched->running[i]->row_count > 0)
            one = share;
    }
    return one && one->running > LIMIT_STREAMS_HELD ? one : NULL;
}

struct patience {
    struct sched *sched;
    bool batch;
    const struct share *crowd;
};

static bool somebody_arrived(void *arg)
{
    const struct patience *patience = arg;
    if (!atomic_load_explicit(&patience->sched->arrived, memory_order_acquire))
        return false;
    uint64_t client = atomic_load_explicit(&patience->sched->arrived_client, memory_order_relaxed);
    return patience->batch || (patience->crowd && patience->crowd->client != client);
}

static enum engine_status decode_rows(struct sched *sched)
{
    struct patience patience = {.sched = sched, .batch = only_batch(sched), .crowd = crowd(sched)};
    const struct engine_stop stop = {.asked = somebody_arrived, .arg = &patience};
    bool may_stop = sched->info->can_trim && !sched->gave_up;
    const struct engine_stop *asked = may_stop ? &stop : NULL;
    enum engine_status status = sched->span.count > 0
                                    ? sched->ops->decode_span(sched->engine, &sched->span, asked)
                                    : sched->ops->decode(sched->engine, sched->rows, sched->row_count, asked);
    sched->gave_up = status == ENGINE_INTERRUPTED;
    return status;
}

static bool decode(struct sched *sched)
{
    uint64_t began = clock_ns();
    enum engine_status status = decode_rows(sched);
    while (status == ENGINE_FULL) { /* fuller than the table knew: fragments, or a limit of the engine's own */
        int oldest = seq_idle_oldest(&sched->table, -1);
        if (sched_forgo_guesses(sched))
            ; /* the rows that are due may fit */
        else if (oldest >= 0)
            sched_forget(sched, (unsigned)oldest);
        else if (!sched_preempt(sched))
            sched_finish(sched, sched->running[0], GEN_FINISH_LENGTH);
        fit_batch(sched);
        if (sched->row_count == 0)
            return true;
        status = decode_rows(sched);
    }
    if (status == ENGINE_FAILED)
        return false;
    if (status == ENGINE_INTERRUPTED) {
        sched->stats.interrupted++;
        return true;
    }
    account(sched, began);
    sched_harvest(sched);
    return true;
}

/* One embedding a step, so that running decodes wait for one at most. False: the engine has failed. */
static bool embed_next(struct sched *sched, struct branch *branch)
{
    struct gen *gen = branch->gen;
    share_charge(&sched->shares, gen->share, gen->prompt_count);
    sched_start_gen(sched, gen);
    gen->embedding = arena_calloc(&gen->arena, sched->info->embedding_size * sizeof *gen->embedding);
    enum engine_status status = sched->ops->embed(sched->engine, gen->prompt, gen->prompt_count, gen->embedding);
    if (status == ENGINE_FAILED)
        return false;
    sched->stats.prompt_tokens += gen->prompt_count;
    if (status == ENGINE_FULL) {
        sched_fail_gen(sched, gen, ERR_INSUFFICIENT_MEMORY,
                       "there is not enough memory to embed an input of this length");
        return true;
    }
    gen_add_event(gen, &(struct gen_event){.kind = GEN_EVENT_EMBEDDING, .embedding = gen->embedding});
    sched_end_branch(sched, branch);
    sched_gen_done(sched, gen);
    return true;
}

/* The embedding whose turn it is; NULL: none. */
static struct branch *next_embed(const struct sched *sched)
{
    enum share_lane lane = SHARE_EMBED;
    const struct share *share = share_next(&sched->shares, lane, NULL);
    if (!share && !sched->batch_held) {
        lane = SHARE_EMBED_BATCH;
        share = share_next(&sched->shares, lane, NULL);
    }
    return share ? list_first(&share->waiting[lane], struct branch, link) : NULL;
}

enum progress { WORKED, IDLE, BROKEN };

static enum progress step(struct sched *sched)
{
    bool worked = sched_admit(sched);
    struct branch *embed = next_embed(sched);
    if (embed) {
        if (!embed_next(sched, embed))
            return BROKEN;
        worked = true;
    }
    fit_batch(sched);
    post_all(sched);
    if (sched->row_count > 0) {
        sched_clear_way(sched);
        if (!decode(sched))
            return BROKEN;
        post_all(sched);
        worked = true;
    }
    if (sched->left)
        sched_forget_stale(sched);
    sched->left = false;
    publish(sched);
    return worked ? WORKED : IDLE;
}

/* ---- between steps ---- */

static uint64_t soonest_deadline(const struct sched *sched)
{
    uint64_t soonest = 0;
    list_each (gen, &sched->active, const struct gen, queue)
        if (gen->deadline_ms && (!soonest || gen->deadline_ms < soonest))
            soonest = gen->deadline_ms;
    return soonest;
}

static uint64_t sooner(uint64_t a, uint64_t b) /* 0: never */
{
    return a == 0 || (b > 0 && b < a) ? b : a;
}

/* When the thread has to wake though nothing has changed; 0: never. */
static uint64_t wake_time(const struct sched *sched)
{
    uint64_t tidy = sched->untidy && list_empty(&sched->active) ? sched->worked_ms + LIMIT_KV_QUIET_MS : 0;
    return sooner(soonest_deadline(sched), sooner(sched_lull_end(sched), tidy));
}

/* Until something changes or the time has come. False: the thread shall end. */
static bool wait_for_change(struct sched *sched, bool may_sleep)
{
    uint64_t wake = may_sleep ? wake_time(sched) : 0;
    struct timespec until = {.tv_sec = (time_t)(wake / 1000), .tv_nsec = (long)(wake % 1000) * 1000000};
    pthread_mutex_lock(&sched->lock);
    bool overdue = false;
    while (may_sleep && !sched->kicked && !sched->stopping && !overdue) {
        if (wake)
            overdue = pthread_cond_timedwait(&sched->wake, &sched->lock, &until) != 0;
        else
            pthread_cond_wait(&sched->wake, &sched->lock);
    }
    bool go_on = !sched->stopping;
    pthread_mutex_unlock(&sched->lock);
    return go_on;
}

/* In a quiet moment: one copy a turn, so that a request that arrives meanwhile waits for one at most. */
static void use_quiet(struct sched *sched)
{
    bool quiet = sched->untidy && list_empty(&sched->active) && clock_ms() >= sched->worked_ms + LIMIT_KV_QUIET_MS;
    if (!quiet)
        return;
    sched->untidy = sched_tidy(sched);
    publish(sched);
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
        if (progress == WORKED) {
            sched->worked_ms = clock_ms();
            sched->untidy = true;
        } else {
            use_quiet(sched);
        }
    }
    take_inbox(sched);
    list_each (gen, &sched->active, struct gen, queue)
        sched_fail_gen(sched, gen, ERR_DRAINING, "the server is going down");
    publish(sched);
    return NULL;
}

/* What the cache holds goes to the store, and the store to disk. */
static void save_states(struct sched *sched)
{
    uint64_t deadline = clock_ms() + LIMIT_KV_FLUSH_MS;
    if (!sched->config.kv_folder || sched->failed)
        return;
    sched->tidied = 0;
    while (clock_ms() < deadline && sched_tidy(sched))
        ;
    kv_store_flush(sched->store, deadline);
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
    sched->order = mem_calloc(info->sequences, sizeof *sched->order);
    sched->slots = mem_calloc(info->sequences, sizeof *sched->slots);
    seq_table_init(&sched->table, info->holders, info->context);
    sample_space_init(&sched->space, info->vocabulary);
    sched_batch_init(sched);
    buf_init(&sched->text, LIMIT_HELD_BYTES * 4);
    sched->stats.sequences = info->sequences;
    sched->stats.cells = info->context;
}

static struct kv_store *make_store(struct sched *sched)
{
    const struct sched_config *config = &sched->config;
    bool generates = !sched->info->embedding_only;
    return kv_store_new(&(struct kv_store_config){.ops = config->ops,
                                                  .engine = config->engine,
                                                  .tree = &sched->table.prefixes,
                                                  .memory_limit = generates ? config->kv_memory : 0,
                                                  .folder = generates ? config->kv_folder : NULL,
                                                  .disk_limit = config->kv_disk,
                                                  .identity = config->kv_identity});
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
    share_table_init(&sched->shares);
    init_sizes(sched);
    sched->store = make_store(sched);
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
    save_states(sched);
    kv_store_free(sched->store);
    sched->ops->close(sched->engine);
    seq_table_release(&sched->table);
    sample_space_release(&sched->space);
    sched_batch_release(sched);
    buf_release(&sched->text);
    mem_free(sched->rows);
    mem_free(sched->running);
    mem_free(sched->order);
    mem_free(sched->slots);
    pthread_cond_destroy(&sched->wake);
    pthread_mutex_destroy(&sched->lock);
    mem_free(sched);
}

/* ---- the loop thread's side ---- */

/* The position, or the first behind the pictures that begin there. */
static size_t behind_pictures(const struct gen_request *request, size_t position)
{
    for (size_t i = 0; i < request->picture_count; i++)
        if (request->pictures[i].start == position)
            position += request->pictures[i].picture->count;
    return position;
}

/* Pictures lie in the prompt one behind the other, and those that cannot be cut fit a step: serve_vision.c sees to it.
 */
static void assert_pictures(const struct sched *sched, const struct gen_request *request)
{
    size_t end = 0;
    assert(request->picture_count == 0 || (!request->score_prompt && request->kind == GEN_GENERATE));
    for (size_t i = 0; i < request->picture_count; i++) {
        const struct picture_place *place = &request->pictures[i];
        assert(place->start >= end && place->picture->width == sched->info->input_size);
        assert(!place->picture->acausal || place->picture->count <= sched->info->ubatch);
        assert(!sched->info->grid || place->picture->grid);
        end = place->start + place->picture->count;
    }
    assert(end <= request->token_count);
    (void)sched;
}

static bool check_request(const struct sched *sched, const struct gen_request *request, struct err *err)
{
    const struct engine_info *info = sched->info;
    unsigned limit = info->context_sequence < info->context ? info->context_sequence : info->context;
    bool generates = request->kind == GEN_GENERATE && request->params.max_tokens > 0;
    assert(request->choices <= LIMIT_CHOICES && (request->kind == GEN_EMBED || request->choices > 0));
    assert(request->kind == GEN_EMBED || request->params.max_tokens > 0 || request->score_prompt);
    assert_pictures(sched, request);
    if (request->kind == GEN_GENERATE && info->embedding_only)
        return err_set(err, ERR_NOT_SUPPORTED, "this model computes embeddings only; it cannot generate text");
    if (request->token_count == 0)
        return err_set_param(err, ERR_INVALID_PARAMETERS, request->kind == GEN_EMBED ? "input" : "prompt",
                             "the input holds no tokens");
    if (request->token_count + generates > limit)
        return err_set(err, ERR_CONTEXT_LENGTH_EXCEEDED,
                       "this model's context is %u tokens, and the input alone is %zu tokens", limit,
                       request->token_count);
    for (size_t i = 0; i < request->token_count; i++) {
        if (request->tokens[i] < 0)
            i = behind_pictures(request, i);
        if (i < request->token_count && (request->tokens[i] < 0 || (unsigned)request->tokens[i] >= info->vocabulary))
            return err_set_param(err, ERR_INVALID_PARAMETERS, "prompt",
                                 "token %d is not in the model's vocabulary of %u", (int)request->tokens[i],
                                 info->vocabulary);
    }
    return true;
}

static bool enqueue(struct sched *sched, struct gen *gen, struct err *err)
{
    pthread_mutex_lock(&sched->lock);
    bool failed = sched->failed, full = sched->queued >= sched->config.queue_size;
    if (!failed && !full) {
        gen->timings.queue_position = sched->queued;
        list_push(&sched->inbox, &gen->queue);
        if (gen->priority == 0) {
            atomic_store_explicit(&sched->arrived_client, gen->client, memory_order_relaxed);
            atomic_store_explicit(&sched->arrived, true, memory_order_release);
        }
        sched->queued++;
        sched->kicked = true;
        pthread_cond_signal(&sched->wake);
    }
    pthread_mutex_unlock(&sched->lock);
    if (failed)
        return err_set(err, ERR_MODEL_CRASHED, "the engine has failed");
    if (full &&
        err_set(err, ERR_SERVER_OVERLOADED, "%u requests are waiting already; try again later",
                sched->config.queue_size) == false &&
        err)
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
