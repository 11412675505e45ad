/* The life of worker processes.
 *
 * fsm.def says which event leads where; fire() is the only place that changes a state, and each action is a small
 * function below. Callers never see states: they hold a lease or wait for one. A model that somebody wants but for
 * which there is no room yet is `pending`: whenever a lease ends or a process is gone, the pending ones are looked at
 * again, oldest first. Who has to go is evict.c's decision; only idle instances ever have to.
 *
 * Invariants: an instance has a child exactly in LOADING, LOADED and UNLOADING, or is attached to a server that is not
 * ours and stays LOADED; active counts the leases given out and
 * only grows in LOADED; a waiter is in exactly one list and is answered exactly once, or dies with its arena. */
#include "instance/instance.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "instance/child.h"
#include "instance/command.h"
#include "instance/evict.h"
#include "instance/instance_private.h"
#include "obs/log.h"

#define KILL_AFTER_MS        5000  /* between asking a child to end and making it */
#define PAUSE_FIRST_MS       100   /* after the first crash; doubles */
#define STABLE_MS            60000 /* running this long clears the crash count */
#define FAILED_LOAD_PAUSE_MS 2000  /* a load that failed is not tried again sooner */

enum event {
#define EVENT(name) EVENT_##name,
#include "instance/fsm.def"
#undef EVENT
};

static const char *const state_names[] = {
#define STATE(name, wire) [INSTANCE_##name] = wire,
#include "instance/fsm.def"
#undef STATE
};

struct lease {
    struct instance *instance; /* NULL once ended */
    uint64_t started_ns;
    struct arena_disposer *disposer;
};

struct waiter {
    struct list link;
    struct instance *instance;
    struct arena *arena;
    struct arena_disposer *disposer;
    struct deadline deadline;
    void (*on_lease)(void *arg, struct lease *lease, const struct err *err);
    void *arg;
};

struct unload_call {
    struct list link;
    void (*on_done)(void *arg, uint64_t freed);
    void *arg;
};

static void fire(struct instance *i, enum event event);
static void look_at_pending(struct instances *all);

/* ---- waiters and leases ---- */

static void waiter_leave(struct waiter *w)
{
    deadline_cancel(w->instance->all->loop, &w->deadline);
    list_remove(&w->link);
    w->instance->waiting--;
}

static void on_waiter_dispose(void *arg)
{
    waiter_leave(arg);
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
    struct err err;
    err_set(&err, ERR_MODEL_LOADING, "the model '%s' is still being loaded (%.0f %%); try again in a few seconds",
            w->instance->id, (double)w->instance->progress * 100);
    err.retry_after_ms = 5000;
    waiter_fail(w, &err);
}

static void on_lease_dispose(void *arg)
{
    struct lease *lease = arg;
    lease->disposer = NULL;
    lease_end(lease);
}

static void set_idle_deadline(struct instance *i);

void lease_end(struct lease *lease)
{
    struct instance *i = lease->instance;
    if (!i)
        return;
    lease->instance = NULL;
    arena_forget(lease->disposer);
    i->active--;
    i->last_used = clock_unix();
    i->last_used_ms = clock_ms();
    i->latency_ms_sum += (double)(clock_ns() - lease->started_ns) / 1e6;
    if (i->active == 0 && i->state == INSTANCE_UNLOADING)
        child_signal(i->child, SIGTERM);
    if (i->active == 0) {
        set_idle_deadline(i);
        look_at_pending(i->all);
    }
}

static struct lease *lease_new(struct instance *i, struct arena *arena)
{
    struct lease *lease = arena_calloc(arena, sizeof *lease);
    lease->instance = i;
    lease->started_ns = clock_ns();
    lease->disposer = arena_on_dispose(arena, on_lease_dispose, lease);
    i->active++;
    i->requests++;
    i->last_used = clock_unix();
    i->last_used_ms = clock_ms();
    deadline_cancel(i->all->loop, &i->idle);
    return lease;
}

const struct http_target *lease_target(const struct lease *lease)
{
    return &lease->instance->target;
}

static void tail_of(struct str output, char *out, size_t size)
{
    size_t room = size - 1;
    if (output.n > room) {
        output.p += output.n - room;
        output.n = room;
    }
    snprintf(out, size, STR_FMT, STR_ARG(output));
    for (char *p = out; *p; p++)
        if (*p == '\n')
            *p = p[1] ? '|' : '\0';
}

void lease_explain(const struct lease *lease, const struct err *cause, struct err *ret_err)
{
    const struct instance *i = lease->instance;
    if (i->attached) {
        err_set(ret_err, ERR_BAD_GATEWAY, "the server that runs '%s' does not answer (%s)", i->id, cause->message);
        return;
    }
    err_set(ret_err, ERR_MODEL_CRASHED,
            "the process that runs '%s' ended or hung up before it answered (%s); it is started again, try once more",
            i->id, cause->message);
    ret_err->retry_after_ms = 1000;
}

/* Calls fn for all waiters there are now; those that come while it runs are not among them. */
static void settle_waiters(struct instance *i, const struct err *err)
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
            w->on_lease(w->arg, lease_new(i, w->arena), NULL);
        }
    }
}

/* ---- the child's own words ---- */

static void on_child_progress(void *arg, float fraction)
{
    struct instance *i = arg;
    if (fraction >= 0 && fraction <= 1)
        i->progress = fraction;
}

static void on_child_ready(void *arg)
{
    fire(arg, EVENT_READY);
}

static void on_child_error(void *arg, const struct err *err)
{
    struct instance *i = arg;
    i->problem = *err;
}

static void on_child_exit(void *arg, int64_t status, int signal)
{
    struct instance *i = arg;
    char tail[240];
    tail_of(child_output(i->child), tail, sizeof tail);
    if (i->problem.code == ERR_NONE && i->state != INSTANCE_UNLOADING)
        err_set(&i->problem, ERR_MODEL_LOAD_FAILED,
                "the process that runs '%s' ended with %s %lld; its last output: %s", i->id,
                signal ? "signal" : "status", signal ? (long long)signal : (long long)status, tail);
    i->exit_signal = signal;
    fire(i, EVENT_EXITED);
}

/* ---- actions ---- */

static void do_nothing(struct instance *i)
{
    (void)i;
}

static void on_start_late(struct deadline *deadline)
{
    struct instance *i = container_of(deadline, struct instance, start);
    err_set(&i->problem, ERR_TIMEOUT, "the model '%s' was not ready after %d s", i->id, LIMIT_START_MS / 1000);
    fire(i, EVENT_TIMEOUT);
}

static void do_spawn(struct instance *i)
{
    static const struct child_events events = {on_child_progress, on_child_ready, on_child_error, on_child_exit};
    struct arena arena;
    struct err err;
    arena_init(&arena);
    snprintf(i->target.address, sizeof i->target.address, "%s/w%u.sock", i->all->socket_folder, ++i->all->sockets);
    unlink(i->target.address);
    i->progress = 0;
    i->problem = ERR_INIT;
    i->load_started_ms = clock_ms();
    i->child = child_new(i->all->loop, command_of_worker(i, &arena), &events, i, &err);
    arena_dispose(&arena);
    if (!i->child) {
        i->problem = err;
        fire(i, EVENT_EXITED);
        return;
    }
    log_info("model loading", "model=%s pid=%d", i->id, child_pid(i->child));
    deadline_arm(i->all->loop, &i->start, LIMIT_START_MS, on_start_late);
}

static void on_idle(struct deadline *deadline)
{
    struct instance *i = container_of(deadline, struct instance, idle);
    log_info("model idle, unloading", "model=%s", i->id);
    fire(i, EVENT_STOP);
}

static void set_idle_deadline(struct instance *i)
{
    const struct conf_model *m = conf_model_find(i->all->conf, str_from(i->id));
    int64_t seconds = m && m->ttl_seconds >= 0 ? m->ttl_seconds : i->all->conf->model_ttl_seconds;
    if (i->state == INSTANCE_LOADED && i->active == 0 && seconds > 0 && !i->pinned && !i->attached)
        deadline_arm(i->all->loop, &i->idle, (uint64_t)seconds * 1000, on_idle);
}

static void do_serve_waiters(struct instance *i)
{
    deadline_cancel(i->all->loop, &i->start);
    i->loaded_ms = clock_ms();
    i->load_ms = (double)(i->loaded_ms - i->load_started_ms);
    i->last_used_ms = i->loaded_ms;
    i->progress = 1;
    log_info("model loaded", "model=%s ms=%.0f bytes=%llu", i->id, i->load_ms,
             (unsigned long long)child_memory(i->child));
    set_idle_deadline(i);
    settle_waiters(i, NULL);
}

static void drop_child(struct instance *i)
{
    struct instances *all = i->all;
    deadline_cancel(all->loop, &i->start);
    deadline_cancel(all->loop, &i->idle);
    deadline_cancel(all->loop, &i->kill);
    http_client_forget(all->client, &i->target);
    unlink(i->target.address);
    child_free(i->child);
    i->child = NULL;
}

static void do_load_failed(struct instance *i)
{
    drop_child(i);
    i->failed_ms = clock_ms();
    log_error("model failed to load", "model=%s reason=%s", i->id, i->problem.message);
    struct err err = i->problem; /* a waiter may start the next load */
    settle_waiters(i, &err);
    look_at_pending(i->all);
}

static void on_pause_over(struct deadline *deadline)
{
    fire(container_of(deadline, struct instance, pause), EVENT_PAUSE_OVER);
}

static void do_crashed(struct instance *i)
{
    drop_child(i);
    if (clock_ms() - i->loaded_ms > STABLE_MS)
        i->crashes = 0;
    unsigned pause = PAUSE_FIRST_MS << (i->crashes < 10 ? i->crashes : 10);
    i->crashes++;
    if (pause > LIMIT_RESTART_BACKOFF_MS)
        pause = LIMIT_RESTART_BACKOFF_MS;
    log_error("model process ended, will be started again", "model=%s crashes=%u pause_ms=%u reason=%s", i->id,
              i->crashes, pause, i->problem.message);
    deadline_arm(i->all->loop, &i->pause, pause, on_pause_over);
}

static void on_kill(struct deadline *deadline)
{
    fire(container_of(deadline, struct instance, kill), EVENT_TIMEOUT);
}

static void do_kill(struct instance *i)
{
    child_signal(i->child, SIGKILL);
}

static void on_grace_over(struct deadline *deadline)
{
    struct instance *i = container_of(deadline, struct instance, idle);
    child_signal(i->child, SIGTERM);
    deadline_arm(i->all->loop, &i->kill, KILL_AFTER_MS, on_kill);
}

/* Running requests end first, at most for the grace; then the child is asked, then made to end. */
static void do_terminate(struct instance *i)
{
    i->memory_at_stop = child_memory(i->child);
    if (i->active > 0 && i->grace_ms > 0) {
        deadline_arm(i->all->loop, &i->idle, i->grace_ms, on_grace_over);
        return;
    }
    deadline_cancel(i->all->loop, &i->idle);
    child_signal(i->child, SIGTERM);
    deadline_arm(i->all->loop, &i->kill, KILL_AFTER_MS, on_kill);
}

static void do_end_waiters(struct instance *i)
{
    struct err err;
    err_set(&err, ERR_MODEL_NOT_LOADED, "the model '%s' was unloaded while this request waited for it", i->id);
    deadline_cancel(i->all->loop, &i->pause);
    settle_waiters(i, &err);
}

static void do_end_waiters_and_terminate(struct instance *i)
{
    do_end_waiters(i);
    do_terminate(i);
}

static void settle_unload_calls(struct instance *i)
{
    while (!list_empty(&i->unload_calls)) {
        struct unload_call *call = list_first(&i->unload_calls, struct unload_call, link);
        list_remove(&call->link);
        call->on_done(call->arg, i->memory_at_stop);
        mem_free(call);
    }
}

static void check_stopped(struct instances *all);

static void do_gone(struct instance *i)
{
    drop_child(i);
    i->problem = ERR_INIT;
    i->progress = 0;
    log_info("model unloaded", "model=%s freed_bytes=%llu", i->id, (unsigned long long)i->memory_at_stop);
    settle_unload_calls(i);
    check_stopped(i->all);
    look_at_pending(i->all);
}

/* ---- the table ---- */

static const struct transition {
    enum instance_state state;
    enum event event;
    enum instance_state next;
    void (*action)(struct instance *i);
} transitions[] = {
#define TRANSITION(state, event, next, action) {INSTANCE_##state, EVENT_##event, INSTANCE_##next, do_##action},
#include "instance/fsm.def"
#undef TRANSITION
};

static void fire(struct instance *i, enum event event)
{
    for (size_t t = 0; t < sizeof transitions / sizeof *transitions; t++) {
        if (transitions[t].state != i->state || transitions[t].event != event)
            continue;
        i->state = transitions[t].next;
        transitions[t].action(i);
        return;
    }
    /* A late event of a child that is being ended anyway, such as READY behind TIMEOUT. */
    log_debug("event without effect", "model=%s state=%s event=%d", i->id, state_names[i->state], (int)event);
}

/* ---- wanting a model ---- */

static bool load_paused(const struct instance *i)
{
    return i->state == INSTANCE_ERROR && clock_ms() - i->failed_ms < FAILED_LOAD_PAUSE_MS;
}

static bool needs_start(const struct instance *i)
{
    return i->state == INSTANCE_UNLOADED || i->state == INSTANCE_ERROR;
}

/* Makes room and starts, or leaves the instance pending until there is some. */
static void try_start(struct instance *i)
{
    struct err err = ERR_INIT;
    switch (evict_make_room(i->all, i, &err)) {
    case EVICT_ROOM: fire(i, EVENT_START); break;
    case EVICT_WAIT: break;
    case EVICT_NEVER: settle_waiters(i, &err); break;
    }
}

static void look_at_pending(struct instances *all)
{
    if (all->stopping)
        return;
    list_each (i, &all->list, struct instance, link)
        if (needs_start(i) && i->waiting > 0)
            try_start(i);
}

void instances_evict(struct instance *i)
{
    log_info("model unloaded to make room", "model=%s", i->id);
    i->grace_ms = 0;
    fire(i, EVENT_STOP);
}

static struct instance *instance_of(struct instances *all, const struct model *m)
{
    struct instance *i = map_get(&all->by_id, str_from(m->id));
    if (!i) {
        i = mem_calloc(1, sizeof *i);
        i->all = all;
        i->id = mem_strdup(m->id);
        list_init(&i->waiters);
        list_init(&i->unload_calls);
        list_push(&all->list, &i->link);
        map_put(&all->by_id, str_from(i->id), i);
    }
    if (m->upstream) {
        i->attached = true;
        i->state = INSTANCE_LOADED;
        i->target = *m->upstream;
    } else if (needs_start(i)) {
        mem_free(i->path);
        i->fake = strcmp(m->gguf.architecture, "fake") == 0;
        i->path = mem_strdup(i->fake ? m->gguf.name : m->path);
        i->memory_estimate = model_memory_estimate(m, model_context(m, all->conf));
        i->pinned = m->overrides && m->overrides->pin;
    }
    return i;
}

static void refuse(void (*on_lease)(void *, struct lease *, const struct err *), void *arg, enum err_code code,
                   const char *why, const char *id)
{
    struct err err;
    err_set(&err, code, "%s ('%s')", why, id);
    err.retry_after_ms = 2000;
    on_lease(arg, NULL, &err);
}

void instances_acquire(struct instances *all, const struct model *model, struct arena *arena,
                       void (*on_lease)(void *arg, struct lease *lease, const struct err *err), void *arg)
{
    struct instance *i = instance_of(all, model);
    if (all->stopping) {
        refuse(on_lease, arg, ERR_DRAINING, "the server is shutting down", i->id);
    } else if (model->problem.code != ERR_NONE) {
        on_lease(arg, NULL, &model->problem);
    } else if (i->state == INSTANCE_LOADED) {
        on_lease(arg, lease_new(i, arena), NULL);
    } else if (load_paused(i)) {
        on_lease(arg, NULL, &i->problem);
    } else if (i->waiting >= LIMIT_WAITERS) {
        refuse(on_lease, arg, ERR_SERVER_OVERLOADED, "too many requests wait for this model to be loaded", i->id);
    } else {
        struct waiter *w = arena_calloc(arena, sizeof *w);
        *w = (struct waiter){.instance = i, .arena = arena, .on_lease = on_lease, .arg = arg};
        w->disposer = arena_on_dispose(arena, on_waiter_dispose, w);
        list_push(&i->waiters, &w->link);
        i->waiting++;
        deadline_arm(all->loop, &w->deadline, (uint64_t)all->conf->queue_timeout_seconds * 1000, on_waiter_late);
        if (needs_start(i))
            try_start(i);
    }
}

/* ---- unloading and the end ---- */

void instances_unload(struct instances *all, struct str model_id, unsigned grace_ms,
                      void (*on_done)(void *arg, uint64_t freed_bytes), void *arg)
{
    struct instance *i = map_get(&all->by_id, model_id);
    bool running = i && i->child;
    if (running && on_done) {
        struct unload_call *call = mem_calloc(1, sizeof *call);
        *call = (struct unload_call){.on_done = on_done, .arg = arg};
        list_push(&i->unload_calls, &call->link);
    }
    if (i && !i->attached) {
        i->grace_ms = grace_ms;
        fire(i, EVENT_STOP);
    }
    if (!running && on_done)
        on_done(arg, 0);
}

static void check_stopped(struct instances *all)
{
    if (!all->stopping)
        return;
    list_each (i, &all->list, struct instance, link)
        if (i->child)
            return;
    void (*on_stopped)(void *) = all->on_stopped;
    all->on_stopped = NULL;
    if (on_stopped)
        on_stopped(all->on_stopped_arg);
}

void instances_stop(struct instances *all, unsigned grace_ms, void (*on_stopped)(void *arg), void *arg)
{
    all->stopping = true;
    all->on_stopped = on_stopped;
    all->on_stopped_arg = arg;
    list_each (i, &all->list, struct instance, link) {
        i->grace_ms = grace_ms;
        if (!i->attached)
            fire(i, EVENT_STOP);
    }
    check_stopped(all);
}

static bool make_folder(const char *path, struct err *err)
{
    char part[4096];
    snprintf(part, sizeof part, "%s", path);
    for (char *p = part + 1;; p++) {
        bool last = *p == '\0';
        if (*p != '/' && !last)
            continue;
        *p = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return err_set(err, ERR_CONFIG, "the folder %s cannot be made: %s; set state_dir to one that can", part,
                           strerror(errno));
        if (last)
            return true;
        *p = '/';
    }
}

struct instances *instances_new(struct loop *loop, const struct conf *conf, const char *program, struct err *err)
{
    struct instances *all = mem_calloc(1, sizeof *all);
    all->loop = loop;
    all->conf = conf;
    all->program = program;
    list_init(&all->list);
    map_init(&all->by_id);
    all->client = http_client_new(loop);
    int n = snprintf(all->socket_folder, sizeof all->socket_folder, "%s/run-%d", conf->state_dir, (int)getpid());
    if (n >= (int)sizeof all->socket_folder) {
        err_set(err, ERR_CONFIG, "state_dir is too long for Unix sockets (at most %zu bytes): %s",
                sizeof all->socket_folder - 16, conf->state_dir);
    } else if (make_folder(all->socket_folder, err)) {
        return all;
    }
    instances_free(all);
    return NULL;
}

void instances_free(struct instances *all)
{
    if (!all)
        return;
    list_each (i, &all->list, struct instance, link) {
        list_remove(&i->link);
        mem_free(i->id);
        mem_free(i->path);
        mem_free(i);
    }
    map_release(&all->by_id);
    http_client_free(all->client);
    rmdir(all->socket_folder);
    mem_free(all);
}

struct http_client *instances_client(struct instances *all)
{
    return all->client;
}

/* ---- looking at them ---- */

void instances_status(struct instances *all, struct str model_id, struct instance_status *ret_status)
{
    const struct instance *i = map_get(&all->by_id, model_id);
    *ret_status = (struct instance_status){.state = state_names[INSTANCE_UNLOADED]};
    if (!i)
        return;
    ret_status->state = state_names[i->state];
    ret_status->progress = i->progress;
    ret_status->active = i->active;
    ret_status->waiting = i->waiting;
    ret_status->memory_bytes = i->child ? child_memory(i->child) : 0;
    ret_status->last_used = i->last_used;
    ret_status->requests = i->requests;
    ret_status->latency_ms_sum = i->latency_ms_sum;
    ret_status->load_ms = i->load_ms;
    ret_status->pid = i->child ? child_pid(i->child) : 0;
    ret_status->problem = i->problem;
}

const char *const *instances_loaded(struct instances *all, struct arena *arena)
{
    const char **ids = arena_calloc(arena, (all->by_id.count + 1) * sizeof *ids);
    size_t count = 0;
    list_each (i, &all->list, struct instance, link)
        if (i->state == INSTANCE_LOADED)
            ids[count++] = i->id;
    return ids;
}
