/* Our samplers beside llama.cpp's own: the same candidates, the same logits, the same distributions. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <llama.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "worker/sample_private.h"

#define LARGE 262144
#define SMALL 1000
#define DRAWS 40000

static struct sample_space space[2]; /* SMALL, LARGE */
static float logits[LARGE];
static llama_token_data data[LARGE];
static float expected[LARGE];

static uint64_t noise;

static double uniform(void)
{
    noise = noise * 6364136223846793005u + 1442695040888963407u;
    return ((double)(noise >> 11) + 0.5) * 0x1.0p-53;
}

static double normal(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

enum shape { FLAT, MIDDLE, PEAKED, SHAPES };

/* FLAT: normal with deviation 1; MIDDLE: 4; PEAKED: as FLAT, and eight tokens stand far out. */
static void fill(enum shape shape, unsigned vocabulary, uint64_t seed)
{
    noise = seed;
    for (unsigned i = 0; i < vocabulary; i++)
        logits[i] = (float)(normal() * (shape == MIDDLE ? 4 : 1));
    for (unsigned i = 0; shape == PEAKED && i < 8; i++)
        logits[(unsigned)(uniform() * vocabulary)] = 14 + (float)uniform() * 4;
}

static struct sample_params neutral(void)
{
    return (struct sample_params){.temperature = 1,
                                  .top_p = 1,
                                  .typical_p = 1,
                                  .repeat_penalty = 1,
                                  .xtc_threshold = 0.1f,
                                  .dynatemp_exponent = 1,
                                  .seed = 11};
}

static struct sample_space *space_of(unsigned vocabulary)
{
    return &space[vocabulary == LARGE];
}

static llama_token_data_array make_array(unsigned vocabulary)
{
    for (unsigned i = 0; i < vocabulary; i++)
        data[i] = (llama_token_data){.id = (llama_token)i, .logit = logits[i]};
    return (llama_token_data_array){.data = data, .size = vocabulary, .selected = -1};
}

/* llama.cpp's default chain without penalties and DRY, up to the draw. */
static struct llama_sampler *make_chain(const struct sample_params *p)
{
    struct llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(chain, llama_sampler_init_top_n_sigma(p->top_n_sigma > 0 ? p->top_n_sigma : -1));
    llama_sampler_chain_add(chain, llama_sampler_init_top_k((int)p->top_k));
    llama_sampler_chain_add(chain, llama_sampler_init_typical(p->typical_p, 0));
    llama_sampler_chain_add(chain, llama_sampler_init_top_p(p->top_p, 0));
    llama_sampler_chain_add(chain, llama_sampler_init_min_p(p->min_p, 0));
    llama_sampler_chain_add(chain, llama_sampler_init_xtc(p->xtc_probability, p->xtc_threshold, 0, 5));
    llama_sampler_chain_add(chain,
                            llama_sampler_init_temp_ext(p->temperature, p->dynatemp_range, p->dynatemp_exponent));
    return chain;
}

/* Probabilities by token of what is left in the array, into expected. */
static void normalise(const llama_token_data_array *array, unsigned vocabulary)
{
    double top = -INFINITY, sum = 0;
    memset(expected, 0, vocabulary * sizeof *expected);
    for (size_t i = 0; i < array->size; i++)
        top = array->data[i].logit > top ? array->data[i].logit : top;
    for (size_t i = 0; i < array->size; i++)
        sum += exp(array->data[i].logit - top);
    for (size_t i = 0; i < array->size; i++)
        expected[array->data[i].id] = (float)(exp(array->data[i].logit - top) / sum);
}

static void expect(const struct sample_params *p, unsigned vocabulary)
{
    struct llama_sampler *chain = make_chain(p);
    llama_token_data_array array = make_array(vocabulary);
    llama_sampler_apply(chain, &array);
    normalise(&array, vocabulary);
    llama_sampler_free(chain);
}

/* Ours and theirs leave the same tokens; where its sum of 262 144 floats decides, tokens with a share of 1e-3
 * may lie on either side of the edge. */
static void check_candidates(const struct sample_params *p, unsigned vocabulary, const char *name)
{
    static bool ours[LARGE];
    struct sample_space *s = space_of(vocabulary);
    struct sampler sampler;
    double missing = 0, extra = 0, total = 0;
    expect(p, vocabulary);
    sampler_init(&sampler, p, vocabulary);
    float top = sample_maximum(logits, vocabulary);
    unsigned count = sample_cut(&sampler, s, logits, top);
    memset(ours, 0, sizeof ours);
    for (unsigned i = 0; i < count; i++) {
        assert_false(ours[s->candidates[i].token]);
        assert_true(s->candidates[i].logit == logits[s->candidates[i].token]);
        ours[s->candidates[i].token] = true;
        total += exp(s->candidates[i].logit - top);
    }
    for (unsigned i = 0; i < vocabulary; i++) {
        missing += !ours[i] ? expected[i] : 0;
        extra += ours[i] && expected[i] == 0 ? exp(logits[i] - top) / total : 0;
    }
    double slack = vocabulary == LARGE ? 1e-3 : 1e-9;
    if (missing > slack || extra > slack)
        fail_msg("%s, %u tokens: %u candidates, missing %g, extra %g", name, vocabulary, count, missing, extra);
    sampler_release(&sampler);
}

/* Twice the chi-square statistic's expectation is far beyond chance with this many cells; cells of few expected draws
 * are one. */
static void check_counts(const unsigned *counts, unsigned vocabulary, const char *name)
{
    double chi = 0, rest_expected = 0, rest = 0;
    unsigned cells = 0;
    for (unsigned i = 0; i < vocabulary; i++) {
        double e = (double)expected[i] * DRAWS;
        if (expected[i] == 0 && counts[i] > 0)
            fail_msg("%s: token %u was drawn, and cannot be", name, i);
        if (e < 10) {
            rest_expected += e;
            rest += counts[i];
            continue;
        }
        chi += (counts[i] - e) * (counts[i] - e) / e;
        cells++;
    }
    if (rest_expected >= 10) {
        chi += (rest - rest_expected) * (rest - rest_expected) / rest_expected;
        cells++;
    }
    double freedom = cells > 1 ? cells - 1 : 1, bound = freedom + 5 * sqrt(2 * freedom) + 10;
    if (chi > bound)
        fail_msg("%s: chi-square %.1f of %u cells is above %.1f", name, chi, cells, bound);
}

static void check_draws(const struct sample_params *p, const char *name)
{
    static unsigned counts[SMALL];
    struct sampler sampler;
    memset(counts, 0, sizeof counts);
    sampler_init(&sampler, p, SMALL);
    for (unsigned i = 0; i < DRAWS; i++)
        counts[sampler_pick(&sampler, &space[0], logits)]++;
    sampler_release(&sampler);
    check_counts(counts, SMALL, name);
}

static void truncations_leave_the_same_tokens(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned top_k;
        float top_p, min_p, typical_p, sigma, xtc_threshold;
    } cases[] = {
        {"top_k 1", 1, 1, 0, 1, 0, 0},
        {"top_k 40", 40, 1, 0, 1, 0, 0},
        {"top_p 0.5", 0, 0.5f, 0, 1, 0, 0},
        {"top_p 0.95", 0, 0.95f, 0, 1, 0, 0},
        {"min_p 0.05", 0, 1, 0.05f, 1, 0, 0},
        {"min_p 0.5", 0, 1, 0.5f, 1, 0, 0},
        {"typical_p 0.2", 0, 1, 0, 0.2f, 0, 0},
        {"typical_p 0.9", 0, 1, 0, 0.9f, 0, 0},
        {"top_n_sigma 1", 0, 1, 0, 1, 1, 0},
        {"top_n_sigma 2.5", 0, 1, 0, 1, 2.5f, 0},
        {"xtc 0.1", 0, 1, 0, 1, 0, 0.1f},
        {"xtc 0.3", 0, 1, 0, 1, 0, 0.3f},
        {"xtc 0.001", 0, 1, 0, 1, 0, 0.001f},
        {"top_k, top_p", 100, 0.9f, 0, 1, 0, 0},
        {"top_k, typical_p, top_p, min_p", 200, 0.95f, 0.02f, 0.9f, 0, 0},
        {"top_p, min_p", 0, 0.9f, 0.1f, 1, 0, 0},
        {"top_n_sigma, top_k", 20, 1, 0, 1, 2, 0},
        /* not top_n_sigma with typical_p: llama.cpp's entropy is no number then */
        {"top_n_sigma, top_k, top_p, min_p, xtc", 50, 0.95f, 0.02f, 1, 2, 0.05f},
        {"top_k, typical_p, top_p, min_p, xtc", 50, 0.95f, 0.02f, 0.95f, 0, 0.05f},
    };
    static const unsigned vocabularies[] = {SMALL, LARGE};
    for (unsigned v = 0; v < 2; v++)
        for (enum shape shape = FLAT; shape < SHAPES; shape++) {
            fill(shape, vocabularies[v], 177 + shape);
            for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct sample_params p = neutral();
                p.top_k = cases[i].top_k;
                p.top_p = cases[i].top_p;
                p.min_p = cases[i].min_p;
                p.typical_p = cases[i].typical_p;
                p.top_n_sigma = cases[i].sigma;
                p.xtc_threshold = cases[i].xtc_threshold;
                p.xtc_probability = cases[i].xtc_threshold > 0 ? 1 : 0;
                check_candidates(&p, vocabularies[v], cases[i].name);
            }
        }
}

static void draws_are_distributed_alike(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        float temperature, range, exponent, top_p;
        unsigned top_k;
    } cases[] = {
        {"temperature 0.7", 0.7f, 0, 1, 1, 0},
        {"temperature 1.8", 1.8f, 0, 1, 1, 0},
        {"temperature behind top_p", 2, 0, 1, 0.8f, 0},
        {"temperature behind top_k", 0.5f, 0, 1, 1, 30},
        {"dynamic temperature", 1, 0.8f, 1, 1, 0},
        {"dynamic temperature from 0", 0, 0.6f, 1.5f, 1, 0},
        {"dynamic temperature behind top_k", 1, 0.9f, 0.5f, 1, 40},
    };
    for (enum shape shape = FLAT; shape < SHAPES; shape++) {
        fill(shape, SMALL, 3 + shape);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct sample_params p = neutral();
            p.temperature = cases[i].temperature;
            p.dynatemp_range = cases[i].range;
            p.dynatemp_exponent = cases[i].exponent;
            p.top_p = cases[i].top_p;
            p.top_k = cases[i].top_k;
            expect(&p, SMALL);
            check_draws(&p, cases[i].name);
        }
    }
}

/* Half of the draws lose the likely tokens. */
static void xtc_strikes_as_often_as_it_should(void **state)
{
    (void)state;
    static float always[SMALL];
    struct sample_params p = neutral();
    fill(PEAKED, SMALL, 21);
    p.xtc_threshold = 0.05f;
    p.xtc_probability = 1;
    expect(&p, SMALL);
    memcpy(always, expected, sizeof always);
    p.xtc_probability = 0;
    expect(&p, SMALL);
    for (unsigned i = 0; i < SMALL; i++)
        expected[i] = 0.3f * always[i] + 0.7f * expected[i];
    p.xtc_probability = 0.3f;
    check_draws(&p, "xtc at 0.3");
}

static void greedy_picks_the_same(void **state)
{
    (void)state;
    static const unsigned vocabularies[] = {SMALL, LARGE};
    for (unsigned v = 0; v < 2; v++)
        for (enum shape shape = FLAT; shape < SHAPES; shape++) {
            struct sample_params p = neutral();
            struct sampler sampler;
            struct llama_sampler *greedy = llama_sampler_init_greedy();
            fill(shape, vocabularies[v], 123 + shape);
            llama_token_data_array array = make_array(vocabularies[v]);
            llama_sampler_apply(greedy, &array);
            p.temperature = 0;
            p.top_k = 40; /* truncations that leave the maximum change nothing */
            p.top_p = 0.9f;
            sampler_init(&sampler, &p, vocabularies[v]);
            assert_int_equal(sampler_pick(&sampler, space_of(vocabularies[v]), logits), array.data[array.selected].id);
            sampler_release(&sampler);
            llama_sampler_free(greedy);
        }
}

/* llama.cpp's sampler goes first, a few steps; ours is told the surprise of the token that it took, and must arrive at
 * the same distribution for the next. */
static void check_mirostat(unsigned version, enum shape shape)
{
    struct sample_params p = neutral();
    struct sampler sampler;
    char name[64];
    p.mirostat = version;
    p.mirostat_tau = 3;
    p.mirostat_eta = 0.3f;
    p.temperature = 0.9f;
    struct llama_sampler *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    llama_sampler_chain_add(chain, llama_sampler_init_temp(p.temperature));
    llama_sampler_chain_add(chain, version == 1
                                       ? llama_sampler_init_mirostat(SMALL, 5, p.mirostat_tau, p.mirostat_eta, 100)
                                       : llama_sampler_init_mirostat_v2(5, p.mirostat_tau, p.mirostat_eta));
    sampler_init(&sampler, &p, SMALL);
    for (unsigned step = 0; step < 6; step++) {
        static unsigned counts[SMALL];
        fill(shape, SMALL, 500 + step);
        llama_token_data_array array = make_array(SMALL);
        llama_sampler_apply(chain, &array);
        normalise(&array, SMALL);
        memset(counts, 0, sizeof counts);
        for (unsigned i = 0; i < DRAWS; i++)
            counts[sampler_pick(&sampler, &space[0], logits)]++;
        snprintf(name, sizeof name, "mirostat %u, shape %d, step %u", version, shape, step);
        check_counts(counts, SMALL, name);
        sampler.surprise = -log2f(array.data[array.selected].p);
        sampler_accept(&sampler, array.data[array.selected].id);
    }
    sampler_release(&sampler);
    llama_sampler_free(chain);
}

static void mirostat_goes_the_same_way(void **state)
{
    (void)state;
    for (enum shape shape = FLAT; shape < SHAPES; shape++) {
        check_mirostat(1, shape);
        check_mirostat(2, shape);
    }
}

static void repeat_penalty_is_the_same(void **state)
{
    (void)state;
    engine_token history[200];
    static float ours[SMALL];
    struct sample_params p = neutral();
    struct sampler sampler;
    fill(MIDDLE, SMALL, 9);
    p.repeat_penalty = 1.3f;
    p.repeat_last_n = 64;
    struct llama_sampler *theirs = llama_sampler_init_penalties(SMALL, 64, 1.3f, 0, 0);
    for (unsigned i = 0; i < 200; i++) {
        history[i] = (engine_token)(uniform() * 90);
        llama_sampler_accept(theirs, history[i]);
    }
    llama_token_data_array array = make_array(SMALL);
    llama_sampler_apply(theirs, &array);
    memcpy(ours, logits, sizeof ours);
    sampler_init(&sampler, &p, SMALL);
    sampler_adjust(&sampler, ours, history, 200);
    for (unsigned i = 0; i < SMALL; i++)
        assert_float_equal(ours[array.data[i].id], array.data[i].logit, 1e-5f);
    sampler_release(&sampler);
    llama_sampler_free(theirs);
}

/* ---- DRY, with a real vocabulary for the breakers ---- */

static struct engine *engine;

static void check_dry(const char *text, const struct dry_params *params, const char *const *breakers, const char *name)
{
    engine_token tokens[4096];
    struct sample_params p = neutral();
    struct sampler sampler;
    static float ours[LARGE];
    unsigned vocabulary = engine_llama.info(engine)->vocabulary, changed = 0;
    const struct llama_vocab *vocab = llama_model_get_vocab(engine_llama.info(engine)->llama_model);
    int count = engine_llama.tokenize(engine, str_from(text), false, false, tokens, 4096);
    assert_in_range(count, 4, 4096);
    fill(FLAT, vocabulary, 31);
    memcpy(ours, logits, vocabulary * sizeof *ours);
    struct llama_sampler *theirs =
        llama_sampler_init_dry(vocab, params->multiplier, params->base, (int)params->allowed_length,
                               (int)params->last_n, (const char **)breakers, params->breaker_count);
    p.dry = *params;
    sampler_init(&sampler, &p, vocabulary);
    for (int i = 0; i < count; i++)
        llama_sampler_accept(theirs, tokens[i]);
    llama_token_data_array array = make_array(vocabulary);
    llama_sampler_apply(theirs, &array);
    sampler_adjust(&sampler, ours, tokens, (unsigned)count);
    for (unsigned i = 0; i < vocabulary; i++) {
        changed += ours[i] != logits[i];
        if (fabsf(ours[i] - array.data[i].logit) > 1e-4f * (1 + fabsf(ours[i])))
            fail_msg("%s: token %u has %g, not %g", name, i, ours[i], array.data[i].logit);
    }
    print_message("%s: %u tokens lowered\n", name, changed);
    sampler_release(&sampler);
    llama_sampler_free(theirs);
}

static void dry_lowers_the_same_tokens(void **state)
{
    (void)state;
    static const char *const defaults[] = {"\n", ":", "\"", "*"};
    static const char *const phrases[] = {"the river", "stone", " and", "e", "\n\n"};
    static const char *const texts[] = {
        "the cat sat on the mat and the dog sat on the mat and the cat sat on the",
        "one two three four five six one two three four five six one two three four five",
        "Name: Bob\nName: Alice\nName: Bob\nName: Ali",
        "a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a",
        "he said \"we go to the river\" and she said \"we go to the river and she said \"we go to the ri",
        "* one stone\n* two stone\n\n* one stone and the river\n* two stone and the ri",
        "the green river stone and the green river stone and the green river",
    };
    struct str named[5];
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
        for (unsigned round = 0; round < 8; round++) {
            const char *const *breakers = round % 2 ? phrases : defaults;
            size_t count = round % 2 ? 5 : 4;
            for (size_t i = 0; i < count; i++)
                named[i] = str_from(breakers[i]);
            struct dry_params params = {.multiplier = 0.8f,
                                        .base = round < 6 ? 1.75f : 60,
                                        .allowed_length = round < 4    ? 2
                                                          : round == 4 ? 0
                                                                       : 1,
                                        .last_n = round < 2   ? 64
                                                  : round < 4 ? 12
                                                              : 1000,
                                        .breakers = named,
                                        .breaker_count = round == 5 ? 0 : count,
                                        .ops = &engine_llama,
                                        .engine = engine};
            char name[64];
            snprintf(name, sizeof name, "text %zu, round %u", t, round);
            check_dry(texts[t], &params, breakers, name);
        }
}

static int setup(void **state)
{
    static char path[4096];
    const char *folder = getenv("INFERD_MODELS");
    struct err err = ERR_INIT;
    (void)state;
    sample_space_init(&space[0], SMALL);
    sample_space_init(&space[1], LARGE);
    snprintf(path, sizeof path, "%s/SmolLM2-135M-Instruct.Q4_1.gguf", folder ? folder : "INFERD_MODELS-is-not-set");
    struct engine_config config = {.path = path, .context_size = 512, .memory_map = true};
    engine = engine_llama.open(&config, &err);
    if (!engine)
        fail_msg("%s (run scripts/models.sh and set INFERD_MODELS)", err.message);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    engine_llama.close(engine);
    sample_space_release(&space[0]);
    sample_space_release(&space[1]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(truncations_leave_the_same_tokens), cmocka_unit_test(draws_are_distributed_alike),
        cmocka_unit_test(xtc_strikes_as_often_as_it_should), cmocka_unit_test(greedy_picks_the_same),
        cmocka_unit_test(mirostat_goes_the_same_way),        cmocka_unit_test(repeat_penalty_is_the_same),
        cmocka_unit_test(dry_lowers_the_same_tokens),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
