/* Room in the cache. What idle sequences hold is worth its cells as long as somebody comes back to it, but attention
 * passes over every cell in use, whoever holds it: 1 000 idle ones made the decode of 16 streams 13 % slower (135 M
 * parameters). A copy of a token's state costs a hundredth of its prefill. So beside work idle prefixes leave for the
 * KV store and come back as a copy, as long as nothing kept there has to go for them: a sequence that is there already
 * leaves at once, another when the step's own work outweighs the copy (sched_clear_way). Where the store is full, or
 * states serve less than sequences do (whole_states), idle prefixes only stay within a part of the cache.
 *
 * Most copies are made in quiet moments (sched_tidy), so that forgetting a sequence is nearly free when room is needed
 * in a hurry. A pre-empted branch loses its cells in the same way, and finds its state again when it is admitted. */
#include "worker/sched_private.h"

#define IDLE_WEIGHT 16 /* idle cells beside work, as a fraction of the busy ones, that are no burden */
#define CLEAR_STEP  64 /* tokens that may be copied away for a step without prefill: some 1 % of its time */

#define IDLE_KEPT  2  /* idle sequences kept however long they are */
#define IDLE_PART  16 /* more of them only within this fraction of the cells */
#define LOST_KEPT  4  /* the same when there is no store, and what leaves is lost */
#define LOST_PART  4
#define QUIET_KEPT 1 /* the same after a quiet moment, when all are copied: nobody knows what comes next */
#define QUIET_PART 16

bool sched_trim(struct sched *sched, unsigned id, unsigned length)
{
    if (length > 0 && !sched->ops->sequence_trim(sched->engine, id, length))
        length = 0;
    if (length == 0)
        sched->ops->sequence_trim(sched->engine, id, 0);
    seq_trim(&sched->table, id, length);
    return length > 0;
}

static bool keep(struct sched *sched, unsigned id)
{
    const struct seq *seq = &sched->table.seqs[id];
    return kv_store_wants(sched->store, seq->tokens, seq->count) &&
           kv_store_keep(sched->store, id, seq->tokens, seq->count);
}

void sched_forget(struct sched *sched, unsigned id)
{
    keep(sched, id);
    sched_trim(sched, id, 0);
}

bool sched_make_room(struct sched *sched, unsigned needed, int except)
{
    while (sched->table.cells - sched->table.cells_used < needed) {
        int oldest = seq_idle_oldest(&sched->table, except);
        if (oldest < 0)
            return false;
        sched_forget(sched, (unsigned)oldest);
    }
    return true;
}

static unsigned idle_count(const struct seq_table *table)
{
    unsigned idle = 0;
    for (unsigned i = 0; i < table->count; i++)
        idle += !seq_is_busy(&table->seqs[i]) && table->seqs[i].count > 0;
    return idle;
}

/* The oldest idle sequence when there are more of them than kept with more than a part of the cells; else -1. */
static int stale(const struct sched *sched, unsigned kept, unsigned part)
{
    const struct seq_table *table = &sched->table;
    if (seq_idle_cells(table) <= table->cells / part || idle_count(table) <= kept)
        return -1;
    return seq_idle_oldest(table, -1);
}

void sched_forget_stale(struct sched *sched)
{
    bool lost = sched->config.kv_memory == 0;
    int oldest = stale(sched, lost ? LOST_KEPT : IDLE_KEPT, lost ? LOST_PART : IDLE_PART);
    if (oldest >= 0)
        sched_forget(sched, (unsigned)oldest);
}

static bool is_burden(const struct seq_table *table)
{
    return seq_idle_cells(table) > table->cells_busy / IDLE_WEIGHT;
}

/* Tokens to copy before the idle sequence may leave; 0: it is kept already, or worth nothing. */
static unsigned copy_cost(const struct sched *sched, const struct seq *seq)
{
    return kv_store_wants(sched->store, seq->tokens, seq->count) ? seq->count : 0;
}

void sched_clear_way(struct sched *sched)
{
    unsigned prefilled = sched->row_count - sched->decode_rows;
    if (sched->info->whole_states || sched->config.kv_memory == 0)
        return;
    sched->clearing += prefilled > CLEAR_STEP ? prefilled : CLEAR_STEP;
    if (sched->clearing > sched->table.cells)
        sched->clearing = sched->table.cells;
    while (is_burden(&sched->table)) {
        int id = seq_idle_oldest(&sched->table, -1);
        if (id < 0)
            return;
        unsigned cost = copy_cost(sched, &sched->table.seqs[id]);
        if (cost > sched->clearing || (cost > 0 && !kv_store_has_room(sched->store, (unsigned)id)))
            return;
        sched->clearing -= cost;
        sched_forget(sched, (unsigned)id);
    }
}

/* The idle sequence that was left first after the last one looked at, or -1: each is looked at once, else two that do
 * not fit the store together would push each other out for ever. */
static int next_untidied(const struct sched *sched)
{
    int next = -1;
    for (unsigned i = 0; i < sched->table.count; i++) {
        const struct seq *seq = &sched->table.seqs[i];
        if (!seq_is_busy(seq) && seq->count > 0 && seq->used_at > sched->tidied &&
            (next < 0 || seq->used_at < sched->table.seqs[next].used_at))
            next = (int)i;
    }
    return next;
}

bool sched_tidy(struct sched *sched)
{
    int id = next_untidied(sched);
    if (id >= 0) {
        sched->tidied = sched->table.seqs[id].used_at;
        keep(sched, (unsigned)id);
        return true;
    }
    id = stale(sched, QUIET_KEPT, QUIET_PART);
    if (id >= 0)
        sched_forget(sched, (unsigned)id);
    return id >= 0;
}

void sched_checkpoint(struct sched *sched, struct branch *branch)
{
    keep(sched, (unsigned)branch->sequence);
    unsigned last = gen_whole(branch->gen, branch->count - 1);
    branch->checkpoint = branch->checkpoint < last ? last : 0;
}

/* The branch that shall give way: a paused one, else one of batch, else the youngest. */
static struct branch *preemption_victim(const struct sched *sched)
{
    for (unsigned i = sched->running_count; i-- > 0;)
        if (gen_sits_out(sched->running[i]->gen))
            return sched->running[i];
    for (unsigned i = sched->running_count; i-- > 0;)
        if (sched->running[i]->gen->priority > 0)
            return sched->running[i];
    return sched->running[sched->running_count - 1];
}

bool sched_preempt(struct sched *sched)
{
    if (sched->running_count < 2)
        return false;
    struct branch *victim = preemption_victim(sched);
    unsigned sequence = (unsigned)victim->sequence;
    sched_leave_sequence(sched, victim);
    sched_forget(sched, sequence);
    victim->done = 0;
    sched->stats.preempted++;
    sched_await(sched, victim, true);
    return true;
}
