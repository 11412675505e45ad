/* Cells are mirrored one by one: a copy raises the counts of the cells it shares, a trim lowers them, and a cell
 * nobody holds goes back to the free stack. So cells_used is exact whatever was copied and trimmed in which order,
 * and the scheduler knows before a decode whether it will fit.
 *
 * Invariants: refs[c] is the number of sequences with c among their cells; cells_used counts refs[c] > 0; the stack
 * holds the other cells. */
#include "worker/seq.h"

#include <assert.h>

#include "base/mem.h"

void seq_table_init(struct seq_table *table, unsigned sequences, unsigned cells)
{
    *table = (struct seq_table){.count = sequences, .cells = cells};
    table->seqs = mem_calloc(sequences, sizeof *table->seqs);
    table->refs = mem_calloc(cells, sizeof *table->refs);
    table->unused = mem_calloc(cells, sizeof *table->unused);
    for (unsigned i = 0; i < cells; i++)
        table->unused[i] = cells - 1 - i;
}

void seq_table_release(struct seq_table *table)
{
    for (unsigned i = 0; i < table->count; i++) {
        mem_free(table->seqs[i].tokens);
        mem_free(table->seqs[i].cells);
    }
    mem_free(table->seqs);
    mem_free(table->refs);
    mem_free(table->unused);
    *table = (struct seq_table){0};
}

static void reserve(struct seq *seq, unsigned count)
{
    if (count <= seq->capacity)
        return;
    unsigned capacity = seq->capacity ? seq->capacity : 256;
    while (capacity < count)
        capacity *= 2;
    seq->tokens = mem_realloc(seq->tokens, capacity * sizeof *seq->tokens);
    seq->cells = mem_realloc(seq->cells, capacity * sizeof *seq->cells);
    seq->capacity = capacity;
}

void seq_append(struct seq_table *table, unsigned id, const engine_token *tokens, unsigned count)
{
    struct seq *seq = &table->seqs[id];
    assert(table->cells - table->cells_used >= count);
    reserve(seq, seq->count + count);
    for (unsigned i = 0; i < count; i++) {
        unsigned cell = table->unused[table->cells - ++table->cells_used];
        table->refs[cell] = 1;
        seq->tokens[seq->count] = tokens[i];
        seq->cells[seq->count++] = cell;
    }
}

void seq_trim(struct seq_table *table, unsigned id, unsigned length)
{
    struct seq *seq = &table->seqs[id];
    while (seq->count > length) {
        unsigned cell = seq->cells[--seq->count];
        assert(table->refs[cell] > 0);
        if (--table->refs[cell] == 0)
            table->unused[table->cells - table->cells_used--] = cell;
    }
}

void seq_copy(struct seq_table *table, unsigned from, unsigned to, unsigned length)
{
    struct seq *source = &table->seqs[from], *target = &table->seqs[to];
    assert(from != to && target->count == 0 && length <= source->count);
    reserve(target, length);
    for (unsigned i = 0; i < length; i++) {
        target->tokens[i] = source->tokens[i];
        target->cells[i] = source->cells[i];
        table->refs[source->cells[i]]++;
    }
    target->count = length;
}

void seq_take(struct seq_table *table, unsigned id)
{
    assert(!table->seqs[id].busy);
    table->seqs[id].busy = true;
}

void seq_give(struct seq_table *table, unsigned id)
{
    assert(table->seqs[id].busy);
    table->seqs[id].busy = false;
    table->seqs[id].used_at = ++table->clock;
}

int seq_idle_empty(const struct seq_table *table)
{
    for (unsigned i = 0; i < table->count; i++)
        if (!table->seqs[i].busy && table->seqs[i].count == 0)
            return (int)i;
    return -1;
}

int seq_idle_oldest(const struct seq_table *table, int except)
{
    int oldest = -1;
    for (unsigned i = 0; i < table->count; i++) {
        const struct seq *seq = &table->seqs[i];
        if (seq->busy || seq->count == 0 || (int)i == except)
            continue;
        if (oldest < 0 || seq->used_at < table->seqs[oldest].used_at)
            oldest = (int)i;
    }
    return oldest;
}

unsigned seq_common(const engine_token *a, unsigned a_count, const engine_token *b, unsigned b_count)
{
    unsigned limit = a_count < b_count ? a_count : b_count, n = 0;
    while (n < limit && a[n] == b[n])
        n++;
    return n;
}

struct seq_match seq_match(const struct seq_table *table, const engine_token *tokens, unsigned count, bool whole)
{
    struct seq_match best = {.id = -1};
    for (unsigned i = 0; i < table->count; i++) {
        const struct seq *seq = &table->seqs[i];
        unsigned length = seq_common(seq->tokens, seq->count, tokens, count);
        if (length == 0 || (whole && length < seq->count))
            continue;
        bool idle_wins = best.id >= 0 && length == best.length && table->seqs[best.id].busy && !seq->busy;
        if (length > best.length || idle_wins)
            best = (struct seq_match){.id = (int)i, .length = length};
    }
    return best;
}
