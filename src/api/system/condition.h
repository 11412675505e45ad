/* Whether the server is well: the rules, over what was found (ARCHITECTURE.md, Health). Pure. */
#ifndef API_SYSTEM_CONDITION_H
#define API_SYSTEM_CONDITION_H

#include <stdbool.h>
#include <stdint.h>

enum condition { HEALTHY, DEGRADED, DRAINING, UNHEALTHY };

#define CONDITION_NEVER UINT64_MAX

struct condition_facts {
    bool draining;
    bool store_lost;        /* the database answers with failures, or not at all */
    bool folder_lost;       /* state_dir is gone or cannot be written */
    uint64_t store_failed;  /* ms since a change could not be stored; or CONDITION_NEVER */
    uint64_t model_trouble; /* ms since a model crashed or could not be loaded; or CONDITION_NEVER */
    uint64_t disk_free;     /* bytes that state_dir may grow by; UINT64_MAX: not known */
};

/* The worst that holds. */
enum condition condition_of(const struct condition_facts *facts);
const char *condition_name(enum condition condition);

/* Parts of the rule, so that they can be told one by one. */
bool condition_recent(uint64_t ago_ms);
bool condition_disk_low(uint64_t free_bytes);

#endif
