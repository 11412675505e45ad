#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "gate.h"

static void ends_by_itself_and_by_length(void **state)
{
    (void)state;
    struct drive_reply reply;
    open_fake("fake:", 8);
    run(&reply, "hi\3|", 100);
    assert_string_equal(drive_text(&reply, 0), "hi");
    assert_int_equal(reply.finish[0], GEN_FINISH_STOP);
    assert_int_equal(reply.tokens[0], 2);
    assert_int_equal(reply.timings.prompt_tokens, 4);
    drive_reply_release(&reply);
    run(&reply, "abc|", 6);
    assert_string_equal(drive_text(&reply, 0), "abc|ab");
    assert_int_equal(reply.finish[0], GEN_FINISH_LENGTH);
    drive_reply_release(&reply);
    close_fake();
}

static void stop_string_over_three_tokens(void **state)
{
    (void)state;
    struct drive_reply reply;
    struct str stops[] = {STR("xyz"), STR("END")};
    struct gen_params params = drive_greedy(50);
    params.stops = stops;
    params.stop_count = 2;
    open_fake("fake:", 8);
    drive_reply_init(&drive, &reply);
    assert_true(drive_text_request(&drive, &reply, "one ENx END two|", &params));
    loop_run(&drive.loop);
    assert_string_equal(drive_text(&reply, 0), "one ENx ");
    assert_int_equal(reply.finish[0], GEN_FINISH_STOP);
    drive_reply_release(&reply);
    close_fake();
}

static void emoji_arrive_whole(void **state)
{
    (void)state;
    struct drive_reply reply;
    open_fake("fake:emoji=1", 8);
    run(&reply, "smile", 64);
    const char *text = drive_text(&reply, 0), *at = strstr(text, "\xf0\x9f\x98\x80");
    assert_non_null(at);
    drive_reply_release(&reply);
    close_fake();
}

static void sixteen_join_and_leave(void **state)
{
    (void)state;
    struct drive_reply replies[16];
    char prompt[64];
    open_fake("fake:sequences=5,context=2000", 32);
    for (int i = 0; i < 16; i++) {
        snprintf(prompt, sizeof prompt, "%c%d-word\3|", 'a' + i, i);
        start(&replies[i], prompt, 40);
    }
    loop_run(&drive.loop);
    for (int i = 0; i < 16; i++) {
        snprintf(prompt, sizeof prompt, "%c%d-word", 'a' + i, i);
        assert_string_equal(drive_text(&replies[i], 0), prompt);
        drive_reply_release(&replies[i]);
    }
    close_fake();
}

static void cancel_while_decoding_frees_the_sequence(void **state)
{
    (void)state;
    struct drive_reply reply;
    struct sched_slot slot;
    open_fake("fake:", 8);
    gate_set(true, 3);
    start(&reply, "for ever|", 1000);
    gate_await(); /* in the fourth step */
    gen_cancel(reply.gen);
    gate_set(true, 1);
    settle();
    assert_int_equal(gate.decodes, 4);
    assert_true(sched_slot(drive.sched, 0, &slot));
    assert_false(slot.busy);
    assert_false(reply.done || reply.failed);
    drive_reply_release(&reply);
    drive.open = 0;
    close_fake();
}

static void cancel_while_prefilling_stops_the_prefill(void **state)
{
    (void)state;
    static char prompt[2001];
    struct drive_reply reply;
    memset(prompt, 'p', 2000);
    open_fake("fake:batch=64", 8);
    gate_set(true, 2);
    start(&reply, prompt, 10);
    gate_await();
    gen_cancel(reply.gen);
    gate_set(true, 1);
    settle();
    assert_int_equal(gate.decodes, 3);
    assert_int_equal(gate.rows, 3 * 64);
    drive_reply_release(&reply);
    drive.open = 0;
    close_fake();
}

static void cancel_while_queued_never_starts(void **state)
{
    (void)state;
    struct drive_reply first, second;
    open_fake("fake:sequences=1", 8);
    gate_set(true, 1);
    start(&first, "first\3|", 20);
    gate_await();
    start(&second, "second\3|", 20);
    gen_cancel(second.gen);
    drive.open--;
    gate_set(false, 0);
    loop_run(&drive.loop);
    assert_string_equal(drive_text(&first, 0), "first");
    settle();
    assert_int_equal(second.started, 0);
    drive_reply_release(&first);
    drive_reply_release(&second);
    close_fake();
}

static void full_queue_and_bad_tokens_are_refused(void **state)
{
    (void)state;
    struct drive_reply replies[3], refused;
    struct gen_params params = drive_greedy(5);
    open_fake("fake:sequences=1,context=64", 2);
    gate_set(true, 0);
    start(&replies[0], "a|", 5);
    gate_await();
    start(&replies[1], "b|", 5);
    start(&replies[2], "c|", 5);
    drive_reply_init(&drive, &refused);
    assert_false(drive_text_request(&drive, &refused, "d|", &params));
    assert_int_equal(refused.err.code, ERR_SERVER_OVERLOADED);
    assert_true(refused.err.retry_after_ms > 0);
    char prompt[80];
    memset(prompt, 'x', 64);
    prompt[64] = '\0';
    assert_false(drive_text_request(&drive, &refused, prompt, &params));
    assert_int_equal(refused.err.code, ERR_CONTEXT_LENGTH_EXCEEDED);
    engine_token wrong = 99999;
    struct gen_request request = {
        .kind = GEN_GENERATE, .tokens = &wrong, .token_count = 1, .choices = 1, .params = params};
    assert_false(drive_submit(&drive, &refused, &request));
    assert_int_equal(refused.err.code, ERR_INVALID_PARAMETERS);
    gate_set(false, 0);
    loop_run(&drive.loop);
    for (int i = 0; i < 3; i++)
        drive_reply_release(&replies[i]);
    drive_reply_release(&refused);
    close_fake();
}

static void choices_share_one_prefill(void **state)
{
    (void)state;
    static char prompt[301];
    engine_token tokens[300];
    memset(prompt, 'q', 299);
    prompt[299] = '|';
    struct gen_request request = {.kind = GEN_GENERATE, .tokens = tokens, .choices = 6, .params = drive_greedy(3)};
    struct drive_reply reply;
    open_fake("fake:sequences=4", 8);
    request.token_count = drive_tokenize(&drive, prompt, tokens, 300);
    drive_reply_init(&drive, &reply);
    assert_true(drive_submit(&drive, &reply, &request));
    loop_run(&drive.loop);
    assert_int_equal(reply.finished, 6);
    for (int i = 0; i < 6; i++)
        assert_string_equal(drive_text(&reply, (unsigned)i), "qqq");
    assert_int_equal(gate.rows, 300 + 5 + 6 * 2); /* the prompt once, its last token for each other, then the replies */
    drive_reply_release(&reply);
    close_fake();
}

static void burst_with_one_prefix_pays_once(void **state)
{
    (void)state;
    static char prompt[400];
    struct drive_reply replies[8];
    open_fake("fake:", 16);
    gate_set(true, 0);
    for (int i = 0; i < 8; i++) {
        memset(prompt, 's', 256);
        snprintf(prompt + 256, 32, "%d|", i);
        start(&replies[i], prompt, 2);
    }
    gate_set(false, 0);
    loop_run(&drive.loop);
    unsigned computed = 0;
    for (int i = 0; i < 8; i++) {
        computed += replies[i].timings.prompt_tokens - replies[i].timings.cached_tokens;
        assert_string_equal(drive_text(&replies[i], 0), "ss");
        drive_reply_release(&replies[i]);
    }
    assert_int_equal(computed, 258 + 7 * 2);
    close_fake();
}

static void cached_tokens_are_exact(void **state)
{
    (void)state;
    struct drive_reply reply;
    open_fake("fake:", 8);
    run(&reply, "a common beginning, first end|", 4);
    assert_int_equal(reply.timings.cached_tokens, 0);
    drive_reply_release(&reply);
    run(&reply, "a common beginning, second end|", 4);
    assert_int_equal(reply.timings.cached_tokens, 20);
    assert_string_equal(drive_text(&reply, 0), "a co");
    drive_reply_release(&reply);
    run(&reply, "a common beginning, second end|", 4);
    assert_int_equal(reply.timings.cached_tokens, 30); /* all but the last token */
    drive_reply_release(&reply);
    close_fake();
}

static void old_prefixes_give_way_and_the_last_ones_stay(void **state)
{
    (void)state;
    struct drive_reply reply;
    struct sched_stats stats;
    char prompt[202];
    memset(prompt, 'x', 200);
    prompt[200] = '|';
    prompt[201] = '\0';
    open_fake("fake:context=4096,sequences=16", 8);
    for (char first = 'a'; first < 'm'; first++) {
        prompt[0] = first;
        run(&reply, prompt, 2);
        drive_reply_release(&reply);
    }
    sched_stats(drive.sched, &stats);
    assert_true(stats.cells_used <= 4096 / 4 + 2 * 203); /* a quarter, the last one, and the one that is just over it */
    run(&reply, prompt, 2);
    assert_int_equal(reply.timings.cached_tokens, 200); /* the last one is still there */
    drive_reply_release(&reply);
    close_fake();
}

static void without_trim_only_extensions_are_reused(void **state)
{
    (void)state;
    struct drive_reply reply;
    open_fake("fake:trim=0", 8);
    run(&reply, "abcd", 1);
    drive_reply_release(&reply);
    run(&reply, "abxx", 1);
    assert_int_equal(reply.timings.cached_tokens, 0);
    drive_reply_release(&reply);
    run(&reply, "abcdef", 1);
    assert_int_equal(reply.timings.cached_tokens, 4);
    drive_reply_release(&reply);
    close_fake();
}

static void preemption_changes_no_text(void **state)
{
    (void)state;
    struct drive_reply alone[4], crowded[4];
    char prompt[32];
    open_fake("fake:context=4096", 8);
    for (int i = 0; i < 4; i++) {
        snprintf(prompt, sizeof prompt, "%c prompt of some length", 'A' + i);
        run(&alone[i], prompt, 60);
    }
    close_fake();
    open_fake("fake:context=170", 8); /* room for two of the four when they are done */
    for (int i = 0; i < 4; i++) {
        snprintf(prompt, sizeof prompt, "%c prompt of some length", 'A' + i);
        start(&crowded[i], prompt, 60);
    }
    loop_run(&drive.loop);
    assert_true(gate.rows > 4 * (23 + 59)); /* somebody was prefilled twice */
    for (int i = 0; i < 4; i++) {
        assert_true(crowded[i].done);
        assert_string_equal(drive_text(&crowded[i], 0), drive_text(&alone[i], 0));
        assert_int_equal(crowded[i].tokens[0], 60);
        drive_reply_release(&crowded[i]);
        drive_reply_release(&alone[i]);
    }
    close_fake();
}

static void on_resume_event(void *arg, const struct gen_event *event)
{
    struct drive_reply *both = arg;
    drive_on_event(&both[1], event);
    if (event->kind == GEN_EVENT_DONE) {
        assert_false(both[0].done);
        assert_true(buf_view(&both[0].text[0]).n < strlen("slow reader"));
        gen_resume(both[0].gen);
    }
}

static void pause_and_resume(void **state)
{
    (void)state;
    struct drive_reply both[2];
    engine_token tokens[16];
    struct err err = ERR_INIT;
    struct gen_request request = {.kind = GEN_GENERATE, .tokens = tokens, .choices = 1, .params = drive_greedy(40)};
    open_fake("fake:", 8);
    gate_set(true, 2);
    start(&both[0], "slow reader\3|", 40);
    gate_await();
    gen_pause(both[0].gen);
    drive_reply_init(&drive, &both[1]);
    request.token_count = drive_tokenize(&drive, "other\3|", tokens, 16);
    both[1].gen = sched_submit(drive.sched, &request, on_resume_event, both, &err);
    assert_non_null(both[1].gen);
    drive.open++;
    gate_set(false, 0);
    loop_run(&drive.loop);
    assert_string_equal(drive_text(&both[0], 0), "slow reader");
    assert_string_equal(drive_text(&both[1], 0), "other");
    drive_reply_release(&both[0]);
    drive_reply_release(&both[1]);
    close_fake();
}

static void deadlines_end_queued_and_running(void **state)
{
    (void)state;
    struct drive_reply replies[2];
    engine_token tokens[16];
    struct gen_request request = {.kind = GEN_GENERATE, .tokens = tokens, .choices = 1, .params = drive_greedy(4000)};
    open_fake("fake:sequences=1,tokens_per_second=1000", 8);
    request.token_count = drive_tokenize(&drive, "for ever|", tokens, 16);
    request.deadline_ms = clock_ms() + 30;
    for (int i = 0; i < 2; i++) {
        drive_reply_init(&drive, &replies[i]);
        assert_true(drive_submit(&drive, &replies[i], &request));
    }
    loop_run(&drive.loop);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(replies[i].err.code, ERR_TIMEOUT);
        assert_int_equal(replies[i].started, i == 0);
        drive_reply_release(&replies[i]);
    }
    close_fake();
}

static void engine_failure_fails_everyone(void **state)
{
    (void)state;
    struct drive_reply replies[2];
    struct gen_params params = drive_greedy(50);
    open_fake("fake:fail_after=5", 8);
    gate_set(true, 0); /* both must be there before the fifth step */
    start(&replies[0], "one|", 50);
    start(&replies[1], "two|", 50);
    gate_set(false, 0);
    loop_run(&drive.loop);
    assert_int_equal(replies[0].err.code, ERR_MODEL_CRASHED);
    assert_int_equal(replies[1].err.code, ERR_MODEL_CRASHED);
    drive_reply_release(&replies[0]);
    drive_reply_init(&drive, &replies[0]);
    assert_false(drive_text_request(&drive, &replies[0], "three|", &params));
    drive_reply_release(&replies[0]);
    drive_reply_release(&replies[1]);
    close_fake();
}

static void logprobs_come_with_their_text(void **state)
{
    (void)state;
    engine_token tokens[32];
    struct gen_request request = {
        .kind = GEN_GENERATE, .tokens = tokens, .choices = 1, .score_prompt = true, .params = drive_greedy(6)};
    struct drive_reply reply;
    request.params.want_logprobs = true;
    request.params.logprobs = 3;
    open_fake("fake:batch=16", 8);
    request.token_count = drive_tokenize(&drive, "a prompt of many tokens|", tokens, 32);
    for (int round = 0; round < 2; round++) { /* the second time with the prompt in the cache */
        drive_reply_init(&drive, &reply);
        assert_true(drive_submit(&drive, &reply, &request));
        loop_run(&drive.loop);
        assert_int_equal(reply.prompt_logprob_count, request.token_count);
        assert_int_equal(reply.logprob_count, 6);
        assert_int_equal(reply.top_count, 3 * (6 + request.token_count - 1));
        drive_reply_release(&reply);
    }
    request.params.max_tokens = 0;
    drive_reply_init(&drive, &reply);
    assert_true(drive_submit(&drive, &reply, &request));
    loop_run(&drive.loop);
    assert_int_equal(reply.prompt_logprob_count, request.token_count);
    assert_int_equal(reply.tokens[0], 0);
    drive_reply_release(&reply);
    close_fake();
}

static void scored_prompts_share_the_rows_of_logits(void **state)
{
    (void)state;
    engine_token tokens[64];
    struct gen_request request = {
        .kind = GEN_GENERATE, .tokens = tokens, .choices = 1, .score_prompt = true, .params = drive_greedy(3)};
    struct drive_reply replies[4];
    request.params.want_logprobs = true;
    open_fake("fake:sequences=4", 8);
    for (int i = 0; i < 4; i++) {
        char prompt[64];
        snprintf(prompt, sizeof prompt, "%d of four prompts, longer than the rows|", i);
        request.token_count = drive_tokenize(&drive, prompt, tokens, 64);
        drive_reply_init(&drive, &replies[i]);
        assert_true(drive_submit(&drive, &replies[i], &request));
    }
    loop_run(&drive.loop);
    for (int i = 0; i < 4; i++) {
        assert_true(replies[i].done);
        assert_int_equal(replies[i].prompt_logprob_count, request.token_count);
        assert_int_equal(replies[i].tokens[0], 3);
        drive_reply_release(&replies[i]);
    }
    close_fake();
}

static void start_batch(struct drive_reply *reply, const char *prompt, unsigned max_tokens)
{
    static engine_token tokens[4096];
    struct gen_request request = {
        .kind = GEN_GENERATE, .tokens = tokens, .choices = 1, .params = drive_greedy(max_tokens), .priority = 1};
    drive_reply_init(&drive, reply);
    request.token_count = drive_tokenize(&drive, prompt, tokens, 4096);
    assert_true(drive_submit(&drive, reply, &request));
}

/* While an interactive request decodes, its rows are the only ones, but for one step of 128. */
static void batch_stands_behind(void **state)
{
    (void)state;
    struct drive_reply batch, interactive;
    open_fake("fake:sequences=4", 8);
    gate_set(true, 3);
    start_batch(&batch, "in no hurry|", 400);
    gate_await(); /* in its fourth step */
    start(&interactive, "now|", 200);
    gate_set(true, 1);
    gate_await();
    gate_count_anew(); /* the decode thread stands before the gate: the prompt's step */
    gate_set(true, 200);
    gate_await();
    assert_int_equal(gate.decodes, 200);
    assert_true(gate.rows >= 4 + 199 + 1 && gate.rows <= 4 + 199 + 2); /* and the turn or two of the other */
    gate_set(false, 0);
    loop_run(&drive.loop);
    assert_int_equal(batch.tokens[0], 400);
    assert_int_equal(interactive.tokens[0], 200);
    drive_reply_release(&batch);
    drive_reply_release(&interactive);
    close_fake();
}

/* The only sequence changes hands, and the text of neither. */
static void batch_gives_up_its_sequence(void **state)
{
    (void)state;
    struct drive_reply batch, alone, interactive;
    open_fake("fake:sequences=1", 8);
    run(&alone, "in no hurry|", 50);
    gate_set(true, 20);
    start_batch(&batch, "in no hurry|", 50);
    gate_await();
    start(&interactive, "now\3|", 20);
    gate_set(true, 10); /* enough for the interactive one, not for both */
    gate_await();
    while (!interactive.done)
        uv_run(&drive.loop.uv, UV_RUN_ONCE);
    assert_false(batch.done);
    assert_string_equal(drive_text(&interactive, 0), "now");
    gate_set(false, 0);
    loop_run(&drive.loop);
    assert_string_equal(drive_text(&batch, 0), drive_text(&alone, 0));
    drive_reply_release(&alone);
    drive_reply_release(&batch);
    drive_reply_release(&interactive);
    close_fake();
}

static void embeddings_pass_beside_text(void **state)
{
    (void)state;
    struct drive_reply reply;
    engine_token tokens[8] = {1, 2, 3};
    struct gen_request request = {.kind = GEN_EMBED, .tokens = tokens, .token_count = 3};
    open_fake("fake:", 8);
    drive_reply_init(&drive, &reply);
    reply.embedding = calloc(16, sizeof(float));
    assert_true(drive_submit(&drive, &reply, &request));
    loop_run(&drive.loop);
    assert_true(reply.done && reply.embedding[0] != 0);
    drive_reply_release(&reply);
    close_fake();
}

static void closing_with_work_in_flight(void **state)
{
    (void)state;
    struct drive_reply replies[4];
    open_fake("fake:sequences=2,tokens_per_second=10000", 8);
    for (int i = 0; i < 4; i++)
        start(&replies[i], "for ever|", 4000);
    uv_run(&drive.loop.uv, UV_RUN_ONCE);
    close_fake();
    for (int i = 0; i < 4; i++) {
        assert_false(replies[i].done || replies[i].failed);
        drive_reply_release(&replies[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_by_itself_and_by_length),
        cmocka_unit_test(stop_string_over_three_tokens),
        cmocka_unit_test(emoji_arrive_whole),
        cmocka_unit_test(sixteen_join_and_leave),
        cmocka_unit_test(cancel_while_decoding_frees_the_sequence),
        cmocka_unit_test(cancel_while_prefilling_stops_the_prefill),
        cmocka_unit_test(cancel_while_queued_never_starts),
        cmocka_unit_test(full_queue_and_bad_tokens_are_refused),
        cmocka_unit_test(choices_share_one_prefill),
        cmocka_unit_test(burst_with_one_prefix_pays_once),
        cmocka_unit_test(cached_tokens_are_exact),
        cmocka_unit_test(old_prefixes_give_way_and_the_last_ones_stay),
        cmocka_unit_test(without_trim_only_extensions_are_reused),
        cmocka_unit_test(preemption_changes_no_text),
        cmocka_unit_test(pause_and_resume),
        cmocka_unit_test(deadlines_end_queued_and_running),
        cmocka_unit_test(engine_failure_fails_everyone),
        cmocka_unit_test(logprobs_come_with_their_text),
        cmocka_unit_test(scored_prompts_share_the_rows_of_logits),
        cmocka_unit_test(batch_stands_behind),
        cmocka_unit_test(batch_gives_up_its_sequence),
        cmocka_unit_test(embeddings_pass_beside_text),
        cmocka_unit_test(closing_with_work_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
