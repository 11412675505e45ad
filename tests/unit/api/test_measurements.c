/* What /metrics and its kin say, without a server: the form that Accept asks for, times for people. */
#include "unit/unit.h"

#include "api/system/accept.h"
#include "api/system/uptime.h"

static void test_accept(void **state)
{
    static const struct {
        const char *accept;
        enum metrics_format format;
    } rows[] = {
        {NULL, METRICS_TEXT},
        {"", METRICS_TEXT},
        {"*/*", METRICS_TEXT},
        {"application/openmetrics-text", METRICS_OPENMETRICS},
        {"Application/OpenMetrics-Text; version=1.0.0 ; q=0.1", METRICS_OPENMETRICS},
        {"text/plain;q=0.4,application/openmetrics-text;q=0.4", METRICS_OPENMETRICS},
        {"text/plain,application/openmetrics-text;q=0.9", METRICS_TEXT},
        {"application/openmetrics-text;q=0", METRICS_TEXT},
        {"application/openmetrics-text;q", METRICS_TEXT},
        {"application/openmetrics-text;q=2", METRICS_TEXT},
        {"application/openmetrics-text;q=nan", METRICS_TEXT},
        {",;,=,application/openmetrics-text,", METRICS_OPENMETRICS},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (metrics_format_of(str_from(rows[i].accept)) != rows[i].format)
            fail_msg("%s", rows[i].accept);
}

static void test_uptime(void **state)
{
    struct arena arena;
    (void)state;
    arena_init(&arena);
    assert_string_equal(uptime_text(0, &arena), "0h 0m 0s");
    assert_string_equal(uptime_text(2 * 3600 + 15 * 60 + 30, &arena), "2h 15m 30s");
    assert_string_equal(uptime_text(86399, &arena), "23h 59m 59s");
    assert_string_equal(uptime_text(86400, &arena), "1d 0h 0m 0s");
    assert_string_equal(uptime_text(100u * 86400 + 3661, &arena), "100d 1h 1m 1s");
    arena_dispose(&arena);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_accept), cmocka_unit_test(test_uptime)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
