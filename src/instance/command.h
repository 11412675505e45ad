/* How a worker process is started. */
#ifndef INSTANCE_COMMAND_H
#define INSTANCE_COMMAND_H

#include "base/arena.h"

struct instance;

/* The worker's argv, ended by NULL, in the arena; instance->target names the socket it is to open. */
const char *const *command_of_worker(const struct instance *i, struct arena *arena);

#endif
