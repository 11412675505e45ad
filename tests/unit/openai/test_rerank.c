/* /v1/rerank's body and reply. */
#include "unit/unit.h"

#include "openai/rerank.h"
#include "unit/openai/request_case.h"

static void test_documents_in_both_spellings(void **state)
{
    (void)state;
    struct openai_rerank r;
    struct err err;
    struct str body = STR("{\"model\":\"m\",\"query\":\"q\",\"documents\":[\"a\",{\"text\":\"b\"}],\"top_n\":1}");
    assert_true(openai_rerank_read(body, &arena, &r, &err));
    assert_int_equal(r.document_count, 2);
    assert_string_equal(r.documents[0].p, "a");
    assert_string_equal(r.documents[1].p, "b");
    assert_int_equal(r.top_n, 1);
    assert_false(r.return_documents);
}

static void test_the_best_come_first(void **state)
{
    (void)state;
    struct openai_ranked ranked[] = {{0, 0.5f}, {1, -2}, {2, 3}, {3, 0.5f}};
    static const size_t order[] = {2, 0, 3, 1};
    openai_rerank_sort(ranked, 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(ranked[i].index, order[i]);
}

static void test_reply(void **state)
{
    (void)state;
    const struct str documents[] = {STR("a"), STR("b")};
    const struct openai_ranked ranked[] = {{1, 0.5f}, {0, 0.25f}};
    struct openai_rerank r = {.model = STR("m"), .documents = documents, .document_count = 2, .return_documents = true};
    struct buf out;
    buf_init(&out, 4096);
    assert_true(openai_rerank_write(&out, &r, ranked, 7));
    const char *tail = strstr(out.data, "\"model\"");
    assert_string_equal(tail,
                        "\"model\":\"m\",\"results\":[{\"index\":1,\"relevance_score\":0.5,\"document\":{\"text\":"
                        "\"b\"}},{\"index\":0,\"relevance_score\":0.25,\"document\":{\"text\":\"a\"}}],\"usage\":{"
                        "\"prompt_tokens\":7,\"total_tokens\":7}}");
    buf_clear(&out);
    r.top_n = 1;
    r.return_documents = false;
    assert_true(openai_rerank_write(&out, &r, ranked, 7));
    assert_non_null(strstr(out.data, "\"results\":[{\"index\":1,\"relevance_score\":0.5}],"));
    buf_release(&out);
}

static bool read_it(struct str body, struct arena *memory, struct err *err)
{
    struct openai_rerank r;
    return openai_rerank_read(body, memory, &r, err);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct request_case cases[] = {
        {"{\"model\":\"m\",\"query\":\"q\",\"documents\":[1]}", ERR_INVALID_PARAMETERS, "documents[0]",
         "'documents[0]' must be a string or an object with a string 'text'"},
        {"{\"model\":\"m\",\"query\":\"q\",\"documents\":[{}]}", ERR_INVALID_PARAMETERS, "documents[0]",
         "'documents[0]' must be a string or an object with a string 'text'"},
        {"{\"model\":\"m\",\"documents\":[\"a\"]}", ERR_INVALID_PARAMETERS, "query", "'query' is required"},
        {"{\"model\":\"m\",\"query\":\"q\"}", ERR_INVALID_PARAMETERS, "documents", "'documents' is required"},
    };
    check_refusals(cases, sizeof cases / sizeof *cases, read_it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents_in_both_spellings),
        cmocka_unit_test(test_the_best_come_first),
        cmocka_unit_test(test_reply),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
