#include "http/query.h"

#include "unit/unit.h"

static void test_without(void **state)
{
    static const struct {
        const char *target, *left;
    } cases[] = {
        {"/a", "/a"},
        {"/a?x=1", "/a?x=1"},
        {"/a?api_key=s", "/a"},
        {"/a?api_key=s&x=1", "/a?x=1"},
        {"/a?x=1&api_key=s", "/a?x=1"},
        {"/a?x=1&api_key=s&y=%20&api_key=t", "/a?x=1&y=%20"},
        {"/a?api_keys=1", "/a?api_keys=1"},
        {"/a?api_key", "/a"},
        {"/a?", "/a?"},
        {"/a?&api_key=s&", "/a?&"},
    };
    struct arena arena;
    (void)state;
    arena_init(&arena);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct str left = http_query_without(str_from(cases[i].target), "api_key", &arena);
        assert_int_equal(left.n, strlen(cases[i].left));
        assert_memory_equal(left.p, cases[i].left, left.n);
    }
    arena_dispose(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_without)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
