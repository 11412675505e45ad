/* Thousands of deadlines that are armed, moved and cancelled all the time and almost never come due: one uv_timer_t
 * for all, one queue for each duration in use. A deadline of the same duration armed later is due later, so arming is
 * an append. The timer is only ever moved forward in time when it fires; cancelling does not touch it.
 *
 * Invariants: every queue is ordered by due_ms; while a deadline is armed the timer runs and fires no later than the
 * soonest one. */
#include "loop/deadline.h"

static void on_timer(uv_timer_t *timer);

static void timer_set(struct loop *loop, uint64_t due_ms)
{
    uint64_t now = uv_now(&loop->uv);
    loop->timer_due_ms = due_ms;
    uv_timer_start(&loop->deadline_timer, on_timer, due_ms > now ? due_ms - now : 0, 0);
}

static struct deadline *queue_soonest(struct loop_queue *queue)
{
    return list_empty(&queue->deadlines) ? NULL : list_first(&queue->deadlines, struct deadline, link);
}

static void queue_fire(struct loop_queue *queue, uint64_t now)
{
    for (struct deadline *d; (d = queue_soonest(queue)) && d->due_ms <= now;) {
        list_remove(&d->link);
        d->due_ms = 0;
        d->on_due(d);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct loop *loop = container_of(timer, struct loop, deadline_timer);
    uint64_t now = uv_now(&loop->uv);
    loop->timer_due_ms = 0;
    for (size_t i = 0; i < loop->queue_count; i++)
        queue_fire(&loop->queues[i], now);
    uint64_t soonest = 0;
    for (size_t i = 0; i < loop->queue_count; i++) {
        struct deadline *d = queue_soonest(&loop->queues[i]);
        if (d && (!soonest || d->due_ms < soonest))
            soonest = d->due_ms;
    }
    if (soonest)
        timer_set(loop, soonest);
}

void deadline_setup(struct loop *loop)
{
    uv_timer_init(&loop->uv, &loop->deadline_timer);
}

/* The queue of this duration, a new one while the table has room, else the shared last one. */
static struct loop_queue *queue_for(struct loop *loop, uint64_t after_ms)
{
    for (size_t i = 0; i < loop->queue_count; i++)
        if (loop->queues[i].after_ms == after_ms)
            return &loop->queues[i];
    if (loop->queue_count == LOOP_QUEUES)
        return &loop->queues[LOOP_QUEUES - 1];
    struct loop_queue *queue = &loop->queues[loop->queue_count++];
    queue->after_ms = after_ms;
    list_init(&queue->deadlines);
    return queue;
}

void deadline_arm(struct loop *loop, struct deadline *d, uint64_t after_ms, void (*on_due)(struct deadline *))
{
    if (d->due_ms)
        list_remove(&d->link);
    d->due_ms = uv_now(&loop->uv) + (after_ms ? after_ms : 1); /* 0 would fire for ever within one turn */
    d->on_due = on_due;
    struct loop_queue *queue = queue_for(loop, after_ms);
    struct list *at = &queue->deadlines;
    while (at->prev != &queue->deadlines && container_of(at->prev, struct deadline, link)->due_ms > d->due_ms)
        at = at->prev;
    list_insert_before(at, &d->link);
    if (!loop->timer_due_ms || d->due_ms < loop->timer_due_ms)
        timer_set(loop, d->due_ms);
}

void deadline_cancel(struct loop *loop, struct deadline *d)
{
    (void)loop;
    if (!d->due_ms)
        return;
    list_remove(&d->link);
    d->due_ms = 0;
}
