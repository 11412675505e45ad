/* How a worker process is started. */
#ifndef INSTANCE_COMMAND_H
#define INSTANCE_COMMAND_H

#include <stdint.h>

#include "base/arena.h"

struct instance;
struct conf_model;

/* The worker's argv, ended by NULL, in the arena; instance->target names the socket it is to open. */
const char *const *command_of_worker(const struct instance *i, struct arena *arena);

/* Layers that it may put on GPUs: -1: as many as fit. m: the model's table, or NULL. */
int64_t command_gpu_layers(const struct instance *i, const struct conf_model *m);

#endif
