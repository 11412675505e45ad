/* The benchmark over the fake engine, whose speed is what it is told. */
#include "unit/unit.h"

#include "worker/bench.h"

static struct loop loop;
static struct sched *sched;
static const struct engine_info *info;

static void on_fatal(void *arg, const struct err *err)
{
    (void)arg;
    (void)err;
}

static void open_fake(const char *settings)
{
    struct err err = ERR_INIT;
    struct engine_config config = {.path = settings};
    struct engine *engine = engine_fake.open(&config, &err);
    assert_non_null(engine);
    info = engine_fake.info(engine);
    loop_init(&loop);
    sched = sched_new(&(struct sched_config){
        .ops = &engine_fake, .engine = engine, .loop = &loop, .queue_size = 16, .on_fatal = on_fatal});
}

static void close_fake(void)
{
    sched_free(sched);
    loop_release(&loop);
}

static unsigned progress_calls, progress_all;

static void on_progress(void *arg, unsigned done, unsigned all)
{
    (void)arg;
    assert_true(done <= all);
    progress_calls++;
    progress_all = all;
}

static void figures_are_those_of_the_engine(void **state)
{
    (void)state;
    struct bench_result r;
    struct err err = ERR_INIT;
    open_fake("fake:tokens_per_second=100,prefill=1000,vocab=4096");
    const struct bench_setup setup = {.streams = 2, .prompt = 8, .tokens = 30, .salt = 1, .on_progress = on_progress};
    assert_true(bench_run(sched, &loop, info->vocabulary, &setup, &r, &err));
    assert_true(r.gap_p50_ms > 9 && r.gap_p99_ms >= r.gap_p50_ms);
    assert_true(r.stream_tps > 0 && r.stream_tps < 105); /* a step takes 10 ms at least */
    assert_true(r.decode_tps < 210);
    assert_true(r.decode_tps > r.stream_tps * 1.2);
    assert_true(r.first_ms >= 7); /* eight tokens of a millisecond each */
    assert_true(r.first_worst_ms >= r.first_ms * 0.999);
    assert_true(r.prompt_tps > 0 && r.prompt_tps <= 16 / 0.007);
    assert_true(r.seconds >= 0.29);
    assert_true(progress_calls > 0);
    assert_int_equal(progress_all, 60);
    close_fake();
}

static void prompts_are_not_found_in_the_cache(void **state)
{
    (void)state;
    struct bench_result r;
    struct sched_stats stats;
    struct err err = ERR_INIT;
    open_fake("fake:vocab=4096");
    for (unsigned salt = 0; salt < 4; salt++)
        assert_true(bench_run(sched, &loop, info->vocabulary,
                              &(struct bench_setup){.streams = 4, .prompt = 16, .tokens = 2, .salt = salt}, &r, &err));
    sched_stats(sched, &stats);
    assert_int_equal(stats.prompt_tokens, 4 * 4 * 16);
    assert_int_equal(stats.cached_tokens, 0);
    assert_int_equal(stats.requests, 16);
    close_fake();
}

static void a_failing_stream_is_told(void **state)
{
    (void)state;
    struct bench_result r;
    struct err err = ERR_INIT;
    open_fake("fake:fail_after=3,vocab=4096");
    assert_false(bench_run(sched, &loop, info->vocabulary,
                           &(struct bench_setup){.streams = 2, .prompt = 4, .tokens = 10}, &r, &err));
    assert_int_not_equal(err.code, ERR_NONE);
    close_fake();
}

static void a_refused_stream_ends_the_others(void **state)
{
    (void)state;
    struct bench_result r;
    struct err err = ERR_INIT;
    open_fake("fake:vocab=4096,context=64");
    assert_false(bench_run(sched, &loop, info->vocabulary,
                           &(struct bench_setup){.streams = 2, .prompt = 1000, .tokens = 10}, &r, &err));
    assert_int_equal(err.code, ERR_CONTEXT_LENGTH_EXCEEDED);
    close_fake();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_are_those_of_the_engine),
        cmocka_unit_test(prompts_are_not_found_in_the_cache),
        cmocka_unit_test(a_failing_stream_is_told),
        cmocka_unit_test(a_refused_stream_ends_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
