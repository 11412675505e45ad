/* Which branch holds which sequence, and the cells behind them: admission with prefix reuse, forgetting, pre-emption.
 */
#include "worker/sched_private.h"

#define IDLE_KEPT   4   /* idle sequences kept however long they are */
#define IDLE_PART   4   /* more of them only within this fraction of the cells */
#define BATCH_EVERY 128 /* beside interactive work, batch has one step of so many: too few to move its p99 */
#define ADMIT_SCAN  64  /* waiting branches looked at in one step */

bool sched_trim(struct sched *sched, unsigned id, unsigned length)
{
    if (length > 0 && !sched->ops->sequence_trim(sched->engine, id, length))
        length = 0;
    if (length == 0)
        sched->ops->sequence_trim(sched->engine, id, 0);
    seq_trim(&sched->table, id, length);
    return length > 0;
}

/* Forgets idle sequences, oldest first but never `except`, until needed cells are free. */
bool sched_make_room(struct sched *sched, unsigned needed, int except)
{
    while (sched->table.cells - sched->table.cells_used < needed) {
        int oldest = seq_idle_oldest(&sched->table, except);
        if (oldest < 0)
            return false;
        sched_trim(sched, (unsigned)oldest, 0);
    }
    return true;
}

/* Idle sequences are worth their cells as long as somebody comes back to them, but attention passes over every cell in
 * use, whoever holds it: 8 000 idle ones made a prefill of 430 tokens 8 to 14 % slower. So a few of the last are always
 * kept, the rest only within a part of the cache; `except` (or -1) is about to be used. */
static void forget_stale(struct sched *sched, int except)
{
    unsigned kept, cells;
    for (;;) {
        kept = cells = 0;
        for (unsigned i = 0; i < sched->table.count; i++) {
            const struct seq *seq = &sched->table.seqs[i];
            kept += !seq->busy && seq->count > 0;
            cells += seq->busy ? 0 : seq->count;
        }
        int oldest =
            kept > IDLE_KEPT && cells > sched->table.cells / IDLE_PART ? seq_idle_oldest(&sched->table, except) : -1;
        if (oldest < 0)
            return;
        sched_trim(sched, (unsigned)oldest, 0);
    }
}

static struct branch *youngest_of_batch(const struct sched *sched)
{
    for (unsigned i = sched->running_count; i-- > 0;)
        if (sched->running[i]->gen->priority > 0)
            return sched->running[i];
    return NULL;
}

/* The youngest running branch, a paused one or one of batch first, goes back to the queue. False when only one runs. */
bool sched_preempt(struct sched *sched)
{
    if (sched->running_count < 2)
        return false;
    struct branch *victim = NULL;
    for (unsigned i = sched->running_count; i-- > 0 && !victim;)
        if (gen_sits_out(sched->running[i]->gen))
            victim = sched->running[i];
    if (!victim)
        victim = youngest_of_batch(sched);
    if (!victim)
        victim = sched->running[sched->running_count - 1];
    unsigned sequence = (unsigned)victim->sequence;
    sched_leave_sequence(sched, victim);
    sched_trim(sched, sequence, 0);
    victim->done = 0;
    list_push_front(&sched->waiting[victim->gen->priority], &victim->link);
    return true;
}

/* ---- admission ---- */

enum placement { PLACED, LATER, BLOCKED };

/* Whether a branch that is being prefilled will soon hold a longer beginning of tokens than there is now. */
static bool worth_waiting(const struct sched *sched, const struct branch *branch, unsigned limit, unsigned have)
{
    for (unsigned i = 0; i < sched->running_count && sched->info->can_trim; i++) {
        const struct branch *other = sched->running[i];
        if (other->count - other->done <= 1 || gen_sits_out(other->gen) || other->gen->priority > branch->gen->priority)
            continue;
        unsigned common = seq_common(other->tokens, other->count, branch->tokens, limit);
        unsigned gain = other->gen == branch->gen ? 1 : LIMIT_SIBLING_TOKENS;
        if (common > other->done && common >= have + gain)
            return true;
    }
    return false;
}

/* An idle sequence emptied for a new branch. */
static int empty_sequence(struct sched *sched, int except)
{
    int id = seq_idle_empty(&sched->table);
    if (id >= 0)
        return id;
    id = seq_idle_oldest(&sched->table, except);
    if (id >= 0)
        sched_trim(sched, (unsigned)id, 0);
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
    if (seq->count > match->length && !sched_trim(sched, from, match->length))
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
    return !branch_is_scoring(branch) ? branch->count - 1 : scored > 0 ? scored - 1 : 0;
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
    forget_stale(sched, match.id);
    unsigned needed = branch->count - match.length + sched->running_count;
    if (!sched_make_room(sched, needed, match.id) && sched->running_count > 0)
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
    sched_start_gen(sched, gen);
    return PLACED;
}

/* A batch branch gives its sequence to an interactive one; its tokens stay there until they are in the way. False: none
 * runs. */
static bool batch_yields(struct sched *sched)
{
    struct branch *victim = youngest_of_batch(sched);
    if (!victim)
        return false;
    sched_leave_sequence(sched, victim);
    victim->done = 0;
    list_push_front(&sched->waiting[victim->gen->priority], &victim->link);
    return true;
}

/* False: the lane is blocked. */
static bool admit_lane(struct sched *sched, unsigned lane, bool *placed)
{
    unsigned scanned = 0;
    list_each (branch, &sched->waiting[lane], struct branch, link) {
        if (scanned++ == ADMIT_SCAN)
            break;
        enum placement placement = gen_sits_out(branch->gen) ? LATER : place(sched, branch);
        while (placement == BLOCKED && lane == 0 && batch_yields(sched))
            placement = place(sched, branch);
        *placed |= placement == PLACED;
        if (placement == BLOCKED)
            return false;
    }
    return true;
}

static bool interactive_at_work(const struct sched *sched)
{
    for (unsigned i = 0; i < sched->running_count; i++)
        if (sched->running[i]->gen->priority == 0 && !gen_sits_out(sched->running[i]->gen))
            return true;
    return false;
}

bool sched_admit(struct sched *sched)
{
    bool placed = false, open = admit_lane(sched, 0, &placed);
    sched->batch_held = interactive_at_work(sched) && sched->steps_held + 1 < BATCH_EVERY;
    sched->steps_held = sched->batch_held ? sched->steps_held + 1 : 0;
    if (open && !sched->batch_held)
        admit_lane(sched, 1, &placed);
    return placed;
}
