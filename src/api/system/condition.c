#include "api/system/condition.h"

#include "base/limits.h"

bool condition_recent(uint64_t ago_ms)
{
    return ago_ms < LIMIT_HEALTH_RECENT_MS;
}

bool condition_disk_low(uint64_t free_bytes)
{
    return free_bytes < LIMIT_HEALTH_DISK;
}

enum condition condition_of(const struct condition_facts *f)
{
    if (f->store_lost || f->folder_lost)
        return UNHEALTHY;
    if (f->draining)
        return DRAINING;
    if (condition_recent(f->store_failed) || condition_recent(f->model_trouble) || condition_disk_low(f->disk_free))
        return DEGRADED;
    return HEALTHY;
}

const char *condition_name(enum condition condition)
{
    static const char *const names[] = {"healthy", "degraded", "draining", "unhealthy"};
    return names[condition];
}
