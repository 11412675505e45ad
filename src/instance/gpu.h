/* The GPUs of this machine and who holds how much of them. The gateway opens none itself: a driver's context takes
 * memory of the device and threads of ours, and a fault in a driver must end a worker, never the gateway. A worker
 * program is asked once at the start what there is; from then on each worker says, when it is ready, what it has taken
 * and what it saw free. Loop thread only. */
#ifndef INSTANCE_GPU_H
#define INSTANCE_GPU_H

#include "instance/gpu_room.h"
#include "instance/instance.h"
#include "registry/fit.h"

/* Asks once, when this program was built with a backend for GPUs and the configuration lets it; the answer comes later,
 * and until then there are none. */
void gpus_ask(struct instances *all);

/* A worker is ready: what it took of a device is in its memory already, this is what it saw. */
void gpus_seen(struct instances *all, const struct worker_device *seen);

/* Those that the configuration lets workers use. held: by all but one instance (NULL: by all); starts count with what
 * they were granted. ret_places[n]: the n-th one's place among all. */
void gpus_room(const struct instances *all, const struct instance *but, struct gpu_room *ret_room,
               unsigned *ret_places);

/* What an instance holds of the device, or was granted. */
uint64_t gpu_held_by(const struct instance *i, unsigned place);

/* Of its memory_estimate, what does not lie in this machine's memory. */
uint64_t gpu_relief(const struct instance *i);

/* Sets what the instance would like to have of GPUs, before it is admitted: from a prediction of all its layers, or of
 * as many as were asked for. */
void gpu_wish(struct instance *i, const struct gguf *gguf, const struct fit *fit, int64_t layers);

/* The place of a device that has less left than is wished for; -1: none. */
int gpu_find_short(const struct instance *i);

/* Gives it what is left of what it would like; the ledger holds that for it until its worker says what it has taken. */
void gpu_grant(struct instance *i);

/* For a worker's command line: the most it may take of each, as "MIB,MIB"; NULL: what it finds free. A cap is
 * configured, or others are starting, who have not taken yet what they will. */
const char *gpu_caps(const struct instance *i, struct arena *arena);

#endif
