#include "worker/memory_shim.h"

#include <llama-ext.h>

void memory_shim_measure(const struct llama_context *context, struct memory_shim *ret_memory)
{
    *ret_memory = {};
    for (const auto &[type, bytes] : llama_get_memory_breakdown(context)) {
        ret_memory->weights += bytes.model;
        ret_memory->kv += bytes.context;
        ret_memory->compute += bytes.compute;
    }
}
