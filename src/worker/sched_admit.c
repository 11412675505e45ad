/* Admission: which waiting branch gets a sequence next, and with what in it.
 *
 * Order. Lanes (interactive, then batch); in a lane the client that has had least (share.h); of a client's branches the
 * oldest, unless a later one finds more of its tokens in the cache: hot prefixes are used while they are there, and
 * nobody is overtaken more than OVERTAKEN times.
 *
 * What a sequence starts with. The longest beginning any sequence of the cache holds, by copying cells or by taking the
 * idle sequence over; a state of the KV store instead, when that is longer by enough to be worth the copy. A branch
 * whose beginning is being prefilled by another right now waits for it.
 *
 * When no sequence is idle, an interactive branch takes one from a reader who has paused, or from batch, and one of a
 * client with few streams takes one from the client with most. The one who yields keeps its tokens in the cache for as
 * long as nobody needs the cells. */
#include "worker/sched_private.h"

#include "base/clock.h"

#define BATCH_EVERY        128 /* beside interactive work, batch has one step of so many: too few to move its p99 */
#define BATCH_LULL_MS      25  /* batch waits so long behind interactive work: who talks often talks again at once */
#define ADMIT_SCAN         64  /* waiting branches of one client looked at in one step */
#define TURNS_PER_SEQUENCE 4   /* of clients in one step */
#define HOT_SCAN           8   /* of them compared by their prefix */
#define OVERTAKEN          8
#define COMEBACK_STEPS     32 /* who gave way comes back when there is room for so many steps of everyone */
#define RESTORE_GAIN       32 /* tokens a state must save beyond what the cache has */
#define REST_KEPT          32 /* an idle sequence with so many tokens of its own behind the match is copied from, not cut */

enum placement { PLACED, LATER, BLOCKED };

static enum share_lane lane_of(const struct gen *gen)
{
    return (enum share_lane)((gen->kind == GEN_EMBED ? SHARE_EMBED : SHARE_INTERACTIVE) + (gen->priority > 0));
}

void sched_await(struct sched *sched, struct branch *branch, bool first)
{
    struct list *lane = &branch->gen->share->waiting[lane_of(branch->gen)];
    (void)sched;
    if (first)
        list_push_front(lane, &branch->link);
    else
        list_push(lane, &branch->link);
}

/* ---- what a branch could start with ---- */

/* How many of its tokens need no decoding when a sequence holds them: all but the last, whose logits are needed, or
 * all before the first whose successor has no score yet. */
static unsigned reusable(const struct branch *branch)
{
    unsigned scored = branch->gen->scored_count;
    return !branch_is_scoring(branch) ? branch->count - 1 : scored > 0 ? scored - 1 : 0;
}

/* How much of a match is of use: up to the picture that it ends in the middle of. Where nothing can be cut off, none.
 */
static unsigned usable(const struct branch *branch, unsigned length, bool whole_only)
{
    unsigned whole = gen_whole(branch->gen, length);
    return whole < length && whole_only ? 0 : whole;
}

static struct prefix_match find_kept(const struct sched *sched, const struct branch *branch, unsigned limit)
{
    const struct prefix_tree *tree = &sched->table.prefixes;
    unsigned kept = PREFIX_BIT(PREFIX_KEPT);
    struct prefix_match match = sched->info->whole_states ? prefix_find_whole(tree, branch->tokens, limit, kept)
                                                          : prefix_find(tree, branch->tokens, limit, kept);
    unsigned length = usable(branch, match.length, sched->info->whole_states);
    return length > 0 ? (struct prefix_match){match.mark, length} : (struct prefix_match){0};
}

static struct seq_match find_sequence(const struct sched *sched, const struct branch *branch, unsigned limit)
{
    struct seq_match match = seq_match(&sched->table, branch->tokens, limit, !sched->info->can_trim);
    match.length = usable(branch, match.length, !sched->info->can_trim);
    if (match.length == 0)
        return (struct seq_match){.id = -1};
    if (match.id >= 0 && !sched->ops->sequence_has(sched->engine, (unsigned)match.id, match.length))
        return (struct seq_match){.id = -1};
    return match;
}

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

/* ---- sequences ---- */

/* An idle sequence emptied for a new branch; -1: there is none besides `except`. */
static int empty_sequence(struct sched *sched, int except)
{
    int id = seq_idle_empty(&sched->table);
    if (id >= 0)
        return id;
    id = seq_idle_oldest(&sched->table, except);
    if (id >= 0)
        sched_forget(sched, (unsigned)id);
    return id;
}

/* A sequence that begins with the match: the matching one itself when it is idle and has little else, or is the only
 * one to be had; else another one into which the beginning is copied. -1: none is idle. */
static int choose_sequence(struct sched *sched, struct seq_match *match)
{
    if (match->id < 0)
        return empty_sequence(sched, -1);
    unsigned from = (unsigned)match->id;
    const struct seq *seq = &sched->table.seqs[from];
    int other = seq_is_busy(seq) || seq->count - match->length > REST_KEPT ? empty_sequence(sched, match->id) : -1;
    if (other >= 0) {
        sched->ops->sequence_copy(sched->engine, from, (unsigned)other, match->length);
        seq_copy(&sched->table, from, (unsigned)other, match->length);
        return other;
    }
    if (seq_is_busy(seq))
        return -1;
    if (seq->count > match->length && !sched_trim(sched, from, match->length))
        match->length = 0;
    return match->id;
}

/* A sequence filled from the KV store and cut to the match, `least` tokens at least; -1: that was not possible. Making
 * room may have cost the state that was found before, so it is looked up again. */
static int restore_sequence(struct sched *sched, const struct branch *branch, unsigned limit, unsigned least)
{
    unsigned count;
    int id = empty_sequence(sched, -1);
    struct prefix_match kept = find_kept(sched, branch, limit);
    if (id < 0 || kept.length < least)
        return -1;
    const engine_token *tokens = kv_store_tokens(kept.mark, &count);
    if (sched->table.cells - sched->table.cells_used < count ||
        !kv_store_restore(sched->store, kept.mark, (unsigned)id))
        return -1;
    seq_append(&sched->table, (unsigned)id, tokens, count);
    if (count > kept.length)
        sched_trim(sched, (unsigned)id, kept.length);
    return id;
}

/* ---- placing one ---- */

static unsigned free_slot(const struct sched *sched)
{
    for (unsigned slot = 0;; slot++) {
        bool taken = false;
        for (unsigned i = 0; i < sched->running_count; i++)
            taken |= sched->running[i]->slot == slot;
        if (!taken)
            return slot;
    }
}

static void run_branch(struct sched *sched, struct branch *branch, int id, unsigned have)
{
    struct gen *gen = branch->gen;
    seq_take(&sched->table, (unsigned)id);
    list_remove(&branch->link);
    branch->sequence = id;
    branch->slot = free_slot(sched);
    branch->done = have;
    branch->turn = share_charge(&sched->shares, gen->share, branch->count - have);
    gen->share->running++;
    sched->running[sched->running_count++] = branch;
    if (branch->index == 0 && branch->generated == 0 && !gen->started) {
        gen->timings.cached_tokens = have;
        sched->stats.cached_tokens += have;
        sched->stats.prompt_tokens += gen->prompt_count;
    }
    sched_start_gen(sched, gen);
}

/* Where engines cannot cut a sequence, only whole states are of use to others: one is kept where this prompt leaves
 * what is known, since that is where others may leave it, and one before the last token. */
static void set_checkpoint(struct sched *sched, struct branch *branch, unsigned limit, unsigned have)
{
    unsigned any = PREFIX_BIT(PREFIX_IDLE) | PREFIX_BIT(PREFIX_BUSY) | PREFIX_BIT(PREFIX_KEPT);
    unsigned known = prefix_find(&sched->table.prefixes, branch->tokens, limit, any).length;
    branch->checkpoint = sched->info->can_trim || branch->generated > 0 ? 0 : known > have ? known : limit;
    branch->checkpoint = gen_whole(branch->gen, branch->checkpoint);
    if (branch->checkpoint <= have)
        branch->checkpoint = 0;
}

/* Cells that must be free beside the branch's own: a step of everyone, and, for one that gave way before, enough that
 * it does not have to again at once. */
static unsigned margin(const struct sched *sched, const struct branch *branch)
{
    unsigned step = sched->running_count + 1, more = COMEBACK_STEPS * step, most = sched->table.cells / 4;
    return branch->generated == 0 ? step : more < most ? more : most;
}

static enum placement place(struct sched *sched, struct branch *branch)
{
    unsigned limit = reusable(branch);
    struct seq_match match = find_sequence(sched, branch, limit);
    struct prefix_match kept = find_kept(sched, branch, limit);
    bool restores = kept.length >= match.length + RESTORE_GAIN;
    unsigned have = restores ? kept.length : match.length;
    if (worth_waiting(sched, branch, limit, have)) /* asked first: nobody shall yield to one that waits anyway */
        return LATER;
    if (sched->running_count == sched->info->sequences)
        return BLOCKED;
    set_checkpoint(sched, branch, limit, have);
    unsigned needed = branch->count + margin(sched, branch);
    if (restores && !sched_make_room(sched, needed, -1) && sched->running_count > 0)
        return BLOCKED;
    int id = restores ? restore_sequence(sched, branch, limit, kept.length) : -1;
    if (id < 0) {
        match = find_sequence(sched, branch, limit); /* room was made */
        if (!sched_make_room(sched, needed - match.length, match.id) && sched->running_count > 0)
            return BLOCKED;
        id = choose_sequence(sched, &match);
    }
    if (id < 0)
        return BLOCKED;
    run_branch(sched, branch, id, sched->table.seqs[id].count);
    return PLACED;
}

/* ---- making others yield ---- */

static struct branch *youngest(const struct sched *sched, const struct share *share, int priority)
{
    for (unsigned i = sched->running_count; i-- > 0;) {
        struct branch *branch = sched->running[i];
        if (share ? branch->gen->share == share : branch->gen->priority >= priority)
            return branch;
    }
    return NULL;
}

static struct branch *paused(const struct sched *sched)
{
    for (unsigned i = 0; i < sched->running_count; i++)
        if (gen_sits_out(sched->running[i]->gen))
            return sched->running[i];
    return NULL;
}

static const struct share *busiest_share(const struct sched *sched)
{
    const struct share *busiest = NULL;
    list_each (share, &sched->shares.shares, struct share, link)
        if (!busiest || share->running > busiest->running)
            busiest = share;
    return busiest;
}

/* Some other branch gives its sequence to an interactive one of this client; its tokens stay there until they are in
 * the way. False: there is none that should. */
static bool make_yield(struct sched *sched, const struct share *share)
{
    const struct share *busiest = busiest_share(sched);
    struct branch *victim = paused(sched);
    if (!victim)
        victim = youngest(sched, NULL, 1);
    if (!victim && busiest && busiest->running >= share->running + 2)
        victim = youngest(sched, busiest, 0);
    if (!victim)
        return false;
    sched_leave_sequence(sched, victim);
    victim->done = 0;
    sched->stats.preempted++;
    sched_await(sched, victim, true);
    return true;
}

/* ---- lanes ---- */

/* The branch to try next: of the first few, the one with most of its tokens in the cache. */
static struct branch *hottest(const struct sched *sched, struct list *waiting)
{
    struct branch *head = list_first(waiting, struct branch, link), *best = head;
    unsigned scanned = 0, most = 0, all = PREFIX_BIT(PREFIX_IDLE) | PREFIX_BIT(PREFIX_BUSY);
    if (head->overtaken >= OVERTAKEN || head->link.next == waiting)
        return head;
    list_each (branch, waiting, struct branch, link) {
        if (scanned++ == HOT_SCAN)
            break;
        unsigned have = prefix_find(&sched->table.prefixes, branch->tokens, reusable(branch), all).length;
        if (have >= most + LIMIT_SIBLING_TOKENS) {
            most = have;
            best = branch;
        }
    }
    return best;
}

static enum placement place_or_yield(struct sched *sched, struct branch *branch)
{
    if (gen_sits_out(branch->gen))
        return LATER;
    enum placement placement = place(sched, branch);
    while (placement == BLOCKED && branch->gen->priority == 0 && make_yield(sched, branch->gen->share))
        placement = place(sched, branch);
    return placement;
}

/* One pass over a client's waiting branches; true: at least one was placed. *ret_blocked: there is no room for it. */
static bool admit_share(struct sched *sched, struct list *waiting, bool *ret_blocked)
{
    unsigned scanned = 0;
    struct branch *hot = hottest(sched, waiting), *head = list_first(waiting, struct branch, link);
    *ret_blocked = false;
    if (hot != head && place_or_yield(sched, hot) == PLACED) {
        head->overtaken++;
        return true;
    }
    list_each (branch, waiting, struct branch, link) {
        if (scanned++ == ADMIT_SCAN)
            break;
        enum placement placement = place_or_yield(sched, branch);
        *ret_blocked = placement == BLOCKED;
        if (placement != LATER)
            return placement == PLACED;
    }
    return false;
}

/* False: a client's turn has come and there is no room. */
static bool admit_lane(struct sched *sched, enum share_lane lane, bool *placed)
{
    struct share *share = share_next(&sched->shares, lane, NULL);
    unsigned turns = TURNS_PER_SEQUENCE * sched->info->sequences; /* some may be placed, and yield again */
    while (share && turns-- > 0) {
        bool blocked, some = admit_share(sched, &share->waiting[lane], &blocked);
        *placed |= some;
        if (blocked)
            return false;
        share = share_next(&sched->shares, lane, some ? NULL : share); /* a placement changes the order */
    }
    return true;
}

/* ---- priority ---- */

static bool interactive_at_work(const struct sched *sched)
{
    for (unsigned i = 0; i < sched->running_count; i++)
        if (sched->running[i]->gen->priority == 0 && !gen_sits_out(sched->running[i]->gen))
            return true;
    return false;
}

static bool batch_exists(const struct sched *sched)
{
    list_each (gen, &sched->active, const struct gen, queue)
        if (gen->priority > 0)
            return true;
    return false;
}

uint64_t sched_lull_end(const struct sched *sched)
{
    return sched->batch_held && batch_exists(sched) ? sched->interactive_ms + BATCH_LULL_MS : 0;
}

bool sched_admit(struct sched *sched)
{
    bool placed = false, open = admit_lane(sched, SHARE_INTERACTIVE, &placed), at_work = interactive_at_work(sched);
    uint64_t now = clock_ms();
    if (at_work)
        sched->interactive_ms = now;
    bool lull = !at_work && sched->interactive_ms > 0 && now < sched->interactive_ms + BATCH_LULL_MS;
    sched->batch_held = lull || (at_work && sched->steps_held + 1 < BATCH_EVERY);
    sched->steps_held = sched->batch_held ? sched->steps_held + 1 : 0;
    if (open && !sched->batch_held)
        admit_lane(sched, SHARE_BATCH, &placed);
    return placed;
}
