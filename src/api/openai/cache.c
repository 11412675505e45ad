/* Entries lie in a hash table by digest and in a list by last use. A fill is one reply on its way: of plain replies the
 * later askers wait for it (cache_wait) instead of computing the same again; streams do not wait, their first token
 * would come with the last of the other's.
 *
 * Invariants: bytes is the sum of the entries' bodies and never above max_bytes after a call; a digest has at most one
 * entry and at most one fill. */
#include "api/openai/cache.h"

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

#define ENTRY_SHARE 4 /* one entry takes at most this part of all bytes */

struct entry {
    struct list link; /* most recently used first */
    struct cache_key key;
    char *content_type, *body;
    size_t n;
    uint64_t generation, made_ms;
};

struct waiter {
    struct list link;
    void (*on_filled)(void *arg);
    void *arg;
    struct arena_disposer *disposer;
};

struct cache_fill {
    struct cache *cache;
    struct cache_key key;
    struct list waiters;
    struct buf body;
    char *content_type; /* NULL: nothing is to be kept */
};

struct cache {
    struct map entries, fills; /* by digest */
    struct list by_use;
    size_t count, max_entries;
    uint64_t bytes, max_bytes, ttl_ms;
    struct metrics *metrics;
};

static struct str name_of(const struct cache_key *key)
{
    return (struct str){(const char *)key->digest, sizeof key->digest};
}

struct cache *cache_new(size_t max_entries, uint64_t max_bytes, uint64_t ttl_ms, struct metrics *metrics)
{
    struct cache *c = mem_calloc(1, sizeof *c);
    *c = (struct cache){.max_entries = max_entries, .max_bytes = max_bytes, .ttl_ms = ttl_ms, .metrics = metrics};
    map_init(&c->entries);
    map_init(&c->fills);
    list_init(&c->by_use);
    return c;
}

static void show(struct cache *c)
{
    metrics_set(c->metrics, METRIC_CACHE_ENTRIES, NULL, (double)c->count);
    metrics_set(c->metrics, METRIC_CACHE_BYTES, NULL, (double)c->bytes);
}

static void drop(struct cache *c, struct entry *e)
{
    map_remove(&c->entries, name_of(&e->key));
    list_remove(&e->link);
    c->count--;
    c->bytes -= e->n;
    mem_free(e->content_type);
    mem_free(e->body);
    mem_free(e);
    show(c);
}

void cache_free(struct cache *c)
{
    if (!c)
        return;
    while (!list_empty(&c->by_use))
        drop(c, list_first(&c->by_use, struct entry, link));
    map_release(&c->entries);
    map_release(&c->fills);
    mem_free(c);
}

bool cache_get(struct cache *c, const struct cache_key *key, uint64_t generation, uint64_t now_ms,
               struct cache_reply *ret_reply)
{
    struct entry *e = map_get(&c->entries, name_of(key));
    if (e && (e->generation != generation || now_ms - e->made_ms >= c->ttl_ms)) {
        drop(c, e);
        e = NULL;
    }
    metrics_add(c->metrics, e ? METRIC_CACHE_HITS : METRIC_CACHE_MISSES, NULL, 1);
    if (!e)
        return false;
    list_remove(&e->link);
    list_push_front(&c->by_use, &e->link);
    *ret_reply = (struct cache_reply){e->content_type, {e->body, e->n}, (now_ms - e->made_ms) / 1000};
    return true;
}

static void make_room(struct cache *c, size_t n)
{
    while (c->count > 0 && (c->count >= c->max_entries || c->bytes + n > c->max_bytes)) {
        drop(c, container_of(c->by_use.prev, struct entry, link));
        metrics_add(c->metrics, METRIC_CACHE_EVICTIONS, NULL, 1);
    }
}

static void put(struct cache *c, struct cache_fill *fill, uint64_t generation, uint64_t now_ms)
{
    struct entry *old = map_get(&c->entries, name_of(&fill->key));
    if (old)
        drop(c, old);
    make_room(c, fill->body.len);
    struct entry *e = mem_calloc(1, sizeof *e);
    *e = (struct entry){
        .key = fill->key, .content_type = fill->content_type, .generation = generation, .made_ms = now_ms};
    e->body = buf_take(&fill->body, &e->n);
    fill->content_type = NULL;
    map_put(&c->entries, name_of(&e->key), e);
    list_push_front(&c->by_use, &e->link);
    c->count++;
    c->bytes += e->n;
    show(c);
}

/* ---- filling ---- */

static void fill_end(void *arg)
{
    struct cache_fill *fill = arg;
    struct list now;
    map_remove(&fill->cache->fills, name_of(&fill->key));
    list_init(&now);
    while (!list_empty(&fill->waiters)) {
        struct list *link = fill->waiters.next;
        list_remove(link);
        list_push(&now, link);
    }
    buf_release(&fill->body);
    mem_free(fill->content_type);
    mem_free(fill);
    while (!list_empty(&now)) {
        struct waiter *w = list_first(&now, struct waiter, link);
        list_remove(&w->link);
        arena_forget(w->disposer);
        w->on_filled(w->arg);
    }
}

struct cache_fill *cache_fill_begin(struct cache *c, const struct cache_key *key, struct arena *arena)
{
    if (map_get(&c->fills, name_of(key)))
        return NULL;
    struct cache_fill *fill = mem_calloc(1, sizeof *fill);
    fill->cache = c;
    fill->key = *key;
    list_init(&fill->waiters);
    buf_init(&fill->body, c->max_bytes / ENTRY_SHARE);
    map_put(&c->fills, name_of(key), fill);
    arena_on_dispose(arena, fill_end, fill);
    return fill;
}

void cache_fill_head(struct cache_fill *fill, int status, struct str content_type)
{
    if (status == 200 && content_type.n)
        fill->content_type = mem_strndup(content_type.p, content_type.n);
}

void cache_fill_data(struct cache_fill *fill, struct str piece)
{
    if (fill->content_type)
        buf_str(&fill->body, piece);
}

/* A stream that told an error is complete as HTTP goes, and no reply to keep. */
static bool is_whole(const struct cache_fill *fill)
{
    return fill->content_type && buf_ok(&fill->body) && fill->body.len > 0 &&
           (!fill->key.streamed || str_ends(buf_view(&fill->body), STR("data: [DONE]\n\n")));
}

void cache_fill_done(struct cache_fill *fill, uint64_t generation, uint64_t now_ms)
{
    if (is_whole(fill))
        put(fill->cache, fill, generation, now_ms);
}

static void waiter_leave(void *arg)
{
    struct waiter *w = arg;
    list_remove(&w->link);
}

void cache_wait(struct cache *c, const struct cache_key *key, struct arena *arena, void (*on_filled)(void *arg),
                void *arg)
{
    struct cache_fill *fill = map_get(&c->fills, name_of(key));
    if (!fill) {
        on_filled(arg);
        return;
    }
    struct waiter *w = arena_alloc(arena, sizeof *w);
    *w = (struct waiter){.on_filled = on_filled, .arg = arg};
    w->disposer = arena_on_dispose(arena, waiter_leave, w);
    list_push(&fill->waiters, &w->link);
}
