/* Leases, and waiting for one. A waiter is in exactly one list and is answered exactly once, or dies with its arena;
 * a lease counts in its instance's `active` until it ends. */
#include "base/clock.h"
#include "base/mem.h"
#include "instance/instance_private.h"
#include "instance/node.h"

#define FAILED_PAUSE_MS 2000 /* a start that failed is not tried again sooner for a request */

#define ACCOUNT_LINE                                                                                                   \
    "X-Inferd-Account: 1\r\n" /* our worker then ends its streams with a comment that counts tokens                    \
                               */

const double instance_bucket_bounds[INSTANCE_BUCKETS] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                                         1,     2.5,  5,     10,   30,  60,   120};

struct lease {
    struct instance *instance;   /* NULL once ended */
    struct placement *placement; /* of a remote instance */
    const struct http_target *target;
    struct str head_lines;
    uint64_t started_ns;
    int status;
    bool begun;
    struct arena_disposer *disposer;
};

struct waiter {
    struct list link;
    struct instance *instance;
    struct arena *arena;
    struct arena_disposer *disposer;
    struct deadline deadline;
    instance_on_lease *on_lease;
    void *arg;
};

static void count(struct instance_histogram *h, double seconds)
{
    size_t bucket = 0;
    while (bucket < INSTANCE_BUCKETS && seconds > instance_bucket_bounds[bucket])
        bucket++;
    h->counts[bucket]++;
    h->sum += seconds;
    h->count++;
}

static double seconds_since(uint64_t start_ns)
{
    return (double)(clock_ns() - start_ns) / 1e9;
}

/* ---- leases ---- */

static void on_lease_dispose(void *arg)
{
    struct lease *lease = arg;
    lease->disposer = NULL;
    lease_end(lease);
}

void lease_end(struct lease *lease)
{
    struct instance *i = lease->instance;
    if (!i)
        return;
    lease->instance = NULL;
    arena_forget(lease->disposer);
    if (lease->placement)
        placement_end(lease->placement);
    i->active--;
    i->last_used = clock_unix();
    i->last_used_ms = clock_ms();
    i->counters.failures += lease->status >= 500;
    count(&i->counters.duration, seconds_since(lease->started_ns));
    if (i->active > 0)
        return;
    if (i->buried) {
        instance_free(i);
        return;
    }
    /* The last byte is sent: what waited for that may go on. */
    if (i->state == INSTANCE_STOPPING)
        instance_fire(i, EVENT_STOP);
    else if (i->state == INSTANCE_RECYCLING)
        instance_fire(i, EVENT_RESTART);
    instance_set_idle(i);
    instances_look_at_queue(i->all);
}

static void lease_give(struct instance *i, struct arena *arena, instance_on_lease *on_lease, void *arg)
{
    struct err err = ERR_INIT;
    struct lease *lease = arena_calloc(arena, sizeof *lease);
    lease->target = &i->target;
    if (i->kind == KIND_REMOTE) {
        struct str lines;
        lease->placement = remote_pick(i, &lines, &err);
        if (!lease->placement) {
            on_lease(arg, NULL, &err);
            return;
        }
        lease->target = placement_target(lease->placement);
        lease->head_lines = arena_str(arena, lines);
    } else if (i->kind == KIND_IMPLICIT) {
        lease->head_lines = STR(ACCOUNT_LINE);
    } else if (i->kind == KIND_NAMED) {
        struct str key = options_backend_key(&i->options);
        if (key.p)
            lease->head_lines = str_from(arena_printf(arena, "Authorization: Bearer " STR_FMT "\r\n", STR_ARG(key)));
        else if (i->options.backend->ready == BACKEND_READY_NOTIFY)
            lease->head_lines = STR(ACCOUNT_LINE);
    }
    lease->instance = i;
    lease->started_ns = clock_ns();
    lease->disposer = arena_on_dispose(arena, on_lease_dispose, lease);
    i->active++;
    i->counters.requests++;
    i->last_used = clock_unix();
    i->last_used_ms = clock_ms();
    deadline_cancel(i->all->loop, &i->idle);
    on_lease(arg, lease, NULL);
}

const struct http_target *lease_target(const struct lease *lease)
{
    return lease->target;
}

struct str lease_head_lines(const struct lease *lease)
{
    return lease->head_lines;
}

void lease_first_byte(struct lease *lease)
{
    if (lease->instance && !lease->begun)
        count(&lease->instance->counters.first_byte, seconds_since(lease->started_ns));
    lease->begun = true;
}

void lease_status(struct lease *lease, int status)
{
    lease->status = status;
}

void lease_explain(const struct lease *lease, const struct err *cause, struct err *ret_err)
{
    const struct instance *i = lease->instance;
    if (i->kind == KIND_ATTACHED || i->kind == KIND_REMOTE) {
        err_set(ret_err, ERR_BAD_GATEWAY, "the server that runs '%s' does not answer (%s)", i->name, cause->message);
        return;
    }
    err_set(ret_err, i->kind == KIND_IMPLICIT ? ERR_MODEL_CRASHED : ERR_BAD_GATEWAY,
            "the process that runs '%s' ended or hung up before it answered (%s)%s", i->name, cause->message,
            i->policy.auto_restart ? "; it is started again, try once more" : "");
    ret_err->retry_after_ms = 1000;
}

/* ---- waiters ---- */

static void waiter_leave(struct waiter *w)
{
    deadline_cancel(w->instance->all->loop, &w->deadline);
    list_remove(&w->link);
    w->instance->waiting--;
}

/* The client hung up. A place in the queue that nobody waits for is given up at once. */
static void on_waiter_dispose(void *arg)
{
    struct waiter *w = arg;
    struct instance *i = w->instance;
    waiter_leave(w);
    if (i->waiting == 0 && !i->wanted)
        instance_fire(i, EVENT_GIVE_UP);
}

static void waiter_fail(struct waiter *w, const struct err *err)
{
    waiter_leave(w);
    arena_forget(w->disposer);
    w->on_lease(w->arg, NULL, err);
}

static void on_waiter_late(struct deadline *deadline)
{
    struct waiter *w = container_of(deadline, struct waiter, deadline);
    struct instance *i = w->instance;
    struct instance_status status;
    struct err err;
    instance_status(i, &status);
    if (status.queue_position)
        err_set(&err, ERR_SERVER_OVERLOADED,
                "there was no room for '%s' in time: others are busy; it is number %u in the queue", i->name,
                status.queue_position);
    else if (i->kind == KIND_IMPLICIT)
        err_set(&err, ERR_MODEL_LOADING, "the model '%s' is still being loaded (%.0f %%); try again in a few seconds",
                i->name, (double)i->progress * 100);
    else
        err_set(&err, ERR_INSTANCE_NOT_RUNNING, "'%s' is not running yet (%s); try again in a few seconds", i->name,
                status.state);
    err.retry_after_ms = 5000;
    waiter_fail(w, &err);
    if (i->waiting == 0 && !i->wanted)
        instance_fire(i, EVENT_GIVE_UP);
}

/* Those that come while this runs are not among them. */
void waiters_settle(struct instance *i, const struct err *err)
{
    struct list now;
    list_init(&now);
    while (!list_empty(&i->waiters)) {
        struct list *link = i->waiters.next;
        list_remove(link);
        list_push(&now, link);
    }
    while (!list_empty(&now)) {
        struct waiter *w = list_first(&now, struct waiter, link);
        if (err) {
            waiter_fail(w, err);
        } else {
            waiter_leave(w);
            arena_forget(w->disposer);
            lease_give(i, w->arena, w->on_lease, w->arg);
        }
    }
}

static void wait_for(struct instance *i, struct arena *arena, instance_on_lease *on_lease, void *arg)
{
    const struct conf *conf = i->all->conf;
    int64_t seconds = i->kind == KIND_NAMED ? conf->on_demand_start_timeout : conf->queue_timeout_seconds;
    struct waiter *w = arena_calloc(arena, sizeof *w);
    *w = (struct waiter){.instance = i, .arena = arena, .on_lease = on_lease, .arg = arg};
    w->disposer = arena_on_dispose(arena, on_waiter_dispose, w);
    list_push(&i->waiters, &w->link);
    i->waiting++;
    deadline_arm(i->all->loop, &w->deadline, (uint64_t)seconds * 1000, on_waiter_late);
    if (i->state == INSTANCE_STOPPED || i->state == INSTANCE_FAILED)
        instance_try_start(i);
}

static void refuse(instance_on_lease *on_lease, void *arg, enum err_code code, unsigned retry_ms, const char *format,
                   const char *name)
{
    struct err err;
    err_set(&err, code, format, name);
    err.retry_after_ms = retry_ms;
    on_lease(arg, NULL, &err);
}

void instance_acquire(struct instance *i, bool start, struct arena *arena, instance_on_lease *on_lease, void *arg)
{
    bool stands = i->state == INSTANCE_STOPPED || i->state == INSTANCE_FAILED;
    if (i->all->stopping)
        refuse(on_lease, arg, ERR_DRAINING, 2000, "the server is shutting down ('%s')", i->name);
    else if (i->going)
        refuse(on_lease, arg, ERR_INSTANCE_NOT_FOUND, 0, "the instance '%s' is being deleted", i->name);
    else if (i->state == INSTANCE_RUNNING || i->kind == KIND_REMOTE)
        lease_give(i, arena, on_lease, arg);
    else if (!start && stands)
        refuse(on_lease, arg, ERR_INSTANCE_NOT_RUNNING, 0, "the instance '%s' is not running; start it first", i->name);
    else if (!start)
        refuse(on_lease, arg, ERR_INSTANCE_NOT_RUNNING, 1000, "the instance '%s' is not running yet; try again soon",
               i->name);
    else if (stands && !i->policy.on_demand)
        refuse(on_lease, arg, ERR_INSTANCE_NOT_RUNNING, 0,
               "the instance '%s' is not running and its on_demand_start is off; start it first", i->name);
    else if (i->state == INSTANCE_FAILED && clock_ms() - i->failed_ms < FAILED_PAUSE_MS)
        on_lease(arg, NULL, &i->problem);
    else if (i->waiting >= LIMIT_WAITERS)
        refuse(on_lease, arg, ERR_SERVER_OVERLOADED, 2000, "too many requests wait for '%s' to start", i->name);
    else
        wait_for(i, arena, on_lease, arg);
}
