/* A child process of ours, distrusted: its output is kept in a bounded ring and passed on to our own log, it says that
 * it is ready over a descriptor of its own (number CHILD_NOTIFY_FD there), and its end is reported once, after its last
 * output was read. Loop thread only.
 *
 * What the child writes to CHILD_NOTIFY_FD, one line each: "progress 0.42", "memory WEIGHTS KV COMPUTE", of each GPU
 * "device NAME TOTAL FREE WEIGHTS KV COMPUTE LAYERS", "ready", "error CODE MESSAGE", and while it runs how busy it is:
 * "load QUEUED RUNNING SEQUENCES CELLS_USED CELLS GENERATED STEPS". */
#ifndef INSTANCE_CHILD_H
#define INSTANCE_CHILD_H

#include "base/buf.h"
#include "base/device.h"
#include "base/err.h"
#include "loop/loop.h"

#define CHILD_NOTIFY_FD 3

struct child;

/* A worker's own counters, as of its last word. */
struct worker_load {
    bool known;
    unsigned queued, running, sequences; /* prompts that wait, sequences at work, sequences there are */
    unsigned cells_used, cells;          /* of the KV cache */
    uint64_t generated, steps;           /* tokens and decode steps since its start */
};

/* Of that, what lies on a GPU; total and free are the whole device's, as it saw them then. */
struct worker_device {
    char name[DEVICE_NAME];
    uint64_t total, free, weights, kv, compute;
    unsigned layers;
};

/* What a worker has reserved, bytes, on GPUs and off them; said once, before it is ready. */
struct worker_memory {
    uint64_t weights, kv, compute;
    struct worker_device devices[LIMIT_DEVICES];
    unsigned device_count;
};

struct child_events {
    void (*on_progress)(void *arg, float fraction);
    void (*on_memory)(void *arg, const struct worker_memory *memory);
    void (*on_device)(void *arg, const struct worker_device *device); /* after on_memory */
    void (*on_ready)(void *arg);
    void (*on_load)(void *arg, const struct worker_load *load);
    void (*on_error)(void *arg, const struct err *err); /* the child's own words; its end follows */
    /* Its output, as it comes; false: no more until child_read_on. NULL: passed on to our own stderr. */
    bool (*on_output)(void *arg, struct str bytes);
    void (*on_exit)(void *arg, int64_t status, int signal); /* the last event; free the child here or later */
};

struct child_options {
    const char *const *argv;        /* NULL-terminated; argv[0] is the program's path */
    const char *const *environment; /* "NAME=value" over our own, NULL-terminated; or NULL */
    const char *cwd;                /* or NULL: ours */
    bool notify;                    /* one of ours: it gets CHILD_NOTIFY_FD */
};

/* The child gets a session and process group of its own, so that a terminal's Ctrl-C reaches only us and that whatever
 * it leaves behind in its group is killed when it ends. NULL and *err (ERR_START_FAILED) on failure. */
struct child *child_new(struct loop *loop, const struct child_options *options, const struct child_events *events,
                        void *arg, struct err *err);

/* Ends the child at once when it still runs (no event follows), and releases it in a later turn of the loop. NULL is
 * fine. */
void child_free(struct child *child);

void child_signal(struct child *child, int signal); /* to its whole process group; nothing when it is gone */
void child_read_on(struct child *child);
int child_pid(const struct child *child);
struct str child_output(const struct child *child); /* the last LIMIT_LOG_RING bytes, from a line's start */

/* Resident bytes of the process now; 0 when unknown. */
uint64_t child_memory(const struct child *child);

#endif
