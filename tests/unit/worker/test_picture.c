/* Ids that are never tokens and tell pictures apart; references; the cache of encoded images. */
#include "worker/picture.h"

#include "unit/unit.h"

static void digest_of(const char *text, unsigned char out[HASH_SHA256_SIZE])
{
    hash_sha256(text, strlen(text), out);
}

static void test_ids(void **state)
{
    unsigned char a[HASH_SHA256_SIZE], b[HASH_SHA256_SIZE], ones[HASH_SHA256_SIZE];
    engine_token x[20], y[20];
    (void)state;
    digest_of("a", a);
    digest_of("b", b);
    memset(ones, 0xff, sizeof ones);
    picture_ids(a, 20, x);
    picture_ids(b, 20, y);
    for (unsigned i = 0; i < 20; i++) {
        assert_true(x[i] < 0 && x[i] != ENGINE_TOKEN_NONE);
        assert_int_not_equal(x[i], y[i]); /* of these two, each cell differs */
        assert_int_equal(x[i], x[i % 8]);
    }
    picture_ids(a, 20, y);
    assert_memory_equal(x, y, sizeof x);
    picture_ids(ones, 1, x);
    assert_int_equal(x[0], ENGINE_TOKEN_NONE - 1);
    b[0] = a[0] ^ 1; /* every one of the first 128 bits counts, but for the four signs */
    for (unsigned bit = 0; bit < 128; bit++) {
        memcpy(b, a, sizeof b);
        b[bit / 8] ^= (unsigned char)(1u << bit % 8);
        picture_ids(a, 4, x);
        picture_ids(b, 4, y);
        assert_int_equal(memcmp(x, y, 4 * sizeof *x) == 0, bit % 32 == 31);
    }
}

static struct picture *make(const char *name, unsigned count)
{
    unsigned char sum[HASH_SHA256_SIZE];
    digest_of(name, sum);
    return picture_new(sum, count, 16, false);
}

static bool holds(struct picture_cache *cache, const char *name)
{
    unsigned char sum[HASH_SHA256_SIZE];
    digest_of(name, sum);
    struct picture *found = picture_cache_find(cache, sum);
    picture_unref(found);
    return found != NULL;
}

static void add(struct picture_cache *cache, const char *name, unsigned count)
{
    struct picture *picture = make(name, count);
    picture_cache_add(cache, picture);
    picture_unref(picture);
}

static void test_cache(void **state)
{
    struct picture_cache *cache = picture_cache_new(20000);
    (void)state;
    add(cache, "one", 100); /* 6 400 bytes each, and a head */
    add(cache, "two", 100);
    add(cache, "three", 100);
    assert_true(holds(cache, "two") && holds(cache, "three") && holds(cache, "one"));
    add(cache, "four", 100); /* two was looked at least lately */
    assert_false(holds(cache, "two"));
    assert_true(holds(cache, "one") && holds(cache, "three") && holds(cache, "four"));
    add(cache, "huge", 1000);
    assert_false(holds(cache, "huge"));
    assert_true(holds(cache, "one"));
    picture_cache_free(cache);
    picture_cache_free(NULL);
}

static void test_references(void **state)
{
    struct picture_cache *cache = picture_cache_new(1 << 20);
    struct picture *picture = make("x", 8);
    (void)state;
    picture->embeddings[8 * 16 - 1] = 3;
    picture_cache_add(cache, picture);
    picture_cache_free(cache);
    assert_true(picture->embeddings[8 * 16 - 1] == 3); /* still ours */
    picture_unref(picture_ref(picture));
    picture_unref(picture);
    picture_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ids), cmocka_unit_test(test_cache),
                                       cmocka_unit_test(test_references)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
