/* What is predicted from a header beside what llama.cpp has reserved for the same file. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "registry/fit.h"
#include "worker/engine.h"

#define MIB 1048576.0

static const struct way {
    unsigned context;
    const char *kv_type;
    enum engine_flash flash;
    unsigned sequences, ubatch;
} ways[] = {
    {1024, "f16", ENGINE_FLASH_AUTO, 0, 0},  {8192, "f16", ENGINE_FLASH_AUTO, 0, 0},
    {1024, "q8_0", ENGINE_FLASH_AUTO, 0, 0}, {8192, "q8_0", ENGINE_FLASH_AUTO, 0, 0},
    {8192, "f16", ENGINE_FLASH_OFF, 0, 0},   {4000, "f32", ENGINE_FLASH_OFF, 3, 256},
};

static void check(const char *path, const struct gguf *gguf, const struct way *way)
{
    struct err err = ERR_INIT;
    struct fit fit;
    struct engine_config config = {.path = path,
                                   .context_size = way->context,
                                   .sequences = way->sequences,
                                   .ubatch = way->ubatch,
                                   .flash = way->flash,
                                   .kv_type = way->kv_type,
                                   .gpu_layers = 0,
                                   .memory_map = true};
    const struct fit_setup setup = {
        way->context, way->sequences, way->ubatch, way->kv_type, way->flash != ENGINE_FLASH_OFF, 0};
    struct engine *engine = engine_llama.open(&config, &err);
    if (!engine)
        fail_msg("%s (run scripts/models.sh and set INFERD_MODELS)", err.message);
    const struct engine_info *info = engine_llama.info(engine);
    fit_predict(gguf, &setup, &fit);
    printf("# context %u, %s, flash %d: kv %.2f (%.2f predicted), compute %.2f (%.2f) MiB\n", way->context,
           way->kv_type, way->flash != ENGINE_FLASH_OFF, (double)info->kv_bytes / MIB, (double)fit.kv / MIB,
           (double)info->compute_bytes / MIB, (double)fit.compute / MIB);
    assert_int_equal(fit.kv, info->kv_bytes);
    assert_int_equal(fit.weights, info->weight_bytes);
    assert_true((double)fit.compute > 0.9 * (double)info->compute_bytes);
    assert_true((double)fit.compute < 1.1 * (double)info->compute_bytes);
    engine_llama.close(engine);
}

static void check_file(const char *name)
{
    char path[4096];
    struct gguf gguf;
    struct err err = ERR_INIT;
    const char *folder = getenv("INFERD_MODELS");
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "INFERD_MODELS-is-not-set", name);
    if (!gguf_read(path, &gguf, &err))
        fail_msg("%s (run scripts/models.sh and set INFERD_MODELS)", err.message);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        check(path, &gguf, &ways[i]);
}

static void a_model_with_plain_layers(void **state)
{
    (void)state;
    check_file("SmolLM2-135M-Instruct.Q4_1.gguf");
}

static void a_model_with_sliding_layers(void **state)
{
    (void)state;
    check_file("gemma-3-270m-q4_k_m.gguf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_with_plain_layers),
        cmocka_unit_test(a_model_with_sliding_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
