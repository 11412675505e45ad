/* The configuration's choices on their way into a prediction. */
#include "unit/unit.h"

#include "base/json_read.h"
#include "instance/memory.h"

static struct model make(void)
{
    struct model m = {.id = "m", .path = "m.gguf"};
    m.gguf.causal = true;
    m.gguf.context_length = 4096;
    m.gguf.shape = (struct gguf_shape){.vocabulary = 1000,
                                       .embedding = 64,
                                       .key_elements = 320,
                                       .value_elements = 320,
                                       .heads = 64,
                                       .queries = 64,
                                       .keys = 32,
                                       .feed_forward = 128,
                                       .has_output = true};
    return m;
}

static void choices_of_the_configuration_count(void **state)
{
    (void)state;
    struct model m = make();
    struct conf conf = {.ubatch_size = 256, .parallel = 4, .kv_type = 3};
    struct fit_setup s;
    memory_setup(&m, 1000, &conf, &s);
    assert_int_equal(s.context, 1000);
    assert_int_equal(s.sequences, 4);
    assert_int_equal(s.ubatch, 256);
    assert_string_equal(s.kv_type, "q8_0");
    assert_true(s.flash);
    conf.flash_attention = 2; /* off */
    memory_setup(&m, 1000, &conf, &s);
    assert_false(s.flash);
}

static void a_measured_choice_counts_when_the_choice_is_free(void **state)
{
    (void)state;
    struct model m = make();
    struct conf conf = {.ubatch_size = 512};
    uint64_t flash = memory_estimate(&m, 4096, &conf);
    m.plain_attention = true;
    assert_true(memory_estimate(&m, 4096, &conf) > flash);
    conf.flash_attention = 1; /* on */
    assert_int_equal(memory_estimate(&m, 4096, &conf), flash);
}

static void a_models_own_table_comes_first(void **state)
{
    (void)state;
    struct model m = make();
    struct conf conf = {.parallel = 4};
    struct conf_model own = {.parallel = 2};
    struct fit_setup s;
    m.overrides = &own;
    memory_setup(&m, 1000, &conf, &s);
    assert_int_equal(s.sequences, 2);
    own.parallel = -1;
    memory_setup(&m, 1000, &conf, &s);
    assert_int_equal(s.sequences, 4);
}

static uint64_t named(const char *options)
{
    struct model m = make();
    struct conf conf = {.ubatch_size = 512, .context_size = 2048};
    json_t *json = json_read(str_from(options), NULL);
    assert_non_null(json);
    uint64_t bytes = memory_estimate_named(&m.gguf, 0, json, &conf);
    assert_int_equal(memory_estimate_named(&m.gguf, 1000, json, &conf), bytes + 1000);
    json_decref(json);
    return bytes;
}

static void a_named_instances_options_come_first(void **state)
{
    (void)state;
    uint64_t usual = named("{}");
    assert_int_equal(named("{\"context_size\": 2048, \"kv_type\": \"f16\"}"), usual);
    assert_int_equal(named("{\"context_size\": 4096}"), named("{\"ctx_size\": 4096}"));
    assert_true(named("{\"context_size\": 4096}") > usual + 2048 * 640 * 2 - 1);
    assert_true(named("{\"kv_type\": \"q8_0\"}") < usual);
    assert_int_equal(named("{\"kv_type\": \"q8_0\"}"), named("{\"cache_type_k\": \"q8_0\"}"));
    assert_true(named("{\"flash_attn\": \"off\"}") > usual);
    assert_true(named("{\"parallel\": 100}") > usual);
    assert_int_equal(named("{\"kv_type\": \"nonsense\", \"parallel\": \"x\", \"context_size\": -5}"), usual);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choices_of_the_configuration_count),
        cmocka_unit_test(a_measured_choice_counts_when_the_choice_is_free),
        cmocka_unit_test(a_models_own_table_comes_first),
        cmocka_unit_test(a_named_instances_options_come_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
