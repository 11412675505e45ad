/* Token counts found in passing bytes, wherever they are cut. */
#include "openai/usage_tap.h"

#include "base/limits.h"
#include "unit/unit.h"

static struct usage_counts of(const char *text, size_t piece)
{
    struct usage_tap tap;
    size_t n = strlen(text);
    usage_tap_init(&tap);
    for (size_t at = 0; at < n; at += piece)
        usage_tap_feed(&tap, (struct str){text + at, n - at < piece ? n - at : piece});
    struct usage_counts counts = usage_tap_read(&tap);
    usage_tap_release(&tap);
    return counts;
}

static void expect(const char *text, uint64_t prompt, uint64_t completion, uint64_t cached)
{
    for (size_t piece = 1; piece <= strlen(text); piece++) {
        struct usage_counts counts = of(text, piece);
        assert_true(counts.known);
        assert_int_equal(counts.prompt_tokens, prompt);
        assert_int_equal(counts.completion_tokens, completion);
        assert_int_equal(counts.cached_tokens, cached);
    }
}

static void test_plain_reply(void **state)
{
    (void)state;
    expect("{\"choices\":[{\"message\":{\"content\":\"hi\"}}],\"usage\":{\"prompt_tokens\":25,\"completion_tokens\":7,"
           "\"total_tokens\":32,\"prompt_tokens_details\":{\"cached_tokens\":20}},\"timings\":{\"prompt_n\":5}}",
           25, 7, 20);
}

static void test_chunks_with_null_before(void **state)
{
    (void)state;
    expect("data: {\"choices\":[],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\": {\"prompt_tokens\":3,"
           "\"completion_tokens\":4}}\n\ndata: [DONE]\n\n",
           3, 4, 0);
}

static void test_the_last_one_counts(void **state)
{
    (void)state;
    expect("{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}{\"usage\":{\"prompt_tokens\":1,"
           "\"completion_tokens\":2,\"note\":\"a } \\\" brace\"}}",
           1, 2, 0);
}

static void test_text_that_looks_like_it(void **state)
{
    (void)state;
    expect("{\"content\":\"\\\"usage\\\":{\\\"prompt_tokens\\\":99}\",\"usage\":{\"prompt_tokens\":1,"
           "\"completion_tokens\":2}}",
           1, 2, 0);
    assert_false(of("{\"content\":\"\\\"usage\\\":{\\\"prompt_tokens\\\":99}\"}", 64).known);
}

static void test_comment_of_our_worker(void **state)
{
    (void)state;
    struct usage_counts counts = of(": {\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,"
                                    "\"prompt_tokens_details\":{\"cached_tokens\":0},\"queue_ms\":1.5}}\n\n",
                                    5);
    assert_true(counts.known);
    assert_true(counts.queue_ms == 1.5);
}

static void test_broken_or_huge_is_unknown(void **state)
{
    (void)state;
    assert_false(of("{\"usage\":{\"prompt_tokens\":9", 64).known);
    assert_false(of("{\"usage\":7,\"prompt_tokens\":9}", 64).known);
    struct buf huge;
    buf_init(&huge, 2 * LIMIT_USAGE_BYTES);
    buf_printf(&huge, "{\"usage\":{\"prompt_tokens\":1,%*s\"completion_tokens\":1}}", LIMIT_USAGE_BYTES, "");
    assert_false(of(huge.data, 1000).known);
    buf_release(&huge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_reply),           cmocka_unit_test(test_chunks_with_null_before),
        cmocka_unit_test(test_the_last_one_counts),   cmocka_unit_test(test_text_that_looks_like_it),
        cmocka_unit_test(test_comment_of_our_worker), cmocka_unit_test(test_broken_or_huge_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
