/* Pictures are few, so each question walks over a sequence's. They stand in order and apart, since sequences only grow
 * at their end. As bytes: the runs, then their number (u32). */
#include "worker/engine_place.h"

#include <string.h>

#include "base/mem.h"

struct place_table {
    struct place_list {
        struct place_run *runs;
        uint32_t count, capacity;
    } * lists;
    unsigned count;
};

struct place_table *place_table_new(unsigned sequences)
{
    struct place_table *table = mem_calloc(1, sizeof *table);
    table->lists = mem_calloc(sequences, sizeof *table->lists);
    table->count = sequences;
    return table;
}

void place_table_free(struct place_table *table)
{
    if (!table)
        return;
    for (unsigned i = 0; i < table->count; i++)
        mem_free(table->lists[i].runs);
    mem_free(table->lists);
    mem_free(table);
}

uint32_t place_position(const struct place_table *table, unsigned sequence, uint32_t cell)
{
    uint32_t position = cell;
    if (!table)
        return cell;
    const struct place_list *list = &table->lists[sequence];
    for (uint32_t i = 0; i < list->count; i++) {
        const struct place_run *run = &list->runs[i];
        if (cell >= run->start + run->count)
            position = position - run->count + run->positions;
        else if (cell >= run->start)
            return position - (cell - run->start);
    }
    return position;
}

static void push(struct place_list *list, const struct place_run *run)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 4;
        list->runs = mem_realloc(list->runs, list->capacity * sizeof *list->runs);
    }
    list->runs[list->count++] = *run;
}

void place_add(struct place_table *table, unsigned sequence, const struct place_run *run)
{
    struct place_list *list = &table->lists[sequence];
    if (list->count == 0 || list->runs[list->count - 1].start < run->start)
        push(list, run);
}

void place_trim(struct place_table *table, unsigned sequence, uint32_t length)
{
    struct place_list *list = table ? &table->lists[sequence] : NULL;
    while (list && list->count > 0 && list->runs[list->count - 1].start >= length)
        list->count--;
}

void place_copy(struct place_table *table, unsigned from, unsigned to, uint32_t length)
{
    if (!table)
        return;
    table->lists[to].count = 0;
    for (uint32_t i = 0; i < table->lists[from].count; i++)
        if (table->lists[from].runs[i].start < length)
            push(&table->lists[to], &table->lists[from].runs[i]);
}

size_t place_save_size(const struct place_table *table, unsigned sequence)
{
    return table ? table->lists[sequence].count * sizeof(struct place_run) + sizeof(uint32_t) : 0;
}

void place_save(const struct place_table *table, unsigned sequence, void *out)
{
    if (!table)
        return;
    const struct place_list *list = &table->lists[sequence];
    size_t bytes = list->count * sizeof *list->runs;
    if (bytes > 0)
        memcpy(out, list->runs, bytes);
    memcpy((char *)out + bytes, &list->count, sizeof list->count);
}

bool place_load(struct place_table *table, unsigned sequence, const void *bytes, size_t size, size_t *ret_rest)
{
    uint32_t count;
    *ret_rest = size;
    if (!table)
        return true;
    if (size < sizeof count)
        return false;
    memcpy(&count, (const char *)bytes + size - sizeof count, sizeof count);
    size_t rest = size - sizeof count;
    if (count > rest / sizeof(struct place_run))
        return false;
    *ret_rest = rest - count * sizeof(struct place_run);
    table->lists[sequence].count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct place_run run;
        memcpy(&run, (const char *)bytes + *ret_rest + i * sizeof run, sizeof run);
        push(&table->lists[sequence], &run);
    }
    return true;
}
