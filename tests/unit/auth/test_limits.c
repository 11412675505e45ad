/* The arithmetic of limits, on a clock that the test owns. */
#include "auth/limits.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/limits.h"
#include "unit/unit.h"

static struct limits *L;
static struct limit_state S;

static int setup(void **state)
{
    (void)state;
    L = limits_new(LIMIT_SUBJECTS);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    limits_free(L);
    return 0;
}

/* A request of subject 1 that takes no time. */
static bool ask(const struct limit_rates *rates, uint64_t now_ms)
{
    struct limit_subject one = limit_by_number(LIMIT_BY_KEY, 1);
    limit_hold hold = limits_begin(L, &one, rates, now_ms, &S);
    limits_end(L, hold);
    return S.refused == LIMIT_NONE;
}

static void test_window(void **state)
{
    const struct limit_rates rates = {.requests_per_minute = 1000};
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        assert_true(ask(&rates, 5000 + i));
        assert_int_equal(S.requests_left, 999 - i);
        assert_int_equal(S.reset_ms, 60000 - i);
    }
    assert_false(ask(&rates, 64999));
    assert_int_equal(S.refused, LIMIT_REQUESTS);
    assert_int_equal(S.retry_after_ms, 1);
    assert_true(ask(&rates, 65000));
    assert_int_equal(S.requests_left, 999);
    assert_int_equal(S.reset_ms, 60000);
}

static void test_the_101st_of_a_burst(void **state)
{
    const struct limit_rates rates = {.requests_per_minute = 1000, .burst = 100};
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        assert_true(ask(&rates, 1000));
    assert_false(ask(&rates, 1000));
    assert_int_equal(S.refused, LIMIT_BURST);
    assert_int_equal(S.requests_left, 900); /* a refused request is charged to nothing */
    assert_int_equal(S.retry_after_ms, 60); /* one request in 60 ms at 1000 a minute */
    assert_false(ask(&rates, 1059));
    assert_int_equal(S.retry_after_ms, 1);
    assert_true(ask(&rates, 1060));
    assert_false(ask(&rates, 1060));
    for (unsigned i = 1; i <= 10; i++)
        assert_true(ask(&rates, 1060 + 60 * i));
    for (unsigned i = 0; i < 100; i++) /* full again after 6 s, and no fuller */
        assert_true(ask(&rates, 20000));
    assert_false(ask(&rates, 20000));
}

static void test_refill_is_exact(void **state)
{
    const struct limit_rates rates = {.requests_per_minute = 7, .burst = 1}; /* one in 8571.43 ms */
    uint64_t now = 0;
    unsigned let_in = 0;
    (void)state;
    for (; now < 7 * 60000; now++)
        let_in += ask(&rates, now);
    assert_int_equal(let_in, 49);
}

static void test_tokens(void **state)
{
    const struct limit_rates rates = {.tokens_per_minute = 500};
    struct limit_subject one = limit_by_number(LIMIT_BY_KEY, 1);
    (void)state;
    limit_hold first = limits_begin(L, &one, &rates, 0, &S), second = limits_begin(L, &one, &rates, 0, &S);
    assert_int_equal(S.tokens_left, 500);
    limits_end(L, first);
    limits_charge(L, &one, 499, 10);
    assert_true(ask(&rates, 11));
    assert_int_equal(S.tokens_left, 1);
    limits_end(L, second);
    limits_charge(L, &one, 100, 12);
    assert_false(ask(&rates, 13));
    assert_int_equal(S.refused, LIMIT_TOKENS);
    assert_int_equal(S.tokens_left, 0);
    assert_int_equal(S.retry_after_ms, 60000 - 13);
    assert_true(ask(&rates, 60000));
    assert_int_equal(S.tokens_left, 500);
}

static void test_tokens_of_an_older_window_are_not_charged(void **state)
{
    const struct limit_rates rates = {.tokens_per_minute = 500};
    struct limit_subject one = limit_by_number(LIMIT_BY_KEY, 1);
    (void)state;
    limit_hold slow = limits_begin(L, &one, &rates, 0, &S);
    limits_end(L, slow);
    limits_charge(L, &one, 9999, 60000);
    assert_true(ask(&rates, 60001));
    assert_int_equal(S.tokens_left, 500);
}

static void test_concurrent(void **state)
{
    const struct limit_rates rates = {.concurrent = 2};
    struct limit_subject one = limit_by_number(LIMIT_BY_KEY, 1), two = limit_by_number(LIMIT_BY_KEY, 2);
    (void)state;
    limit_hold a = limits_begin(L, &one, &rates, 0, &S), b = limits_begin(L, &one, &rates, 0, &S);
    assert_true(a && b);
    assert_int_equal(limits_begin(L, &one, &rates, 0, &S), 0);
    assert_int_equal(S.refused, LIMIT_CONCURRENT);
    limit_hold other = limits_begin(L, &two, &rates, 0, &S);
    assert_true(other);
    limits_end(L, a);
    assert_true(ask(&rates, 1));
    limits_end(L, b);
    limits_end(L, other);
}

static void test_no_limit_remembers_nothing(void **state)
{
    const struct limit_rates none = {0};
    (void)state;
    assert_true(ask(&none, 0));
    assert_int_equal(limits_count(L), 0);
}

static void test_addresses(void **state)
{
    struct limit_subject a = limit_by_address("10.0.0.1"), b = limit_by_address("::ffff:10.0.0.1"),
                         c = limit_by_address("2001:db8:1:2::1"), d = limit_by_address("2001:db8:1:2:ffff::9"),
                         e = limit_by_address("2001:db8:1:3::1"), f = limit_by_address("");
    (void)state;
    assert_memory_equal(&a, &b, sizeof a);
    assert_memory_equal(&c, &d, sizeof c);
    assert_memory_not_equal(&c, &e, sizeof c);
    assert_memory_not_equal(&a, &f, sizeof a);
    struct limit_subject key = limit_by_number(LIMIT_BY_KEY, 5), user = limit_by_number(LIMIT_BY_USER, 5);
    assert_memory_not_equal(&key, &user, sizeof key);
}

/* A million addresses take no more room than LIMIT_SUBJECTS, and never push out one that has requests running. */
static void test_memory_is_bounded(void **state)
{
    const struct limit_rates rates = {.requests_per_minute = 1};
    struct limit_subject held = limit_by_address("192.0.2.1");
    (void)state;
    limit_hold hold = limits_begin(L, &held, &rates, 0, &S);
    for (uint32_t i = 0; i < 1000000; i++) {
        char text[16];
        snprintf(text, sizeof text, "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        struct limit_subject from = limit_by_address(text);
        limits_end(L, limits_begin(L, &from, &rates, 1, &S));
        assert_int_equal(S.refused, LIMIT_NONE);
    }
    assert_int_equal(limits_count(L), LIMIT_SUBJECTS);
    assert_int_equal(limits_begin(L, &held, &rates, 2, &S), 0);
    assert_int_equal(S.refused, LIMIT_REQUESTS);
    limits_end(L, hold);
}

static void test_all_held_refuses(void **state)
{
    const struct limit_rates rates = {.concurrent = 1};
    struct limits *small = limits_new(3);
    limit_hold holds[3];
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct limit_subject s = limit_by_number(LIMIT_BY_USER, i);
        holds[i] = limits_begin(small, &s, &rates, 0, &S);
        assert_true(holds[i]);
    }
    struct limit_subject fourth = limit_by_number(LIMIT_BY_USER, 4);
    assert_int_equal(limits_begin(small, &fourth, &rates, 0, &S), 0);
    assert_int_equal(S.refused, LIMIT_CONCURRENT);
    limits_end(small, holds[1]);
    assert_true(limits_begin(small, &fourth, &rates, 0, &S));
    limits_free(small);
}

/* Printed for the reader; far below what would be noticed, so far that a slow machine passes too. */
static void test_cost(void **state)
{
    enum { CHECKS = 1000000 };
    const struct limit_rates rates = {.requests_per_minute = UINT32_MAX, .tokens_per_minute = UINT32_MAX};
    (void)state;
    for (int i = 0; i < 10000; i++) {
        struct limit_subject s = limit_by_number(LIMIT_BY_KEY, i);
        limits_end(L, limits_begin(L, &s, &rates, 0, &S));
    }
    uint64_t start = clock_ns();
    for (int i = 0; i < CHECKS; i++) {
        struct limit_subject s = limit_by_number(LIMIT_BY_KEY, (int64_t)i * 7919 % 10000);
        limits_end(L, limits_begin(L, &s, &rates, (uint64_t)i / 100, &S));
        limits_charge(L, &s, 1, (uint64_t)i / 100);
    }
    double each = (double)(clock_ns() - start) / CHECKS;
    print_message("a check and its end: %.1f ns\n", each);
    assert_true(each < 5000);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {CASE(test_window),
                                       CASE(test_the_101st_of_a_burst),
                                       CASE(test_refill_is_exact),
                                       CASE(test_tokens),
                                       CASE(test_tokens_of_an_older_window_are_not_charged),
                                       CASE(test_concurrent),
                                       CASE(test_no_limit_remembers_nothing),
                                       CASE(test_addresses),
                                       CASE(test_memory_is_bounded),
                                       CASE(test_all_held_refuses),
                                       CASE(test_cost)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
