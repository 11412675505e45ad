/* The KV store: states of sequences kept outside the engine's cache, in memory and, over the worker's life, on disk. A
 * prefix that had to leave the cache comes back at the price of a copy instead of a prefill. Decode thread only, but
 * for the statistics, which the scheduler publishes. */
#ifndef WORKER_KV_STORE_H
#define WORKER_KV_STORE_H

#include "worker/engine.h"
#include "worker/prefix.h"

struct kv_store;

struct kv_store_config {
    const struct engine_ops *ops;
    struct engine *engine;
    struct prefix_tree *tree; /* each state has a PREFIX_KEPT mark in it */
    uint64_t memory_limit;    /* bytes of states in memory; 0: keeps nothing in memory */
    const char *folder;       /* for kv_store_flush, made when missing; NULL: nothing survives the worker */
    uint64_t disk_limit;      /* bytes in the folder above `folder`, all models together */
    const char *identity; /* what a state depends on: model, settings, engine; the folder's files are checked for it */
};

/* Reads what lies in the folder: tokens only, a state is read when it is wanted. Files that are damaged or of another
 * identity are removed. */
struct kv_store *kv_store_new(const struct kv_store_config *config);
void kv_store_free(struct kv_store *store); /* marks leave the tree; files stay */

/* Whether keeping a sequence of these tokens would save anybody much: it is long enough, and no kept state has nearly
 * all of it. */
bool kv_store_wants(const struct kv_store *store, const engine_token *tokens, unsigned count);

/* Copies the state of a sequence that holds tokens. The least recently used states go when the limit is reached; states
 * that are a beginning of this one go too, if the engine can cut states. False: too big, or the engine failed. */
bool kv_store_keep(struct kv_store *store, unsigned sequence, const engine_token *tokens, unsigned count);

/* Whether the sequence's state can be kept without pushing another out. */
bool kv_store_has_room(const struct kv_store *store, unsigned sequence);

/* The tokens of the state behind a PREFIX_KEPT mark. */
const engine_token *kv_store_tokens(const struct prefix_mark *mark, unsigned *ret_count);

/* Copies the state behind a mark into an empty sequence. False: the cache has no room, or the state cannot be read; in
 * the latter case it is forgotten. The sequence is empty then. */
bool kv_store_restore(struct kv_store *store, struct prefix_mark *mark, unsigned sequence);

/* Writes the states in memory to the folder, last used first, until the limit or `deadline_ms` (loop_now_ms scale), and
 * removes the oldest files above the limit. Safe against a kill at any point. */
void kv_store_flush(struct kv_store *store, uint64_t deadline_ms);

struct kv_store_stats {
    unsigned states; /* in memory */
    unsigned files;  /* on disk, of this model */
    uint64_t memory_bytes, disk_bytes;
    uint64_t kept, restored, evicted; /* since start */
};
const struct kv_store_stats *kv_store_stats(const struct kv_store *store);

#endif
