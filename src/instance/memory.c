#include "instance/memory.h"

#include <string.h>

enum { FLASH_AUTO = 0, FLASH_OFF = 2 }; /* of the choices of flash_attention */

static const char *const kv_types[] = {"f16", "f32", "bf16", "q8_0", "q4_0"}; /* in the order of the choices */

static unsigned as_unsigned(int64_t number)
{
    return number > 0 ? number < UINT32_MAX ? (unsigned)number : UINT32_MAX : 0;
}

void memory_setup(const struct model *m, uint64_t context, const struct conf *conf, struct fit_setup *ret_setup)
{
    int64_t parallel = m->overrides && m->overrides->parallel >= 0 ? m->overrides->parallel : conf->parallel;
    bool plain = conf->flash_attention == FLASH_OFF || (conf->flash_attention == FLASH_AUTO && m->plain_attention);
    *ret_setup = (struct fit_setup){.context = context,
                                    .sequences = as_unsigned(parallel),
                                    .ubatch = conf->ubatch_size > 0                 ? as_unsigned(conf->ubatch_size)
                                              : conf->flash_attention == FLASH_AUTO ? m->ubatch
                                                                                    : 0,
                                    .kv_type = kv_types[conf->kv_type],
                                    .flash = !plain,
                                    .projector = m->projector_bytes};
}

void memory_predict(const struct model *m, uint64_t context, const struct conf *conf, struct fit *ret_fit)
{
    struct fit_setup setup;
    memory_setup(m, context, conf, &setup);
    fit_predict(&m->gguf, &setup, ret_fit);
}

uint64_t memory_estimate(const struct model *m, uint64_t context, const struct conf *conf)
{
    struct fit fit;
    memory_predict(m, context, conf, &fit);
    return fit.total;
}

/* ---- named instances ---- */

static void take_number(const json_t *options, const char *key, unsigned *number)
{
    int64_t own = json_integer_value(json_object_get(options, key));
    if (own > 0)
        *number = as_unsigned(own);
}

static const char *known_kv_type(const char *name, const char *otherwise)
{
    for (size_t i = 0; name && i < sizeof kv_types / sizeof *kv_types; i++)
        if (strcmp(name, kv_types[i]) == 0)
            return kv_types[i];
    return otherwise;
}

static const char *text_of(const json_t *options, const char *key, const char *other_key)
{
    const char *text = json_string_value(json_object_get(options, key));
    return text ? text : json_string_value(json_object_get(options, other_key));
}

void memory_predict_named(const struct gguf *gguf, uint64_t projector, const json_t *options, const struct conf *conf,
                          struct fit *ret_fit)
{
    struct model model = {.gguf = *gguf, .projector_bytes = projector};
    struct fit_setup setup;
    unsigned context = 0;
    memory_setup(&model, model_context(&model, conf), conf, &setup);
    take_number(options, "ctx_size", &context);
    take_number(options, "context_size", &context);
    if (context)
        setup.context = context;
    take_number(options, "parallel", &setup.sequences);
    take_number(options, "ubatch_size", &setup.ubatch);
    setup.kv_type = known_kv_type(text_of(options, "kv_type", "cache_type_k"), setup.kv_type);
    const char *flash = text_of(options, "flash_attention", "flash_attn");
    if (flash)
        setup.flash = strcmp(flash, "off") != 0;
    fit_predict(gguf, &setup, ret_fit);
}

uint64_t memory_estimate_named(const struct gguf *gguf, uint64_t projector, const json_t *options,
                               const struct conf *conf)
{
    struct fit fit;
    memory_predict_named(gguf, projector, options, conf, &fit);
    return fit.total;
}
