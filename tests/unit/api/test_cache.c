/* What may be kept, under which key, for how long, in how much room. */
#include "api/openai/cache.h"

#include "base/limits.h"
#include "base/mem.h"
#include "unit/unit.h"

#define CHAT "/v1/chat/completions"

static bool key_of(const char *path, const char *body, int64_t tenant, struct cache_key *key)
{
    memset(key, 0, sizeof *key);
    return cache_key_of(str_from(path), str_from(body), "m", tenant, key);
}

static bool same(const char *a, const char *b)
{
    struct cache_key x, y;
    assert_true(key_of(CHAT, a, 1, &x));
    assert_true(key_of(CHAT, b, 1, &y));
    return memcmp(x.digest, y.digest, sizeof x.digest) == 0;
}

#define BODY(more) "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"temperature\":0" more "}"

static void test_images_from_elsewhere_are_not_kept(void **state)
{
#define IMAGE(url)                                                                                                     \
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"http\"},"            \
    "{\"type\":\"image_url\",\"image_url\":{\"url\":\"" url "\"}}]}],\"temperature\":0}"
    struct cache_key key;
    (void)state;
    assert_true(key_of(CHAT, IMAGE("data:image/png;base64,QQ=="), 1, &key));
    assert_false(key_of(CHAT, IMAGE("http://h/x"), 1, &key));
    assert_false(key_of(CHAT, IMAGE("HTTPS://h/x"), 1, &key));
    assert_false(same(IMAGE("data:image/png;base64,QQ=="), IMAGE("data:image/png;base64,Qg==")));
}

static void test_every_field_that_matters_changes_the_key(void **state)
{
    static const char *const others[] = {
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"b\"}],\"temperature\":0}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"a\"}],\"temperature\":0}",
        BODY(",\"max_tokens\":7"),
        BODY(",\"max_completion_tokens\":7"),
        BODY(",\"top_p\":0.5"),
        BODY(",\"top_k\":3"),
        BODY(",\"min_p\":0.1"),
        BODY(",\"typical_p\":0.1"),
        BODY(",\"repeat_penalty\":1.2"),
        BODY(",\"presence_penalty\":1"),
        BODY(",\"frequency_penalty\":1"),
        BODY(",\"stop\":[\"x\"]"),
        BODY(",\"stop\":\"x\""),
        BODY(",\"n\":2"),
        BODY(",\"seed\":1"),
        BODY(",\"seed\":2"),
        BODY(",\"logprobs\":true"),
        BODY(",\"logprobs\":true,\"top_logprobs\":2"),
        BODY(",\"logit_bias\":{\"5\":1}"),
        BODY(",\"logit_bias\":{\"5\":2}"),
        BODY(",\"stream\":true"),
        BODY(",\"stream\":true,\"stream_options\":{\"include_usage\":true}"),
        BODY(",\"response_format\":{\"type\":\"json_object\"}"),
        BODY(",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]"),
        BODY(",\"tool_choice\":\"none\""),
        BODY(",\"reasoning_effort\":\"low\""),
        BODY(",\"grammar\":\"root ::= [a]\""),
        BODY(",\"ignore_eos\":true"),
        BODY(",\"chat_template_kwargs\":{\"x\":1}"),
        BODY(",\"a_new_field\":1")};
    const size_t count = sizeof others / sizeof *others;
    (void)state;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < i; k++)
            assert_false(same(others[i], others[k]));
    for (size_t i = 0; i < count; i++)
        assert_false(same(BODY(""), others[i]));
}

static void test_what_does_not_matter(void **state)
{
    (void)state;
    assert_true(
        same(BODY(""), BODY(",\"user\":\"u\",\"metadata\":{\"a\":\"b\"},\"store\":true,\"service_tier\":\"x\"")));
    assert_true(same(BODY(""), "{ \"temperature\": 0, \"messages\": [ {\"content\":\"\\u0061\",\"role\":\"user\"} ],"
                               " \"model\":\"another name for it\"}"));
    assert_true(same(BODY(""), "{\"temperature\":1,"
                               "\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],"
                               "\"temperature\":0}"));
}

static void test_model_path_and_tenant_count(void **state)
{
    struct cache_key a, b;
    (void)state;
    assert_true(key_of(CHAT, BODY(""), 1, &a));
    assert_true(key_of(CHAT, BODY(""), 2, &b));
    assert_memory_not_equal(a.digest, b.digest, sizeof a.digest);
    assert_true(key_of("/v1/completions", BODY(""), 1, &b));
    assert_memory_not_equal(a.digest, b.digest, sizeof a.digest);
    assert_true(cache_key_of(STR(CHAT), STR(BODY("")), "other", 1, &b));
    assert_memory_not_equal(a.digest, b.digest, sizeof a.digest);
}

static void test_only_what_repeats_is_kept(void **state)
{
    struct cache_key k;
    (void)state;
    assert_false(key_of(CHAT, "{\"model\":\"m\",\"messages\":[]}", 1, &k));
    assert_false(key_of(CHAT, "{\"model\":\"m\",\"messages\":[],\"temperature\":0.1}", 1, &k));
    assert_false(key_of(CHAT, "{\"model\":\"m\",\"messages\":[],\"temperature\":null,\"seed\":null}", 1, &k));
    assert_true(key_of(CHAT, "{\"model\":\"m\",\"messages\":[],\"seed\":5}", 1, &k));
    assert_true(key_of("/v1/embeddings", "{\"model\":\"m\",\"input\":\"a\"}", 1, &k));
    assert_false(key_of("/v1/rerank", "{\"model\":\"m\",\"seed\":1}", 1, &k));
    assert_false(key_of(CHAT, "{\"model\":\"m\",\"seed\":5", 1, &k));
    assert_false(key_of(CHAT, "[1]", 1, &k));
}

/* ---- keeping ---- */

static void keep(struct cache *c, int number, size_t n, uint64_t generation, uint64_t now)
{
    struct cache_key key = {.streamed = false};
    struct arena arena;
    char *bytes = mem_calloc(1, n);
    memcpy(key.digest, &number, sizeof number);
    arena_init(&arena);
    struct cache_fill *fill = cache_fill_begin(c, &key, &arena);
    cache_fill_head(fill, 200, STR("application/json"));
    cache_fill_data(fill, (struct str){bytes, n});
    cache_fill_done(fill, generation, now);
    arena_dispose(&arena);
    mem_free(bytes);
}

static bool kept(struct cache *c, int number, uint64_t generation, uint64_t now)
{
    struct cache_key key = {.streamed = false};
    struct cache_reply reply;
    memcpy(key.digest, &number, sizeof number);
    return cache_get(c, &key, generation, now, &reply);
}

static void test_bounds_and_ages(void **state)
{
    struct metrics *m = metrics_new();
    struct cache *c = cache_new(3, 1000, 500, m);
    (void)state;
    keep(c, 1, 100, 7, 0);
    keep(c, 2, 100, 7, 0);
    keep(c, 3, 100, 7, 0);
    assert_true(kept(c, 1, 7, 499));
    keep(c, 4, 100, 7, 400); /* 2 was used least recently */
    assert_false(kept(c, 2, 7, 400));
    assert_true(kept(c, 1, 7, 400));
    assert_false(kept(c, 1, 7, 500)); /* its time is over */
    assert_true(kept(c, 4, 7, 500));
    assert_false(kept(c, 4, 8, 500)); /* another process */
    assert_false(kept(c, 4, 7, 500));
    keep(c, 5, 251, 7, 0); /* more than its share */
    assert_false(kept(c, 5, 7, 0));
    assert_true(metrics_value(m, METRIC_CACHE_EVICTIONS, NULL) == 1);
    assert_true(metrics_value(m, METRIC_CACHE_ENTRIES, NULL) == 1);
    assert_true(metrics_value(m, METRIC_CACHE_BYTES, NULL) == 100);
    cache_free(c);
    metrics_free(m);
}

static void test_what_is_not_whole_is_not_kept(void **state)
{
    static const struct {
        int status;
        bool streamed;
        const char *body;
    } rows[] = {
        {400, false, "{}"}, {200, false, ""}, {200, true, "data: {\"error\":{}}\n\n"}, {200, true, "data: {}\n\n"}};
    struct cache *c = cache_new(10, 1000, 500, NULL);
    struct cache_key key = {.streamed = false};
    struct cache_reply reply;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena arena;
        arena_init(&arena);
        key.streamed = rows[i].streamed;
        struct cache_fill *fill = cache_fill_begin(c, &key, &arena);
        assert_non_null(fill);
        assert_null(cache_fill_begin(c, &key, &arena));
        cache_fill_head(fill, rows[i].status, STR("text/x"));
        cache_fill_data(fill, str_from(rows[i].body));
        cache_fill_done(fill, 1, 0);
        arena_dispose(&arena);
        assert_false(cache_get(c, &key, 1, 0, &reply));
    }
    cache_free(c);
}

static void note(void *arg)
{
    ++*(int *)arg;
}

static void test_waiters_are_told_also_of_a_failure(void **state)
{
    struct cache *c = cache_new(10, 1000, 500, NULL);
    struct cache_key key = {.streamed = false};
    struct arena filler, patient, gone;
    int told = 0, never = 0;
    (void)state;
    arena_init(&filler);
    arena_init(&patient);
    arena_init(&gone);
    cache_wait(c, &key, &patient, note, &told);
    assert_int_equal(told, 1); /* nobody fills it */
    cache_fill_begin(c, &key, &filler);
    cache_wait(c, &key, &patient, note, &told);
    cache_wait(c, &key, &gone, note, &never);
    arena_dispose(&gone);
    assert_int_equal(told, 1);
    arena_dispose(&filler);
    assert_int_equal(told, 2);
    assert_int_equal(never, 0);
    arena_dispose(&patient);
    cache_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_field_that_matters_changes_the_key),
                                       cmocka_unit_test(test_images_from_elsewhere_are_not_kept),
                                       cmocka_unit_test(test_what_does_not_matter),
                                       cmocka_unit_test(test_model_path_and_tenant_count),
                                       cmocka_unit_test(test_only_what_repeats_is_kept),
                                       cmocka_unit_test(test_bounds_and_ages),
                                       cmocka_unit_test(test_what_is_not_whole_is_not_kept),
                                       cmocka_unit_test(test_waiters_are_told_also_of_a_failure)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
