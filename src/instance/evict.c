/* The ledger: a model that is being loaded counts with its estimate, a loaded one with the larger of estimate and what
 * its process measures. What must go is only started here; the caller asks again when a process is gone. */
#include "instance/evict.h"

#include "instance/child.h"
#include "instance/instance_private.h"

struct ledger {
    unsigned count;        /* instances with a process */
    unsigned leaving;      /* of these, being unloaded */
    uint64_t reserved;     /* bytes of those that stay */
    uint64_t not_resident; /* of these, bytes that loads will still take */
    uint64_t evictable;    /* bytes of idle ones */
};

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

static uint64_t bytes_of(const struct instance *i)
{
    uint64_t measured = child_memory(i->child);
    return measured > i->memory_estimate ? measured : i->memory_estimate;
}

static bool idle(const struct instance *i)
{
    return i->child && i->state == INSTANCE_LOADED && i->active == 0 && !i->pinned;
}

static struct ledger add_up(struct instances *all)
{
    struct ledger l = {0};
    list_each (i, &all->list, struct instance, link) {
        if (!i->child)
            continue;
        l.count++;
        if (i->state == INSTANCE_UNLOADING) {
            l.leaving++;
            continue;
        }
        uint64_t bytes = bytes_of(i), measured = child_memory(i->child);
        l.reserved += bytes;
        if (i->state == INSTANCE_LOADING && bytes > measured)
            l.not_resident += bytes - measured;
        if (idle(i))
            l.evictable += bytes;
    }
    return l;
}

static struct instance *least_recently_used(struct instances *all)
{
    struct instance *oldest = NULL;
    list_each (i, &all->list, struct instance, link)
        if (idle(i) && (!oldest || i->last_used_ms < oldest->last_used_ms))
            oldest = i;
    return oldest;
}

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

enum evict_answer evict_make_room(struct instances *all, struct instance *wanted, struct err *err)
{
    struct ledger l = add_up(all);
    uint64_t bytes = wanted->memory_estimate;
    if (!could_ever_fit(all, &l, bytes)) {
        err_set(
            err, ERR_INSUFFICIENT_MEMORY,
            "the model '%s' needs about %.1f GB, more than the %.1f GB this machine can give; use a smaller model or "
            "quantization, or a smaller context_size",
            wanted->id, (double)bytes / 1e9,
            (double)least_known(budget(all), evict_memory_available() + l.reserved) / 1e9);
        return EVICT_NEVER;
    }
    if (l.count < all->conf->max_cached_models && fits(all, &l, bytes))
        return EVICT_ROOM;
    /* Those already leaving may be enough. */
    struct instance *victim = l.leaving ? NULL : least_recently_used(all);
    if (victim)
        instances_evict(victim);
    return EVICT_WAIT;
}
