/* An encoded image, or a piece of one: cells that the engine computes from embeddings. It is shared by the requests
 * that show it and by the cache of encoded images, and never changes; whoever lets go last frees it. Any thread. */
#ifndef WORKER_PICTURE_H
#define WORKER_PICTURE_H

#include <stdatomic.h>

#include "base/hash.h"
#include "worker/engine.h"

struct picture {
    atomic_uint refs;
    unsigned char digest[HASH_SHA256_SIZE]; /* of the image's bytes, and of which piece of it this is */
    unsigned count;                         /* cells, LIMIT_IMAGE_CELLS at least */
    unsigned width;                         /* floats of a cell */
    bool acausal;                           /* see engine_span */
    unsigned steps;                         /* positions it takes: count unless it has a grid */
    struct engine_grid *grid;               /* one a cell, behind the embeddings; or NULL */
    float embeddings[];
};

/* One reference, the caller's. Embeddings and grid are left for him to fill in. NULL: no memory. */
struct picture *picture_new(const unsigned char digest[HASH_SHA256_SIZE], unsigned count, unsigned width, bool grid);
struct picture *picture_ref(struct picture *picture);
void picture_unref(struct picture *picture); /* NULL is fine */

/* Ids that stand for the cells in prefixes and kept states: all negative, none ENGINE_TOKEN_NONE, so never a token's.
 */
void picture_ids(const unsigned char digest[HASH_SHA256_SIZE], unsigned count, engine_token *out);

/* A picture in a prompt. */
struct picture_place {
    unsigned start; /* token of the prompt that its first cell is */
    struct picture *picture;
};

/* Encoded images that may come again, as those of a chat do with every turn: the least recently used go when they take
 * more than `limit` bytes. One thread at a time. */
struct picture_cache;
struct picture_cache *picture_cache_new(uint64_t limit);
void picture_cache_free(struct picture_cache *cache);
/* A reference for the caller, or NULL. */
struct picture *picture_cache_find(struct picture_cache *cache, const unsigned char digest[HASH_SHA256_SIZE]);
void picture_cache_add(struct picture_cache *cache, struct picture *picture); /* takes a reference of its own */

#endif
