/* What a step decodes: one row for every decoding branch, guesses behind some of them where that pays (draft.h), then
 * as much prefill as the step may carry.
 *
 * Pace. Beside running streams prefill gets a part of a decode step's time, so that the gap between two tokens stays
 * below twice what it is without. What a step leaves unused is saved up, to a limit: a short prompt after a while
 * without any is read in one piece, a long one in small ones.
 *
 * Fairness. Prefills of clients with few streams go first, then in the order of virtual time. While one client's prompt
 * is read, a client with more than LIMIT_STREAMS_HELD streams steps only a quarter of them, in turn, and none in the
 * one step that a short prompt takes: who has few requests does not pay for somebody's many.
 *
 * Pictures. The engine computes tokens or embeddings, not both at once, so a picture has steps of its own, in turn with
 * those of everybody else: a stream waits for one at most. A picture whose cells see each other is one step, however
 * long; others go in pieces of the size that prefill has beside streams. */
#include "worker/sched_private.h"

#include <assert.h>

#include "base/mem.h"

#define PACE      0.9 /* of a decode step's time, for prefill beside it */
#define HELD_PART 4   /* of a held client's streams one in so many steps */

void sched_batch_init(struct sched *sched)
{
    unsigned sequences = sched->info->sequences;
    draft_init(&sched->governor);
    sched->governor.eager = sched->config.lookup == SCHED_LOOKUP_EAGER;
    sched->bids = mem_calloc(sequences, sizeof *sched->bids);
    sched->bidders = mem_calloc(sequences, sizeof *sched->bidders);
    sched->picking = mem_calloc(sequences, sizeof *sched->picking);
    sched->row_logits = mem_calloc(sched->row_limit, sizeof *sched->row_logits);
}

void sched_batch_release(struct sched *sched)
{
    sample_pool_free(sched->helpers);
    mem_free(sched->bids);
    mem_free(sched->bidders);
    mem_free(sched->picking);
    mem_free(sched->row_logits);
}

/* Rows of the next count tokens, and of drafted guesses behind them. */
static void add_rows(struct sched *sched, struct branch *branch, unsigned count, unsigned drafted)
{
    branch->first_row = sched->row_count;
    branch->row_count = count + drafted;
    branch->drafted = drafted;
    bool scoring = branch_is_scoring(branch);
    for (unsigned i = 0; i < count + drafted; i++) {
        unsigned position = branch->done + i;
        sched->rows[sched->row_count++] = (struct engine_row){
            .token = branch->tokens[position],
            .position = position,
            .sequence = (unsigned)branch->sequence,
            .logits = position + 1 >= branch->count || (scoring && position + 1 >= branch->gen->scored_count)};
    }
}

/* ---- guesses ---- */

/* Brings the branch's match up to its last token. */
static void follow(struct sched *sched, struct branch *branch)
{
    struct lookup *lookup = &branch->lookup;
    if (lookup->seen == 0) /* its first decode: what the prompt repeats in itself says nothing about the reply */
        lookup->seen = branch->count;
    while (lookup->seen < branch->count) {
        unsigned matched = lookup->matched;
        bool foretold = lookup_advance(lookup, branch->tokens);
        if (matched > 0)
            draft_note_token(&sched->governor, &branch->record, matched, foretold);
        branch->record.wait -= branch->record.wait > 0;
    }
    lookup_find(lookup, branch->tokens, branch->count);
}

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* How many tokens the branch may guess. The last one it may generate needs no row of its own; a picture's cells are no
 * tokens. */
static unsigned guess_limit(const struct sched *sched, const struct branch *branch)
{
    unsigned source = branch->lookup.source;
    if (source == 0 || (branch->record.wait > 0 && !sched->governor.eager))
        return 0;
    if (gen_picture_at(branch->gen, source))
        return 0;
    unsigned most = smaller(branch->gen->max_tokens - branch->generated - 1, LIMIT_DRAFT_TOKENS);
    return smaller(most, gen_next_picture(branch->gen, source) - source);
}

/* Rows that guesses may have at most: of logits, of the batch, and of cells that are free without forgetting anything.
 * None beside prefill, whose time would be taken for theirs. */
static unsigned guess_room(const struct sched *sched, unsigned streams)
{
    for (unsigned i = 0; i < sched->running_count; i++)
        if (branch_is_stepped(sched, sched->running[i]) && !branch_is_decoding(sched->running[i]))
            return 0;
    unsigned cells = sched->table.cells - sched->table.cells_used;
    unsigned room = smaller(sched->info->outputs, sched->row_limit);
    room = room > streams ? room - streams : 0;
    return smaller(room, cells > streams ? cells - streams : 0);
}

/* Sets how much each decoding branch guesses in this step; the guesses lie behind its tokens then. */
static void plan_guesses(struct sched *sched)
{
    unsigned streams = 0, count = 0;
    for (unsigned i = 0; i < sched->running_count; i++) {
        struct branch *branch = sched->running[i];
        branch->drafted = 0;
        if (sched->guessless || sched->config.lookup == SCHED_LOOKUP_OFF || !sched->info->can_trim ||
            !branch_is_decoding(branch) || !branch_is_stepped(sched, branch))
            continue;
        streams++;
        follow(sched, branch);
        unsigned limit = guess_limit(sched, branch);
        if (limit == 0)
            continue;
        sched->bidders[count] = branch;
        sched->bids[count++] =
            (struct draft_bid){.record = &branch->record, .matched = branch->lookup.matched, .limit = limit};
    }
    if (count == 0 || draft_plan(&sched->governor, sched->bids, count, streams, guess_room(sched, streams)) == 0)
        return;
    for (unsigned i = 0; i < count; i++) {
        struct branch *branch = sched->bidders[i];
        branch->drafted = sched->bids[i].length;
        lookup_draft(&branch->lookup, branch->tokens, branch->count, branch->drafted);
    }
}

bool sched_forgo_guesses(struct sched *sched)
{
    bool guessed = sched->decode_rows > sched->decode_branches;
    sched->guessless |= guessed;
    return guessed;
}

/* ---- the batch ---- */

/* Prefill tokens that this step may carry: all that fits one micro-batch, or, beside running decodes, what they hardly
 * notice; when all who might notice are held anyway, what delays them by LIMIT_STALL_STEP_MS. */
static unsigned prefill_budget(struct sched *sched, bool beside)
{
    unsigned room = sched->row_limit - sched->decode_rows;
    if (!beside) {
        sched->allowance = LIMIT_PREFILL_BURST;
        return room;
    }
    double seconds = sched->decode_seconds > 0 && !sched->yielding ? PACE * sched->decode_seconds : 1;
    if (seconds > LIMIT_STALL_STEP_MS / 1e3)
        seconds = LIMIT_STALL_STEP_MS / 1e3;
    double rate = sched->piece_rate > 0 && !sched->yielding ? sched->piece_rate : sched->prefill_rate;
    double piece = rate > 0 ? rate * seconds : LIMIT_PREFILL_BURST;
    piece = piece < LIMIT_PREFILL_LEAST ? LIMIT_PREFILL_LEAST : piece;
    sched->allowance += piece;
    double most = piece > LIMIT_PREFILL_BURST ? piece : LIMIT_PREFILL_BURST;
    if (sched->allowance > most)
        sched->allowance = most;
    if (sched->allowance > LIMIT_PREFILL_PIECE)
        sched->allowance = LIMIT_PREFILL_PIECE;
    unsigned budget = (unsigned)sched->allowance;
    return budget < room ? budget : room;
}

/* Clients with few streams first, then by the virtual time at which the work began. */
static bool goes_before(const struct branch *a, const struct branch *b)
{
    unsigned streams = a->gen->share->running, others = b->gen->share->running;
    return streams != others ? streams < others : a->turn < b->turn;
}

/* Running prefills, in their order. */
static unsigned order_prefills(struct sched *sched)
{
    unsigned count = 0;
    for (unsigned i = 0; i < sched->running_count; i++) {
        struct branch *branch = sched->running[i];
        if (branch_is_decoding(branch) || !branch_is_stepped(sched, branch))
            continue;
        unsigned at = count++;
        for (; at > 0 && goes_before(branch, sched->order[at - 1]); at--)
            sched->order[at] = sched->order[at - 1];
        sched->order[at] = branch;
    }
    return count;
}

/* Clients with many streams are held while another client's prompt is read. True: there is one. */
static bool hold_crowds(struct sched *sched, unsigned prefills)
{
    bool any = false;
    list_each (share, &sched->shares.shares, struct share, link) {
        bool others = false;
        for (unsigned i = 0; i < prefills; i++)
            others |= sched->order[i]->gen->share != share;
        share->held = others && share->running > LIMIT_STREAMS_HELD;
        any |= share->held;
    }
    return any;
}

/* Whether those who are not held have little to read. */
static bool is_short_wait(const struct sched *sched, unsigned prefills)
{
    unsigned tokens = 0;
    for (unsigned i = 0; i < prefills; i++)
        if (!sched->order[i]->gen->share->held)
            tokens += sched->order[i]->count - sched->order[i]->done;
    return tokens > 0 && tokens <= sched->row_limit && tokens <= sched->prefill_rate * LIMIT_STALL_STEP_MS / 1e3;
}

/* How many streams each client may step. */
static void set_quotas(struct sched *sched, unsigned prefills)
{
    sched->yielding = hold_crowds(sched, prefills);
    sched->made_way = sched->yielding && !sched->made_way && is_short_wait(sched, prefills);
    list_each (share, &sched->shares.shares, struct share, link) {
        unsigned part = (share->running + HELD_PART - 1) / HELD_PART;
        part = sched->made_way ? 0 : part > LIMIT_STREAMS_HELD ? part : LIMIT_STREAMS_HELD;
        share->quota = share->held ? part : share->running;
    }
}

static void add_decodes(struct sched *sched)
{
    sched->decode_branches = 0;
    unsigned start = sched->yielding && sched->running_count > 0 ? sched->turn++ % sched->running_count : 0;
    for (unsigned i = 0; i < sched->running_count; i++) {
        struct branch *branch = sched->running[(start + i) % sched->running_count];
        struct share *share = branch->gen->share;
        if (!branch_is_decoding(branch) || !branch_is_stepped(sched, branch) || sched->row_count == sched->row_limit ||
            share->quota == 0)
            continue;
        share->quota--;
        add_rows(sched, branch, 1, branch->drafted);
        sched->decode_branches++;
    }
    sched->decode_rows = sched->row_count;
}

static void spend(struct sched *sched, unsigned rows)
{
    sched->allowance = sched->allowance > rows ? sched->allowance - rows : 0;
}

static void add_prefills(struct sched *sched, unsigned prefills)
{
    unsigned budget = prefills > 0 ? prefill_budget(sched, sched->decode_rows > 0) : 0;
    unsigned scores = sched->info->outputs - sched->info->sequences; /* every sequence may want one row besides */
    for (unsigned i = 0; i < prefills && budget > 0; i++) {
        struct branch *branch = sched->order[i];
        unsigned count = smaller(branch->count, gen_next_picture(branch->gen, branch->done)) - branch->done;
        if (gen_picture_at(branch->gen, branch->done))
            continue; /* a step of its own */
        if (sched->made_way && branch->gen->share->held)
            continue;
        if (branch->checkpoint > branch->done && count > branch->checkpoint - branch->done)
            count = branch->checkpoint - branch->done;
        count = count < budget ? count : budget;
        if (branch_is_scoring(branch)) {
            count = count < scores ? count : scores;
            scores -= count;
        }
        add_rows(sched, branch, count, 0);
        budget -= count;
    }
    spend(sched, sched->row_count - sched->decode_rows);
}

/* ---- pictures ---- */

/* The first of the prefills that has come to a picture; NULL: none. */
static struct branch *next_viewer(const struct sched *sched, unsigned prefills)
{
    for (unsigned i = 0; i < prefills; i++)
        if (gen_picture_at(sched->order[i]->gen, sched->order[i]->done))
            return sched->order[i];
    return NULL;
}

static bool streams_wait(const struct sched *sched)
{
    for (unsigned i = 0; i < sched->running_count; i++)
        if (branch_is_decoding(sched->running[i]) && branch_is_stepped(sched, sched->running[i]))
            return true;
    return false;
}

static void add_picture(struct sched *sched, struct branch *branch)
{
    const struct picture_place *place = gen_picture_at(branch->gen, branch->done);
    const struct picture *picture = place->picture;
    unsigned seen = branch->done - place->start, count = picture->count - seen;
    assert(seen == 0 || !picture->acausal);
    unsigned budget = prefill_budget(sched, streams_wait(sched));
    if (!picture->acausal)
        count = smaller(count, budget);
    sched->span = (struct engine_span){.sequence = (unsigned)branch->sequence,
                                       .position = branch->done,
                                       .count = count,
                                       .ids = branch->tokens + branch->done,
                                       .embeddings = picture->embeddings + (size_t)seen * picture->width,
                                       .acausal = picture->acausal,
                                       .logits = branch->done + count == branch->count,
                                       .start = place->start,
                                       .total = picture->count,
                                       .steps = picture->steps,
                                       .grid = picture->grid ? picture->grid + seen : NULL};
    branch->first_row = 0;
    branch->row_count = sched->row_count = count;
    branch->drafted = 0;
    spend(sched, count);
}

void sched_build_batch(struct sched *sched)
{
    sched->row_count = sched->decode_rows = sched->decode_branches = 0;
    sched->span = (struct engine_span){0};
    for (unsigned i = 0; i < sched->running_count; i++)
        sched->running[i]->row_count = 0;
    unsigned prefills = order_prefills(sched);
    set_quotas(sched, prefills);
    struct branch *viewer = next_viewer(sched, prefills);
    if (viewer && !sched->pictured) {
        add_picture(sched, viewer);
        return;
    }
    plan_guesses(sched);
    add_decodes(sched);
    add_prefills(sched, prefills);
    if (viewer && sched->row_count == 0)
        add_picture(sched, viewer);
}
