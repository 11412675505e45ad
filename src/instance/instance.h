/* Instances: one worker process a model, started when somebody needs it, stopped when nobody does. The life cycle is
 * the table in fsm.def. Everything here belongs to the loop thread. */
#ifndef INSTANCE_INSTANCE_H
#define INSTANCE_INSTANCE_H

#include "base/arena.h"
#include "base/err.h"
#include "http/client.h"
#include "instance/model.h"

struct instances;
struct instance;
struct lease;

/* program: the path of this very binary; it is started as "program worker ...". ERR_CONFIG when state_dir cannot hold
 * the workers' sockets. conf must outlive the instances. */
struct instances *instances_new(struct loop *loop, const struct conf *conf, const char *program, struct err *err);

/* Tells every child to end; on_stopped runs once all are gone. grace_ms later they are killed. */
void instances_stop(struct instances *all, unsigned grace_ms, void (*on_stopped)(void *arg), void *arg);
void instances_free(struct instances *all); /* after on_stopped */

/* The model's instance once it can take requests: on_lease runs exactly once, maybe at once, with a lease or an error
 * (ERR_MODEL_LOAD_FAILED, ERR_INSUFFICIENT_MEMORY, ERR_SERVER_OVERLOADED...). While a lease is held its instance is
 * busy: never unloaded for another. It ends with the arena, or by lease_end; when the arena dies earlier, on_lease is
 * not called. All callers of a model that is being loaded wait for one and the same load. */
void instances_acquire(struct instances *all, const struct model *model, struct arena *arena,
                       void (*on_lease)(void *arg, struct lease *lease, const struct err *err), void *arg);
void lease_end(struct lease *lease);
/* The client through which leased instances are reached. */
struct http_client *instances_client(struct instances *all);
const struct http_target *lease_target(const struct lease *lease);
/* The instance died or hung up under this lease: what to tell the client. */
void lease_explain(const struct lease *lease, const struct err *cause, struct err *ret_err);

/* Unload: running requests get grace_ms (0: none). Not loaded: on_done at once. on_done may be NULL. */
void instances_unload(struct instances *all, struct str model_id, unsigned grace_ms,
                      void (*on_done)(void *arg, uint64_t freed_bytes), void *arg);

struct instance_status {
    const char *state; /* wire name from fsm.def */
    float progress;    /* 0..1 while loading */
    unsigned active, waiting;
    uint64_t memory_bytes; /* measured; 0 when there is no process */
    int64_t last_used;     /* unix seconds; 0: never */
    uint64_t requests;
    double latency_ms_sum; /* over requests */
    double load_ms;        /* of the last load; 0: none yet */
    int pid;               /* 0: no process */
    struct err problem;    /* of the last failed load */
};

/* Zeros and "unloaded" for a model that never had an instance. */
void instances_status(struct instances *all, struct str model_id, struct instance_status *ret_status);

/* Ids of models that have a loaded instance, in arena, NULL-terminated. */
const char *const *instances_loaded(struct instances *all, struct arena *arena);

#endif
