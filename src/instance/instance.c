/* The life of instances.
 *
 * fsm.def says which event leads where; instance_fire() is the only place that changes a state, and each action is a
 * small function below. Callers never see processes: they hold a lease or wait for one (lease.c). An instance that
 * somebody wants but for which there is no room yet is QUEUED: whenever a lease ends or a process is gone, the queue is
 * looked at again, oldest first. Who has to go is evict.c's decision. How a process comes to be is launch.c's.
 *
 * Invariants: there is a child, or files are being looked at for one, exactly in STARTING, RUNNING, STOPPING and
 * RECYCLING, unless the instance is attached or remote; active counts the leases given out and grows in RUNNING only.
 */
#include "instance/instance.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "instance/evict.h"
#include "instance/flag_check.h"
#include "instance/gpu.h"
#include "instance/instance_private.h"
#include "instance/memory.h"
#include "instance/load.h"
#include "instance/node.h"
#include "instance/orphan.h"
#include "instance/record.h"
#include "obs/log.h"

#define PAUSE_FIRST_MS 100 /* after the first crash of a model's worker; doubles */

#define MODEL_STOP_MS 5000 /* between asking a model's worker to end and making it */

static const char *const event_names[] = {
#define EVENT(name) [EVENT_##name] = #name,
#include "instance/fsm.def"
#undef EVENT
};

struct unload_call {
    struct list link;
    void (*on_done)(void *arg, uint64_t freed);
    void *arg;
};

bool instance_has_slot(const struct instance *i)
{
    return i->state == INSTANCE_STARTING || i->state == INSTANCE_RUNNING || i->state == INSTANCE_STOPPING ||
           i->state == INSTANCE_RECYCLING || i->state == INSTANCE_RESTARTING;
}

bool instance_needs_start(const struct instance *i)
{
    return i->state == INSTANCE_STOPPED || i->state == INSTANCE_QUEUED || i->state == INSTANCE_FAILED;
}

/* ---- actions ---- */

static void do_nothing(struct instance *i)
{
    (void)i;
}

static void on_start_late(struct deadline *deadline)
{
    struct instance *i = container_of(deadline, struct instance, start);
    char tail[240];
    launch_tail(i, tail, sizeof tail);
    err_set(&i->problem, i->kind == KIND_IMPLICIT ? ERR_TIMEOUT : ERR_START_FAILED,
            "'%s' was not ready after %lld s; its last output: %s", i->name, (long long)i->all->conf->start_timeout,
            tail);
    instance_fire(i, EVENT_TIMEOUT);
}

static void do_launch(struct instance *i)
{
    deadline_cancel(i->all->loop, &i->pause);
    i->progress = 0;
    i->problem = ERR_INIT;
    i->start_ms = clock_ms();
    i->counters.starts++;
    deadline_arm(i->all->loop, &i->start, (uint64_t)i->all->conf->start_timeout * 1000, on_start_late);
    launch(i);
}

static void do_relaunch(struct instance *i)
{
    launch_drop(i);
    i->counters.restarts++;
    do_launch(i);
}

/* A place in the queue is looked at again when it has been waited for long: see evict.c on busy victims. */
static void on_queue_look(struct deadline *deadline)
{
    struct instance *i = container_of(deadline, struct instance, start);
    deadline_arm(i->all->loop, &i->start, LIMIT_YIELD_MS, on_queue_look);
    instances_look_at_queue(i->all);
}

static void do_enqueue(struct instance *i)
{
    i->queued_ms = clock_ms();
    i->problem = ERR_INIT;
    deadline_arm(i->all->loop, &i->start, LIMIT_YIELD_MS, on_queue_look);
}

static void do_leave_queue(struct instance *i)
{
    deadline_cancel(i->all->loop, &i->start);
}

static void on_idle(struct deadline *deadline)
{
    struct instance *i = container_of(deadline, struct instance, idle);
    log_info("instance idle, stopping", "instance=%s", i->name);
    record_wanted(i, false);
    instance_fire(i, EVENT_STOP);
}

void instance_set_idle(struct instance *i)
{
    if (i->state == INSTANCE_RUNNING && i->active == 0 && i->policy.idle_ms > 0 && !i->policy.pinned &&
        i->kind != KIND_ATTACHED)
        deadline_arm(i->all->loop, &i->idle, i->policy.idle_ms, on_idle);
}

static void do_serve_waiters(struct instance *i)
{
    deadline_cancel(i->all->loop, &i->start);
    i->ready_ms = clock_ms();
    i->last_used_ms = i->ready_ms;
    i->progress = 1;
    log_info("instance running", "instance=%s ms=%llu bytes=%llu", i->name,
             (unsigned long long)(i->ready_ms - i->start_ms),
             (unsigned long long)(i->child ? child_memory(i->child) : 0));
    instance_set_idle(i);
    waiters_settle(i, NULL);
}

static void process_gone(struct instance *i)
{
    deadline_cancel(i->all->loop, &i->start);
    deadline_cancel(i->all->loop, &i->idle);
    deadline_cancel(i->all->loop, &i->kill);
    launch_drop(i);
}

static void do_start_failed(struct instance *i)
{
    process_gone(i);
    i->counters.start_failures++;
    i->failed_ms = i->trouble_ms = clock_ms();
    log_error("instance failed", "instance=%s reason=%s", i->name, i->problem.message);
    struct err err = i->problem; /* a waiter may start it anew */
    waiters_settle(i, &err);
    instances_look_at_queue(i->all);
}

static void on_pause_over(struct deadline *deadline)
{
    struct instance *i = container_of(deadline, struct instance, pause);
    i->counters.restarts++;
    instance_fire(i, EVENT_PAUSE_OVER);
}

static void do_crashed(struct instance *i)
{
    process_gone(i);
    uint64_t first = i->policy.restart_delay_ms, most = LIMIT_RESTART_BACKOFF_MS;
    uint64_t pause = first << (i->crashes < 16 ? i->crashes : 16);
    if (pause > most)
        pause = first > most ? first : most;
    i->crashes++;
    i->trouble_ms = clock_ms();
    log_error("instance ended, will be started again", "instance=%s crashes=%u pause_ms=%llu reason=%s", i->name,
              i->crashes, (unsigned long long)pause, i->problem.message);
    deadline_arm(i->all->loop, &i->pause, pause, on_pause_over);
}

static void do_start_crashed(struct instance *i)
{
    do_crashed(i);
    struct err err = i->problem;
    waiters_settle(i, &err);
}

static void on_kill(struct deadline *deadline)
{
    instance_fire(container_of(deadline, struct instance, kill), EVENT_TIMEOUT);
}

static void do_kill(struct instance *i)
{
    if (i->child)
        child_signal(i->child, SIGKILL);
}

static void ask_to_end(struct instance *i)
{
    uint64_t patience = i->kind == KIND_NAMED ? (uint64_t)i->all->conf->stop_timeout * 1000 : MODEL_STOP_MS;
    if (i->child)
        child_signal(i->child, SIGTERM);
    deadline_arm(i->all->loop, &i->kill, patience ? patience : 1, on_kill);
}

static void on_grace_over(struct deadline *deadline)
{
    ask_to_end(container_of(deadline, struct instance, idle));
}

/* Running replies end first, at most for the grace (lease_end asks as soon as the last one has); then the child is
 * asked, then made to end. */
static void do_terminate(struct instance *i)
{
    deadline_cancel(i->all->loop, &i->start);
    i->memory_at_stop = i->child ? child_memory(i->child) : 0;
    if (i->active > 0 && i->grace_ms == LIMIT_GRACE_FOREVER) {
        deadline_cancel(i->all->loop, &i->idle);
    } else if (i->active > 0 && i->grace_ms > 0) {
        deadline_arm(i->all->loop, &i->idle, i->grace_ms, on_grace_over);
    } else {
        deadline_cancel(i->all->loop, &i->idle);
        ask_to_end(i);
    }
}

static void do_end_waiters(struct instance *i)
{
    struct err err;
    err_set(&err, i->kind == KIND_IMPLICIT ? ERR_MODEL_NOT_LOADED : ERR_INSTANCE_NOT_RUNNING,
            "'%s' was stopped while this request waited for it", i->name);
    deadline_cancel(i->all->loop, &i->pause);
    deadline_cancel(i->all->loop, &i->start);
    waiters_settle(i, &err);
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

/* A request may have come while the old process was ending: it gets a new one, but behind those for whom the old one
 * had to go. */
static void do_gone(struct instance *i)
{
    process_gone(i);
    i->problem = ERR_INIT;
    i->progress = 0;
    log_info("instance stopped", "instance=%s freed_bytes=%llu", i->name, (unsigned long long)i->memory_at_stop);
    settle_unload_calls(i);
    instances_check_stopped(i->all);
    if (i->waiting > 0 && (i->all->stopping || i->going))
        do_end_waiters(i);
    else if (i->waiting > 0)
        instance_fire(i, EVENT_ENQUEUE);
    instances_look_at_queue(i->all);
}

/* ---- the table ---- */

static const struct transition {
    enum instance_state state;
    enum instance_event event;
    enum instance_state next;
    void (*action)(struct instance *i);
} transitions[] = {
#define TRANSITION(state, event, next, action) {INSTANCE_##state, EVENT_##event, INSTANCE_##next, do_##action},
#include "instance/fsm.def"
#undef TRANSITION
};

void instance_fire(struct instance *i, enum instance_event event)
{
    for (size_t t = 0; t < sizeof transitions / sizeof *transitions; t++) {
        if (transitions[t].state != i->state || transitions[t].event != event)
            continue;
        bool changed = strcmp(instance_state_name(i->state), instance_state_name(transitions[t].next)) != 0;
        i->state = transitions[t].next;
        if (changed)
            watchers_tell(i);
        transitions[t].action(i);
        if (i->deletion && i->state == INSTANCE_STOPPED)
            record_stopped(i);
        return;
    }
    log_debug("event without effect", "instance=%s state=%s event=%s", i->name, instance_state_name(i->state),
              event_names[event]);
}

/* ---- wanting one ---- */

void instance_try_start(struct instance *i)
{
    struct err err = ERR_INIT;
    switch (evict_make_room(i->all, i, EVICT_IDLE, &err)) {
    case EVICT_ROOM:
        record_wanted(i, true);
        instance_fire(i, EVENT_START);
        break;
    case EVICT_WAIT: instance_fire(i, EVENT_ENQUEUE); break;
    case EVICT_NEVER:
        instance_fire(i, EVENT_GIVE_UP);
        waiters_settle(i, &err);
        break;
    }
}

static struct instance *next_queued(struct instances *all, uint64_t after_ms, const struct instance *after)
{
    struct instance *next = NULL;
    bool seen = after == NULL;
    list_each (i, &all->list, struct instance, link) {
        bool later = i->queued_ms > after_ms || (i->queued_ms == after_ms && seen);
        seen = seen || i == after;
        if (i->state == INSTANCE_QUEUED && later && i != after && (!next || i->queued_ms < next->queued_ms))
            next = i;
    }
    return next;
}

/* In order of arrival. One that nobody waits for any more leaves. */
void instances_look_at_queue(struct instances *all)
{
    if (all->stopping)
        return;
    struct instance *i = next_queued(all, 0, NULL);
    while (i) {
        struct instance *next = next_queued(all, i->queued_ms, i);
        if (i->waiting == 0 && !i->wanted)
            instance_fire(i, EVENT_GIVE_UP);
        else
            instance_try_start(i);
        i = next;
    }
}

void instance_evict(struct instance *i, unsigned grace_ms)
{
    log_info("instance stopped to make room", "instance=%s busy=%u", i->name, i->active);
    i->grace_ms = grace_ms;
    i->counters.evictions++;
    record_wanted(i, false);
    instance_fire(i, EVENT_STOP);
}

/* ---- the set ---- */

struct instance *instance_new(struct instances *all, enum instance_kind kind, struct str name)
{
    struct instance *i = mem_calloc(1, sizeof *i);
    i->all = all;
    i->kind = kind;
    i->name = mem_strndup(name.p, name.n);
    i->policy.group = "";
    i->settings = MODEL_SETTINGS_INIT;
    list_init(&i->waiters);
    list_init(&i->unload_calls);
    list_init(&i->placements);
    list_push(&all->list, &i->link);
    map_put(instance_is_named(i) ? &all->by_name : &all->by_model, name, i);
    return i;
}

void instance_free(struct instance *i)
{
    deadline_cancel(i->all->loop, &i->start);
    deadline_cancel(i->all->loop, &i->pause);
    deadline_cancel(i->all->loop, &i->idle);
    list_remove(&i->link);
    if (!i->buried)
        map_remove(instance_is_named(i) ? &i->all->by_name : &i->all->by_model, str_from(i->name));
    remote_release(i);
    options_release(&i->options);
    json_decref(i->newest);
    json_decref(i->warnings);
    if (i->output)
        output_free(i->output);
    mem_free(i->name);
    mem_free(i->path);
    mem_free(i->projector);
    mem_free(i);
}

void instance_bury(struct instance *i)
{
    i->buried = true;
    map_remove(&i->all->by_name, str_from(i->name));
    if (i->active == 0)
        instance_free(i);
}

struct instance *instance_of_model(struct instances *all, const struct model *m)
{
    struct instance *i = map_get(&all->by_model, str_from(m->id));
    if (!i)
        i = instance_new(all, m->upstream ? KIND_ATTACHED : KIND_IMPLICIT, str_from(m->id));
    if (m->upstream) {
        i->state = INSTANCE_RUNNING;
        i->target = *m->upstream;
    } else if (instance_needs_start(i)) {
        mem_free(i->path);
        mem_free(i->projector);
        i->projector = m->projector ? mem_strdup(m->projector) : NULL;
        i->fake = strcmp(m->gguf.architecture, "fake") == 0;
        i->path = mem_strdup(i->fake ? m->gguf.name : m->path);
        load_estimate(i, m);
        i->policy = (struct policy){.auto_restart = true,
                                    .on_demand = true,
                                    .pinned = load_pinned(i, m),
                                    .max_restarts = UINT_MAX,
                                    .restart_delay_ms = PAUSE_FIRST_MS,
                                    .idle_ms = load_idle_ms(i, m),
                                    .group = ""};
    }
    return i;
}

void instances_acquire(struct instances *all, const struct model *model, struct arena *arena,
                       instance_on_lease *on_lease, void *arg)
{
    struct instance *i = instance_of_model(all, model);
    if (model->problem.code != ERR_NONE)
        on_lease(arg, NULL, &model->problem);
    else
        instance_acquire(i, true, arena, on_lease, arg);
}

void instances_unload(struct instances *all, struct str model_id, unsigned grace_ms,
                      void (*on_done)(void *arg, uint64_t freed_bytes), void *arg)
{
    struct instance *i = map_get(&all->by_model, model_id);
    bool running = i && i->child;
    if (running && on_done) {
        struct unload_call *call = mem_calloc(1, sizeof *call);
        *call = (struct unload_call){.on_done = on_done, .arg = arg};
        list_push(&i->unload_calls, &call->link);
    }
    if (i && i->kind == KIND_IMPLICIT) {
        i->grace_ms = grace_ms;
        i->settings = MODEL_SETTINGS_INIT;
        instance_fire(i, EVENT_STOP);
    }
    if (!running && on_done)
        on_done(arg, 0);
}

void instances_check_stopped(struct instances *all)
{
    if (!all->stopping || all->jobs > 0)
        return;
    list_each (i, &all->list, struct instance, link)
        if (i->child || i->preparing)
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
    nodes_stop(all);
    list_each (i, &all->list, struct instance, link) {
        i->grace_ms = grace_ms;
        if (i->kind == KIND_IMPLICIT || i->kind == KIND_NAMED)
            instance_fire(i, EVENT_STOP);
    }
    instances_check_stopped(all);
}

bool instance_make_folder(const char *path, struct err *err)
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

static bool set_up(struct instances *all, struct err *err)
{
    const struct conf *conf = all->conf;
    int n = snprintf(all->socket_folder, sizeof all->socket_folder, "%s/run-%d", conf->state_dir, (int)getpid());
    if (n >= (int)sizeof all->socket_folder)
        return err_set(err, ERR_CONFIG, "state_dir is too long for Unix sockets (at most %zu bytes): %s",
                       sizeof all->socket_folder - 16, conf->state_dir);
    if (!instance_make_folder(all->socket_folder, err) || !instance_make_folder(conf->logs_dir, err) ||
        !instance_make_folder(conf->instances_dir, err))
        return false;
    if (!record_owner(all, err))
        return false;
    orphans_end(all->owner);
    return nodes_begin(all, err) && record_load(all, err);
}

struct instances *instances_new(struct loop *loop, const struct conf *conf, const char *program, struct store *store,
                                struct err *err)
{
    struct instances *all = mem_calloc(1, sizeof *all);
    all->loop = loop;
    all->conf = conf;
    all->program = program;
    all->store = store;
    list_init(&all->list);
    list_init(&all->watchers);
    list_init(&all->nodes);
    list_init(&all->creations);
    list_init(&all->refreshes);
    map_init(&all->by_model);
    map_init(&all->by_name);
    map_init(&all->flags);
    all->client = http_client_new(loop);
    if (set_up(all, err))
        return all;
    instances_free(all);
    return NULL;
}

void instances_begin(struct instances *all)
{
    gpus_ask(all);
    list_each (i, &all->list, struct instance, link) {
        if (i->kind != KIND_NAMED)
            continue;
        bool again = i->wanted && i->policy.auto_restart;
        if (!again)
            record_wanted(i, false);
        if (again || i->options.preload) {
            i->wanted = true; /* keeps its place in the queue without a request */
            instance_try_start(i);
        }
    }
    for (const char *const *name = all->conf->preload; *name; name++) {
        struct instance *i = instances_find(all, str_from(*name));
        if (i && i->kind == KIND_NAMED) {
            i->wanted = true;
            instance_try_start(i);
        } else {
            log_warn("nothing to preload", "instance=%s", *name);
        }
    }
}

void instances_free(struct instances *all)
{
    if (!all)
        return;
    list_each (i, &all->list, struct instance, link)
        instance_free(i);
    nodes_end(all);
    flag_check_end(all);
    map_release(&all->by_model);
    map_release(&all->by_name);
    http_client_free(all->client);
    rmdir(all->socket_folder);
    mem_free(all);
}

struct http_client *instances_client(struct instances *all)
{
    return all->client;
}
