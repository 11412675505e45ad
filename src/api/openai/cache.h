/* Replies kept for requests that would get the same reply again (specs/inferno.md 7.1): opt-in, exact, in memory,
 * bounded in entries and bytes, least recently used ones leave first. An entry is a reply's bytes as they were sent,
 * plain or streamed; it is valid while the model's process is the one that made it and until its time is over.
 * Loop thread only. */
#ifndef API_OPENAI_CACHE_H
#define API_OPENAI_CACHE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "obs/metrics.h"

struct cache;

struct cache_key {
    unsigned char digest[HASH_SHA256_SIZE];
    bool streamed;
};

/* Whether a reply to body, a request to path, may be kept at all: embeddings always, completions when they are
 * deterministic (temperature 0, or a seed). The key covers path, model, tenant and every member of the body but those
 * that only say who asks. false also for a body that cannot be read. Pure. */
bool cache_key_of(struct str path, struct str body, const char *model_id, int64_t tenant, struct cache_key *ret_key);

struct cache *cache_new(size_t max_entries, uint64_t max_bytes, uint64_t ttl_ms, struct metrics *metrics);
void cache_free(struct cache *cache); /* nobody may wait any more */

struct cache_reply {
    const char *content_type;
    struct str body;
    uint64_t age_seconds;
};

/* The reply kept for the key by this generation of the model's process. Valid until the next call. */
bool cache_get(struct cache *cache, const struct cache_key *key, uint64_t generation, uint64_t now_ms,
               struct cache_reply *ret_reply);

/* ---- filling ---- */

struct cache_fill;

/* A reply to that key is on its way; its bytes are copied as they pass. NULL: another request fills it already. Ends
 * with the arena, without an entry unless cache_fill_done was called. */
struct cache_fill *cache_fill_begin(struct cache *cache, const struct cache_key *key, struct arena *arena);
void cache_fill_head(struct cache_fill *fill, int status, struct str content_type); /* not 200: nothing is kept */
void cache_fill_data(struct cache_fill *fill, struct str piece);
/* The reply is complete and kept, when it is a good one; who waits is told when the arena dies. */
void cache_fill_done(struct cache_fill *fill, uint64_t generation, uint64_t now_ms);

/* Calls on_filled(arg) once whoever fills the key has ended, well or not, unless the arena dies first. */
void cache_wait(struct cache *cache, const struct cache_key *key, struct arena *arena, void (*on_filled)(void *arg),
                void *arg);

#endif
