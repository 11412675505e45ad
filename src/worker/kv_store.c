/* A state is what the engine writes for one sequence: as large as its part of the cache (23 KB a token for a model of
 * 135 M parameters, 128 KB for one of 8 B), yet a copy of it is some hundred times cheaper than computing it again.
 *
 * States are whole sequences, because the engine can only read them whole; one is useful to whoever shares a beginning
 * with it, since the rest is cut off after it was read. So a state that is the beginning of another is not kept beside
 * it, and a sequence is not kept when an existing state lacks little of it. (Engines that can continue a state at its
 * end only need the beginnings: there, each is kept.)
 *
 * Eviction is by least recent use. A state read from disk leaves no copy in memory: its file is mapped, copied into the
 * cache and stays the way back.
 *
 * Invariants: each entry has tokens, a mark in the tree behind all of them, and a state in memory (data) or a file, or
 * both; bytes in memory never exceed the limit. */
#include "worker/kv_store.h"

#include "base/clock.h"
#include "base/mem.h"
#include "obs/log.h"
#include "worker/kv_file.h"

#define WORTH_KEEPING 32 /* tokens that a state must save beside those that exist */

struct entry {
    struct list lru; /* in the store's, last used last */
    struct prefix_mark mark;
    engine_token *tokens;
    void *data; /* NULL: only on disk */
    size_t size;
    char *file; /* NULL: not on disk */
};

struct kv_store {
    struct kv_store_config config;
    struct list lru;
    bool cuts; /* a state is of use for any beginning of it */
    struct kv_store_stats stats;
};

static struct entry *entry_of(const struct prefix_mark *mark)
{
    return container_of(mark, struct entry, mark);
}

static struct entry *add_entry(struct kv_store *store, const engine_token *tokens, unsigned count)
{
    struct entry *entry = mem_calloc(1, sizeof *entry);
    entry->tokens = mem_alloc(count * sizeof *tokens);
    memcpy(entry->tokens, tokens, count * sizeof *tokens);
    entry->mark.kind = PREFIX_KEPT;
    prefix_append(store->config.tree, &entry->mark, tokens, count);
    list_push(&store->lru, &entry->lru);
    return entry;
}

static void drop_data(struct kv_store *store, struct entry *entry)
{
    if (!entry->data)
        return;
    store->stats.memory_bytes -= entry->size;
    store->stats.states--;
    mem_free(entry->data);
    entry->data = NULL;
}

static void forget(struct kv_store *store, struct entry *entry)
{
    drop_data(store, entry);
    if (entry->file) {
        kv_file_remove(entry->file);
        store->stats.disk_bytes -= entry->size;
        store->stats.files--;
    }
    prefix_cut(store->config.tree, &entry->mark, 0);
    list_remove(&entry->lru);
    mem_free(entry->file);
    mem_free(entry->tokens);
    mem_free(entry);
}

/* Leaves memory; stays while there is a file. */
static void evict(struct kv_store *store, struct entry *entry)
{
    store->stats.evicted++;
    if (entry->file)
        drop_data(store, entry);
    else
        forget(store, entry);
}

static bool make_room(struct kv_store *store, size_t size)
{
    if (size > store->config.memory_limit)
        return false;
    list_each (entry, &store->lru, struct entry, lru) {
        if (store->stats.memory_bytes + size <= store->config.memory_limit)
            break;
        if (entry->data)
            evict(store, entry);
    }
    return true;
}

/* ---- life ---- */

static void on_file(void *arg, const char *path, const engine_token *tokens, unsigned count, size_t size)
{
    struct kv_store *store = arg;
    struct entry *entry = add_entry(store, tokens, count);
    entry->file = mem_strdup(path);
    entry->size = size;
    store->stats.files++;
    store->stats.disk_bytes += size;
}

struct kv_store *kv_store_new(const struct kv_store_config *config)
{
    struct kv_store *store = mem_calloc(1, sizeof *store);
    store->config = *config;
    store->cuts = !config->ops->info(config->engine)->whole_states;
    list_init(&store->lru);
    if (config->folder)
        kv_file_scan(config->folder, config->identity, on_file, store);
    return store;
}

void kv_store_free(struct kv_store *store)
{
    if (!store)
        return;
    list_each (entry, &store->lru, struct entry, lru) {
        mem_free(entry->file);
        entry->file = NULL;
        store->stats.files = 0;
        forget(store, entry);
    }
    mem_free(store);
}

const struct kv_store_stats *kv_store_stats(const struct kv_store *store)
{
    return &store->stats;
}

/* ---- keeping and restoring ---- */

bool kv_store_wants(const struct kv_store *store, const engine_token *tokens, unsigned count)
{
    if (store->config.memory_limit == 0 || (store->cuts && count < WORTH_KEEPING))
        return false;
    unsigned kept = PREFIX_BIT(PREFIX_KEPT);
    if (!store->cuts)
        return prefix_find_whole(store->config.tree, tokens, count, kept).length < count;
    return prefix_find(store->config.tree, tokens, count, kept).length + WORTH_KEEPING <= count;
}

bool kv_store_has_room(const struct kv_store *store, unsigned sequence)
{
    size_t size = store->config.ops->state_size(store->config.engine, sequence);
    return store->stats.memory_bytes + size <= store->config.memory_limit;
}

/* States that are a beginning of tokens say nothing that this one does not. */
static void forget_beginnings(struct kv_store *store, const engine_token *tokens, unsigned count)
{
    struct prefix_match match;
    while ((match = prefix_find_whole(store->config.tree, tokens, count, PREFIX_BIT(PREFIX_KEPT))).mark)
        forget(store, entry_of(match.mark));
}

bool kv_store_keep(struct kv_store *store, unsigned sequence, const engine_token *tokens, unsigned count)
{
    const struct engine_ops *ops = store->config.ops;
    size_t size = ops->state_size(store->config.engine, sequence);
    if (size == 0 || count == 0 || !make_room(store, size))
        return false;
    void *data = mem_try_realloc(NULL, size);
    if (!data)
        return false;
    if (ops->state_save(store->config.engine, sequence, data, size) != size) {
        mem_free(data);
        return false;
    }
    if (store->cuts)
        forget_beginnings(store, tokens, count);
    struct entry *entry = add_entry(store, tokens, count);
    entry->data = data;
    entry->size = size;
    store->stats.memory_bytes += size;
    store->stats.states++;
    store->stats.kept++;
    return true;
}

const engine_token *kv_store_tokens(const struct prefix_mark *mark, unsigned *ret_count)
{
    *ret_count = mark->length;
    return entry_of(mark)->tokens;
}

/* False and *ret_broken: the file is damaged or gone. */
static bool load(struct kv_store *store, struct entry *entry, unsigned sequence, bool *ret_broken)
{
    const struct kv_store_config *config = &store->config;
    *ret_broken = false;
    if (entry->data)
        return config->ops->state_load(config->engine, sequence, entry->data, entry->size);
    struct kv_file file;
    if (!kv_file_open(&file, entry->file, config->identity)) {
        *ret_broken = true;
        return false;
    }
    bool loaded = config->ops->state_load(config->engine, sequence, file.state, file.state_size);
    kv_file_close(&file);
    return loaded;
}

bool kv_store_restore(struct kv_store *store, struct prefix_mark *mark, unsigned sequence)
{
    struct entry *entry = entry_of(mark);
    bool broken;
    if (!load(store, entry, sequence, &broken)) {
        if (broken) {
            log_warn("a KV state on disk cannot be read; it is removed", "file=%s", entry->file);
            forget(store, entry);
        }
        return false;
    }
    list_remove(&entry->lru);
    list_push(&store->lru, &entry->lru);
    store->stats.restored++;
    return true;
}

/* ---- disk ---- */

static bool write_out(struct kv_store *store, struct entry *entry)
{
    struct err err = ERR_INIT;
    entry->file = kv_file_write(store->config.folder, store->config.identity, entry->tokens, entry->mark.length,
                                entry->data, entry->size, &err);
    if (!entry->file) {
        log_warn("a KV state cannot be written", "error=%s", err.message);
        return false;
    }
    store->stats.files++;
    store->stats.disk_bytes += entry->size;
    return true;
}

void kv_store_flush(struct kv_store *store, uint64_t deadline_ms)
{
    uint64_t written = 0, limit = store->config.disk_limit;
    if (!store->config.folder || limit == 0)
        return;
    for (struct list *at = store->lru.prev; at != &store->lru; at = at->prev) {
        struct entry *entry = container_of(at, struct entry, lru);
        if (!entry->data)
            continue;
        if (entry->file) {
            kv_file_touch(entry->file);
            continue;
        }
        if (written + entry->size > limit || clock_ms() >= deadline_ms || !write_out(store, entry))
            break;
        written += entry->size;
    }
    kv_file_prune(store->config.folder, limit);
}
