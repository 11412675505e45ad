/* Configuration to the command line of a worker: the only place that knows both. */
#include "instance/command.h"

#include <assert.h>

#include "instance/child.h"
#include "instance/gpu.h"
#include "instance/instance_private.h"

#define ARGUMENTS (80 + 2 * LIMIT_LORAS)

struct arguments {
    const char *argv[ARGUMENTS];
    size_t count;
    struct arena *arena;
};

static void argument(struct arguments *a, const char *text)
{
    assert(a->count < ARGUMENTS - 1 && "there is room for every option at once");
    a->argv[a->count++] = text;
}

static void option(struct arguments *a, const char *flag, const char *value)
{
    argument(a, flag);
    argument(a, value);
}

static void option_number(struct arguments *a, const char *flag, int64_t value, int64_t unset)
{
    if (value != unset)
        option(a, flag, arena_printf(a->arena, "%lld", (long long)value));
}

static void option_real(struct arguments *a, const char *flag, double value)
{
    option(a, flag, arena_printf(a->arena, "%.9g", value));
}

static void option_choice(struct arguments *a, const char *flag, const char *choices, int index)
{
    char name[32];
    option(a, flag, arena_strdup(a->arena, conf_choice_name(choices, index, name, sizeof name)));
}

/* The first that is set: of a load by hand, of the model's table, of all. */
static int64_t first_set(int64_t by_hand, int64_t own, int64_t common)
{
    return by_hand >= 0 ? by_hand : own >= 0 ? own : common;
}

int64_t command_gpu_layers(const struct instance *i, const struct conf_model *m)
{
    const struct conf *conf = i->all->conf;
    const json_t *own = json_object_get(i->options.backend_options, "gpu_layers");
    uint64_t layers;
    if (conf->gpu_enabled == 0 || i->fake)
        return 0;
    if (json_is_integer(own))
        return json_integer_value(own);
    if (json_is_string(own))
        return str_u64(str_from(json_string_value(own)), INT32_MAX, &layers) ? (int64_t)layers
               : strcmp(json_string_value(own), "all") == 0                  ? INT32_MAX
                                                                             : -1;
    return first_set(i->settings.gpu_layers, m ? m->gpu_layers : -1, conf->gpu_layers);
}

static void model_arguments(struct arguments *a, const struct instance *i)
{
    const struct conf *conf = i->all->conf;
    const struct conf_model *m = conf_model_find(conf, str_from(i->name));
    option_number(a, "--context-size",
                  first_set(i->settings.context_size, m ? m->context_size : -1, conf->context_size), 0);
    option_number(a, "--parallel", first_set(-1, m ? m->parallel : -1, conf->parallel), 0);
    if (conf->gpu_enabled != CONF_AUTO_VALUE)
        option(a, "--gpu", conf->gpu_enabled ? "on" : "off");
    if (*conf->gpu_device)
        option(a, "--gpu-device", conf->gpu_device);
    const char *caps = gpu_caps(i, a->arena);
    if (caps)
        option(a, "--gpu-memory-mb", caps);
    option_number(a, "--gpu-layers", first_set(i->settings.gpu_layers, m ? m->gpu_layers : -1, conf->gpu_layers), -1);
    if (m && *m->chat_template)
        option(a, "--chat-template", m->chat_template);
    if (i->projector)
        option(a, "--mmproj", i->projector);
    for (size_t n = 0; m && m->lora[n]; n++)
        option(a, "--lora", m->lora[n]);
    if (m && m->embedding_pooling)
        option_choice(a, "--pooling", "default none mean cls last", m->embedding_pooling);
}

static void worker_arguments(struct arguments *a, const struct instance *i)
{
    const struct conf *conf = i->all->conf;
    argument(a, i->all->program);
    argument(a, "worker");
    option_number(a, "--supervised", getpid(), 0);
    option_number(a, "--notify-fd", CHILD_NOTIFY_FD, 0);
    option(a, "--engine", i->fake ? "fake" : "llama");
    if (i->kind == KIND_IMPLICIT) /* a named one has it among its options */
        option(a, "--model", i->path);
    option(a, "--alias", i->name);
    option(a, "--socket", i->target.address);
    option_choice(a, "--log-level", "trace debug info warn error", conf->log_level);
    option_choice(a, "--log-format", "pretty compact json", conf->log_format);
    option_choice(a, "--kv-type", "f16 f32 bf16 q8_0 q4_0", conf->kv_type);
    option_choice(a, "--lookup", "auto off", conf->lookup);
    option_choice(a, "--flash-attention", "auto on off", conf->flash_attention);
    if (conf->tune_attention)
        option(a, "--tune-dir", arena_printf(a->arena, "%s/" MODEL_TUNED_FOLDER, conf->state_dir));
    option_number(a, "--kv-memory-mb", conf->kv_memory_mb, -1);
    option_number(a, "--kv-disk-mb", conf->kv_disk_mb, -1);
    if (conf->kv_disk_mb > 0)
        option(a, "--kv-folder", arena_printf(a->arena, "%s/kv", conf->state_dir));
    option_number(a, "--threads", first_set(i->settings.threads, -1, conf->cpu_threads), 0);
    option_number(a, "--batch-size", first_set(i->settings.batch_size, -1, conf->batch_size), 0);
    option_number(a, "--ubatch-size", conf->ubatch_size, CONF_AUTO_VALUE);
    option_number(a, "--queue-size", conf->queue_size, 0);
    option_number(a, "--request-timeout", conf->request_timeout_seconds, -1);
    option_number(a, "--max-body-mb", conf->max_body_mb, 0);
    option_number(a, "--max-tokens", conf->default_max_tokens, 0);
    option_real(a, "--temperature", conf->default_temperature);
    option_real(a, "--completion-temperature", conf->completion_temperature);
    option_real(a, "--top-p", conf->default_top_p);
    if (!conf->memory_map)
        argument(a, "--no-mmap");
    if (conf->private_image_urls)
        argument(a, "--private-images");
    if (conf->mlock)
        argument(a, "--mlock");
    model_arguments(a, i);
}

const char *const *command_of_worker(const struct instance *i, struct arena *arena)
{
    struct arguments *a = arena_calloc(arena, sizeof *a);
    a->arena = arena;
    worker_arguments(a, i);
    return a->argv;
}
