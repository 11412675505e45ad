/* Grammars over real vocabularies: asking down the tree of texts says what asking about every token says. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "worker/chat.h"
#include "worker/engine.h"

#define VOCABULARY 262144

static const char *const files[] = {"SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4_k_m.gguf"};
static struct engine *engines[2];
static struct arena arena;
static struct engine_candidate all[VOCABULARY];
static float row[VOCABULARY];

#define SCHEMA                                                                                                         \
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"short\":{\"type\":\"string\","              \
    "\"maxLength\":9},\"age\":{\"type\":\"integer\"},\"height\":{\"type\":\"number\"},\"mood\":{\"enum\":[\"happy\","  \
    "\"sad\"]},\"list\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},\"yes\":{\"type\":\"boolean\"}},"         \
    "\"required\":[\"name\",\"short\",\"age\",\"height\",\"mood\",\"list\",\"yes\"],\"additionalProperties\":false}"
#define DOCUMENT                                                                                                       \
    "{\"name\": \"Zo\xC3\xAB \\\"Q\\\" \xE4\xB8\x96 \xF0\x9F\xA6\x86 river\", \"short\": \"a b\xC3\xA9\",\n"           \
    " \"age\": -41, \"height\" : 1.75e3, \"mood\":\"happy\", \"list\": [\"x\", \"stone\\n\\u00e9\" ], \"yes\": true}"

/* Milliseconds that the tree took. */
static double check_masks(const struct engine *engine, struct engine_grammar *grammar, unsigned step)
{
    unsigned vocabulary = engine_llama.info(engine)->vocabulary, allowed = 0;
    for (unsigned i = 0; i < vocabulary; i++) {
        row[i] = (float)i;
        all[i] = (struct engine_candidate){.token = (engine_token)i, .logit = (float)i};
    }
    engine_llama.grammar_mask(grammar, all, vocabulary);
    uint64_t begin = clock_ns();
    engine_llama.grammar_mask_all(grammar, row);
    uint64_t end = clock_ns();
    for (unsigned i = 0; i < vocabulary; i++) {
        allowed += row[i] > -INFINITY;
        if (row[i] != all[i].logit)
            fail_msg("step %u, token %u: %g, not %g", step, i, row[i], all[i].logit);
    }
    assert_true(allowed > 0);
    return (double)(end - begin) / 1e6;
}

/* Follows text token by token; every every-th state is checked. */
static void check_text(const struct engine *engine, const char *gbnf, const char *text, unsigned every)
{
    engine_token tokens[1024];
    struct err err = ERR_INIT;
    double cheapest = INFINITY, dearest = 0;
    int count = engine_llama.tokenize(engine, str_from(text), false, false, tokens, 1024);
    assert_in_range(count, 1, 1024);
    struct engine_grammar *grammar = engine_llama.grammar_new(engine, gbnf, false, NULL, 0, NULL, 0, &err);
    if (!grammar)
        fail_msg("%s", err.message);
    for (int i = 0; i < count; i++) {
        if ((unsigned)i % every == 0) {
            double spent = check_masks(engine, grammar, (unsigned)i);
            cheapest = spent < cheapest ? spent : cheapest;
            dearest = spent > dearest ? spent : dearest;
        }
        struct engine_candidate single = {.token = tokens[i]};
        engine_llama.grammar_mask(grammar, &single, 1);
        assert_true(single.logit == 0);
        engine_llama.grammar_accept(grammar, tokens[i]);
    }
    check_masks(engine, grammar, (unsigned)count);
    print_message("%d states, the vocabulary in %.2f to %.2f ms\n", count, cheapest, dearest);
    engine_llama.grammar_free(grammar);
}

static void the_tree_says_what_asking_about_all_says(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    const char *gbnf = chat_schema_to_grammar(STR(SCHEMA), &arena, &err);
    assert_non_null(gbnf);
    check_text(engines[0], gbnf, DOCUMENT, 1);
    check_text(engines[1], gbnf, DOCUMENT, 3);
}

/* Classes that exclude or name parts of what shares its first bytes; a character cut by a token; literals. */
static void characters_cut_in_two(void **state)
{
    (void)state;
    static const char *const grammars[] = {
        "root ::= [^\xC3\xA9]* \"!\"",
        "root ::= [\xC3\xA8-\xC3\xB0\xE4\xB8\x96 ]* \"!\"",
        "root ::= (\"\xF0\x9F\xA6\x86\" | [\xC3\xAB ] | \"\xE4\xB8\x96\")* \"!\"",
        "root ::= .* \"!\" # \"quoted\" <not a token>",
    };
    for (unsigned e = 0; e < 2; e++)
        for (unsigned i = 0; i < 4; i++)
            check_text(engines[e], grammars[i],
                       i == 2 ? "\xF0\x9F\xA6\x86 \xC3\xAB\xE4\xB8\x96!" : "\xC3\xAB \xE4\xB8\x96!", 1);
}

/* Such a grammar accepts a token whose text it would refuse: the tree must not be used. */
static void tokens_by_name(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct engine_grammar *grammar = engine_llama.grammar_new(
        engines[0], "root ::= <|im_start|> \"a\" !<|im_end|>* <|im_end|>", false, NULL, 0, NULL, 0, &err);
    engine_token token;
    assert_non_null(grammar);
    check_masks(engines[0], grammar, 0);
    assert_int_equal(engine_llama.tokenize(engines[0], STR("<|im_start|>"), false, true, &token, 1), 1);
    assert_true(row[token] > -INFINITY);
    engine_llama.grammar_accept(grammar, token);
    check_masks(engines[0], grammar, 1);
    engine_llama.grammar_free(grammar);
}

static int setup(void **state)
{
    const char *folder = getenv("INFERD_MODELS");
    struct err err = ERR_INIT;
    (void)state;
    arena_init(&arena);
    for (unsigned i = 0; i < 2; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder ? folder : "INFERD_MODELS-is-not-set", files[i]);
        struct engine_config config = {.path = path, .context_size = 256, .memory_map = true};
        engines[i] = engine_llama.open(&config, &err);
        if (!engines[i])
            fail_msg("%s (run scripts/models.sh and set INFERD_MODELS)", err.message);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    engine_llama.close(engines[0]);
    engine_llama.close(engines[1]);
    arena_dispose(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tree_says_what_asking_about_all_says),
        cmocka_unit_test(characters_cut_in_two),
        cmocka_unit_test(tokens_by_name),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
