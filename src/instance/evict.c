/* Three kinds of limits, one way to look at them: how many models' workers (cache.max_cached_models), how many named
 * instances, in all and of one group (instances.max_running_instances, group_limits), and bytes of memory for
 * everything together. Each limit is a scope: who counts under it, who may go for it.
 *
 * The ledger: an instance that is starting counts with its estimate, a running one with the larger of estimate and what
 * its process measures; one that crashed and will be started again keeps its place. What must go is only told to here;
 * the caller asks again when a process is gone. What lies on GPUs of its own memory counts there (gpu.c) and not here.
 *
 * GPUs come first: idle instances that hold the device that is short go for one that wants it. Whoever may put as many
 * layers there as fit does not wait for busy ones: it is granted what is left, and the rest counts as this machine's
 * memory. Whoever asks for a number of layers waits, as for memory.
 *
 * Idle ones go at once. When only busy ones hold the room, the least recently used of them takes no new requests once
 * somebody has waited LIMIT_YIELD_MS, and goes when its last reply has ended: two models that are always busy take
 * turns, and nothing is cut off. */
#include "instance/evict.h"

#include "base/clock.h"
#include "instance/child.h"
#include "instance/gpu.h"
#include "instance/instance_private.h"

static uint64_t read_field(const char *path, const char *field)
{
    char line[256];
    unsigned long long value = 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    size_t n = strlen(field);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, field, n) == 0) {
            value = strtoull(line + n, NULL, 10);
            break;
        }
    }
    fclose(file);
    return value;
}

static uint64_t least_known(uint64_t a, uint64_t b)
{
    return a == 0 ? b : b == 0 ? a : a < b ? a : b;
}

unsigned long long evict_memory_total(void)
{
    return least_known(read_field("/proc/meminfo", "MemTotal:") * 1024, read_field("/sys/fs/cgroup/memory.max", ""));
}

unsigned long long evict_memory_available(void)
{
    uint64_t machine = read_field("/proc/meminfo", "MemAvailable:") * 1024;
    uint64_t group = read_field("/sys/fs/cgroup/memory.max", ""),
             used = read_field("/sys/fs/cgroup/memory.current", "");
    return least_known(machine, group > used ? group - used : group ? 1 : 0);
}

/* The narrowest first: who goes for a group makes room under the wider limits too. */
enum scope { SCOPE_MODELS, SCOPE_GROUP, SCOPE_NAMED, SCOPE_MEMORY, SCOPE_GPU };

struct ledger {
    unsigned count;        /* instances that hold a place */
    unsigned leaving;      /* of these, on their way out */
    uint64_t reserved;     /* bytes of those that stay */
    uint64_t not_resident; /* of these, bytes that starts will still take */
};

static bool in_scope(const struct instance *i, enum scope scope, const struct instance *wanted)
{
    if (i == wanted || !instance_has_slot(i) || i->kind == KIND_ATTACHED || i->kind == KIND_REMOTE)
        return false;
    switch (scope) {
    case SCOPE_MODELS: return i->kind == KIND_IMPLICIT;
    case SCOPE_NAMED: return i->kind == KIND_NAMED;
    case SCOPE_GROUP: return i->kind == KIND_NAMED && strcmp(i->policy.group, wanted->policy.group) == 0;
    case SCOPE_GPU: return wanted->gpu_short >= 0 && gpu_held_by(i, (unsigned)wanted->gpu_short) > 0;
    default: return true;
    }
}

/* Of this machine's own memory. */
static uint64_t need_of(const struct instance *i)
{
    return i->memory_estimate - gpu_relief(i);
}

/* What is granted of GPUs is held from the start on only: here it has none yet. */
static uint64_t need_beside_gpus(const struct instance *i)
{
    uint64_t relief = 0;
    for (unsigned d = 0; d < i->all->gpus.count; d++)
        relief += i->all->gpus.devices[d].integrated ? 0 : i->gpu_granted[d];
    return relief < i->memory_estimate ? i->memory_estimate - relief : 0;
}

static struct ledger add_up(struct instances *all, enum scope scope, const struct instance *wanted)
{
    struct ledger l = {0};
    list_each (i, &all->list, struct instance, link) {
        if (!in_scope(i, scope, wanted))
            continue;
        l.count++;
        if (i->state == INSTANCE_STOPPING) {
            l.leaving++;
            continue;
        }
        uint64_t measured = i->child ? child_memory(i->child) : 0;
        uint64_t need = need_of(i), bytes = measured > need ? measured : need;
        l.reserved += bytes;
        if (i->state != INSTANCE_RUNNING && bytes > measured)
            l.not_resident += bytes - measured;
    }
    return l;
}

/* UINT_MAX: no limit. */
static unsigned most(const struct instance *wanted, enum scope scope)
{
    const struct conf *conf = wanted->all->conf;
    if (scope == SCOPE_MODELS && wanted->kind == KIND_IMPLICIT)
        return (unsigned)conf->max_cached_models;
    if (wanted->kind != KIND_NAMED)
        return UINT_MAX;
    if (scope == SCOPE_NAMED)
        return conf->max_running_instances < 0 ? UINT_MAX : (unsigned)conf->max_running_instances;
    const char *group =
        *wanted->policy.group ? conf_map_find(conf->group_limits, str_from(wanted->policy.group)) : NULL;
    uint64_t limit;
    return scope == SCOPE_GROUP && group && str_u64(str_from(group), LIMIT_INSTANCES, &limit) ? (unsigned)limit
                                                                                              : UINT_MAX;
}

/* ---- memory ---- */

static uint64_t budget(const struct instances *all)
{
    if (all->conf->max_memory_mb > 0)
        return (uint64_t)all->conf->max_memory_mb << 20;
    return evict_memory_total();
}

static bool fits(const struct instances *all, const struct ledger *l, uint64_t wanted)
{
    uint64_t limit = budget(all), free_now = evict_memory_available();
    if (limit && l->reserved + wanted > limit)
        return false;
    return !free_now || l->not_resident + wanted <= free_now;
}

static bool could_ever_fit(const struct instances *all, const struct ledger *l, uint64_t wanted)
{
    uint64_t limit = budget(all), free_now = evict_memory_available();
    return (!limit || wanted <= limit) && (!free_now || wanted <= free_now + l->reserved);
}

static enum evict_answer too_large(const struct instance *wanted, const struct ledger *l, struct err *err)
{
    const struct instances *all = wanted->all;
    err_set(err, ERR_INSUFFICIENT_MEMORY,
            "'%s' needs about %.1f GB, more than the %.1f GB this machine can give; use a smaller model or "
            "quantization, or a smaller context_size",
            wanted->name, (double)need_beside_gpus(wanted) / 1e9,
            (double)least_known(budget(all), evict_memory_available() + l->reserved) / 1e9);
    return EVICT_NEVER;
}

/* ---- who goes ---- */

static struct instance *least_recently_used(struct instance *wanted, enum scope scope, bool busy)
{
    struct instance *oldest = NULL;
    list_each (i, &wanted->all->list, struct instance, link) {
        bool may_go = in_scope(i, scope, wanted) && i->state == INSTANCE_RUNNING && !i->policy.pinned;
        if (may_go && (i->active > 0) == busy && i->waiting == 0 && (!oldest || i->last_used_ms < oldest->last_used_ms))
            oldest = i;
    }
    return oldest;
}

static bool all_pinned(struct instance *wanted, enum scope scope)
{
    list_each (i, &wanted->all->list, struct instance, link)
        if (in_scope(i, scope, wanted) && !i->policy.pinned)
            return false;
    return true;
}

static enum evict_answer refuse(const struct instance *wanted, enum scope scope, unsigned limit, const char *why,
                                struct err *err)
{
    static const char *const keys[] = {"cache.max_cached_models", "instances.group_limits",
                                       "instances.max_running_instances"};
    if (scope == SCOPE_MEMORY)
        err_set(err, ERR_INSUFFICIENT_MEMORY, "there is no memory left for '%s' (about %.1f GB)%s", wanted->name,
                (double)need_beside_gpus(wanted) / 1e9, why);
    else if (scope == SCOPE_GPU)
        err_set(err, ERR_INSUFFICIENT_MEMORY, "there is no memory left on %s for '%s' (about %.1f GB on GPUs)%s",
                wanted->all->gpus.devices[wanted->gpu_short].name, wanted->name, (double)wanted->gpu_need / 1e9, why);
    else
        err_set(err, ERR_CONFLICT, "'%s' cannot be started: %u of %u may run already (%s)%s", wanted->name, limit,
                limit, keys[scope], why);
    return EVICT_NEVER;
}

/* The scope is full: has somebody leave, or says why nobody will. */
static enum evict_answer make_room_in(struct instance *wanted, enum scope scope, const struct ledger *l, unsigned limit,
                                      enum evict_whom whom, struct err *err)
{
    if (l->leaving)
        return EVICT_WAIT; /* may be enough */
    if (whom == EVICT_NOBODY)
        return refuse(wanted, scope, limit, "; stop another one first", err);
    if (wanted->kind == KIND_NAMED && !wanted->all->conf->enable_lru_eviction)
        return refuse(wanted, scope, limit, ", and enable_lru_eviction is off", err);
    if (all_pinned(wanted, scope))
        return refuse(wanted, scope, limit, ", all of them pinned", err);
    struct instance *victim = least_recently_used(wanted, scope, false);
    bool waited = wanted->state == INSTANCE_QUEUED && clock_ms() - wanted->queued_ms >= LIMIT_YIELD_MS;
    if (victim) {
        instance_evict(victim, 0);
    } else if (waited && (victim = least_recently_used(wanted, scope, true))) {
        instance_evict(victim, LIMIT_GRACE_FOREVER);
    }
    return EVICT_WAIT;
}

/* May it do with less, because nobody idle can go for it? */
static bool is_content(struct instance *wanted, const struct ledger *l, enum evict_whom whom)
{
    bool may_evict = whom == EVICT_IDLE && (wanted->kind != KIND_NAMED || wanted->all->conf->enable_lru_eviction);
    return !wanted->gpu_asked && l->leaving == 0 && !(may_evict && least_recently_used(wanted, SCOPE_GPU, false));
}

static enum evict_answer room_on_gpus(struct instance *wanted, enum evict_whom whom, struct err *err)
{
    wanted->gpu_short = gpu_find_short(wanted);
    if (wanted->gpu_short >= 0) {
        struct ledger l = add_up(wanted->all, SCOPE_GPU, wanted);
        if (!is_content(wanted, &l, whom))
            return make_room_in(wanted, SCOPE_GPU, &l, 0, whom, err);
    }
    gpu_grant(wanted);
    return EVICT_ROOM;
}

enum evict_answer evict_make_room(struct instances *all, struct instance *wanted, enum evict_whom whom, struct err *err)
{
    for (enum scope scope = SCOPE_MODELS; scope < SCOPE_MEMORY; scope++) {
        unsigned limit = most(wanted, scope);
        if (limit == UINT_MAX)
            continue;
        struct ledger l = add_up(all, scope, wanted);
        if (l.count >= limit)
            return make_room_in(wanted, scope, &l, limit, whom, err);
    }
    enum evict_answer on_gpus = room_on_gpus(wanted, whom, err);
    if (on_gpus != EVICT_ROOM)
        return on_gpus;
    struct ledger l = add_up(all, SCOPE_MEMORY, wanted);
    uint64_t need = need_beside_gpus(wanted);
    if (!could_ever_fit(all, &l, need))
        return too_large(wanted, &l, err);
    if (fits(all, &l, need))
        return EVICT_ROOM;
    return make_room_in(wanted, SCOPE_MEMORY, &l, 0, whom, err);
}
