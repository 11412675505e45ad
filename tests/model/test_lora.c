/* LoRA adapters at load: small ones, made here, on real weights. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ggml.h>
#include <gguf.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "worker/engine.h"

#define RANK   4
#define INNER  1536 /* of the model's feed-forward layers */
#define OUTER  576
#define PROMPT "The capital of France is"

static char folder[] = "/tmp/inferd-lora-XXXXXX";
static const char *models;

static struct ggml_tensor *make_tensor(struct ggml_context *context, const char *name, int columns, int rows,
                                       float size)
{
    struct ggml_tensor *tensor = ggml_new_tensor_2d(context, GGML_TYPE_F32, columns, rows);
    float *values = ggml_get_data_f32(tensor);
    uint32_t noise = 12345;
    for (int i = 0; i < columns * rows; i++) {
        noise = noise * 1664525u + 1013904223u;
        values[i] = size * ((float)(noise >> 8) / (float)(1 << 23) - 1);
    }
    ggml_set_name(tensor, name);
    return tensor;
}

/* An adapter on the first layer's feed-forward output, at path in the test's folder. */
static const char *make_adapter(const char *name, const char *architecture)
{
    static char path[256];
    struct ggml_context *context =
        ggml_init((struct ggml_init_params){.mem_size = 1u << 20, .mem_buffer = NULL, .no_alloc = false});
    struct gguf_context *file = gguf_init_empty();
    snprintf(path, sizeof path, "%s/%s", folder, name);
    gguf_set_val_str(file, "general.type", "adapter");
    gguf_set_val_str(file, "general.architecture", architecture);
    gguf_set_val_str(file, "adapter.type", "lora");
    gguf_set_val_f32(file, "adapter.lora.alpha", RANK);
    gguf_add_tensor(file, make_tensor(context, "blk.0.ffn_down.weight.lora_a", INNER, RANK, 0.5f));
    gguf_add_tensor(file, make_tensor(context, "blk.0.ffn_down.weight.lora_b", RANK, OUTER, 0.5f));
    assert_true(gguf_write_to_file(file, path, false));
    gguf_free(file);
    ggml_free(context);
    return path;
}

static struct engine *open_with(const char *const *paths, const float *scales, unsigned count, struct err *err)
{
    static char model[4096];
    snprintf(model, sizeof model, "%s/SmolLM2-135M-Instruct.Q4_1.gguf", models ? models : "INFERD_MODELS-is-not-set");
    struct engine_config config = {.path = model, .context_size = 256, .memory_map = true, .lora_count = count};
    for (unsigned i = 0; i < count; i++)
        config.loras[i] = (struct engine_lora){.path = paths[i], .scale = scales[i]};
    return engine_llama.open(&config, err);
}

/* The logits behind the prompt, to be freed. */
static float *logits_with(const char *const *paths, const float *scales, unsigned count)
{
    engine_token tokens[32];
    struct engine_row rows[32];
    struct err err = ERR_INIT;
    struct engine *engine = open_with(paths, scales, count, &err);
    if (!engine)
        fail_msg("%s (run scripts/models.sh and set INFERD_MODELS)", err.message);
    int n = engine_llama.tokenize(engine, STR(PROMPT), true, false, tokens, 32);
    for (int i = 0; i < n; i++)
        rows[i] = (struct engine_row){.token = tokens[i], .position = (unsigned)i, .logits = i == n - 1};
    assert_int_equal(engine_llama.decode(engine, rows, (unsigned)n, NULL), ENGINE_OK);
    size_t size = engine_llama.info(engine)->vocabulary * sizeof(float);
    float *copy = mem_alloc(size);
    memcpy(copy, engine_llama.logits(engine, (unsigned)n - 1), size);
    engine_llama.close(engine);
    return copy;
}

static double distance(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < 1000; i++)
        sum += fabs((double)(a[i] - b[i]));
    return sum / 1000;
}

static void an_adapter_counts_by_its_scale(void **state)
{
    (void)state;
    const char *path = make_adapter("good.gguf", "llama");
    const char *both[] = {path, path};
    float *bare = logits_with(NULL, NULL, 0);
    float *whole = logits_with(both, (float[]){1}, 1), *tenth = logits_with(both, (float[]){0.1f}, 1);
    float *cancelled = logits_with(both, (float[]){1.5f, -1.5f}, 2);
    print_message("distances: %g, %g, %g\n", distance(bare, whole), distance(bare, tenth), distance(bare, cancelled));
    assert_true(distance(bare, whole) > 0.01);
    assert_true(distance(bare, tenth) > 0 && distance(bare, tenth) < distance(bare, whole));
    assert_true(distance(bare, cancelled) < distance(bare, tenth) / 10);
    mem_free(bare);
    mem_free(whole);
    mem_free(tenth);
    mem_free(cancelled);
}

static void embeddings_have_it_too(void **state)
{
    (void)state;
    const char *path = make_adapter("good.gguf", "llama");
    engine_token tokens[32];
    float out[2][OUTER];
    struct err err = ERR_INIT;
    for (unsigned i = 0; i < 2; i++) {
        struct engine *engine = open_with(&path, (float[]){1}, i, &err);
        assert_non_null(engine);
        int n = engine_llama.tokenize(engine, STR(PROMPT), true, false, tokens, 32);
        assert_int_equal(engine_llama.embed(engine, tokens, (unsigned)n, out[i]), ENGINE_OK);
        engine_llama.close(engine);
    }
    assert_memory_not_equal(out[0], out[1], sizeof out[0]);
}

static void check_refusal(const char *path, const char *reason)
{
    struct err err = ERR_INIT;
    assert_null(open_with(&path, (float[]){1}, 1, &err));
    assert_int_equal(err.code, ERR_MODEL_LOAD_FAILED);
    assert_non_null(strstr(err.message, path));
    if (!strstr(err.message, reason))
        fail_msg("%s", err.message);
}

static void what_does_not_fit_is_refused_with_the_reason(void **state)
{
    (void)state;
    char broken[256];
    check_refusal(make_adapter("other.gguf", "gemma3"), "arch");
    check_refusal("/nonexistent/adapter.gguf", "No such file");
    snprintf(broken, sizeof broken, "%s/broken.gguf", folder);
    FILE *file = fopen(broken, "w");
    assert_non_null(file);
    fputs("not a GGUF file", file);
    fclose(file);
    check_refusal(broken, "lora adapter");
}

static int setup(void **state)
{
    (void)state;
    models = getenv("INFERD_MODELS");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    static const char *const names[] = {"good.gguf", "other.gguf", "broken.gguf"};
    char path[256];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_adapter_counts_by_its_scale),
        cmocka_unit_test(embeddings_have_it_too),
        cmocka_unit_test(what_does_not_fit_is_refused_with_the_reason),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
