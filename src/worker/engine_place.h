/* Where the cells of a sequence stand for models whose pictures take fewer positions than cells (M-RoPE): a table of
 * the pictures in each sequence, and from it the position of any cell. Outside the engine cells are counted, inside
 * llama.cpp positions are. One thread. */
#ifndef WORKER_ENGINE_PLACE_H
#define WORKER_ENGINE_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct place_run {
    uint32_t start, count; /* cells of the sequence */
    uint32_t positions;    /* that they take, 1.. */
};

struct place_table;

struct place_table *place_table_new(unsigned sequences);
void place_table_free(struct place_table *table); /* NULL is fine */

/* Of the cell with this number; inside a picture, where the picture begins. A NULL table: its number. */
uint32_t place_position(const struct place_table *table, unsigned sequence, uint32_t cell);

/* A picture behind those that are there; one that is known already (a further piece of it) changes nothing. */
void place_add(struct place_table *table, unsigned sequence, const struct place_run *run);
void place_trim(struct place_table *table, unsigned sequence, uint32_t length); /* cells kept */
void place_copy(struct place_table *table, unsigned from, unsigned to, uint32_t length);

/* A sequence's pictures as bytes: how many, and a copy. */
size_t place_save_size(const struct place_table *table, unsigned sequence);
void place_save(const struct place_table *table, unsigned sequence, void *out);
/* Back from the end of size bytes; *ret_rest is what stands before. false: they are no such bytes. */
bool place_load(struct place_table *table, unsigned sequence, const void *bytes, size_t size, size_t *ret_rest);

#endif
