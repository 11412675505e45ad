/* What llama.cpp has reserved, by its own account. The call is C++ and not among its stable ones, so it is made in one
 * file. For engine_llama*.c; decode thread, or before there is one. */
#ifndef WORKER_MEMORY_SHIM_H
#define WORKER_MEMORY_SHIM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct llama_context;
struct ggml_backend_device;

/* Bytes, all devices together. weights: mapped ones, and those that were laid out anew, which may be in both. */
struct memory_shim {
    uint64_t weights, kv, compute; /* kv: recurrent states, too */
};

void memory_shim_measure(const struct llama_context *context, struct memory_shim *ret_memory);

/* Of these, what lies in the device's own memory. */
void memory_shim_measure_on(const struct llama_context *context, const struct ggml_backend_device *device,
                            struct memory_shim *ret_memory);

/* What a projector's file would take of the device, with the buffers for its largest image; 0: the library cannot say.
 * Nothing is allocated there. */
uint64_t memory_shim_projector(const char *path, struct ggml_backend_device *device);

#ifdef __cplusplus
}
#endif

#endif
