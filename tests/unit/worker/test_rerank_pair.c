/* The pair that a cross-encoder scores: which marks stand where, and that a text cannot forge one. */
#include "unit/unit.h"

#include "worker/rerank_pair.h"

enum { BOS = 1000, EOS, SEP };

static struct engine_info info;
static struct arena arena;

/* A byte is a token, '#' where control tokens are read is BOS. */
static int tokenize(const struct engine *engine, struct str text, bool add_special, bool parse_special,
                    engine_token *out, int capacity)
{
    (void)engine;
    assert_false(add_special);
    assert_true(text.n <= (size_t)capacity);
    for (size_t i = 0; i < text.n; i++)
        out[i] = parse_special && text.p[i] == '#' ? BOS : (unsigned char)text.p[i];
    return (int)text.n;
}

static const struct engine_info *info_of(const struct engine *engine)
{
    (void)engine;
    return &info;
}

static const struct engine_ops ops = {.tokenize = tokenize, .info = info_of};

static void check(const engine_token *wanted, size_t count)
{
    struct rerank_marks marks;
    struct rerank_tokens query, document;
    struct err err = ERR_INIT;
    assert_true(rerank_marks_of(&ops, NULL, &arena, &marks, &err));
    assert_true(rerank_tokenize(&ops, NULL, STR("q#"), &arena, &query));
    assert_true(rerank_tokenize(&ops, NULL, STR("d"), &arena, &document));
    struct rerank_tokens pair = rerank_pair(&marks, &query, &document, &arena);
    assert_int_equal(pair.count, count);
    assert_memory_equal(pair.ids, wanted, count * sizeof *wanted);
}

#define CHECK(...)                                                                                                     \
    do {                                                                                                               \
        const engine_token wanted[] = {__VA_ARGS__};                                                                   \
        check(wanted, sizeof wanted / sizeof *wanted);                                                                 \
    } while (0)

static void test_the_vocabulary_s_marks(void **state)
{
    (void)state;
    info = (struct engine_info){.rerank_template = "", .bos = BOS, .eos = EOS, .sep = SEP};
    CHECK('q', '#', 'd');
    info.add_bos = info.add_eos = true;
    CHECK(BOS, 'q', '#', EOS, 'd', EOS);
    info.add_sep = true;
    CHECK(BOS, 'q', '#', EOS, SEP, 'd', EOS);
    info.eos = ENGINE_TOKEN_NONE; /* BERT's vocabularies end with SEP */
    info.add_sep = false;
    CHECK(BOS, 'q', '#', SEP, 'd', SEP);
    info.sep = ENGINE_TOKEN_NONE;
    CHECK(BOS, 'q', '#', 'd');
}

static void test_a_template_s_marks(void **state)
{
    (void)state;
    info = (struct engine_info){.rerank_template = "#a{query}b{document}c", .bos = BOS, .eos = EOS, .add_bos = true};
    CHECK(BOS, 'a', 'q', '#', 'b', 'd', 'c');
    info.rerank_template = "{document}b{query}";
    CHECK('d', 'b', 'q', '#');
}

static void test_templates_without_a_place(void **state)
{
    (void)state;
    static const char *const bad[] = {"{query}", "{document}", "x", "{query}{query}{document}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct rerank_marks marks;
        struct err err = ERR_INIT;
        info = (struct engine_info){.rerank_template = bad[i]};
        assert_false(rerank_marks_of(&ops, NULL, &arena, &marks, &err));
        assert_int_equal(err.code, ERR_NOT_SUPPORTED);
    }
}

static int setup(void **state)
{
    (void)state;
    arena_init(&arena);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_dispose(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_vocabulary_s_marks),
        cmocka_unit_test(test_a_template_s_marks),
        cmocka_unit_test(test_templates_without_a_place),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
