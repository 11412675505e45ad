/* A child process of ours, distrusted: its output is kept in a bounded ring and passed on to our own log, it says that
 * it is ready over a descriptor of its own (number CHILD_NOTIFY_FD there), and its end is reported once, after its last
 * output was read. Loop thread only.
 *
 * What the child writes to CHILD_NOTIFY_FD, one line each: "progress 0.42", "ready", "error CODE MESSAGE". */
#ifndef INSTANCE_CHILD_H
#define INSTANCE_CHILD_H

#include "base/buf.h"
#include "base/err.h"
#include "loop/loop.h"

#define CHILD_NOTIFY_FD 3

struct child;

struct child_events {
    void (*on_progress)(void *arg, float fraction);
    void (*on_ready)(void *arg);
    void (*on_error)(void *arg, const struct err *err);     /* the child's own words; its end follows */
    void (*on_exit)(void *arg, int64_t status, int signal); /* the last event; free the child here or later */
};

/* argv is NULL-terminated, argv[0] the program's path. The child gets a session of its own, so that a terminal's Ctrl-C
 * reaches only us. name prefixes nothing: output is passed on as it comes. NULL and *err (ERR_IO) on failure. */
struct child *child_new(struct loop *loop, const char *const *argv, const struct child_events *events, void *arg,
                        struct err *err);

/* Ends the child at once when it still runs (no event follows), and releases it in a later turn of the loop. NULL is
 * fine. */
void child_free(struct child *child);

void child_signal(struct child *child, int signal); /* to its whole process group; nothing when it is gone */
int child_pid(const struct child *child);
struct str child_output(const struct child *child); /* the last LIMIT_LOG_RING bytes, from a line's start */

/* Resident bytes of the process now; 0 when unknown. */
uint64_t child_memory(const struct child *child);

#endif
