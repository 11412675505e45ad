/* What a supervised worker tells its parent over a descriptor of its own, one line each (see instance/child.h):
 * "progress 0.42", "memory WEIGHTS KV COMPUTE" (bytes), "device NAME TOTAL FREE WEIGHTS KV COMPUTE LAYERS", "ready",
 * "error CODE MESSAGE", "load QUEUED RUNNING SEQUENCES CELLS_USED CELLS GENERATED STEPS". Each is one write, so any
 * thread may call. fd -1: nobody listens. */
#ifndef WORKER_NOTIFY_H
#define WORKER_NOTIFY_H

#include "base/err.h"
#include "worker/sched.h"

void notify_progress(int fd, float fraction);
void notify_memory(int fd, const struct engine_info *info); /* before ready; of each device, too */
void notify_ready(int fd);
void notify_load(int fd, const struct sched_stats *stats); /* how busy it is, some times a second while that changes */
void notify_error(int fd, const struct err *err);

#endif
