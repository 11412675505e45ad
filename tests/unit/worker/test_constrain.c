/* Picking under a grammar: the same distribution as masking the whole vocabulary, with few questions. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "worker/constrain.h"
#include "worker/sample_private.h"

#define VOCABULARY 3000
#define DRAWS      8000

static struct sample_space space;
static float original[VOCABULARY], logits[VOCABULARY];
static double expected[VOCABULARY];

struct engine_grammar {
    bool allowed[VOCABULARY];
    unsigned asked, asked_all;
};
static struct engine_grammar grammar;

static void mask(struct engine_grammar *g, struct engine_candidate *candidates, size_t count)
{
    g->asked += (unsigned)count;
    for (size_t i = 0; i < count; i++)
        if (!g->allowed[candidates[i].token])
            candidates[i].logit = -INFINITY;
}

static void mask_all(struct engine_grammar *g, float *row)
{
    g->asked_all++;
    for (unsigned i = 0; i < VOCABULARY; i++)
        row[i] = g->allowed[i] ? row[i] : -INFINITY;
}

static const struct engine_ops ops = {.grammar_mask = mask, .grammar_mask_all = mask_all};

/* Token i has the i-th largest logit; steep: how fast they fall. */
static int setup(void **state)
{
    (void)state;
    sample_space_init(&space, VOCABULARY);
    memset(&grammar, 0, sizeof grammar);
    for (unsigned i = 0; i < VOCABULARY; i++)
        original[i] = -0.02f * (float)i + (i < 4 ? 1 : 0);
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
        .temperature = temperature, .top_p = 1, .typical_p = 1, .repeat_penalty = 1, .xtc_threshold = 0.1f, .seed = 4};
}

static void allow(unsigned from, unsigned to, unsigned step)
{
    for (unsigned i = from; i < to; i += step)
        grammar.allowed[i] = true;
}

static engine_token pick(struct sampler *sampler)
{
    memcpy(logits, original, sizeof logits);
    return constrain_pick(&ops, &grammar, sampler, &space, logits);
}

/* Adds share times the distribution of a draw from row to expected. */
static void add_distribution(const struct sample_params *params, const float *row, double share)
{
    struct sampler sampler;
    double sum = 0;
    sampler_init(&sampler, params, VOCABULARY);
    unsigned count = sampler.kind == SAMPLER_PLAIN ? sample_list(&sampler, &space, row, -INFINITY)
                                                   : sample_cut(&sampler, &space, row, sample_maximum(row, VOCABULARY));
    for (unsigned i = 0; i < count; i++)
        sum += exp((double)(space.candidates[i].logit / params->temperature));
    for (unsigned i = 0; i < count; i++)
        expected[space.candidates[i].token] +=
            share * exp((double)(space.candidates[i].logit / params->temperature)) / sum;
    sampler_release(&sampler);
}

/* The free choice where it is allowed; the rest of the probability goes to draws from the masked row. */
static void expect(const struct sample_params *params)
{
    double refused = 0;
    memset(expected, 0, sizeof expected);
    add_distribution(params, original, 1);
    for (unsigned i = 0; i < VOCABULARY; i++) {
        refused += grammar.allowed[i] ? 0 : expected[i];
        expected[i] = grammar.allowed[i] ? expected[i] : 0;
        logits[i] = grammar.allowed[i] ? original[i] : -INFINITY;
    }
    if (refused > 0)
        add_distribution(params, logits, refused);
}

static void check_distribution(const struct sample_params *params)
{
    static unsigned counts[VOCABULARY];
    struct sampler sampler;
    double chi = 0, rest = DRAWS, rest_expected = DRAWS;
    unsigned cells = 1;
    expect(params);
    memset(counts, 0, sizeof counts);
    sampler_init(&sampler, params, VOCABULARY);
    for (unsigned i = 0; i < DRAWS; i++)
        counts[pick(&sampler)]++;
    sampler_release(&sampler);
    for (unsigned i = 0; i < VOCABULARY; i++) {
        double e = expected[i] * DRAWS;
        assert_true(grammar.allowed[i] || counts[i] == 0);
        if (e < 10)
            continue;
        chi += (counts[i] - e) * (counts[i] - e) / e;
        rest -= counts[i];
        rest_expected -= e;
        cells++;
    }
    if (rest_expected > 5)
        chi += (rest - rest_expected) * (rest - rest_expected) / rest_expected;
    if (chi > cells + 5 * sqrt(2.0 * cells) + 10)
        fail_msg("chi-square %.1f of %u cells", chi, cells);
}

static void an_allowed_choice_costs_one_question(void **state)
{
    (void)state;
    struct sample_params params = neutral(0);
    struct sampler sampler;
    allow(0, 1, 1);
    sampler_init(&sampler, &params, VOCABULARY);
    assert_int_equal(pick(&sampler), 0);
    assert_int_equal(grammar.asked, 1);
    sampler_release(&sampler);
}

static void greedy_takes_the_best_allowed(void **state)
{
    (void)state;
    struct sample_params params = neutral(0);
    struct sampler sampler;
    sampler_init(&sampler, &params, VOCABULARY);
    assert_int_equal(pick(&sampler), ENGINE_TOKEN_NONE);
    assert_int_equal(grammar.asked_all, 1);
    grammar.allowed[2500] = true;
    assert_int_equal(pick(&sampler), 2500);
    assert_int_equal(grammar.asked_all, 2);
    grammar.allowed[70] = true;
    assert_int_equal(pick(&sampler), 70);
    assert_int_equal(grammar.asked_all, 2); /* it is among the most probable */
    sampler_release(&sampler);
}

static void draws_by_temperature_are_exact(void **state)
{
    (void)state;
    struct sample_params params = neutral(0.8f);
    allow(1, VOCABULARY, 3); /* a third, the most probable not among them */
    check_distribution(&params);
    assert_true(grammar.asked_all < DRAWS / 50);
    memset(&grammar, 0, sizeof grammar);
    allow(150, 400, 1); /* nothing of the shortlist, most of what follows */
    check_distribution(&params);
    memset(&grammar, 0, sizeof grammar);
    allow(100, 130, 1); /* on both sides of the shortlist's end */
    allow(2000, 2010, 1);
    check_distribution(&params);
    params.temperature = 3;
    check_distribution(&params);
    assert_true(grammar.asked_all > 0);
}

/* Where logits fall steeply, the shortlist says enough although fewer than top_k of it are allowed. */
static void few_allowed_are_enough(void **state)
{
    (void)state;
    struct sample_params params = neutral(1.3f);
    for (unsigned i = 0; i < VOCABULARY; i++)
        original[i] *= 10;
    allow(2, VOCABULARY, 9);
    params.top_k = 40;
    params.top_p = 0.95f;
    check_distribution(&params);
    params.min_p = 0.05f;
    check_distribution(&params);
    params.top_p = 1;
    check_distribution(&params);
    params.top_k = 0;
    params.top_p = 0.8f;
    params.min_p = 0;
    check_distribution(&params);
    assert_int_equal(grammar.asked_all, 0);
}

static void truncated_draws_are_exact(void **state)
{
    (void)state;
    static const struct {
        unsigned top_k, all; /* all: may the whole vocabulary be asked about? */
        float top_p, min_p, typical_p, sigma;
    } cases[] = {
        {10, 0, 1, 0, 1, 0},   {40, 0, 0.9f, 0.01f, 1, 0}, {100, 1, 1, 0, 1, 0},   {0, 0, 0.05f, 0, 1, 0},
        {0, 1, 0.9f, 0, 1, 0}, {0, 0, 1, 0.5f, 1, 0},      {0, 1, 1, 0.01f, 1, 0}, {0, 1, 1, 0, 0.6f, 0},
        {0, 1, 1, 0, 1, 0.5f}, {20, 1, 1, 0, 1, 0.1f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sample_params params = neutral(1.3f);
        params.top_k = cases[i].top_k;
        params.top_p = cases[i].top_p;
        params.min_p = cases[i].min_p;
        params.typical_p = cases[i].typical_p;
        params.top_n_sigma = cases[i].sigma;
        memset(&grammar, 0, sizeof grammar);
        allow(1, VOCABULARY, 2);
        check_distribution(&params);
        assert_true(cases[i].all || grammar.asked_all == 0);
        memset(&grammar, 0, sizeof grammar);
        allow(200, 500, 7);
        check_distribution(&params);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_allowed_choice_costs_one_question),
        TEST(greedy_takes_the_best_allowed),
        TEST(draws_by_temperature_are_exact),
        TEST(few_allowed_are_enough),
        TEST(truncated_draws_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
