/* What memory is computed from, out of headers made by hand: each kind of model once. */
#include "unit/unit.h"

#include "unit/registry/header.h"

#define LAYERS 6

static void begin(struct header *h, const char *architecture, const char *const *keys, const uint32_t *values,
                  size_t count)
{
    char key[128];
    header_begin(h, architecture);
    for (size_t i = 0; i < count; i++) {
        snprintf(key, sizeof key, "%s.%s", architecture, keys[i]);
        header_number(h, key, values[i]);
    }
}

#define BEGIN(h, architecture, ...)                                                                                    \
    do {                                                                                                               \
        static const struct {                                                                                          \
            const char *key;                                                                                           \
            uint32_t value;                                                                                            \
        } pairs[] = {__VA_ARGS__};                                                                                     \
        const char *keys[sizeof pairs / sizeof *pairs];                                                                \
        uint32_t values[sizeof pairs / sizeof *pairs];                                                                 \
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {                                                    \
            keys[i] = pairs[i].key;                                                                                    \
            values[i] = pairs[i].value;                                                                                \
        }                                                                                                              \
        begin(h, architecture, keys, values, sizeof pairs / sizeof *pairs);                                            \
    } while (0)

static struct gguf_shape finish(struct header *h)
{
    struct gguf g;
    struct err err = ERR_INIT;
    if (!header_read(h, &g, &err))
        fail_msg("%s", err.message);
    buf_release(&h->bytes);
    return g.shape;
}

static void grouped_heads_are_counted_once_a_layer(void **state)
{
    (void)state;
    struct header h;
    BEGIN(&h, "llama", {"block_count", LAYERS}, {"embedding_length", 512}, {"feed_forward_length", 1024},
          {"attention.head_count", 8}, {"attention.head_count_kv", 2});
    header_tensor(&h, "token_embd.weight", 512, 100, 0, 512 * 100 * 4);
    header_tensor(&h, "blk.0.attn_q.weight", 512, 512, 2, 512 * 512 / 32 * 18);
    header_tensor(&h, "blk.0.attn_norm.weight", 512, 1, 0, 512 * 4);
    struct gguf_shape s = finish(&h);
    assert_int_equal(s.key_elements, LAYERS * 2 * 64);
    assert_int_equal(s.value_elements, LAYERS * 2 * 64);
    assert_int_equal(s.attention_layers, LAYERS);
    assert_int_equal(s.queries, 512);
    assert_int_equal(s.heads, 8);
    assert_int_equal(s.feed_forward, 1024);
    assert_int_equal(s.vocabulary, 100);
    assert_false(s.has_output);
    assert_int_equal(s.embedding_bytes, 512 * 100 * 4);
    assert_int_equal(s.matrix_bytes[2], 512 * 512 / 32 * 18);
    assert_int_equal(s.matrix_bytes[0], 0); /* a norm is no matrix, and the embedding is looked up */
    assert_int_equal(s.state_elements, 0);
}

static void heads_may_differ_from_layer_to_layer(void **state)
{
    (void)state;
    struct header h;
    BEGIN(&h, "lfm2", {"block_count", LAYERS}, {"embedding_length", 1024}, {"attention.head_count", 16},
          {"shortconv.l_cache", 3});
    header_array(&h, "lfm2.attention.head_count_kv", 5, 4, (const uint32_t[]){0, 0, 8, 0, 0, 4}, LAYERS);
    struct gguf_shape s = finish(&h);
    assert_int_equal(s.key_elements, (8 + 4) * 64);
    assert_int_equal(s.attention_layers, 2);
    assert_int_equal(s.keys, 8 * 64);
    assert_int_equal(s.state_elements, 4 * 2 * 1024); /* those without heads keep two columns */
}

static void sliding_layers_may_have_heads_of_their_own_length(void **state)
{
    (void)state;
    struct header h;
    BEGIN(&h, "gemma4", {"block_count", LAYERS}, {"embedding_length", 1024}, {"attention.head_count", 8},
          {"attention.key_length", 512}, {"attention.value_length", 512}, {"attention.key_length_swa", 256},
          {"attention.value_length_swa", 256}, {"attention.sliding_window", 1024}, {"attention.shared_kv_layers", 2});
    header_array(&h, "gemma4.attention.head_count_kv", 4, 4, (const uint32_t[]){2, 2, 1, 2, 2, 1}, LAYERS);
    header_array(&h, "gemma4.attention.sliding_window_pattern", 7, 1, (const uint32_t[]){1, 1, 0, 1, 1, 0}, LAYERS);
    struct gguf_shape s = finish(&h);
    assert_int_equal(s.key_elements, 2 * 256 + 2 * 256 + 512 + 2 * 256); /* the last two share */
    assert_true(s.slides);
    assert_int_equal(s.attention_layers, 4);
}

static void a_number_says_which_layers_do_not_slide(void **state)
{
    (void)state;
    struct header h;
    BEGIN(&h, "gemma4", {"block_count", LAYERS}, {"embedding_length", 1024}, {"attention.head_count", 4},
          {"attention.key_length", 512}, {"attention.value_length", 512}, {"attention.key_length_swa", 256},
          {"attention.value_length_swa", 128}, {"attention.sliding_window_pattern", 3});
    struct gguf_shape s = finish(&h);
    assert_int_equal(s.key_elements, 4 * (4 * 256 + 2 * 512));
    assert_int_equal(s.value_elements, 4 * (4 * 128 + 2 * 512));
}

static void a_latent_attention_keeps_one_row_and_no_values(void **state)
{
    (void)state;
    struct header h;
    BEGIN(&h, "deepseek2", {"block_count", LAYERS}, {"embedding_length", 2048}, {"attention.head_count", 16},
          {"attention.head_count_kv", 1}, {"attention.key_length", 576}, {"attention.value_length", 512},
          {"attention.key_length_mla", 192}, {"attention.value_length_mla", 128}, {"feed_forward_length", 10944},
          {"expert_count", 64}, {"expert_used_count", 6}, {"expert_feed_forward_length", 1408},
          {"leading_dense_block_count", 1});
    struct gguf_shape s = finish(&h);
    assert_int_equal(s.key_elements, LAYERS * 576);
    assert_int_equal(s.value_elements, 0);
    assert_int_equal(s.queries, 16 * 576);
    assert_int_equal(s.experts_used, 6);
    assert_int_equal(s.expert_feed_forward, 1408);
    assert_int_equal(s.feed_forward, 10944);
}

static void a_recurrent_model_keeps_a_state_and_no_keys(void **state)
{
    (void)state;
    struct header h;
    BEGIN(&h, "mamba", {"block_count", LAYERS}, {"embedding_length", 2048}, {"attention.head_count", 0},
          {"ssm.conv_kernel", 4}, {"ssm.inner_size", 4096}, {"ssm.state_size", 16});
    struct gguf_shape s = finish(&h);
    assert_int_equal(s.key_elements, 0);
    assert_int_equal(s.state_elements, LAYERS * (3 * 4096 + 16 * 4096));
    BEGIN(&h, "rwkv7", {"block_count", LAYERS}, {"embedding_length", 1024}, {"wkv.head_size", 64},
          {"token_shift_count", 2});
    s = finish(&h);
    assert_int_equal(s.state_elements, LAYERS * 1024 * (2 + 64));
}

static void an_interval_says_which_layers_attend(void **state)
{
    (void)state;
    struct header h;
    BEGIN(&h, "qwen3next", {"block_count", 8}, {"embedding_length", 2048}, {"attention.head_count", 16},
          {"attention.head_count_kv", 2}, {"attention.key_length", 256}, {"attention.value_length", 256},
          {"full_attention_interval", 4}, {"ssm.conv_kernel", 4}, {"ssm.inner_size", 4096}, {"ssm.state_size", 128},
          {"ssm.group_count", 16});
    struct gguf_shape s = finish(&h);
    assert_int_equal(s.key_elements, 2 * 2 * 256);
    assert_int_equal(s.state_elements, 6ull * (3 * (4096 + 2 * 16 * 128) + 128 * 4096));
}

/* Numbers that no model has must not wrap around into small ones. */
static void absurd_numbers_stay_large(void **state)
{
    (void)state;
    struct header h;
    BEGIN(&h, "llama", {"block_count", UINT32_MAX}, {"embedding_length", UINT32_MAX},
          {"attention.head_count", UINT32_MAX}, {"attention.key_length", UINT32_MAX}, {"ssm.conv_kernel", UINT32_MAX},
          {"ssm.inner_size", UINT32_MAX}, {"ssm.state_size", UINT32_MAX}, {"ssm.group_count", UINT32_MAX});
    header_array(&h, "llama.feed_forward_length", 4, 4, (const uint32_t[]){UINT32_MAX}, 1);
    struct gguf_shape s = finish(&h);
    assert_true(s.key_elements >= 1u << 30);
    assert_true(s.state_elements >= 1u << 30);
    assert_true(s.heads >= 65536);
}

static void an_array_longer_than_any_model_is_passed_over(void **state)
{
    (void)state;
    struct header h;
    static uint32_t many[LIMIT_LAYERS + 100];
    for (size_t i = 0; i < sizeof many / sizeof *many; i++)
        many[i] = 1;
    BEGIN(&h, "llama", {"block_count", 1000}, {"embedding_length", 64}, {"attention.head_count", 1});
    header_array(&h, "llama.attention.head_count_kv", 4, 4, many, LIMIT_LAYERS + 100);
    header_number(&h, "llama.context_length", 77); /* what follows is still found */
    struct gguf g;
    struct err err = ERR_INIT;
    assert_true(header_read(&h, &g, &err));
    assert_int_equal(g.context_length, 77);
    assert_int_equal(g.shape.key_elements, LIMIT_LAYERS * 64);
    buf_release(&h.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grouped_heads_are_counted_once_a_layer),
        cmocka_unit_test(heads_may_differ_from_layer_to_layer),
        cmocka_unit_test(sliding_layers_may_have_heads_of_their_own_length),
        cmocka_unit_test(a_number_says_which_layers_do_not_slide),
        cmocka_unit_test(a_latent_attention_keeps_one_row_and_no_values),
        cmocka_unit_test(a_recurrent_model_keeps_a_state_and_no_keys),
        cmocka_unit_test(an_interval_says_which_layers_attend),
        cmocka_unit_test(absurd_numbers_stay_large),
        cmocka_unit_test(an_array_longer_than_any_model_is_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
