/* Instances: processes that speak the OpenAI API on a socket, started when somebody needs them, stopped when nobody
 * does. Three kinds live in one set, under one life cycle (fsm.def), one admission (evict.c) and one lease:
 * - behind a model file: a worker of ours, made at the first request (implicit);
 * - named: made through the API, with options, a row in the store, a log of its own;
 * - named, on other nodes: we know its state and pass requests on (remote.c).
 * Everything here belongs to the loop thread. */
#ifndef INSTANCE_INSTANCE_H
#define INSTANCE_INSTANCE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/json_read.h"
#include "http/client.h"
#include "instance/child.h"
#include "instance/model.h"
#include "store/store.h"

struct instances;
struct instance;
struct lease;
struct output;

/* Blocking, at the start: reads the named instances from the store and ends what a daemon that was killed has left
 * running. program: the path of this very binary; it is started as "program worker ...". ERR_CONFIG when state_dir
 * cannot hold the workers' sockets. conf and store must outlive the instances. */
struct instances *instances_new(struct loop *loop, const struct conf *conf, const char *program, struct store *store,
                                struct err *err);

/* Starts what was running when the last daemon ended and what is to be preloaded. */
void instances_begin(struct instances *all);

/* Tells every child to end; on_stopped runs once all are gone. grace_ms later they are killed. What ran then is
 * started again by the next daemon. */
void instances_stop(struct instances *all, unsigned grace_ms, void (*on_stopped)(void *arg), void *arg);
void instances_free(struct instances *all); /* after on_stopped */

/* ---- leases ---- */

typedef void instance_on_lease(void *arg, struct lease *lease, const struct err *err);

/* The instance once it can take requests: on_lease runs exactly once, maybe at once, with a lease or an error
 * (ERR_MODEL_LOAD_FAILED, ERR_INSUFFICIENT_MEMORY, ERR_INSTANCE_NOT_RUNNING, ERR_CONFLICT...). While a lease is held
 * its instance is busy: never stopped for another. It ends with the arena, or by lease_end; when the arena dies
 * earlier, on_lease is not called. All callers of an instance that is being started wait for one and the same start. */
void instances_acquire(struct instances *all, const struct model *model, struct arena *arena,
                       instance_on_lease *on_lease, void *arg);
/* A named instance. start: whether a stopped one may be started for this (its on_demand_start has to allow it too);
 * else ERR_INSTANCE_NOT_RUNNING unless it is running. */
void instance_acquire(struct instance *i, bool start, struct arena *arena, instance_on_lease *on_lease, void *arg);
void lease_end(struct lease *lease);
/* Makes a folder with its parents; ERR_CONFIG when that cannot be. */
bool instance_make_folder(const char *path, struct err *err);
/* The client through which leased instances are reached. */
struct http_client *instances_client(struct instances *all);
const struct http_target *lease_target(const struct lease *lease);
/* Header lines that the backend's own key or the node asks for; "" when none. Valid as long as the lease. */
struct str lease_head_lines(const struct lease *lease);
void lease_first_byte(struct lease *lease); /* the reply has begun: for the counters */
void lease_status(struct lease *lease, int status);
/* The instance died or hung up under this lease: what to tell the client. */
void lease_explain(const struct lease *lease, const struct err *cause, struct err *ret_err);

/* ---- behind model files ---- */

/* What a load by hand may ask for; -1: as configured. They hold until the model is unloaded, or loaded anew. */
struct model_settings {
    int64_t gpu_layers, context_size, batch_size, threads; /* of the process */
    int64_t ttl_seconds, pin;                              /* of its life: may change while it runs */
};
#define MODEL_SETTINGS_INIT ((struct model_settings){-1, -1, -1, -1, -1, -1})

/* As instances_acquire, with settings. A process that runs, or is being started, with other ones is ERR_CONFLICT; force
 * gives it grace_ms for its running replies and starts a new one. */
void instances_load(struct instances *all, const struct model *model, const struct model_settings *settings, bool force,
                    unsigned grace_ms, struct arena *arena, instance_on_lease *on_lease, void *arg);

/* Changes the life of a process that is loaded or being loaded, as instances_load would; without one, or for a model
 * that somebody else serves, nothing. */
void instances_keep(struct instances *all, const struct model *model, const struct model_settings *life);

/* Unload: running requests get grace_ms (0: none). Not loaded: on_done at once. on_done may be NULL. */
void instances_unload(struct instances *all, struct str model_id, unsigned grace_ms,
                      void (*on_done)(void *arg, uint64_t freed_bytes), void *arg);

/* Times in seconds; buckets as in counters.def's comment: cumulative counts are made when they are printed. */
#define INSTANCE_BUCKETS 14
extern const double instance_bucket_bounds[INSTANCE_BUCKETS];
struct instance_histogram {
    uint64_t counts[INSTANCE_BUCKETS + 1];
    double sum;
    uint64_t count;
};
struct instance_counters {
    uint64_t requests, failures; /* leases given; of these, answered with 5xx or cut off */
    uint64_t starts, restarts, evictions, start_failures;
    struct instance_histogram first_byte, duration;
};

struct instance_status {
    const char *state;       /* wire name of the instance API */
    const char *model_state; /* of the model API */
    float progress;          /* 0..1 while loading */
    unsigned active, waiting;
    unsigned queue_position; /* 1: next; 0: not in the queue */
    uint64_t memory_bytes;   /* measured; 0 when there is no process */
    int64_t last_used;       /* unix seconds; 0: never */
    int64_t expires_ms;      /* unix milliseconds: when it goes if nobody asks for it; 0: never, or not loaded */
    double load_ms;          /* of the last start; 0: none yet */
    double eta_seconds;      /* until it is loaded, by its progress so far; < 0: nobody knows */
    int pid;                 /* 0: no process */
    int port;                /* 0: none, or a Unix socket */
    const struct instance_counters *counters;
    struct worker_load load;       /* of our own workers, as of some hundred milliseconds ago */
    struct worker_memory reserved; /* by our own workers; all 0 before they are ready */
    struct err problem;            /* of the last failed start or crash */
    uint64_t trouble_ms;           /* clock_ms() of the last of these, also when it has been well since; 0: never */
};

/* A GPU: free is as last seen, less what our workers have taken since; used is what they hold of it. */
struct gpu_status {
    struct device device;
    uint64_t used;
};
unsigned instances_gpus(const struct instances *all, struct gpu_status out[LIMIT_DEVICES]);

/* Sums over all running workers of ours; generated also counts those that have ended. */
void instances_load_now(struct instances *all, struct worker_load *ret_load);

/* Zeros and "stopped" for a model that never had an instance. */
void instances_status(struct instances *all, struct str model_id, struct instance_status *ret_status);

/* Ids of models that have a loaded instance, in arena, NULL-terminated. */
const char *const *instances_loaded(struct instances *all, struct arena *arena);

/* ---- named ones ---- */

struct instance *instances_find(struct instances *all, struct str name); /* or NULL; of named ones only */
struct instance *instances_find_id(struct instances *all, int64_t id);
/* All instances, named ones first by creation; NULL-terminated, in arena, valid until the loop's next turn. */
struct instance **instances_list(struct instances *all, bool implicit, struct arena *arena);

const char *instance_name(const struct instance *i);
int64_t instance_id(const struct instance *i); /* 0: not named */
bool instance_is_named(const struct instance *i);
void instance_status(const struct instance *i, struct instance_status *ret_status);
int64_t instance_created(const struct instance *i);
json_t *instance_options(const struct instance *i);        /* as the API shows them; a new document */
const json_t *instance_warnings(const struct instance *i); /* array or NULL */
/* The name its backend wants in "model" when a request names only the instance, or NULL: it does not care. */
const char *instance_served_model(const struct instance *i);
const char *instance_backend_type(const struct instance *i); /* "llama_cpp"...; "worker" for a model file's */
bool instance_is_router(const struct instance *i);           /* a llama_cpp without a model of its own */
struct output *instance_output(const struct instance *i);
bool instance_is_remote(const struct instance *i);

/* on_done comes once the store has it, not when the arena dies first (the change is made all the same). Creating starts
 * nothing. ERR_CONFLICT: the name or port is taken, or max_instances reached. body: as in the API. */
typedef void instance_on_done(void *arg, struct instance *i, const struct err *err);
void instances_create(struct instances *all, struct str name, const json_t *body, struct arena *arena,
                      instance_on_done *on_done, void *arg);
/* Merges patch into the options (RFC 7396). A running instance is restarted when what its process sees has changed. */
void instance_update(struct instance *i, const json_t *patch, struct arena *arena, instance_on_done *on_done,
                     void *arg);
/* Stops it (running replies first, at most the grace), then forgets it. on_done gets no instance. */
void instance_delete(struct instance *i, struct arena *arena, instance_on_done *on_done, void *arg);

/* By hand. They return once the state is the transient one; on_done after the store has what is wanted.
 * Start: ERR_CONFLICT at a limit (a start by hand never evicts), ERR_START_FAILED when it could not even be tried. */
void instance_start(struct instance *i, struct arena *arena, instance_on_done *on_done, void *arg);
void instance_stop(struct instance *i, struct arena *arena, instance_on_done *on_done, void *arg);
void instance_restart(struct instance *i, struct arena *arena, instance_on_done *on_done, void *arg);

/* Calls on_change after every change of any instance's state, until the arena dies. gone: it was deleted. */
void instances_watch(struct instances *all, struct arena *arena,
                     void (*on_change)(void *arg, struct instance *i, bool gone), void *arg);

#endif
