/* expires_in: what is taken, what is not. */
#include "unit/unit.h"

#include "auth/lifetime.h"

static void test_taken(void **state)
{
    static const struct {
        const char *text;
        int64_t seconds;
    } cases[] = {{"60", 60},
                 {"60s", 60},
                 {"2m", 120},
                 {"1h", 3600},
                 {"30d", 30 * 86400},
                 {"2w", 1209600},
                 {"1y", 365 * 86400},
                 {"1h30m", 5400},
                 {"1y2w3d4h5m6s", 365 * 86400 + 14 * 86400 + 3 * 86400 + 4 * 3600 + 300 + 6},
                 {"0001m", 60},
                 {"100y", LIFETIME_SECONDS_MAX},
                 {"0h1m", 60}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t seconds = -1;
        if (!lifetime_parse(str_from(cases[i].text), &seconds) || seconds != cases[i].seconds)
            fail_msg("%s: %lld", cases[i].text, (long long)seconds);
    }
}

static void test_refused(void **state)
{
    static const char *const cases[] = {"",
                                        "0",
                                        "0s",
                                        "d",
                                        "-1d",
                                        "+1d",
                                        " 1d",
                                        "1d ",
                                        "1 d",
                                        "1D",
                                        "1.5h",
                                        "1M",
                                        "30m1h",
                                        "1h1h",
                                        "1h5",
                                        "1h5x",
                                        "never",
                                        "1e3",
                                        "99999999999999999999",
                                        "101y",
                                        "100y1s",
                                        "9223372036854775807w",
                                        "\xef\xbc\x91w"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t seconds = -1;
        if (lifetime_parse(str_from(cases[i]), &seconds))
            fail_msg("'%s' was taken: %lld", cases[i], (long long)seconds);
    }
    assert_false(lifetime_parse((struct str){"1\0d", 3}, &(int64_t){0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_taken), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
