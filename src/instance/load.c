/* Loading by hand. Settings of the process are fixed once it is being started: other ones need a new process, which
 * only `force` may ask for, since it ends what others are using. Settings of its life apply at once. */
#include "instance/load.h"

#include "instance/command.h"
#include "instance/gpu.h"
#include "instance/memory.h"

uint64_t load_context(const struct instance *i, const struct model *m)
{
    return i->settings.context_size > 0 ? (uint64_t)i->settings.context_size : model_context(m, i->all->conf);
}

void load_estimate(struct instance *i, const struct model *m)
{
    struct fit fit;
    memory_predict(m, load_context(i, m), i->all->conf, &fit);
    i->memory_estimate = fit.total;
    gpu_wish(i, &m->gguf, &fit, command_gpu_layers(i, m->overrides));
}

/* Only our own workers say what they have taken of a GPU; others' shares are not counted. */
void load_estimate_named(struct instance *i, const struct gguf *gguf, uint64_t projector)
{
    struct fit fit;
    bool ours = strcmp(i->options.backend->type, "worker") == 0;
    memory_predict_named(gguf, projector, i->options.backend_options, i->all->conf, &fit);
    i->memory_estimate = fit.total;
    gpu_wish(i, gguf, &fit, ours ? command_gpu_layers(i, NULL) : 0);
}

uint64_t load_idle_ms(const struct instance *i, const struct model *m)
{
    int64_t seconds = i->settings.ttl_seconds;
    if (seconds < 0 && m->overrides)
        seconds = m->overrides->ttl_seconds;
    return (uint64_t)(seconds >= 0 ? seconds : i->all->conf->model_ttl_seconds) * 1000;
}

bool load_pinned(const struct instance *i, const struct model *m)
{
    return i->settings.pin >= 0 ? i->settings.pin > 0 : m->overrides && m->overrides->pin;
}

/* Unset ones ask for nothing. */
static bool other_process(const struct model_settings *now, const struct model_settings *wanted)
{
    return (wanted->gpu_layers >= 0 && wanted->gpu_layers != now->gpu_layers) ||
           (wanted->context_size >= 0 && wanted->context_size != now->context_size) ||
           (wanted->batch_size >= 0 && wanted->batch_size != now->batch_size) ||
           (wanted->threads >= 0 && wanted->threads != now->threads);
}

static void set_life(struct instance *i, const struct model *m, const struct model_settings *wanted)
{
    if (wanted->ttl_seconds >= 0)
        i->settings.ttl_seconds = wanted->ttl_seconds;
    if (wanted->pin >= 0)
        i->settings.pin = wanted->pin;
    i->policy.idle_ms = load_idle_ms(i, m);
    i->policy.pinned = load_pinned(i, m);
    deadline_cancel(i->all->loop, &i->idle);
    instance_set_idle(i);
}

void instances_keep(struct instances *all, const struct model *model, const struct model_settings *life)
{
    struct instance *i = map_get(&all->by_model, str_from(model->id));
    if (i && i->kind == KIND_IMPLICIT && !instance_needs_start(i) && i->state != INSTANCE_STOPPING)
        set_life(i, model, life);
}

void instances_load(struct instances *all, const struct model *model, const struct model_settings *wanted, bool force,
                    unsigned grace_ms, struct arena *arena, instance_on_lease *on_lease, void *arg)
{
    struct instance *i = instance_of_model(all, model);
    bool runs = !instance_needs_start(i), differs = other_process(&i->settings, wanted);
    struct err err;
    if (i->kind == KIND_IMPLICIT && runs && differs && !force) {
        err_set(&err, ERR_CONFLICT,
                "The model '%s' is loaded with other settings; unload it first, or load it with \"force\": true",
                i->name);
        on_lease(arg, NULL, &err);
        return;
    }
    if (i->kind == KIND_IMPLICIT && wanted->gpu_layers > 0 && all->conf->gpu_enabled == 0) {
        err_set_param(&err, ERR_GPU_UNAVAILABLE, "gpu_layers",
                      "GPUs are switched off (backend_config.gpu_enabled is false)");
        on_lease(arg, NULL, &err);
        return;
    }
    if (i->kind == KIND_IMPLICIT && runs && i->state != INSTANCE_STOPPING)
        set_life(i, model, wanted);
    if (i->kind == KIND_IMPLICIT && (!runs || differs)) {
        i->settings = *wanted;
        if (differs)
            i->failed_ms = 0;          /* what went wrong with the old ones says nothing of these */
        instance_of_model(all, model); /* the policy follows */
    }
    if (i->kind == KIND_IMPLICIT && runs && differs) {
        i->grace_ms = grace_ms;
        load_estimate(i, model);
        instance_fire(i, EVENT_RESTART);
    }
    instances_acquire(all, model, arena, on_lease, arg);
}
