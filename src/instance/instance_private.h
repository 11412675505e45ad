/* What instance.c and evict.c share. */
#ifndef INSTANCE_PRIVATE_H
#define INSTANCE_PRIVATE_H

#include "base/list.h"
#include "base/map.h"
#include "instance/instance.h"

enum instance_state {
#define STATE(name, wire) INSTANCE_##name,
#include "instance/fsm.def"
#undef STATE
};

struct instance {
    struct list link;
    struct instances *all;
    char *id;
    char *path;    /* of the model's file; a fake model's settings */
    bool attached; /* somebody else's server: there is never a child, and it is always LOADED */
    bool fake;     /* general.architecture "fake": a model without weights, for tests of clients and of us */
    enum instance_state state;
    struct child *child;
    struct http_target target;
    struct list waiters;      /* struct waiter */
    struct list unload_calls; /* struct unload_call */
    unsigned waiting, active;
    bool pinned;
    float progress;
    struct err problem;
    int exit_signal;
    unsigned crashes, grace_ms;
    uint64_t memory_estimate, memory_at_stop;
    uint64_t load_started_ms, loaded_ms, failed_ms, last_used_ms;
    int64_t last_used;
    uint64_t requests;
    double latency_ms_sum, load_ms;
    struct deadline start, idle, kill, pause;
};

struct instances {
    struct loop *loop;
    const struct conf *conf;
    const char *program;
    struct http_client *client;
    struct list list; /* in order of first use */
    struct map by_id;
    char socket_folder[84]; /* a socket name of up to 24 bytes must fit behind it */
    unsigned sockets;
    bool stopping;
    void (*on_stopped)(void *arg);
    void *on_stopped_arg;
};

/* Unloads an idle instance now. */
void instances_evict(struct instance *i);

#endif
