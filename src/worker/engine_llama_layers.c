/* Which layers go to which GPU. llama.cpp itself says what a load would take where: the model is opened without memory
 * (a sketch, which costs reading the header and the vocabulary), its buffers are measured device by device, and the
 * most layers whose buffers fit what is free are taken. Nothing is estimated, so what was found to fit does fit, unless
 * somebody else takes the memory meanwhile; a reserve is kept for that (base/device.c). The whole model is tried first,
 * and mostly that is the only sketch.
 *
 * Layers are dealt to several devices by what may be used of each. */
#include "obs/log.h"
#include "worker/engine_llama_private.h"
#include "worker/memory_shim.h"
#include "worker/offload.h"

struct trial {
    const struct engine_config *config;
    struct placement *placement;
    struct err *err;
    bool failed; /* the model cannot even be sketched: *err */
};

/* placement then says what so many layers take; the same question again costs nothing. */
static bool sketch(struct trial *t, unsigned layers)
{
    struct placement *p = t->placement;
    if (p->all > 0 && p->layers == layers)
        return !t->failed;
    p->layers = layers;
    t->failed = t->failed || !llama_engine_sketch(t->config, p, t->err);
    if (p->layers > p->all)
        p->layers = p->all;
    return !t->failed;
}

static bool fits(void *arg, unsigned layers)
{
    struct trial *t = arg;
    const struct placement *p = t->placement;
    if (!sketch(t, layers))
        return false;
    for (unsigned d = 0; d < p->count; d++)
        if (device_used(&p->uses[d]) > p->usable[d])
            return false;
    return true;
}

static bool too_large(const struct placement *p, struct err *err)
{
    unsigned d = 0;
    while (d + 1 < p->count && device_used(&p->uses[d]) <= p->usable[d])
        d++;
    return err_set(
        err, ERR_INSUFFICIENT_MEMORY,
        "%u layers need %.2f GB of %s, of which %.2f GB may be used (%.2f GB free of %.2f GB); ask for fewer "
        "gpu_layers, or \"auto\"",
        p->layers, (double)device_used(&p->uses[d]) / 1e9, p->uses[d].device.name, (double)p->usable[d] / 1e9,
        (double)p->uses[d].device.free / 1e9, (double)p->uses[d].device.total / 1e9);
}

/* The projector lies beside the model, on the first device if there is room. */
static void keep_room(const struct engine_config *c, struct placement *p)
{
    uint64_t bytes = memory_shim_projector(c->projector, p->devices[0]);
    if (bytes == 0 || bytes >= p->usable[0])
        return;
    p->projector = bytes;
    p->usable[0] -= bytes;
    p->split[0] = (float)p->usable[0];
}

/* The devices with memory to use, and how much; false: none was found though one was asked for. */
static bool take_devices(const struct engine_config *c, struct placement *p, struct err *err)
{
    struct device found[LIMIT_DEVICES];
    unsigned count = 0;
    if (!devices_choose(c->gpu_device ? c->gpu_device : "", found, &count, err))
        return false;
    for (unsigned d = 0; d < count; d++) {
        uint64_t cap = (uint64_t)c->gpu_memory_mb[d] << 20, usable = device_usable(&found[d], cap);
        if (usable == 0)
            continue;
        p->uses[p->count].device = found[d];
        p->usable[p->count] = usable;
        p->split[p->count] = (float)usable;
        p->devices[p->count++] = ggml_backend_dev_by_name(found[d].name);
    }
    if (p->count > 0 && c->projector)
        keep_room(c, p);
    if (count == 0 && (c->gpu_layers > 0 || c->gpu_required))
        return err_set(err, ERR_GPU_UNAVAILABLE, "a GPU was asked for, and the engine finds none (backends: %s)",
                       build_backends());
    if (p->count == 0 && count > 0)
        log_info("no layer goes to a GPU", "reason=no memory is free there devices=%u", count);
    return true;
}

/* As many as were asked for, or as fit. */
static bool choose_layers(struct trial *t)
{
    struct placement *p = t->placement;
    int wanted = t->config->gpu_layers;
    if (!sketch(t,
                wanted < 0 || wanted > ALL_LAYERS ? ALL_LAYERS : (unsigned)wanted)) /* says how many there are, too */
        return false;
    if (wanted > 0)
        return fits(t, p->layers) || too_large(p, t->err);
    unsigned layers = offload_most(p->all, fits, t);
    return sketch(t, layers); /* the last one tried may have been too many */
}

bool llama_engine_layers(const struct engine_config *config, struct placement *p, struct err *err)
{
    struct trial trial = {.config = config, .placement = p, .err = err};
    *p = (struct placement){0};
    if (config->gpu_layers == 0)
        return true;
    if (!take_devices(config, p, err))
        return false;
    if (p->count == 0 && config->gpu_layers > 0)
        return err_set(err, ERR_INSUFFICIENT_MEMORY, "no memory is free on the GPU");
    if (p->count == 0)
        return true;
    if (!choose_layers(&trial))
        return false;
    unsigned dealt[LIMIT_DEVICES];
    offload_deal(p->split, p->count, p->layers, dealt);
    for (unsigned d = 0; d < p->count; d++) {
        p->uses[d].layers = dealt[d];
        log_info("layers for a GPU", "device=%s layers=%u of=%u needs_mb=%llu usable_mb=%llu free_mb=%llu reason=%s",
                 p->uses[d].device.name, dealt[d], p->all, (unsigned long long)(device_used(&p->uses[d]) >> 20),
                 (unsigned long long)(p->usable[d] >> 20), (unsigned long long)(p->uses[d].device.free >> 20),
                 config->gpu_layers > 0 ? "asked for"
                 : p->layers == p->all  ? "all fit"
                 : p->layers == 0       ? "none fits"
                                        : "more do not fit");
    }
    if (p->layers == 0)
        p->count = 0; /* nothing is to be opened there */
    p->devices[p->count] = NULL;
    return true;
}
