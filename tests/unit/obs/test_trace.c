/* Trace Context and OTLP's JSON, to the byte. */
#include "obs/trace.h"

#include <string.h>

#include "base/limits.h"
#include "obs/export.h"
#include "unit/unit.h"

#define GOOD "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static void test_traceparent_goes_in_and_out(void **state)
{
    struct trace_context c;
    char text[TRACE_PARENT_TEXT];
    (void)state;
    assert_true(trace_parse(STR(GOOD), &c));
    assert_true(c.sampled);
    assert_int_equal(c.trace[0], 0x4b);
    assert_int_equal(c.span[7], 0xb7);
    assert_string_equal(trace_parent(&c, text), GOOD);
    assert_true(trace_parse(STR("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02"), &c));
    assert_false(c.sampled);
    assert_true(trace_parse(STR("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later"), &c));
}

static void test_what_is_no_traceparent(void **state)
{
    static const char *const bad[] = {
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e47366-00f067aa0ba902b7-01",
    };
    struct trace_context c;
    (void)state;
    assert_false(trace_parse(STR_NONE, &c));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (trace_parse(str_from(bad[i]), &c))
            fail_msg("taken: %s", bad[i]);
}

static void test_a_child_belongs_to_its_parent(void **state)
{
    struct trace_context parent, child;
    (void)state;
    assert_true(trace_parse(STR(GOOD), &parent));
    child = trace_begin(&parent, 0);
    assert_true(child.sampled);
    assert_true(child.has_parent);
    assert_memory_equal(child.trace, parent.trace, sizeof child.trace);
    assert_memory_equal(child.parent, parent.span, sizeof child.parent);
    assert_memory_not_equal(child.span, parent.span, sizeof child.span);
}

static void test_sampling_is_the_share(void **state)
{
    unsigned taken = 0;
    (void)state;
    for (int i = 0; i < 4000; i++) {
        assert_true(trace_begin(NULL, 1).sampled);
        assert_false(trace_begin(NULL, 0).sampled);
        taken += trace_begin(NULL, 0.25).sampled;
    }
    assert_in_range(taken, 800, 1200); /* 1000, and seven times the deviation of 27 */
    struct trace_context one = trace_begin(NULL, 1), other = trace_begin(NULL, 1);
    assert_false(one.has_parent);
    assert_memory_not_equal(one.trace, other.trace, sizeof one.trace);
}

static void test_otlp_json(void **state)
{
    static const struct trace_attribute attributes[] = {{"gen_ai.request.model", STR("a\"b"), 0},
                                                        {"gen_ai.usage.input_tokens", {NULL, 0}, 12}};
    struct trace_span span = {"chat m", TRACE_CLIENT, 1500000000000000001u, 1500000000000000009u, true, attributes, 2};
    struct trace_context c;
    struct buf out;
    struct json j;
    (void)state;
    assert_true(trace_parse(STR(GOOD), &c));
    buf_init(&out, 4096);
    json_begin(&j, &out);
    trace_write(&j, &c, &span);
    assert_true(json_finish(&j));
    assert_string_equal(out.data, "{\"traceId\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"spanId\":\"00f067aa0ba902b7\","
                                  "\"name\":\"chat m\",\"kind\":3,\"startTimeUnixNano\":\"1500000000000000001\","
                                  "\"endTimeUnixNano\":\"1500000000000000009\",\"attributes\":["
                                  "{\"key\":\"gen_ai.request.model\",\"value\":{\"stringValue\":\"a\\\"b\"}},"
                                  "{\"key\":\"gen_ai.usage.input_tokens\",\"value\":{\"intValue\":\"12\"}}],"
                                  "\"status\":{\"code\":2}}");
    buf_release(&out);
}

/* Nothing of a header's value is in the message. */
static void test_wrong_options_are_named(void **state)
{
    static const char *const none[] = {NULL}, *const split[] = {"a=b", "x=se\r\ncret", NULL},
                             *const ours[] = {"Content-Length=secret", NULL}, *const bare[] = {"secret", NULL};
    static const struct {
        const char *endpoint, *const *headers, *says;
    } rows[] = {{"https://127.0.0.1:4318", none, "https is not supported"},
                {"http://collector:4318", none, "numeric"},
                {"127.0.0.1:4318", none, "otlp_endpoint"},
                {"unix:/tmp/x", none, "otlp_endpoint"},
                {"http://127.0.0.1:0", none, "port"},
                {"http://127.0.0.1:4318", split, "entry 2"},
                {"http://127.0.0.1:4318", ours, "entry 1"},
                {"http://127.0.0.1:4318", bare, "entry 1"}};
    struct loop loop;
    (void)state;
    loop_init(&loop);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = ERR_INIT;
        struct tracer_options options = {rows[i].endpoint, rows[i].headers, "s", "v", 5000, 1};
        assert_null(tracer_new(&loop, &options, NULL, &err));
        assert_int_equal(err.code, ERR_CONFIG);
        assert_non_null(strstr(err.message, rows[i].says));
        assert_null(strstr(err.message, "secret"));
    }
    loop_release(&loop);
}

static void on_flushed(void *arg)
{
    loop_stop(arg);
}

/* Nobody listens at port 1: what is too much goes at once, the rest when the time to end has come. */
static void test_the_queue_is_bounded_and_every_loss_is_counted(void **state)
{
    static const char *const none[] = {NULL}, *const full[] = {"queue_full"}, *const far[] = {"unreachable"};
    struct tracer_options options = {"http://127.0.0.1:1", none, "s", "v", 600000, 1};
    struct trace_span span = {.name = "a", .kind = TRACE_INTERNAL, .start_ns = 1, .end_ns = 2};
    struct metrics *metrics = metrics_new();
    struct loop loop;
    struct err err;
    (void)state;
    loop_init(&loop);
    struct tracer *tracer = tracer_new(&loop, &options, metrics, &err);
    assert_non_null(tracer);
    struct trace_context sampled = trace_begin(NULL, 1), ignored = trace_begin(NULL, 0);
    for (size_t i = 0; i < LIMIT_TRACE_QUEUE + LIMIT_TRACE_BATCH + 7; i++) {
        tracer_add(tracer, &sampled, &span);
        tracer_add(tracer, &ignored, &span);
    }
    assert_true(metrics_value(metrics, METRIC_TRACE_DROPPED, full) == 7);
    tracer_flush(tracer, on_flushed, &loop);
    loop_run(&loop);
    assert_true(metrics_value(metrics, METRIC_TRACE_DROPPED, far) == LIMIT_TRACE_QUEUE + LIMIT_TRACE_BATCH);
    assert_true(metrics_total(metrics, METRIC_TRACE_EXPORTED) == 0);
    tracer_free(tracer);
    loop_release(&loop);
    metrics_free(metrics);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_traceparent_goes_in_and_out),
        cmocka_unit_test(test_what_is_no_traceparent),
        cmocka_unit_test(test_a_child_belongs_to_its_parent),
        cmocka_unit_test(test_sampling_is_the_share),
        cmocka_unit_test(test_otlp_json),
        cmocka_unit_test(test_wrong_options_are_named),
        cmocka_unit_test(test_the_queue_is_bounded_and_every_loss_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
