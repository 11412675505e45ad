/* Families and series as Prometheus wants them. */
#include "obs/metrics.h"

#include "base/limits.h"
#include "unit/unit.h"

static const char *written(const struct metrics *m, struct buf *out)
{
    buf_init(out, 64u << 20);
    metrics_write(m, METRICS_TEXT, out);
    return buf_view(out).p;
}

static void test_counter_with_labels(void **state)
{
    static const char *const ok[] = {"a\"b\\c\nd", "chat", "200"}, *const bad[] = {"m", "chat", "500"};
    struct metrics *m = metrics_new();
    struct buf out;
    (void)state;
    metrics_add(m, METRIC_REQUESTS, ok, 1);
    metrics_add(m, METRIC_REQUESTS, ok, 2);
    metrics_add(m, METRIC_REQUESTS, bad, 1);
    const char *text = written(m, &out);
    assert_non_null(strstr(text, "# TYPE inferno_requests_total counter\n"));
    assert_non_null(
        strstr(text, "inferno_requests_total{model=\"a\\\"b\\\\c\\nd\",endpoint=\"chat\",status=\"200\"} 3\n"));
    assert_non_null(strstr(text, "{model=\"m\",endpoint=\"chat\",status=\"500\"} 1\n"));
    assert_true(metrics_value(m, METRIC_REQUESTS, ok) == 3);
    assert_true(metrics_total(m, METRIC_REQUESTS) == 4);
    buf_release(&out);
    metrics_free(m);
}

static void test_histogram_cumulates(void **state)
{
    static const char *const chat[] = {"chat"};
    struct metrics *m = metrics_new();
    struct buf out;
    (void)state;
    metrics_observe(m, METRIC_REQUEST_SECONDS, chat, 0.005); /* a bound belongs to its bucket */
    metrics_observe(m, METRIC_REQUEST_SECONDS, chat, 0.02);
    metrics_observe(m, METRIC_REQUEST_SECONDS, chat, 1000);
    const char *text = written(m, &out);
    assert_non_null(strstr(text, "_seconds_bucket{endpoint=\"chat\",le=\"0.005\"} 1\n"));
    assert_non_null(strstr(text, "_seconds_bucket{endpoint=\"chat\",le=\"0.025\"} 2\n"));
    assert_non_null(strstr(text, "_seconds_bucket{endpoint=\"chat\",le=\"300\"} 2\n"));
    assert_non_null(strstr(text, "_seconds_bucket{endpoint=\"chat\",le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(text, "_seconds_sum{endpoint=\"chat\"} 1000.025\n"));
    assert_non_null(strstr(text, "_seconds_count{endpoint=\"chat\"} 3\n"));
    buf_release(&out);
    metrics_free(m);
}

static void test_series_are_bounded(void **state)
{
    static const char *const other[] = {"other"};
    struct metrics *m = metrics_new();
    char name[16];
    const char *const label[] = {name};
    (void)state;
    for (int i = 0; i < LIMIT_METRIC_SERIES + 500; i++) {
        snprintf(name, sizeof name, "m%d", i);
        metrics_add(m, METRIC_TOKENS_GENERATED, label, 1);
    }
    assert_true(metrics_value(m, METRIC_TOKENS_GENERATED, other) == 500);
    assert_true(metrics_total(m, METRIC_TOKENS_GENERATED) == LIMIT_METRIC_SERIES + 500);
    metrics_free(m);
}

static void test_openmetrics_names_and_bounds(void **state)
{
    static const char *const request[] = {"m", "chat", "200"}, *const chat[] = {"chat"};
    struct metrics *m = metrics_new();
    struct buf out;
    (void)state;
    metrics_add(m, METRIC_REQUESTS, request, 1);
    metrics_observe(m, METRIC_REQUEST_SECONDS, chat, 0.7);
    buf_init(&out, 64u << 20);
    metrics_write(m, METRICS_OPENMETRICS, &out);
    const char *text = buf_view(&out).p;
    assert_non_null(strstr(text, "# TYPE inferno_requests counter\ninferno_requests_total{"));
    assert_null(strstr(text, "# TYPE inferno_requests_total"));
    assert_non_null(strstr(text, "{endpoint=\"chat\",le=\"0.5\"} 0\n"));
    assert_non_null(strstr(text, "{endpoint=\"chat\",le=\"1.0\"} 1\n"));
    assert_non_null(strstr(text, "{endpoint=\"chat\",le=\"+Inf\"} 1\n"));
    buf_release(&out);
    metrics_free(m);
}

/* A model's name that looks like the label is not taken for it. */
static void test_totals_by_label(void **state)
{
    static const char *const rows[][3] = {
        {"m", "chat", "200"}, {"m", "chat", "204"}, {"m", "chat", "500"}, {"x\",status=\"2", "chat", "404"}};
    static const char *const chat[] = {"chat"}, *const other[] = {"other"};
    struct metrics *m = metrics_new();
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        metrics_add(m, METRIC_REQUESTS, rows[i], 1);
    assert_true(metrics_total(m, METRIC_REQUESTS) == 4);
    assert_true(metrics_total_where(m, METRIC_REQUESTS, "status", "2") == 2);
    metrics_observe(m, METRIC_REQUEST_SECONDS, chat, 1);
    metrics_observe(m, METRIC_REQUEST_SECONDS, chat, 2);
    metrics_observe(m, METRIC_REQUEST_SECONDS, other, 4);
    assert_int_equal(metrics_observations(m, METRIC_REQUEST_SECONDS), 3);
    assert_true(metrics_total(m, METRIC_REQUEST_SECONDS) == 7);
    metrics_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counter_with_labels), cmocka_unit_test(test_openmetrics_names_and_bounds),
        cmocka_unit_test(test_totals_by_label), cmocka_unit_test(test_histogram_cumulates),
        cmocka_unit_test(test_series_are_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
