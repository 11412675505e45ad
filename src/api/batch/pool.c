/* The pool of running items. Sources stand in a ring: whoever was asked last goes to its end, so two batches share the
 * places whatever their sizes.
 *
 * Invariants: an item is in one list of its source, or being told of as done. `running` counts those in any running
 * list. Nothing is started from within a caller's stack but from the loop. */
#include "api/batch/pool.h"

#include "base/clock.h"
#include "base/mem.h"

struct batch_pool {
    struct app *app;
    unsigned limit, running;
    struct list sources;
    struct loop_soon soon;
};

struct batch_pool *batch_pool_new(struct app *app, unsigned limit)
{
    struct batch_pool *pool = mem_calloc(1, sizeof *pool);
    *pool = (struct batch_pool){.app = app, .limit = limit};
    list_init(&pool->sources);
    return pool;
}

void batch_pool_free(struct batch_pool *pool)
{
    if (!pool)
        return;
    loop_soon_cancel(&pool->soon);
    mem_free(pool);
}

/* As many again as can be decoded, so that one is at hand whenever a sequence becomes free. */
static unsigned limit_now(const struct batch_pool *pool)
{
    struct worker_load load;
    if (pool->limit)
        return pool->limit;
    instances_load_now(pool->app->instances, &load);
    unsigned limit = 2 * (unsigned)load.sequences;
    return limit < LIMIT_BATCH_LEAST ? LIMIT_BATCH_LEAST : limit > LIMIT_BATCH_RUNNING ? LIMIT_BATCH_RUNNING : limit;
}

/* ---- an item ---- */

struct batch_item *batch_item_new(struct batch_source *source)
{
    struct batch_item *item = mem_calloc(1, sizeof *item);
    item->source = source;
    list_init(&item->link);
    arena_init(&item->arena);
    return item;
}

void batch_item_drop(struct batch_item *item)
{
    list_remove(&item->link);
    arena_dispose(&item->arena);
    mem_free(item);
}

static void on_held_long_enough(struct deadline *deadline)
{
    batch_source_wake(container_of(deadline, struct batch_source, hold));
}

/* Whether the refusal ends by itself, and soon enough for the item. */
static bool can_wait(struct batch_item *item, const struct err *err)
{
    if (err->code != ERR_RATE_LIMIT_EXCEEDED && err->code != ERR_SERVER_OVERLOADED && err->code != ERR_DRAINING)
        return false;
    uint64_t now = clock_ms();
    if (!item->refused_ms)
        item->refused_ms = now;
    return now - item->refused_ms < LIMIT_BATCH_WAIT_MS;
}

static void refuse(struct batch_item *item, const struct err *err)
{
    struct batch_source *source = item->source;
    struct loop *loop = source->pool->app->loop;
    unsigned wait_ms = err->retry_after_ms ? err->retry_after_ms : LIMIT_RETRY_AFTER_MS;
    list_push(&source->refused, &item->link);
    deadline_cancel(loop, &source->hold);
    deadline_arm(loop, &source->hold, wait_ms < LIMIT_BATCH_HOLD_MS ? wait_ms : LIMIT_BATCH_HOLD_MS,
                 on_held_long_enough);
}

static void on_reply(void *arg, struct str body)
{
    struct batch_item *item = arg;
    item->reply = arena_str(&item->arena, body);
}

/* No item asks for a stream: a backend that streams all the same has not answered. */
static void on_event(void *arg, struct str data)
{
    (void)arg;
    (void)data;
}

static void on_end(void *arg, const struct err *err)
{
    struct batch_item *item = arg;
    struct batch_source *source = item->source;
    struct err told;
    source->pool->running--;
    list_remove(&item->link);
    batch_source_wake(source);
    if (err && can_wait(item, err)) {
        refuse(item, err);
        return;
    }
    if (!err && !item->reply.p) {
        err_set(&told, ERR_BAD_GATEWAY, "the backend streamed a reply that was not to be streamed");
        err = &told;
    }
    source->on_done(source, item, item->reply, err);
    batch_item_drop(item);
}

static const struct upstream_events events = {.on_event = on_event, .on_reply = on_reply, .on_end = on_end};

static void item_start(struct batch_pool *pool, struct batch_item *item)
{
    struct upstream_request request = {.path = item->path,
                                       .body = item->body,
                                       .caller = item->caller,
                                       .address = item->address,
                                       .request_id = item->request_id,
                                       .batch = true,
                                       .charge = true};
    pool->running++;
    list_push(&item->source->running, &item->link);
    upstream_start(pool->app, &item->arena, &request, &events, item);
}

/* ---- sources ---- */

static struct batch_item *take(struct batch_source *source)
{
    if (source->hold.due_ms)
        return NULL;
    if (list_empty(&source->refused))
        return source->next(source);
    struct batch_item *item = list_first(&source->refused, struct batch_item, link);
    list_remove(&item->link);
    return item;
}

/* A source may close itself when it is asked. */
static struct batch_item *take_in_turn(struct batch_pool *pool)
{
    struct batch_item *item = NULL;
    size_t count = 0;
    list_each (source, &pool->sources, struct batch_source, link)
        count++;
    while (count-- > 0 && !list_empty(&pool->sources) && !item) {
        struct batch_source *source = list_first(&pool->sources, struct batch_source, link);
        list_remove(&source->link);
        list_push(&pool->sources, &source->link);
        item = take(source);
    }
    return item;
}

static void pump(struct loop_soon *soon)
{
    struct batch_pool *pool = container_of(soon, struct batch_pool, soon);
    unsigned limit = limit_now(pool);
    while (pool->running < limit) {
        struct batch_item *item = take_in_turn(pool);
        if (!item)
            return;
        item_start(pool, item);
    }
}

void batch_source_open(struct batch_source *source, struct batch_pool *pool)
{
    source->pool = pool;
    list_init(&source->running);
    list_init(&source->refused);
    list_push(&pool->sources, &source->link);
    batch_source_wake(source);
}

void batch_source_wake(struct batch_source *source)
{
    loop_soon(source->pool->app->loop, &source->pool->soon, pump);
}

void batch_source_close(struct batch_source *source)
{
    struct batch_pool *pool = source->pool;
    if (!pool)
        return;
    list_remove(&source->link);
    deadline_cancel(pool->app->loop, &source->hold);
    while (!list_empty(&source->running)) {
        batch_item_drop(list_first(&source->running, struct batch_item, link));
        pool->running--;
    }
    while (!list_empty(&source->refused))
        batch_item_drop(list_first(&source->refused, struct batch_item, link));
    batch_source_wake(source);
    source->pool = NULL;
}

bool batch_source_busy(const struct batch_source *source)
{
    return !list_empty(&source->running) || !list_empty(&source->refused);
}
