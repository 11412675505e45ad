/* What the engine's sequences hold: their tokens, which of them are in use, when an idle one was last touched, and how
 * many cells of the shared cache all of them fill together. A mirror of the engine's memory, kept by the scheduler so
 * that fullness can be foreseen without asking the engine, with a tree over all their tokens, so that prefixes can be
 * found. Decode thread only. */
#ifndef WORKER_SEQ_H
#define WORKER_SEQ_H

#include "worker/engine.h"
#include "worker/prefix.h"

struct seq {
    engine_token *tokens; /* decoded so far */
    unsigned *cells;      /* the cell behind each token; copies share cells */
    unsigned count, capacity;
    struct prefix_mark mark; /* IDLE or BUSY */
    uint64_t used_at;        /* table's clock when it was last released */
};

struct seq_table {
    struct seq *seqs;
    unsigned count;
    struct prefix_tree prefixes; /* of the sequences, and of whoever else marks what it holds */
    unsigned *refs;              /* sequences that hold a cell */
    unsigned *users;             /* busy ones among them */
    unsigned *unused;            /* stack of free cells */
    unsigned cells, cells_used, cells_busy;
    uint64_t clock;
};

void seq_table_init(struct seq_table *table, unsigned sequences, unsigned cells);
void seq_table_release(struct seq_table *table);

/* The table must have room: table->cells - table->cells_used >= count. */
void seq_append(struct seq_table *table, unsigned id, const engine_token *tokens, unsigned count);
void seq_trim(struct seq_table *table, unsigned id, unsigned length);                /* keeps the first length tokens */
void seq_copy(struct seq_table *table, unsigned from, unsigned to, unsigned length); /* to must be empty */

static inline bool seq_is_busy(const struct seq *seq)
{
    return seq->mark.kind == PREFIX_BUSY;
}

void seq_take(struct seq_table *table, unsigned id); /* idle to busy */
void seq_give(struct seq_table *table, unsigned id); /* busy to idle; its tokens stay as a cache */

int seq_idle_empty(const struct seq_table *table);              /* lowest idle sequence without tokens, or -1 */
int seq_idle_oldest(const struct seq_table *table, int except); /* least recently used idle one with tokens, or -1 */

static inline unsigned seq_idle_cells(const struct seq_table *table) /* that only idle sequences hold */
{
    return table->cells_used - table->cells_busy;
}

struct seq_match {
    int id;          /* -1: nothing in common */
    unsigned length; /* tokens */
};

/* The sequence that shares the longest prefix with tokens[0..count), an idle one if one shares as much. whole: only
 * sequences all of whose tokens are that prefix (engines that cannot trim). */
struct seq_match seq_match(const struct seq_table *table, const engine_token *tokens, unsigned count, bool whole);

/* How many tokens a and b have in common at the start. */
unsigned seq_common(const engine_token *a, unsigned a_count, const engine_token *b, unsigned b_count);

#endif
