/* Room on GPUs: the arithmetic of the ledger. Arrays have a number a device, bytes. Pure; any thread. */
#ifndef INSTANCE_GPU_ROOM_H
#define INSTANCE_GPU_ROOM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

struct gpu_room {
    unsigned count;
    uint64_t limits[LIMIT_DEVICES]; /* what our workers may hold together */
    uint64_t held[LIMIT_DEVICES];   /* what they hold, or are about to take */
};

/* What a need of bytes would like of each device: dealt by their limits, as workers do it, and no more than those. */
void gpu_room_spread(const struct gpu_room *room, uint64_t bytes, uint64_t *ret_wanted);

/* The first device that has not enough left for it; -1: all have. */
int gpu_room_short(const struct gpu_room *room, const uint64_t *wanted);

/* As much of wanted as is left. */
void gpu_room_grant(const struct gpu_room *room, const uint64_t *wanted, uint64_t *ret_granted);

#endif
