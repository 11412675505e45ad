#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "worker/sample.h"

#define VOCABULARY 5000
#define DRAWS      20000

static struct sample_space space;
static float logits[VOCABULARY];

static int setup(void **state)
{
    (void)state;
    sample_space_init(&space, VOCABULARY);
    for (unsigned i = 0; i < VOCABULARY; i++)
        logits[i] = -30;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sample_space_release(&space);
    return 0;
}

static struct sample_params neutral(float temperature)
{
    return (struct sample_params){
        .temperature = temperature, .top_p = 1, .typical_p = 1, .repeat_penalty = 1, .seed = 1};
}

/* Draws often; counts[i] is how often token i came. */
static void draw(const struct sample_params *params, unsigned counts[VOCABULARY])
{
    struct sampler sampler;
    sampler_init(&sampler, params, VOCABULARY);
    memset(counts, 0, VOCABULARY * sizeof *counts);
    for (int i = 0; i < DRAWS; i++)
        counts[sampler_pick(&sampler, &space, logits)]++;
    sampler_release(&sampler);
}

/* Tokens 10, 1000, 4999 with probabilities 0.5, 0.3, 0.2. */
static void three(void)
{
    logits[10] = logf(0.5f);
    logits[1000] = logf(0.3f);
    logits[4999] = logf(0.2f);
}

static void greedy_takes_the_lowest_of_equals(void **state)
{
    (void)state;
    struct sample_params params = neutral(0);
    struct sampler sampler;
    logits[77] = logits[78] = logits[4000] = 5;
    sampler_init(&sampler, &params, VOCABULARY);
    assert_int_equal(sampler_pick(&sampler, &space, logits), 77);
    for (unsigned i = 0; i < VOCABULARY; i++)
        logits[i] = -INFINITY;
    assert_int_equal(sampler_pick(&sampler, &space, logits), ENGINE_TOKEN_NONE);
    sampler_release(&sampler);
}

static void temperature_alone_draws_by_probability(void **state)
{
    (void)state;
    static unsigned counts[VOCABULARY];
    struct sample_params params = neutral(1);
    three();
    draw(&params, counts);
    assert_in_range(counts[10], DRAWS * 48 / 100, DRAWS * 52 / 100);
    assert_in_range(counts[1000], DRAWS * 28 / 100, DRAWS * 32 / 100);
    params.temperature = 0.5f; /* squares: 25 : 9 : 4 */
    draw(&params, counts);
    assert_in_range(counts[10], DRAWS * 64 / 100, DRAWS * 68 / 100);
}

static void truncations_cut_where_they_should(void **state)
{
    (void)state;
    static unsigned counts[VOCABULARY];
    struct sample_params params = neutral(1);
    three();
    params.top_p = 0.7f;
    draw(&params, counts);
    assert_int_equal(counts[4999], 0);
    assert_in_range(counts[1000], DRAWS * 35 / 100, DRAWS * 40 / 100);
    params.top_p = 0.45f;
    draw(&params, counts);
    assert_int_equal(counts[10], DRAWS);
    params = neutral(1);
    params.top_k = 2;
    draw(&params, counts);
    assert_int_equal(counts[4999], 0);
    assert_int_equal(counts[10] + counts[1000], DRAWS);
    params = neutral(1);
    params.min_p = 0.5f;
    draw(&params, counts);
    assert_int_equal(counts[4999], 0);
    params = neutral(1);
    params.top_k = 3;
    params.top_p = 0.7f;
    draw(&params, counts);
    assert_int_equal(counts[4999], 0);
    params = neutral(1);
    params.typical_p = 0.2f; /* entropy 1.03: 0.3 (surprise 1.2) is the most typical */
    draw(&params, counts);
    assert_int_equal(counts[1000], DRAWS);
}

static void seeds_repeat_and_differ(void **state)
{
    (void)state;
    struct sample_params params = neutral(2);
    struct sampler a, b, c;
    unsigned same = 0;
    for (unsigned i = 0; i < VOCABULARY; i++)
        logits[i] = (float)(i % 7);
    sampler_init(&a, &params, VOCABULARY);
    sampler_init(&b, &params, VOCABULARY);
    params.seed = 2;
    sampler_init(&c, &params, VOCABULARY);
    for (int i = 0; i < 50; i++) {
        engine_token token = sampler_pick(&a, &space, logits);
        assert_int_equal(token, sampler_pick(&b, &space, logits));
        same += token == sampler_pick(&c, &space, logits);
    }
    assert_true(same < 5);
    sampler_release(&a);
    sampler_release(&b);
    sampler_release(&c);
}

static void penalties_and_biases(void **state)
{
    (void)state;
    engine_token bias_token = 3, history[] = {5, 6, 5};
    float bias = 2.5f;
    struct sample_params params = neutral(0);
    struct sampler sampler;
    params.presence_penalty = 1;
    params.frequency_penalty = 0.5f;
    params.repeat_penalty = 2;
    params.repeat_last_n = 2;
    params.bias_tokens = &bias_token;
    params.bias_values = &bias;
    params.bias_count = 1;
    sampler_init(&sampler, &params, VOCABULARY);
    sampler_accept(&sampler, 8);
    sampler_accept(&sampler, 8);
    logits[3] = logits[8] = 1;
    logits[5] = 4;
    logits[6] = -4;
    sampler_adjust(&sampler, logits, history, 3);
    assert_float_equal(logits[3], 3.5f, 1e-6f);
    assert_float_equal(logits[8], 1 - 1 - 2 * 0.5f, 1e-6f);
    assert_float_equal(logits[5], 2, 1e-6f); /* once, however often it occurs */
    assert_float_equal(logits[6], -8, 1e-6f);
    sampler_release(&sampler);
}

static void log_sum_and_top(void **state)
{
    (void)state;
    struct engine_candidate top[4];
    three();
    assert_float_equal(sample_log_sum(logits, VOCABULARY), 0, 1e-5f);
    logits[11] = logits[10];
    assert_int_equal(sample_top(logits, VOCABULARY, top, 4), 4);
    assert_int_equal(top[0].token, 10);
    assert_int_equal(top[1].token, 11);
    assert_int_equal(top[2].token, 1000);
    assert_int_equal(top[3].token, 4999);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(greedy_takes_the_lowest_of_equals),
        TEST(temperature_alone_draws_by_probability),
        TEST(truncations_cut_where_they_should),
        TEST(seeds_repeat_and_differ),
        TEST(penalties_and_biases),
        TEST(log_sum_and_top),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
