/* What the files of this folder share about an instance. Loop thread only. */
#ifndef INSTANCE_PRIVATE_H
#define INSTANCE_PRIVATE_H

#include "base/list.h"
#include "base/map.h"
#include "instance/backend.h"
#include "instance/child.h"
#include "instance/instance.h"
#include "instance/options.h"
#include "instance/output.h"

enum instance_state {
#define STATE(name, wire, model_wire) INSTANCE_##name,
#include "instance/fsm.def"
#undef STATE
};

enum instance_event {
#define EVENT(name) EVENT_##name,
#include "instance/fsm.def"
#undef EVENT
};

enum instance_kind {
    KIND_IMPLICIT, /* the worker of a model file */
    KIND_ATTACHED, /* somebody else's server for a model: no process, always RUNNING */
    KIND_NAMED,    /* made through the API; has options, a row in the store, a log */
    KIND_REMOTE    /* named, on other nodes: no process here; its state is what they say */
};

struct instance {
    struct list link;
    struct instances *all;
    enum instance_kind kind;
    char *name; /* of a named one; the model's id else */
    enum instance_state state;
    struct policy {
        bool auto_restart, on_demand, pinned;
        unsigned max_restarts, restart_delay_ms; /* UINT_MAX: no end */
        uint64_t idle_ms;                        /* 0: never */
        const char *group;                       /* "" or a string of the options */
    } policy;

    /* the process */
    struct child *child;
    bool preparing; /* a pool job looks at its files before there is a process */
    struct http_target target;
    struct probe *probe;
    int port; /* of the last start; 0: none */
    float progress;
    struct worker_load load;     /* of our own workers */
    struct worker_memory memory; /* of these, too; 0: not said yet */
    struct err problem;
    unsigned crashes, grace_ms;
    uint64_t memory_estimate, memory_at_stop; /* the estimate: all of it, on GPUs and off them */
    uint64_t gpu_need;                        /* of that, what would lie on GPUs */
    uint64_t gpu_granted[LIMIT_DEVICES];      /* at its admission, by place in gpus.devices */
    int gpu_short;                            /* place of the device that has no room for it; -1: none */
    bool gpu_asked;                           /* a number of layers was asked for: fewer will not do */
    uint64_t start_ms, ready_ms, failed_ms, queued_ms, last_used_ms;
    uint64_t trouble_ms; /* of the last failed start or crash */
    struct deadline start, idle, kill, pause;

    /* who waits and who uses it */
    struct list waiters;      /* struct waiter */
    struct list unload_calls; /* struct unload_call */
    unsigned waiting, active;
    int64_t last_used;
    struct instance_counters counters;

    /* KIND_IMPLICIT */
    char *path;                     /* of the model's file; a fake model's settings */
    char *projector;                /* of an implicit one that sees; else NULL */
    struct model_settings settings; /* of a load by hand */
    bool fake; /* general.architecture "fake": a model without weights, for tests of clients and of us */

    /* KIND_NAMED and KIND_REMOTE */
    int64_t id, created_at, updated_at;
    struct options options;     /* in force */
    json_t *newest;             /* the document last handed to the store, or NULL: what the next update merges into */
    bool wanted, going, buried; /* the store says it shall run; being deleted; deleted, with leases still out */
    struct change *deletion;    /* waits for it to stop, or NULL */
    struct output *output;
    json_t *warnings;       /* array of strings, or NULL */
    struct list placements; /* KIND_REMOTE: struct placement, one a node */
    struct router *router;  /* what a router said of its models, or NULL */
};

/* See gpu.h. */
struct gpus {
    struct device devices[LIMIT_DEVICES];
    uint64_t room[LIMIT_DEVICES]; /* free, and held by our workers, when it was last seen */
    unsigned count;
    bool asked;
};

struct instances {
    struct loop *loop;
    struct gpus gpus;
    const struct conf *conf;
    const char *program;
    struct store *store;
    struct http_client *client;
    struct list list; /* implicit and attached in order of first use, named ones in order of creation */
    struct map by_model, by_name;
    char socket_folder[84]; /* a socket name of up to 24 bytes must fit behind it */
    char owner[40];         /* "INFERD_OWNER=..." value: whose processes ours are, over restarts of the daemon */
    unsigned sockets, jobs; /* jobs: on the pool */
    int next_port;
    struct list watchers;  /* struct watcher */
    unsigned telling;      /* depth of watchers_tell */
    struct list nodes;     /* struct node */
    struct list creations; /* struct change: on their way to the store, see record.c */
    struct list refreshes; /* struct refresh, see router.c */
    struct map flags;      /* program -> struct known_flags, see flag_check.c */
    uint64_t generated;    /* tokens, by all our workers since the start */
    bool stopping;
    void (*on_stopped)(void *arg);
    void *on_stopped_arg;
};

/* instance.c */
void instance_fire(struct instance *i, enum instance_event event);
struct instance *instance_new(struct instances *all, enum instance_kind kind, struct str name);
void instance_free(struct instance *i); /* no process, no waiter, no lease */
/* The instance behind a model, with its policy and files as they are now unless it runs. */
struct instance *instance_of_model(struct instances *all, const struct model *model);
void instance_bury(struct instance *i); /* out of the set now, freed after its last lease */
bool instance_has_slot(const struct instance *i);
bool instance_needs_start(const struct instance *i);
/* Makes room and starts, or queues, or fails the waiters. */
void instance_try_start(struct instance *i);
void instance_evict(struct instance *i, unsigned grace_ms);
void instance_set_idle(struct instance *i);
void instances_look_at_queue(struct instances *all);
void instances_check_stopped(struct instances *all);

/* view.c */
const char *instance_state_name(enum instance_state state); /* in the instance API */

/* lease.c */
void waiters_settle(struct instance *i, const struct err *err); /* NULL: each gets a lease */

/* launch.c: prepares and starts the process of an instance that is STARTING; it fires what comes of it. */
void launch(struct instance *i);
void launch_drop(struct instance *i); /* the process is gone: releases what belonged to it */
void launch_tail(const struct instance *i, char *out, size_t size); /* last output as one line */

/* router.c */
void router_forget(struct instance *i); /* its process is gone */

/* watch.c */
void watchers_tell(struct instance *i);
void watchers_tell_of(struct instance *i, bool gone);

#endif
