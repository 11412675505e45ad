/* Cells are mirrored one by one: a copy raises the counts of the cells it shares, a trim lowers them, and a cell
 * nobody holds goes back to the free stack. So cells_used is exact whatever was copied and trimmed in which order,
 * and the scheduler knows before a decode whether it will fit.
 *
 * Invariants: refs[c] is the number of sequences with c among their cells, users[c] that of busy ones; cells_used
 * counts refs[c] > 0, cells_busy users[c] > 0; the stack holds the cells without refs; a sequence's mark stands behind
 * its tokens. */
#include "worker/seq.h"

#include <assert.h>

#include "base/mem.h"

void seq_table_init(struct seq_table *table, unsigned sequences, unsigned cells)
{
    *table = (struct seq_table){.count = sequences, .cells = cells};
    table->seqs = mem_calloc(sequences, sizeof *table->seqs);
    table->refs = mem_calloc(cells, sizeof *table->refs);
    table->users = mem_calloc(cells, sizeof *table->users);
    table->unused = mem_calloc(cells, sizeof *table->unused);
    prefix_tree_init(&table->prefixes);
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
    mem_free(table->users);
    mem_free(table->unused);
    prefix_tree_release(&table->prefixes);
    *table = (struct seq_table){0};
}

static void use_cell(struct seq_table *table, unsigned cell)
{
    table->cells_busy += table->users[cell]++ == 0;
}

static void leave_cell(struct seq_table *table, unsigned cell)
{
    assert(table->users[cell] > 0);
    table->cells_busy -= --table->users[cell] == 0;
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
    prefix_append(&table->prefixes, &seq->mark, tokens, count);
    for (unsigned i = 0; i < count; i++) {
        unsigned cell = table->unused[table->cells - ++table->cells_used];
        table->refs[cell] = 1;
        if (seq_is_busy(seq))
            use_cell(table, cell);
        seq->tokens[seq->count] = tokens[i];
        seq->cells[seq->count++] = cell;
    }
}

void seq_trim(struct seq_table *table, unsigned id, unsigned length)
{
    struct seq *seq = &table->seqs[id];
    prefix_cut(&table->prefixes, &seq->mark, length);
    while (seq->count > length) {
        unsigned cell = seq->cells[--seq->count];
        assert(table->refs[cell] > 0);
        if (seq_is_busy(seq))
            leave_cell(table, cell);
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
        if (seq_is_busy(target))
            use_cell(table, source->cells[i]);
    }
    target->count = length;
    prefix_share(&table->prefixes, &source->mark, &target->mark, length);
}

void seq_take(struct seq_table *table, unsigned id)
{
    struct seq *seq = &table->seqs[id];
    assert(!seq_is_busy(seq));
    prefix_set_kind(&seq->mark, PREFIX_BUSY);
    for (unsigned i = 0; i < seq->count; i++)
        use_cell(table, seq->cells[i]);
}

void seq_give(struct seq_table *table, unsigned id)
{
    struct seq *seq = &table->seqs[id];
    assert(seq_is_busy(seq));
    for (unsigned i = 0; i < seq->count; i++)
        leave_cell(table, seq->cells[i]);
    prefix_set_kind(&seq->mark, PREFIX_IDLE);
    seq->used_at = ++table->clock;
}

int seq_idle_empty(const struct seq_table *table)
{
    for (unsigned i = 0; i < table->count; i++)
        if (!seq_is_busy(&table->seqs[i]) && table->seqs[i].count == 0)
            return (int)i;
    return -1;
}

int seq_idle_oldest(const struct seq_table *table, int except)
{
    int oldest = -1;
    for (unsigned i = 0; i < table->count; i++) {
        const struct seq *seq = &table->seqs[i];
        if (seq_is_busy(seq) || seq->count == 0 || (int)i == except)
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

static struct seq_match to_match(const struct seq_table *table, struct prefix_match found)
{
    if (!found.mark)
        return (struct seq_match){.id = -1};
    const struct seq *seq = container_of(found.mark, struct seq, mark);
    return (struct seq_match){.id = (int)(seq - table->seqs), .length = found.length};
}

struct seq_match seq_match(const struct seq_table *table, const engine_token *tokens, unsigned count, bool whole)
{
    struct prefix_match (*find)(const struct prefix_tree *, const engine_token *, unsigned, unsigned) =
        whole ? prefix_find_whole : prefix_find;
    struct prefix_match idle = find(&table->prefixes, tokens, count, PREFIX_BIT(PREFIX_IDLE));
    struct prefix_match busy = find(&table->prefixes, tokens, count, PREFIX_BIT(PREFIX_BUSY));
    return to_match(table, busy.length > idle.length ? busy : idle);
}
