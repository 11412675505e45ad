/* Instances as others see them: what they are, what they do, and finding them. Changes nothing. */
#include "base/clock.h"
#include "instance/instance_private.h"

static const char *const state_names[] = {
#define STATE(name, wire, model_wire) [INSTANCE_##name] = wire,
#include "instance/fsm.def"
#undef STATE
};

static const char *const model_state_names[] = {
#define STATE(name, wire, model_wire) [INSTANCE_##name] = model_wire,
#include "instance/fsm.def"
#undef STATE
};

const char *instance_state_name(enum instance_state state)
{
    return state_names[state];
}

static unsigned queue_position(const struct instance *i)
{
    unsigned position = 1;
    if (i->state != INSTANCE_QUEUED)
        return 0;
    list_each (other, &i->all->list, struct instance, link)
        position += other->state == INSTANCE_QUEUED && other->queued_ms < i->queued_ms;
    return position;
}

#define PROGRESS_LEAST 0.02f /* less says nothing about the rest */

/* Loading goes on as it went so far. */
static double eta_seconds(const struct instance *i)
{
    if (i->state == INSTANCE_RUNNING)
        return 0;
    if (i->state != INSTANCE_STARTING || i->progress < PROGRESS_LEAST)
        return -1;
    return (double)(clock_ms() - i->start_ms) / 1000 * (1 - (double)i->progress) / (double)i->progress;
}

/* While it is used, as if it were no more from now on. */
static int64_t expires_ms(const struct instance *i)
{
    uint64_t now = clock_ms();
    if (i->state != INSTANCE_RUNNING || i->policy.pinned || !i->policy.idle_ms || i->kind == KIND_ATTACHED)
        return 0;
    uint64_t left = i->idle.due_ms > now ? i->idle.due_ms - now : i->idle.due_ms ? 0 : i->policy.idle_ms;
    return clock_unix_ms() + (int64_t)left;
}

void instance_status(const struct instance *i, struct instance_status *ret_status)
{
    *ret_status =
        (struct instance_status){.state = state_names[i->state],
                                 .model_state = model_state_names[i->state],
                                 .progress = i->progress,
                                 .active = i->active,
                                 .waiting = i->waiting,
                                 .queue_position = queue_position(i),
                                 .memory_bytes = i->child ? child_memory(i->child) : 0,
                                 .last_used = i->last_used,
                                 .expires_ms = expires_ms(i),
                                 .eta_seconds = eta_seconds(i),
                                 .load_ms = i->ready_ms > i->start_ms ? (double)(i->ready_ms - i->start_ms) : 0,
                                 .pid = i->child ? child_pid(i->child) : 0,
                                 .port = i->child ? i->port : 0,
                                 .counters = &i->counters,
                                 .load = i->load,
                                 .reserved = i->memory,
                                 .problem = i->problem,
                                 .trouble_ms = i->trouble_ms};
}

void instances_status(struct instances *all, struct str model_id, struct instance_status *ret_status)
{
    static const struct instance_counters nothing;
    const struct instance *i = map_get(&all->by_model, model_id);
    *ret_status = (struct instance_status){.state = state_names[INSTANCE_STOPPED],
                                           .model_state = model_state_names[INSTANCE_STOPPED],
                                           .eta_seconds = -1,
                                           .counters = &nothing};
    if (i)
        instance_status(i, ret_status);
}

void instances_load_now(struct instances *all, struct worker_load *ret_load)
{
    *ret_load = (struct worker_load){.known = true, .generated = all->generated};
    list_each (i, &all->list, struct instance, link) {
        ret_load->queued += i->load.queued;
        ret_load->running += i->load.running;
        ret_load->sequences += i->load.sequences;
        ret_load->cells_used += i->load.cells_used;
        ret_load->cells += i->load.cells;
    }
}

const char *const *instances_loaded(struct instances *all, struct arena *arena)
{
    const char **ids = arena_calloc(arena, (all->by_model.count + 1) * sizeof *ids);
    size_t count = 0;
    list_each (i, &all->list, struct instance, link)
        if (i->state == INSTANCE_RUNNING && (i->kind == KIND_IMPLICIT || i->kind == KIND_ATTACHED))
            ids[count++] = i->name;
    return ids;
}

struct instance *instances_find(struct instances *all, struct str name)
{
    return map_get(&all->by_name, name);
}

struct instance *instances_find_id(struct instances *all, int64_t id)
{
    list_each (i, &all->list, struct instance, link)
        if (instance_is_named(i) && !i->buried && i->id == id)
            return i;
    return NULL;
}

struct instance **instances_list(struct instances *all, bool implicit, struct arena *arena)
{
    size_t count = 0;
    struct instance **list = arena_calloc(arena, (all->by_name.count + all->by_model.count + 1) * sizeof *list);
    list_each (i, &all->list, struct instance, link)
        if (instance_is_named(i) && !i->buried)
            list[count++] = i;
    if (implicit)
        list_each (i, &all->list, struct instance, link)
            if (!instance_is_named(i))
                list[count++] = i;
    return list;
}

const char *instance_name(const struct instance *i)
{
    return i->name;
}

int64_t instance_id(const struct instance *i)
{
    return i->id;
}

bool instance_is_named(const struct instance *i)
{
    return i->kind == KIND_NAMED || i->kind == KIND_REMOTE;
}

bool instance_is_remote(const struct instance *i)
{
    return i->kind == KIND_REMOTE;
}

int64_t instance_created(const struct instance *i)
{
    return i->created_at;
}

json_t *instance_options(const struct instance *i)
{
    return instance_is_named(i) ? options_shown(&i->options) : json_object();
}

const json_t *instance_warnings(const struct instance *i)
{
    return i->warnings;
}

struct output *instance_output(const struct instance *i)
{
    return i->output;
}

const char *instance_backend_type(const struct instance *i)
{
    return instance_is_named(i) && i->options.backend ? i->options.backend->type : "worker";
}

const char *instance_served_model(const struct instance *i)
{
    if (i->kind != KIND_NAMED || !i->options.backend->served_model)
        return NULL;
    return i->options.backend->served_model(i->options.backend_options);
}

bool instance_is_router(const struct instance *i)
{
    static const char *const sources[] = {"model", "hf_repo", "model_url", "docker_repo"};
    if (i->kind != KIND_NAMED || strcmp(i->options.backend->type, "llama_cpp") != 0)
        return false;
    for (size_t n = 0; n < sizeof sources / sizeof *sources; n++)
        if (json_object_get(i->options.backend_options, sources[n]))
            return false;
    return true;
}
