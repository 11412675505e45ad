/* Why ids are digests. Prefixes are found, shared and kept on disk by comparing ids alone, for tokens and cells alike.
 * A cell's id carries 31 bits of its picture's SHA-256, another 31 for each of the first eight cells, and then over
 * again: two pictures whose runs compare equal agree in 248 bits, or in 124 when they have but four cells, the fewest
 * there may be. To make somebody else's prompt find another image one would have to hit those 124 bits. Equal bytes
 * give equal ids in every process, so states on disk are found again. */
#include "worker/picture.h"

#include "base/list.h"
#include "base/mem.h"

#define WORDS (HASH_SHA256_SIZE / 4)

struct picture *picture_new(const unsigned char digest[HASH_SHA256_SIZE], unsigned count, unsigned width, bool grid)
{
    size_t floats = (size_t)count * width;
    size_t places = grid ? count * sizeof *((struct picture *)0)->grid : 0;
    struct picture *picture = mem_try_realloc(NULL, sizeof *picture + floats * sizeof(float) + places);
    if (!picture)
        return NULL;
    atomic_init(&picture->refs, 1);
    memcpy(picture->digest, digest, HASH_SHA256_SIZE);
    picture->count = count;
    picture->width = width;
    picture->acausal = false;
    picture->steps = count;
    picture->grid = grid ? (struct engine_grid *)(picture->embeddings + floats) : NULL;
    return picture;
}

struct picture *picture_ref(struct picture *picture)
{
    atomic_fetch_add(&picture->refs, 1);
    return picture;
}

void picture_unref(struct picture *picture)
{
    if (picture && atomic_fetch_sub(&picture->refs, 1) == 1)
        mem_free(picture);
}

void picture_ids(const unsigned char digest[HASH_SHA256_SIZE], unsigned count, engine_token *out)
{
    for (unsigned i = 0; i < count; i++) {
        int32_t word;
        memcpy(&word, digest + i % WORDS * 4, sizeof word);
        word |= INT32_MIN;
        out[i] = word == ENGINE_TOKEN_NONE ? ENGINE_TOKEN_NONE - 1 : word;
    }
}

/* ---- the cache ---- */

struct entry {
    struct list link; /* last used last */
    struct picture *picture;
};

struct picture_cache {
    struct list entries;
    uint64_t bytes, limit;
};

#define ENTRIES 1024 /* at most: small ones count as so large a part */

static uint64_t size_of(const struct picture_cache *cache, const struct picture *picture)
{
    uint64_t size = sizeof *picture + (uint64_t)picture->count * picture->width * sizeof(float);
    return size < cache->limit / ENTRIES ? cache->limit / ENTRIES : size;
}

static void drop(struct picture_cache *cache, struct entry *entry)
{
    cache->bytes -= size_of(cache, entry->picture);
    list_remove(&entry->link);
    picture_unref(entry->picture);
    mem_free(entry);
}

struct picture_cache *picture_cache_new(uint64_t limit)
{
    struct picture_cache *cache = mem_calloc(1, sizeof *cache);
    list_init(&cache->entries);
    cache->limit = limit;
    return cache;
}

void picture_cache_free(struct picture_cache *cache)
{
    if (!cache)
        return;
    list_each (entry, &cache->entries, struct entry, link)
        drop(cache, entry);
    mem_free(cache);
}

struct picture *picture_cache_find(struct picture_cache *cache, const unsigned char digest[HASH_SHA256_SIZE])
{
    list_each (entry, &cache->entries, struct entry, link) {
        if (memcmp(entry->picture->digest, digest, HASH_SHA256_SIZE) != 0)
            continue;
        list_remove(&entry->link);
        list_push(&cache->entries, &entry->link);
        return picture_ref(entry->picture);
    }
    return NULL;
}

void picture_cache_add(struct picture_cache *cache, struct picture *picture)
{
    uint64_t size = size_of(cache, picture);
    if (size > cache->limit)
        return;
    list_each (entry, &cache->entries, struct entry, link)
        if (cache->bytes + size > cache->limit)
            drop(cache, entry);
    struct entry *entry = mem_calloc(1, sizeof *entry);
    entry->picture = picture_ref(picture);
    list_push(&cache->entries, &entry->link);
    cache->bytes += size;
}
