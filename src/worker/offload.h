/* How many of a model's layers go to GPUs: the arithmetic. Layers are counted from the output, which is the first and
 * counts as one; bytes. Pure; any thread. */
#ifndef WORKER_OFFLOAD_H
#define WORKER_OFFLOAD_H

#include <stdbool.h>

#include "base/device.h"

/* The most layers, 0..all, that fit, when fewer always fit if more do. All are tried first. */
unsigned offload_most(unsigned all, bool (*fits)(void *arg, unsigned layers), void *arg);

/* How the engine deals layers to devices by their weights (any scale): as many as each one's part of the sum, in their
 * order. */
void offload_deal(const float *weights, unsigned count, unsigned layers, unsigned *ret_layers);

#endif
