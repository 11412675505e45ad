/* Predictions beside what llama.cpp v0.5.0 reserved for the same shapes (llama_get_memory_breakdown, CPU), with as
 * many sequence ids as the engine has. */
#include "unit/unit.h"

#include "registry/fit.h"
#include "registry/kernel.h"

#define MIB 1048576.0

struct shape {
    const char *name;
    unsigned layers, embedding, feed_forward, heads, kv_heads, head, vocabulary, experts, expert_feed_forward;
    bool slides;
};

static const struct shape llama_8b = {"llama 8B", 32, 4096, 14336, 32, 8, 128, 128256, 0, 0, false};
static const struct shape llama_1b = {"llama 1B", 16, 2048, 8192, 32, 8, 64, 128256, 0, 0, false};
static const struct shape qwen_7b = {"qwen 7B", 28, 3584, 18944, 28, 4, 128, 152064, 0, 0, false};
static const struct shape qwen_half = {"qwen 0.5B", 24, 896, 4864, 14, 2, 64, 151936, 0, 0, false};
static const struct shape qwen_moe = {"qwen 30B-A3B", 48, 2048, 0, 32, 4, 128, 151936, 8, 768, false};
static const struct shape mixtral = {"mixtral", 32, 4096, 0, 32, 8, 128, 32000, 2, 14336, false};
static const struct shape gemma_4b = {"gemma 4B", 34, 2560, 10240, 8, 4, 256, 262208, 0, 0, true};
static const struct shape smollm = {"smollm 135M", 30, 576, 1536, 9, 3, 64, 49152, 0, 0, false};

static struct gguf make(const struct shape *s)
{
    struct gguf g = {.causal = true, .tensor_bytes = 1000};
    g.shape = (struct gguf_shape){.vocabulary = s->vocabulary,
                                  .embedding = s->embedding,
                                  .key_elements = s->layers * s->kv_heads * s->head,
                                  .value_elements = s->layers * s->kv_heads * s->head,
                                  .attention_layers = s->layers,
                                  .heads = s->heads,
                                  .queries = s->heads * s->head,
                                  .keys = s->kv_heads * s->head,
                                  .values = s->kv_heads * s->head,
                                  .feed_forward = s->feed_forward,
                                  .experts_used = s->experts,
                                  .expert_feed_forward = s->expert_feed_forward,
                                  .slides = s->slides,
                                  .has_output = true};
    return g;
}

static const struct measured {
    const struct shape *shape;
    struct fit_setup setup;
    double kv, compute; /* MiB */
} measured[] = {
    {&llama_8b, {8192, 0, 0, NULL, true, 0}, 1024, 127.887},
    {&llama_8b, {8192, 0, 0, NULL, false, 0}, 1024, 589.883},
    {&llama_8b, {32768, 0, 0, NULL, true, 0}, 4096, 152.637},
    {&llama_8b, {32768, 0, 0, NULL, false, 0}, 4096, 2223.383},
    {&llama_8b, {8192, 0, 0, "q8_0", true, 0}, 544, 119.715},
    {&llama_8b, {2048, 0, 0, NULL, false, 0}, 256, 181.508},
    {&llama_8b, {8192, 0, 256, NULL, true, 0}, 1024, 69.757},
    {&llama_1b, {8192, 0, 0, NULL, true, 0}, 256, 74.262},
    {&llama_1b, {8192, 0, 0, NULL, false, 0}, 256, 567.196},
    {&qwen_7b, {8192, 0, 0, NULL, true, 0}, 448, 148.160},
    {&qwen_7b, {2048, 0, 0, NULL, false, 0}, 112, 154.203},
    {&qwen_half, {8192, 0, 0, NULL, true, 0}, 96, 43.852},
    {&qwen_half, {32768, 0, 0, NULL, false, 0}, 384, 976.830},
    {&qwen_moe, {8192, 0, 0, NULL, true, 0}, 768, 96.762},
    {&qwen_moe, {2048, 0, 0, NULL, true, 0}, 192, 90.715},
    {&mixtral, {8192, 0, 0, NULL, true, 0}, 1024, 208.012},
    {&gemma_4b, {8192, 0, 0, NULL, true, 0}, 1088, 97.803},
    {&gemma_4b, {32768, 0, 0, NULL, false, 0}, 4352, 690.670},
    {&smollm, {8192, 0, 0, NULL, false, 0}, 180, 166.383},
    {&smollm, {2048, 0, 0, "q4_0", true, 0}, 12.656, 20.508},
};

static bool within(double predicted, double real, double part)
{
    return predicted <= real * (1 + part) && predicted >= real * (1 - part);
}

static void predictions_meet_reservations(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof measured / sizeof *measured; i++) {
        const struct measured *m = &measured[i];
        struct gguf g = make(m->shape);
        struct fit fit;
        fit_predict(&g, &m->setup, &fit);
        if (!within((double)fit.kv / MIB, m->kv, 0.001) || !within((double)fit.compute / MIB, m->compute, 0.1))
            fail_msg("%s, context %llu, %s: kv %.3f for %.3f, compute %.3f for %.3f MiB", m->shape->name,
                     (unsigned long long)m->setup.context, m->setup.flash ? "flash" : "plain", (double)fit.kv / MIB,
                     m->kv, (double)fit.compute / MIB, m->compute);
    }
}

static void the_parts_make_the_total(void **state)
{
    (void)state;
    struct gguf g = make(&llama_8b);
    struct fit f;
    g.shape.state_elements = 10;
    fit_predict(&g, &(struct fit_setup){.context = 1000, .sequences = 4, .flash = true}, &f);
    assert_int_equal(f.weights, 1000);
    assert_int_equal(f.kv_token, 32 * 8 * 128 * 2 * 2);
    assert_int_equal(f.kv, f.kv_token * 1024); /* the cache is padded to 256 cells */
    assert_int_equal(f.state, 4 * 10 * 4);
    assert_int_equal(f.output, 4ull * 128256 * 4);
    assert_int_equal(f.total, f.weights + f.copies + f.kv + f.state + f.compute + f.output + f.program);
}

static void a_shared_embedding_is_copied_when_its_type_is_laid_out_anew(void **state)
{
    (void)state;
    struct gguf g = make(&llama_1b);
    struct fit f;
    const struct fit_setup setup = {.context = 512, .flash = true};
    g.shape.has_output = false;
    g.shape.embedding_bytes = 777;
    g.shape.embedding_type = 0; /* F32 never is */
    fit_predict(&g, &setup, &f);
    assert_int_equal(f.copies, 0);
    g.shape.embedding_type = 2; /* Q4_0 */
    fit_predict(&g, &setup, &f);
    assert_int_equal(f.copies, kernel_is_fast("Q4_0") ? 777 : 0);
    g.shape.has_output = true;
    fit_predict(&g, &setup, &f);
    assert_int_equal(f.copies, 0);
}

static void an_encoder_keeps_nothing(void **state)
{
    (void)state;
    struct gguf g = make(&llama_1b);
    struct fit f;
    g.causal = false;
    fit_predict(&g, &(struct fit_setup){.context = 512, .flash = true}, &f);
    struct fit seeing;
    fit_predict(&g, &(struct fit_setup){.context = 512, .flash = true, .projector = 777}, &seeing);
    assert_int_equal(seeing.weights, f.weights + 777);
    assert_int_equal(seeing.total, f.total + 777);
    assert_int_equal(f.kv + f.state + f.output, 0);
    assert_true(f.compute > 0);
}

static void the_longest_context_is_the_last_that_fits(void **state)
{
    (void)state;
    struct gguf g = make(&llama_8b);
    struct fit_setup setup = {.flash = true};
    struct fit f;
    setup.context = fit_longest_context(&g, &setup, 1ull << 31, 131072);
    assert_true(setup.context > 0 && setup.context < 131072);
    fit_predict(&g, &setup, &f);
    assert_true(f.total <= 1ull << 31);
    setup.context += 256;
    fit_predict(&g, &setup, &f);
    assert_true(f.total > 1ull << 31);
    assert_int_equal(fit_longest_context(&g, &setup, 1000, 131072), 0);
    assert_int_equal(fit_longest_context(&g, &setup, UINT64_MAX, 131072), 131072);
}

/* What a hostile header can say at most must not wrap around into something that fits. */
static void absurd_shapes_do_not_fit(void **state)
{
    (void)state;
    struct gguf g = {.causal = true};
    struct fit f;
    g.shape = (struct gguf_shape){.vocabulary = LIMIT_GGUF_LENGTH,
                                  .embedding = LIMIT_GGUF_LENGTH,
                                  .key_elements = 1u << 30,
                                  .value_elements = 1u << 30,
                                  .state_elements = 1u << 30,
                                  .heads = 65536,
                                  .queries = 1ull << 40,
                                  .keys = 1ull << 40,
                                  .feed_forward = LIMIT_GGUF_LENGTH,
                                  .experts_used = LIMIT_GGUF_LENGTH,
                                  .expert_feed_forward = LIMIT_GGUF_LENGTH,
                                  .slides = true};
    fit_predict(&g, &(struct fit_setup){UINT64_MAX, UINT32_MAX, UINT32_MAX, "f32", false, 0}, &f);
    assert_true(f.kv > 1ull << 50);
    assert_true(f.compute > 1ull << 50);
    assert_true(f.total > 1ull << 50);
}

static void layers_on_gpus(void **state)
{
    (void)state;
    struct gguf g = {.block_count = 10};
    struct fit fit = {.weights = 1300, .kv = 500, .state = 0, .compute = 7};
    g.shape = (struct gguf_shape){.embedding_bytes = 200, .output_bytes = 100, .has_output = true};
    assert_int_equal(fit_on_gpus(&g, &fit, 0, 1), 0);
    assert_int_equal(fit_on_gpus(&g, &fit, 5, 0), 0);
    assert_int_equal(fit_on_gpus(&g, &fit, 1, 1), 100 + 7);                  /* the output */
    assert_int_equal(fit_on_gpus(&g, &fit, 2, 1), 100 + 150 + 7);            /* and a layer with its cells */
    assert_int_equal(fit_on_gpus(&g, &fit, 11, 1), 100 + 1500 + 7);          /* all but the input */
    assert_int_equal(fit_on_gpus(&g, &fit, UINT32_MAX, 2), 100 + 1500 + 14); /* there are no more */
    g.shape.has_output = false;
    g.shape.output_bytes = 0;
    fit.weights = 1200;
    assert_int_equal(fit_on_gpus(&g, &fit, 11, 1), 200 + 1500 + 7); /* a copy of the input's */
    fit.weights += 50;
    fit.projector = 50;
    assert_int_equal(fit_on_gpus(&g, &fit, 11, 1), 50 + 200 + 1500 + 7);
    fit.weights -= 50;
    fit.projector = 0;
    g.block_count = 0;
    assert_int_equal(fit_on_gpus(&g, &fit, 3, 1), 200 + 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_on_gpus),
        cmocka_unit_test(predictions_meet_reservations),
        cmocka_unit_test(the_parts_make_the_total),
        cmocka_unit_test(a_shared_embedding_is_copied_when_its_type_is_laid_out_anew),
        cmocka_unit_test(an_encoder_keeps_nothing),
        cmocka_unit_test(the_longest_context_is_the_last_that_fits),
        cmocka_unit_test(absurd_shapes_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
