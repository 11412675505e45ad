#include "worker/memory_shim.h"

#include <llama-ext.h>
#include <mtmd.h>

static void add(struct memory_shim *memory, const llama_memory_breakdown_data &bytes)
{
    memory->weights += bytes.model;
    memory->kv += bytes.context;
    memory->compute += bytes.compute;
}

void memory_shim_measure(const struct llama_context *context, struct memory_shim *ret_memory)
{
    *ret_memory = {};
    for (const auto &[type, bytes] : llama_get_memory_breakdown(context))
        add(ret_memory, bytes);
}

/* A device's driver also hands out pinned memory of the host. */
void memory_shim_measure_on(const struct llama_context *context, const struct ggml_backend_device *device,
                            struct memory_shim *ret_memory)
{
    *ret_memory = {};
    for (const auto &[type, bytes] : llama_get_memory_breakdown(context))
        if (!ggml_backend_buft_is_host(type) && ggml_backend_buft_get_device(type) == device)
            add(ret_memory, bytes);
}

uint64_t memory_shim_projector(const char *path, struct ggml_backend_device *device)
{
    mtmd_context_params params = mtmd_context_params_default();
    params.use_gpu = true;
    params.device = device;
    params.warmup = false;
    params.print_timings = false;
    const auto usage = mtmd_get_memory_usage(path, params);
    const auto found = usage.find(device);
    return found == usage.end() ? 0 : found->second;
}
