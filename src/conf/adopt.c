#include "conf/adopt.h"

#include <string.h>

/* Read where they are used, each time: nothing keeps a copy. "table." alone is all of a table. What decides who may
 * call is not here: a mistake in a file must not open a server that runs. */
static const char *const live_keys[] = {"log_level",
                                        "models_dir",
                                        "import_dirs",
                                        "server.tls_cert",
                                        "server.tls_key",
                                        "server.queue_size",
                                        "server.queue_timeout_seconds",
                                        "server.request_timeout_seconds",
                                        "server.shutdown_grace_seconds",
                                        "server.trusted_proxies",
                                        "backend_config.",
                                        "inference.",
                                        "cache.",
                                        "instances.max_instances",
                                        "instances.max_running_instances",
                                        "instances.group_limits",
                                        "instances.enable_lru_eviction",
                                        "instances.default_",
                                        "instances.on_demand_start_timeout",
                                        "instances.start_timeout",
                                        "instances.stop_timeout",
                                        "websocket.max_",
                                        "websocket.auth_timeout_seconds",
                                        "security.rate_limit",
                                        "security.burst_limit",
                                        "security.tokens_per_minute",
                                        "security.concurrent_requests",
                                        "security.token_expiry_hours",
                                        "security.max_key_days",
                                        "security.audit_log"};

static bool is_live(const struct conf_option *o)
{
    char name[96];
    snprintf(name, sizeof name, "%s%s%s", o->table, *o->table ? "." : "", o->key);
    for (size_t i = 0; i < sizeof live_keys / sizeof *live_keys; i++) {
        size_t n = strlen(live_keys[i]);
        bool prefix = live_keys[i][n - 1] == '.' || live_keys[i][n - 1] == '_';
        if (strncmp(name, live_keys[i], n) == 0 && (prefix || name[n] == '\0'))
            return true;
    }
    return false;
}

static bool same_list(const char *const *a, const char *const *b)
{
    for (; *a && *b; a++, b++)
        if (strcmp(*a, *b) != 0)
            return false;
    return !*a && !*b;
}

/* The size of a kind's value, and whether two are the same. */
static size_t compare(enum conf_kind kind, const void *a, const void *b, bool *ret_same)
{
    size_t size = 0;
    switch (kind) {
    case CONF_TEXT:
    case CONF_PATH:
    case CONF_SECRET:
        *ret_same = strcmp(*(const char *const *)a, *(const char *const *)b) == 0;
        return sizeof(const char *);
    case CONF_LIST:
    case CONF_MAP:
    case CONF_SECRETS:
        *ret_same = same_list(*(const char *const *const *)a, *(const char *const *const *)b);
        return sizeof(const char *const *);
    case CONF_INT:
    case CONF_AUTO: size = sizeof(int64_t); break;
    case CONF_NUMBER: size = sizeof(double); break;
    case CONF_BOOL: size = sizeof(bool); break;
    case CONF_CHOICE:
    case CONF_SWITCH: size = sizeof(int); break;
    case CONF_RANGE: size = sizeof(struct conf_range); break;
    }
    *ret_same = memcmp(a, b, size) == 0;
    return size;
}

static bool same_record(const struct conf_option *rows, const void *a, const void *b)
{
    bool same = true;
    for (const struct conf_option *o = rows; o->key && same; o++)
        compare(o->kind, (const char *)a + o->offset, (const char *)b + o->offset, &same);
    return same;
}

static size_t adopt_models(struct conf *live, const struct conf *fresh,
                           void (*on_change)(void *arg, const struct conf_change *), void *arg)
{
    size_t changes = 0;
    for (const struct conf_model *m = fresh->models; m; m = m->next) {
        const struct conf_model *old = conf_model_find(live, str_from(m->name));
        if (old && same_record(conf_model_options, old, m))
            continue;
        changes++;
        on_change(arg, &(struct conf_change){"models", m->name, true});
    }
    for (const struct conf_model *m = live->models; m; m = m->next) {
        if (conf_model_find(fresh, str_from(m->name)))
            continue;
        changes++;
        on_change(arg, &(struct conf_change){"models", m->name, true});
    }
    if (changes)
        live->models = fresh->models;
    return changes;
}

size_t conf_adopt(struct conf *live, const struct conf *fresh, void (*on_change)(void *arg, const struct conf_change *),
                  void *arg)
{
    size_t applied = 0;
    for (const struct conf_option *o = conf_options; o->key; o++) {
        void *mine = (char *)live + o->offset;
        const void *theirs = (const char *)fresh + o->offset;
        bool same = true, may = is_live(o);
        size_t size = compare(o->kind, mine, theirs, &same);
        if (same)
            continue;
        if (may)
            memcpy(mine, theirs, size);
        applied += may;
        on_change(arg, &(struct conf_change){o->table, o->key, may});
    }
    return applied + adopt_models(live, fresh, on_change, arg);
}
