/* The GPUs that llama.cpp knows of on this machine, in its order: dedicated ones, or, where there are none, those that
 * share the machine's memory. The first call asks the drivers (tens of milliseconds); any thread. */
#ifndef WORKER_DEVICES_H
#define WORKER_DEVICES_H

#include "base/device.h"
#include "base/err.h"

/* For programs without a log: what drivers and engine have to say is passed over. */
void devices_quiet(void);

unsigned devices_list(struct device out[LIMIT_DEVICES]);

/* Those of names ("Vulkan0,1": names or places in the list, with commas; "": all). false: ERR_GPU_UNAVAILABLE, naming
 * what is not there and what is. */
bool devices_choose(const char *names, struct device out[LIMIT_DEVICES], unsigned *ret_count, struct err *err);

#endif
