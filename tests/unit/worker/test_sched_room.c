#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "gate.h"

#define MEMORY (1u << 20)

static struct sched_stats stats_now(void)
{
    struct sched_stats stats;
    sched_stats(drive.sched, &stats);
    return stats;
}

static void start_for(struct drive_reply *reply, const char *prompt, unsigned max_tokens, uint64_t client, int priority)
{
    engine_token tokens[2048];
    struct gen_request request = {.kind = GEN_GENERATE,
                                  .tokens = tokens,
                                  .choices = 1,
                                  .params = drive_greedy(max_tokens),
                                  .client = client,
                                  .priority = priority};
    drive_reply_init(&drive, reply);
    request.token_count = drive_tokenize(&drive, prompt, tokens, 2048);
    assert_true(drive_submit(&drive, reply, &request));
}

/* Prompts of `letter`, 100 tokens, that go on for ever. */
static const char *long_prompt(char letter)
{
    static char prompt[101];
    memset(prompt, letter, 99);
    prompt[99] = '|';
    return prompt;
}

static void expect_repeats(const struct drive_reply *reply, const char *prompt, unsigned tokens)
{
    size_t length = strlen(prompt);
    const char *text = drive_text(reply, 0);
    assert_int_equal(strlen(text), tokens);
    for (unsigned i = 0; i < tokens; i++)
        assert_int_equal(text[i], prompt[i % length]);
}

/* Three prompts of 100 tokens in 250 cells: what leaves the cache is found again in the store. */
static void what_leaves_the_cache_comes_back(void **state)
{
    (void)state;
    struct drive_reply reply;
    open_fake_with("fake:context=250,sequences=2", (struct sched_config){.queue_size = 8, .kv_memory = MEMORY});
    for (char letter = 'a'; letter <= 'c'; letter++) {
        run(&reply, long_prompt(letter), 10);
        drive_reply_release(&reply);
    }
    for (char letter = 'a'; letter <= 'c'; letter++) {
        run(&reply, long_prompt(letter), 10);
        expect_repeats(&reply, long_prompt(letter), 10);
        assert_int_equal(reply.timings.cached_tokens, 99);
        drive_reply_release(&reply);
    }
    assert_true(stats_now().kv.restored >= 2);
    close_fake();
    open_fake("fake:context=250,sequences=2", 8); /* and without a store it does not */
    for (char letter = 'a'; letter <= 'c'; letter++) {
        run(&reply, long_prompt(letter), 10);
        drive_reply_release(&reply);
    }
    run(&reply, long_prompt('a'), 10);
    assert_int_equal(reply.timings.cached_tokens, 0);
    drive_reply_release(&reply);
    close_fake();
}

/* Both sequences grow until the cache is full: one goes out and comes back, and nothing is computed twice but its last
 * token. */
static void pre_emption_is_a_copy(void **state)
{
    (void)state;
    struct drive_reply a, b;
    open_fake_with("fake:context=300,sequences=2", (struct sched_config){.queue_size = 8, .kv_memory = MEMORY});
    gate_set(true, 0);
    start(&a, long_prompt('a'), 120);
    start(&b, long_prompt('b'), 120);
    gate_set(false, 0);
    loop_run(&drive.loop);
    expect_repeats(&a, long_prompt('a'), 120);
    expect_repeats(&b, long_prompt('b'), 120);
    struct sched_stats stats = stats_now();
    assert_true(stats.preempted > 0);
    assert_true(stats.kv.restored > 0);
    assert_true(gate.rows <= 2 * (100 + 119) + 2 * stats.preempted);
    drive_reply_release(&a);
    drive_reply_release(&b);
    close_fake();
}

/* Quiet moments: everything is copied, and all but the last leaves the cache. */
static void a_quiet_moment_is_used(void **state)
{
    (void)state;
    struct drive_reply reply;
    open_fake_with("fake:context=800,sequences=2", (struct sched_config){.queue_size = 8, .kv_memory = MEMORY});
    for (char letter = 'a'; letter <= 'c'; letter++) {
        run(&reply, long_prompt(letter), 10);
        drive_reply_release(&reply);
    }
    uint64_t deadline = clock_ms() + 20000;
    while (stats_now().kv.states < 3 || stats_now().cells_idle > 200)
        assert_true(clock_ms() < deadline);
    run(&reply, long_prompt('a'), 10);
    assert_int_equal(reply.timings.cached_tokens, 99);
    drive_reply_release(&reply);
    close_fake();
}

/* An idle prefix leaves while another stream is at work, and comes back as a copy; it stays when nothing else in the
 * store would survive that. */
static void idle_prefixes_make_way(void **state)
{
    (void)state;
    struct drive_reply reply;
    open_fake_with("fake:context=2000,sequences=4", (struct sched_config){.queue_size = 8, .kv_memory = MEMORY});
    run(&reply, long_prompt('a'), 10);
    drive_reply_release(&reply);
    run(&reply, long_prompt('b'), 40);
    drive_reply_release(&reply);
    assert_true(stats_now().kv.states == 1 && stats_now().cells_idle < 200);
    run(&reply, long_prompt('a'), 10);
    assert_int_equal(reply.timings.cached_tokens, 99);
    assert_int_equal(stats_now().kv.restored, 1);
    drive_reply_release(&reply);
    close_fake();
    open_fake_with("fake:context=2000,sequences=4", (struct sched_config){.queue_size = 8, .kv_memory = 1});
    run(&reply, long_prompt('a'), 10);
    drive_reply_release(&reply);
    run(&reply, long_prompt('b'), 40);
    drive_reply_release(&reply);
    run(&reply, long_prompt('a'), 10);
    assert_int_equal(reply.timings.cached_tokens, 99);
    drive_reply_release(&reply);
    close_fake();
}

static void states_are_found_by_the_next_worker(void **state)
{
    (void)state;
    char folder[] = "/tmp/inferd-sched-XXXXXX", command[64];
    struct drive_reply reply;
    assert_non_null(mkdtemp(folder));
    struct sched_config config = {
        .queue_size = 8, .kv_memory = MEMORY, .kv_disk = MEMORY, .kv_folder = folder, .kv_identity = "one"};
    open_fake_with("fake:", config);
    run(&reply, long_prompt('a'), 10);
    drive_reply_release(&reply);
    close_fake();
    open_fake_with("fake:", config);
    run(&reply, long_prompt('a'), 10);
    expect_repeats(&reply, long_prompt('a'), 10);
    assert_int_equal(reply.timings.cached_tokens, 99);
    drive_reply_release(&reply);
    close_fake();
    config.kv_identity = "two";
    open_fake_with("fake:", config);
    run(&reply, long_prompt('a'), 10);
    assert_int_equal(reply.timings.cached_tokens, 0);
    drive_reply_release(&reply);
    close_fake();
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

/* Engines that cannot cut a sequence: a prompt is read once for all who share it, at the points where they part. */
static void whole_states_where_sequences_cannot_be_cut(void **state)
{
    (void)state;
    struct drive_reply reply;
    char prompt[120];
    open_fake_with("fake:trim=0,context=2000,sequences=2", (struct sched_config){.queue_size = 8, .kv_memory = MEMORY});
    for (int i = 0; i < 4; i++) {
        snprintf(prompt, sizeof prompt, "%s tail %d|", "the same long beginning of all these prompts, forty letters",
                 i);
        run(&reply, prompt, 8);
        assert_memory_equal(drive_text(&reply, 0), "the same", 8);
        if (i >= 2) /* the first knew nothing, the second found where they part */
            assert_true(reply.timings.cached_tokens > 50);
        drive_reply_release(&reply);
    }
    run(&reply, prompt, 8);
    assert_int_equal(reply.timings.cached_tokens, strlen(prompt) - 1);
    drive_reply_release(&reply);
    close_fake();
}

/* One client fills every sequence and the queue; another's single request is the next to run. */
static void a_single_request_passes_fifty(void **state)
{
    (void)state;
    struct drive_reply many[50], one;
    char prompt[32];
    open_fake("fake:sequences=4", 64);
    gate_set(true, 0);
    for (int i = 0; i < 50; i++) {
        snprintf(prompt, sizeof prompt, "%c%cmany%d|", 'a' + i % 26, 'a' + i / 26, i);
        start_for(&many[i], prompt, 40, 7, 0);
    }
    gate_await();
    gate_set(true, 3);
    gate_await();
    start_for(&one, "one and only\3|", 40, 8, 0);
    gate_count_anew();
    gate_set(true, 3); /* the step that was under way, and one with its prompt */
    gate_await();
    uv_run(&drive.loop.uv, UV_RUN_NOWAIT);
    assert_int_equal(one.started, 1);
    gate_set(false, 0);
    loop_run(&drive.loop);
    assert_string_equal(drive_text(&one, 0), "one and only");
    for (int i = 0; i < 50; i++) {
        assert_int_equal(many[i].tokens[0], 40);
        drive_reply_release(&many[i]);
    }
    drive_reply_release(&one);
    close_fake();
}

/* The hot one of two waiting prompts goes first, and the other is not forgotten. */
static void hot_prefixes_go_first(void **state)
{
    (void)state;
    struct drive_reply first, cold, hot;
    open_fake("fake:sequences=1", 8);
    gate_set(true, 0);
    start(&first, long_prompt('h'), 5);
    gate_await();
    start(&cold, long_prompt('c'), 5);
    start(&hot, long_prompt('h'), 5);
    gate_set(true, 6); /* the first's prompt and its tokens */
    gate_await();
    uv_run(&drive.loop.uv, UV_RUN_NOWAIT);
    assert_true(first.done);
    assert_int_equal(hot.started, 1);
    assert_int_equal(cold.started, 0);
    gate_set(false, 0);
    loop_run(&drive.loop);
    assert_int_equal(hot.timings.cached_tokens, 99);
    expect_repeats(&cold, long_prompt('c'), 5);
    drive_reply_release(&first);
    drive_reply_release(&cold);
    drive_reply_release(&hot);
    close_fake();
}

/* A long prompt beside a running stream comes in pieces that the stream hardly notices; a short one at once. */
static void prefill_keeps_the_pace(void **state)
{
    (void)state;
    struct drive_reply stream, prompt;
    static char text[1001];
    open_fake("fake:tokens_per_second=200,prefill=10000", 8);
    run(&stream, long_prompt('w'), 2); /* so that the rate of prefill is known */
    drive_reply_release(&stream);
    gate_set(true, 0);
    start(&stream, "stream|", 400);
    gate_await();
    gate_set(true, 20);
    gate_await();
    memset(text, 'p', 1000);
    gate_count_anew();
    start(&prompt, text, 1);
    gate_set(true, 5);
    gate_await();
    assert_in_range(gate.rows, 5 + 64, 5 + 64 + 4 * 64); /* the saved-up burst, then pieces of a part of a step */
    assert_int_equal(prompt.done, 0);
    gate_set(false, 0);
    loop_run(&drive.loop);
    drive_reply_release(&stream);
    drive_reply_release(&prompt);
    close_fake();
}

static bool decode_waits(void)
{
    pthread_mutex_lock(&gate.lock);
    bool waits = gate.waiting > 0;
    pthread_mutex_unlock(&gate.lock);
    return waits;
}

/* A step of batch work is given up when interactive work arrives, and done again: nothing is lost. */
static void batch_steps_give_way(void **state)
{
    (void)state;
    struct drive_reply batch, chat;
    open_fake("fake:", 8);
    gate_set(true, 3);
    start_for(&batch, "batch\3|", 20, 1, 1);
    gate_await();
    start_for(&chat, "chat\3|", 20, 1, 0); /* the batch's fourth step is before the gate, and now in vain */
    assert_true(decode_waits());
    gate_set(false, 0);
    loop_run(&drive.loop);
    assert_string_equal(drive_text(&batch, 0), "batch");
    assert_string_equal(drive_text(&chat, 0), "chat");
    assert_int_equal(stats_now().interrupted, 1);
    drive_reply_release(&batch);
    drive_reply_release(&chat);
    close_fake();
}

/* So is one of a client with many streams alone, for another client, and not for another request of its own. */
static void a_crowd_gives_way(void **state)
{
    (void)state;
    struct drive_reply many[7], one;
    char prompt[16];
    open_fake("fake:sequences=8", 16);
    gate_set(true, 0);
    for (int i = 0; i < 6; i++) {
        snprintf(prompt, sizeof prompt, "%c-many\3|", 'a' + i);
        start_for(&many[i], prompt, 40, 7, 0);
    }
    gate_await();
    gate_set(true, 2);
    gate_await();
    start_for(&many[6], "g-many\3|", 40, 7, 0);
    gate_set(true, 1);
    gate_await();
    start_for(&one, "one\3|", 40, 8, 0);
    gate_set(false, 0);
    loop_run(&drive.loop);
    assert_int_equal(stats_now().interrupted, 1);
    assert_string_equal(drive_text(&one, 0), "one");
    for (int i = 0; i < 7; i++) {
        snprintf(prompt, sizeof prompt, "%c-many", 'a' + i);
        assert_string_equal(drive_text(&many[i], 0), prompt);
        drive_reply_release(&many[i]);
    }
    drive_reply_release(&one);
    close_fake();
}

/* A short prompt of another client is read in a step of its own, once its rate is known; the crowd goes on after it. */
static void a_crowd_waits_for_a_short_prompt(void **state)
{
    (void)state;
    struct drive_reply many[6], one;
    char prompt[16];
    open_fake("fake:sequences=8,prefill=10000", 16);
    run(&one, long_prompt('w'), 2); /* so that the rate of prefill is known */
    drive_reply_release(&one);
    gate_set(true, 0);
    for (int i = 0; i < 6; i++) {
        snprintf(prompt, sizeof prompt, "%c-many|", 'a' + i);
        start_for(&many[i], prompt, 40, 7, 0);
    }
    gate_await();
    gate_set(true, 4); /* all are read and decode */
    gate_await();
    start_for(&one, "0123456789|", 40, 8, 0); /* the crowd's step is given up for it */
    gate_count_anew();
    gate_set(true, 2);
    gate_await();
    assert_int_equal(gate.rows, 6 + strlen("0123456789|")); /* the one given up, and the prompt alone */
    gate_count_anew();
    gate_set(true, 1);
    gate_await();
    assert_int_equal(gate.rows, 6 + 1);
    gate_set(false, 0);
    loop_run(&drive.loop);
    for (int i = 0; i < 6; i++)
        drive_reply_release(&many[i]);
    drive_reply_release(&one);
    close_fake();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_leaves_the_cache_comes_back),
        cmocka_unit_test(pre_emption_is_a_copy),
        cmocka_unit_test(a_quiet_moment_is_used),
        cmocka_unit_test(idle_prefixes_make_way),
        cmocka_unit_test(states_are_found_by_the_next_worker),
        cmocka_unit_test(whole_states_where_sequences_cannot_be_cut),
        cmocka_unit_test(a_single_request_passes_fifty),
        cmocka_unit_test(hot_prefixes_go_first),
        cmocka_unit_test(prefill_keeps_the_pace),
        cmocka_unit_test(batch_steps_give_way),
        cmocka_unit_test(a_crowd_gives_way),
        cmocka_unit_test(a_crowd_waits_for_a_short_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
