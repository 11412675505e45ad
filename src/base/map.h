/* Text to pointer, open addressing, keys copied. Not ordered. One thread at a time. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stddef.h>

#include "base/str.h"

struct map_slot;

struct map {
    struct map_slot *slots;
    size_t count, capacity, tombs;
};

void map_init(struct map *map);    /* allocates nothing yet */
void map_release(struct map *map); /* values are the caller's */

void *map_get(const struct map *map, struct str key);        /* NULL when absent */
void *map_put(struct map *map, struct str key, void *value); /* value not NULL; returns the one it replaced */
void *map_remove(struct map *map, struct str key);           /* returns what was there */

/* Walks all entries: start with *at = 0; false at the end. The map must not change meanwhile. */
bool map_next(const struct map *map, size_t *at, struct str *ret_key, void **ret_value);

#endif
