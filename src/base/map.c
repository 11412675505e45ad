#include "base/map.h"

#include <stdint.h>

#include "base/mem.h"
#include "base/rand.h"

struct map_slot {
    char *key; /* NULL: free; TOMB: once used */
    size_t length;
    uint64_t hash;
    void *value;
};

static char tomb;
#define TOMB (&tomb)

/* FNV-1a, seeded per process so that a client cannot choose colliding names. */
static uint64_t hash_of(struct str key)
{
    static uint64_t seed;
    if (!seed)
        rand_bytes(&seed, sizeof seed);
    uint64_t hash = 14695981039346656037u ^ seed;
    for (size_t i = 0; i < key.n; i++)
        hash = (hash ^ (unsigned char)key.p[i]) * 1099511628211u;
    return hash ^ (hash >> 32);
}

void map_init(struct map *map)
{
    *map = (struct map){0};
}

static bool in_use(const struct map_slot *slot)
{
    return slot->key && slot->key != TOMB;
}

void map_release(struct map *map)
{
    for (size_t i = 0; i < map->capacity; i++)
        if (in_use(&map->slots[i]))
            mem_free(map->slots[i].key);
    mem_free(map->slots);
    map_init(map);
}

static struct map_slot *find(const struct map *map, struct str key, uint64_t hash)
{
    if (!map->capacity)
        return NULL;
    for (size_t i = hash & (map->capacity - 1);; i = (i + 1) & (map->capacity - 1)) {
        struct map_slot *slot = &map->slots[i];
        if (!slot->key)
            return NULL;
        if (slot->key != TOMB && slot->hash == hash && str_eq(key, (struct str){slot->key, slot->length}))
            return slot;
    }
}

static void grow(struct map *map)
{
    struct map old = *map;
    map->capacity = old.count * 2 < 8 ? 16 : old.count * 4 > old.capacity ? old.capacity * 2 : old.capacity;
    if (map->capacity < 16)
        map->capacity = 16;
    map->slots = mem_calloc(map->capacity, sizeof *map->slots);
    map->tombs = 0;
    for (size_t i = 0; i < old.capacity; i++) {
        if (!in_use(&old.slots[i]))
            continue;
        size_t at = old.slots[i].hash & (map->capacity - 1);
        while (map->slots[at].key)
            at = (at + 1) & (map->capacity - 1);
        map->slots[at] = old.slots[i];
    }
    mem_free(old.slots);
}

void *map_get(const struct map *map, struct str key)
{
    struct map_slot *slot = find(map, key, hash_of(key));
    return slot ? slot->value : NULL;
}

void *map_put(struct map *map, struct str key, void *value)
{
    uint64_t hash = hash_of(key);
    struct map_slot *slot = find(map, key, hash);
    if (slot) {
        void *old = slot->value;
        slot->value = value;
        return old;
    }
    if ((map->count + map->tombs + 1) * 4 > map->capacity * 3)
        grow(map);
    size_t at = hash & (map->capacity - 1);
    while (in_use(&map->slots[at]))
        at = (at + 1) & (map->capacity - 1);
    if (map->slots[at].key == TOMB)
        map->tombs--;
    map->slots[at] = (struct map_slot){mem_strndup(key.p, key.n), key.n, hash, value};
    map->count++;
    return NULL;
}

void *map_remove(struct map *map, struct str key)
{
    struct map_slot *slot = find(map, key, hash_of(key));
    if (!slot)
        return NULL;
    void *value = slot->value;
    mem_free(slot->key);
    *slot = (struct map_slot){.key = TOMB};
    map->count--;
    map->tombs++;
    return value;
}

bool map_next(const struct map *map, size_t *at, struct str *ret_key, void **ret_value)
{
    for (; *at < map->capacity; (*at)++) {
        struct map_slot *slot = &map->slots[*at];
        if (!in_use(slot))
            continue;
        *ret_key = (struct str){slot->key, slot->length};
        *ret_value = slot->value;
        (*at)++;
        return true;
    }
    return false;
}
