/* Which tensor types this CPU multiplies fast: llama.cpp lays them out anew at load (ggml-cpu/repack.cpp, amx/), the
 * others take its general way. Pure but for a look at the CPU; any thread. */
#ifndef REGISTRY_KERNEL_H
#define REGISTRY_KERNEL_H

#include "registry/gguf.h"

/* type is a name as gguf_tensor_type's. False also on CPUs that this file does not know. */
bool kernel_is_fast(const char *type);

/* What can be said about the file's weights: the type that most of them have; whether it has no fast kernel
 * here while another of about that size has; that one, or NULL. */
struct kernel_advice {
    const char *type; /* "" when there are no matrices */
    bool slow;
    const char *better;
    double prompt_gain, decode_gain; /* factors that were measured for this pair; 0: nobody has */
};
void kernel_advise(const struct gguf *gguf, struct kernel_advice *ret_advice);

#endif
