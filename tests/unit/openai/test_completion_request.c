#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "openai/completion_request.h"
#include "openai/embedding_request.h"
#include "request_case.h"

#define INVALID ERR_INVALID_PARAMETERS

static struct openai_completion must_read(const char *body)
{
    struct openai_completion r;
    struct err err = ERR_INIT;
    if (!openai_completion_read(str_from(body), &OPENAI_COMPLETION_DEFAULTS, &arena, &r, &err))
        fail_msg("%s: %s", body, err.message);
    return r;
}

static bool read_completion(struct str body, struct arena *memory, struct err *err)
{
    struct openai_completion r;
    return openai_completion_read(body, &OPENAI_COMPLETION_DEFAULTS, memory, &r, err);
}

static bool read_embedding(struct str body, struct arena *memory, struct err *err)
{
    struct openai_embedding r;
    return openai_embedding_read(body, memory, &r, err);
}

static void test_completion_defaults(void **state)
{
    (void)state;
    struct openai_completion r =
        must_read("{\"model\":\"m\",\"prompt\":\"p\",\"logprobs\":null,\"best_of\":null,\"suffix\":null}");
    assert_int_equal(r.sampling.max_tokens, 2048);
    assert_true(r.sampling.temperature == 1.0 && r.sampling.top_p == 1.0);
    assert_int_equal(r.best_of, 1);
    assert_int_equal(r.logprobs, -1);
    assert_false(r.echo);
    assert_null(r.suffix.p);
    assert_int_equal(r.prompt_count, 1);
    assert_string_equal(r.prompts[0].text.p, "p");
}

static void test_four_spellings_of_a_prompt(void **state)
{
    (void)state;
    struct openai_completion r = must_read("{\"model\":\"m\",\"prompt\":[\"a\",\"b\"],\"n\":2}");
    assert_int_equal(r.prompt_count, 2);
    assert_int_equal(r.best_of, 2);
    assert_string_equal(r.prompts[1].text.p, "b");
    r = must_read("{\"model\":\"m\",\"prompt\":[5,6,7]}");
    assert_int_equal(r.prompt_count, 1);
    assert_int_equal(r.prompts[0].token_count, 3);
    assert_int_equal(r.prompts[0].tokens[2], 7);
    r = must_read("{\"model\":\"m\",\"prompt\":[[5],[6,7]],\"max_tokens\":0,\"echo\":true,\"logprobs\":0}");
    assert_int_equal(r.prompt_count, 2);
    assert_int_equal(r.prompts[1].tokens[1], 7);
    assert_int_equal(r.sampling.max_tokens, 0);
    assert_int_equal(r.logprobs, 0);
}

static void test_completion_refusals(void **state)
{
    (void)state;
    static const struct request_case cases[] = {
        {"{\"model\":\"m\"}", INVALID, "prompt", "'prompt' is required"},
        {"{\"model\":\"m\",\"prompt\":{}}", INVALID, "prompt",
         "'prompt' must be a string or an array, but is an object"},
        {"{\"model\":\"m\",\"prompt\":[]}", INVALID, "prompt",
         "'prompt' has a wrong length: its items must be between 1 and 2048"},
        {"{\"model\":\"m\",\"prompt\":[\"a\",1.5]}", INVALID, "prompt[1]",
         "'prompt[1]' must be a string or an array of tokens, but is a number"},
        {"{\"model\":\"m\",\"prompt\":[1,\"a\"]}", INVALID, "prompt[1]",
         "'prompt[1]' must be an integer, but is a string"},
        {"{\"model\":\"m\",\"prompt\":[[1],[-1]]}", INVALID, "prompt[1][0]",
         "'prompt[1][0]' is out of range: it must be a token id"},
        {"{\"model\":\"m\",\"prompt\":\"\",\"best_of\":2,\"n\":3}", INVALID, "best_of",
         "'best_of' (2) must be at least 'n' (3)"},
        {"{\"model\":\"m\",\"prompt\":\"\",\"best_of\":21}", INVALID, "best_of",
         "'best_of' is out of range: it must be between 1 and 20"},
        {"{\"model\":\"m\",\"prompt\":\"\",\"best_of\":2,\"stream\":true}", INVALID, "best_of",
         "'best_of' above 'n' cannot be combined with 'stream': the best are known at the end only"},
        {"{\"model\":\"m\",\"prompt\":[\"a\",\"b\"],\"n\":65}", INVALID, "n",
         "the prompts times their completions must be at most 128, but are 130"},
        {"{\"model\":\"m\",\"prompt\":\"\",\"logprobs\":6}", INVALID, "logprobs",
         "'logprobs' is out of range: it must be between 0 and 5"},
        {"{\"model\":\"m\",\"prompt\":\"\",\"max_tokens\":-1}", INVALID, "max_tokens",
         "'max_tokens' is out of range: it must be between 0 and 2147483647"},
        {"{\"model\":\"m\",\"prompt\":\"\",\"echo\":1}", INVALID, "echo",
         "'echo' must be a boolean, but is an integer"},
    };
    check_refusals(cases, sizeof cases / sizeof *cases, read_completion);
}

static void test_embedding_inputs_and_format(void **state)
{
    (void)state;
    struct openai_embedding r;
    struct err err = ERR_INIT;
    assert_true(openai_embedding_read(STR("{\"model\":\"m\",\"input\":[\"a\",\"b\"],\"encoding_format\":\"base64\","
                                          "\"dimensions\":null}"),
                                      &arena, &r, &err));
    assert_true(r.base64);
    assert_int_equal(r.input_count, 2);
    assert_int_equal(r.dimensions, 0);
    assert_true(openai_embedding_read(STR("{\"model\":\"m\",\"input\":[1,2],\"dimensions\":64}"), &arena, &r, &err));
    assert_false(r.base64);
    assert_int_equal(r.input_count, 1);
    assert_int_equal(r.inputs[0].token_count, 2);
    assert_int_equal(r.dimensions, 64);
}

static void test_embedding_refusals(void **state)
{
    (void)state;
    static const struct request_case cases[] = {
        {"{\"model\":\"m\"}", INVALID, "input", "'input' is required"},
        {"{\"model\":\"m\",\"input\":\"\"}", INVALID, "input", "'input' must not be empty"},
        {"{\"model\":\"m\",\"input\":[]}", INVALID, "input",
         "'input' has a wrong length: its items must be between 1 and 2048"},
        {"{\"model\":\"m\",\"input\":[\"a\",\"\"]}", INVALID, "input[1]", "'input[1]' must not be empty"},
        {"{\"model\":\"m\",\"input\":[[1],[]]}", INVALID, "input[1]", "'input[1]' must not be empty"},
        {"{\"model\":\"m\",\"input\":\"a\",\"encoding_format\":\"hex\"}", INVALID, "encoding_format",
         "'encoding_format' must be 'float' or 'base64'"},
        {"{\"model\":\"m\",\"input\":\"a\",\"dimensions\":0}", INVALID, "dimensions",
         "'dimensions' is out of range: it must be between 1 and 2147483647"},
    };
    check_refusals(cases, sizeof cases / sizeof *cases, read_embedding);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_completion_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_four_spellings_of_a_prompt, setup, teardown),
        cmocka_unit_test(test_completion_refusals),
        cmocka_unit_test_setup_teardown(test_embedding_inputs_and_format, setup, teardown),
        cmocka_unit_test(test_embedding_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
