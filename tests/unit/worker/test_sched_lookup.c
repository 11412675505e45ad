/* Speculation in the scheduler, over the fake engine: with '|' it repeats what stands before, so guesses come true;
 * without, its letters follow from all tokens before, so they hardly ever do. EAGER guesses wherever it can. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "../../model/drive.h"

static struct engine_ops ops;
static unsigned decodes, most_rows; /* of the decode thread; read once it rests */

static bool narrow; /* the engine has no room for more than one row of a decoding sequence */

/* The decode numbered `at` waits for the test. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t change;
    unsigned at; /* 0: none */
    bool held, let_go;
} hold = {.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};

static enum engine_status counted_decode(struct engine *engine, const struct engine_row *rows, unsigned count,
                                         const struct engine_stop *stop)
{
    decodes++;
    most_rows = count > most_rows ? count : most_rows;
    pthread_mutex_lock(&hold.lock);
    hold.held = decodes == hold.at;
    pthread_cond_broadcast(&hold.change);
    while (hold.held && !hold.let_go)
        pthread_cond_wait(&hold.change, &hold.lock);
    pthread_mutex_unlock(&hold.lock);
    if (narrow && count > 1 && rows[0].logits)
        return ENGINE_FULL;
    return engine_fake.decode(engine, rows, count, stop);
}

static struct drive drive;

static void open_fake(const char *settings, enum sched_lookup lookup)
{
    struct err err = ERR_INIT;
    struct engine_config config = {.path = settings};
    ops = engine_fake;
    ops.decode = counted_decode;
    decodes = most_rows = 0;
    assert_true(drive_open_lookup(&drive, &ops, &config, 64, lookup, &err));
}

/* What a request wants, and all that may differ between two runs of it. */
struct wish {
    const char *settings, *prompt, *stop;
    unsigned max_tokens, choices, streams;
    float temperature, repeat_penalty, frequency_penalty;
    unsigned logprobs, repeat_last_n;
    bool want_logprobs, score_prompt, ignore_end;
};

struct result {
    struct buf text; /* everything that came */
    unsigned decodes, most_rows, cells_used, drafted, accepted, tokens;
};

static void note_reply(struct result *result, const struct drive_reply *reply, unsigned choices)
{
    for (unsigned i = 0; i < choices; i++)
        buf_printf(&result->text, "[%s] %d %u %.6f\n", drive_text(reply, i), (int)reply->finish[i], reply->tokens[i],
                   reply->mean_logprob[i]);
    buf_printf(&result->text, "%u %u %u %.6f %u\n", reply->logprob_count, reply->prompt_logprob_count, reply->top_count,
               reply->logprob_sum, reply->timings.generated_tokens);
    result->drafted += reply->timings.draft_tokens;
    result->accepted += reply->timings.draft_accepted;
    result->tokens += reply->timings.generated_tokens;
}

static unsigned settled_cells(void)
{
    struct sched_stats stats;
    do {
        sched_stats(drive.sched, &stats);
        sched_yield();
    } while (stats.running > 0 || stats.queued > 0);
    return stats.cells_used;
}

static struct result run(const struct wish *wish, enum sched_lookup lookup)
{
    static engine_token tokens[4096];
    static struct drive_reply replies[16];
    struct str stop = wish->stop ? str_from(wish->stop) : STR("");
    struct gen_request request = {.kind = GEN_GENERATE,
                                  .tokens = tokens,
                                  .choices = wish->choices ? wish->choices : 1,
                                  .score_prompt = wish->score_prompt,
                                  .params = drive_greedy(wish->max_tokens)};
    struct result result = {0};
    unsigned streams = wish->streams ? wish->streams : 1;
    request.params.temperature = wish->temperature;
    request.params.repeat_penalty = wish->repeat_penalty ? wish->repeat_penalty : 1;
    request.params.repeat_last_n = wish->repeat_last_n ? wish->repeat_last_n : 64;
    request.params.frequency_penalty = wish->frequency_penalty;
    request.params.has_seed = true;
    request.params.seed = 42;
    request.params.stops = &stop;
    request.params.stop_count = wish->stop != NULL;
    request.params.want_logprobs = wish->want_logprobs;
    request.params.logprobs = wish->logprobs;
    request.params.ignore_end = wish->ignore_end;
    open_fake(wish->settings ? wish->settings : "fake:", lookup);
    buf_init(&result.text, 1u << 20);
    for (unsigned i = 0; i < streams; i++) {
        char prompt[4096];
        snprintf(prompt, sizeof prompt, "%s", wish->prompt);
        prompt[0] = (char)(prompt[0] + (char)i);
        request.token_count = drive_tokenize(&drive, prompt, tokens, 4096);
        drive_reply_init(&drive, &replies[i]);
        assert_true(drive_submit(&drive, &replies[i], &request));
    }
    loop_run(&drive.loop);
    for (unsigned i = 0; i < streams; i++) {
        assert_true(replies[i].done);
        note_reply(&result, &replies[i], request.choices);
        drive_reply_release(&replies[i]);
    }
    result.cells_used = settled_cells();
    result.decodes = decodes;
    result.most_rows = most_rows;
    drive_close(&drive);
    return result;
}

/* Many pairs of letters, so that whatever two letters come last have stood somewhere. */
static const char *pairs(void)
{
    static char text[26 * 26 * 2 + 1];
    for (unsigned i = 0; i < 26 * 26; i++) {
        text[2 * i] = (char)('a' + i / 26);
        text[2 * i + 1] = (char)('a' + i % 26);
    }
    return text;
}

static void outputs_are_those_of_plain_decoding(void **state)
{
    (void)state;
    const struct wish wishes[] = {
        {.prompt = "one two three four|", .max_tokens = 200},
        {.prompt = "one two three four|", .max_tokens = 1},
        {.prompt = "one two three four|", .max_tokens = 47}, /* ends inside a guess */
        {.prompt = "aXaY|", .max_tokens = 100, .stop = "YZ"},
        {.prompt = "abcdefgh|", .max_tokens = 100, .stop = "fgh|abc"}, /* over two repetitions, inside a guess */
        {.prompt = "an end\3 that comes|an end\3 that", .max_tokens = 100},
        {.prompt = "a token <eos> of the end in it|", .max_tokens = 100, .ignore_end = true},
        {.prompt = "a token <eos> of the end in it|", .max_tokens = 100},
        {.prompt = pairs(), .max_tokens = 150},
        {.prompt = pairs(), .max_tokens = 150, .temperature = 1},
        {.prompt = "one two three four|", .max_tokens = 200, .temperature = 2}, /* some come true, some do not */
        {.prompt = "one two three four|", .max_tokens = 200, .temperature = 2, .repeat_penalty = 1.3f},
        {.prompt = "one two three four|", .max_tokens = 200, .temperature = 1.5f, .frequency_penalty = 0.7f},
        {.prompt = "abcabcabc|", .max_tokens = 200, .temperature = 1.5f, .repeat_penalty = 1.4f, .repeat_last_n = 2},
        {.prompt = "abcabcabc\3|", .max_tokens = 200, .want_logprobs = true, .logprobs = 1},
        {.prompt = "one two three four|", .max_tokens = 90, .want_logprobs = true, .logprobs = 3},
        {.prompt = "one two three four|", .max_tokens = 90, .want_logprobs = true, .logprobs = 2, .stop = "four|one t"},
        {.prompt = "one two three four|", .max_tokens = 60, .want_logprobs = true, .score_prompt = true},
        {.prompt = "one two three four|", .max_tokens = 70, .choices = 4, .temperature = 1.5f, .want_logprobs = true},
        {.prompt = "one two three four|", .max_tokens = 80, .streams = 7, .settings = "fake:sequences=3"},
        {.prompt = "a prompt of some length|", .max_tokens = 60, .streams = 4, .settings = "fake:context=170"},
        {.prompt = pairs(), .max_tokens = 100, .streams = 3, .settings = "fake:context=2000", .temperature = 1},
        {.prompt = "smile \xf0\x9f\x98\x80 \xf0\x9f\x98\x80 again", .max_tokens = 120, .settings = "fake:emoji=1"},
        {.prompt = "one two three four|",
         .max_tokens = 500,
         .settings = "fake:context=100"}, /* ends where the context does */
        {.prompt = "one two three four|", .max_tokens = 100, .settings = "fake:trim=0"},
        {.prompt = "one two three four|",
         .max_tokens = 100,
         .temperature = 1.5f,
         .streams = 9,
         .want_logprobs = true,
         .settings = "fake:threads=4,vocab=20000"}, /* picked by four threads */
    };
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++) {
        struct result off = run(&wishes[i], SCHED_LOOKUP_OFF), on = run(&wishes[i], SCHED_LOOKUP_EAGER);
        if (strcmp(buf_view(&on.text).p, buf_view(&off.text).p) != 0)
            fail_msg("wish %zu: without\n%s\nwith\n%s", i, buf_view(&off.text).p, buf_view(&on.text).p);
        assert_int_equal(off.drafted, 0);
        assert_true(on.accepted <= on.drafted && on.accepted < on.tokens);
        if (!wishes[i].streams)
            assert_int_equal(on.cells_used, off.cells_used);
        buf_release(&on.text);
        buf_release(&off.text);
    }
}

/* A letter that has come true three times is not as likely as before. */
static void penalties_count_guessed_tokens_too(void **state)
{
    (void)state;
    struct wish wish = {.prompt = "abcdefgh|", .max_tokens = 60};
    struct result free_one = run(&wish, SCHED_LOOKUP_EAGER);
    wish.frequency_penalty = 2;
    struct result on = run(&wish, SCHED_LOOKUP_EAGER), off = run(&wish, SCHED_LOOKUP_OFF);
    assert_string_not_equal(buf_view(&on.text).p, buf_view(&free_one.text).p);
    assert_string_equal(buf_view(&on.text).p, buf_view(&off.text).p);
    assert_true(on.accepted > 5);
    buf_release(&free_one.text);
    buf_release(&on.text);
    buf_release(&off.text);
}

static void copies_take_fewer_steps(void **state)
{
    (void)state;
    struct wish wish = {.prompt = "the same again and again|", .max_tokens = 240};
    struct result on = run(&wish, SCHED_LOOKUP_EAGER), off = run(&wish, SCHED_LOOKUP_OFF);
    assert_int_equal(off.decodes, 240);
    assert_true(on.decodes < 40);
    assert_int_equal(on.tokens, 240);
    assert_int_equal(on.accepted + on.decodes, 240);
    assert_true(on.most_rows <= 26); /* the prompt's, and one more than a guess may have */
    buf_release(&on.text);
    buf_release(&off.text);
}

static void refused_guesses_leave_no_cells(void **state)
{
    (void)state;
    struct wish wish = {.prompt = pairs(), .max_tokens = 150};
    struct result on = run(&wish, SCHED_LOOKUP_EAGER);
    assert_true(on.drafted > 1000 && on.accepted * 10 < on.drafted);
    assert_int_equal(on.cells_used, 26 * 26 * 2 + 149); /* the last token was never decoded */
    buf_release(&on.text);
}

static void the_governor_lets_copies_go_ahead(void **state)
{
    (void)state;
    struct wish wish = {.prompt = "the same again and again|",
                        .max_tokens = 300,
                        .settings = "fake:tokens_per_second=1000,rows=1000000"};
    struct result on = run(&wish, SCHED_LOOKUP_AUTO);
    assert_int_equal(on.tokens, 300);
    if (on.decodes > 150)
        fail_msg("%u steps for 300 tokens", on.decodes);
    buf_release(&on.text);
}

static void the_governor_holds_guesses_back(void **state)
{
    (void)state;
    struct wish free_text = {.prompt = pairs(), .max_tokens = 400, .settings = "fake:tokens_per_second=2000"};
    struct result on = run(&free_text, SCHED_LOOKUP_AUTO);
    assert_true(on.drafted < 8);
    buf_release(&on.text);
    struct wish dear = {
        .prompt = "the same again and again|", .max_tokens = 300, .settings = "fake:tokens_per_second=1000,rows=400"};
    on = run(&dear, SCHED_LOOKUP_AUTO); /* a guessed row takes longer than a step */
    if (on.drafted > 60)
        fail_msg("%u guessed", on.drafted);
    buf_release(&on.text);
}

static void a_cancelled_request_frees_its_cells(void **state)
{
    (void)state;
    struct drive_reply reply;
    struct gen_params params = drive_greedy(1000);
    struct sched_slot slot;
    hold.at = 10;
    open_fake("fake:", SCHED_LOOKUP_EAGER);
    drive_reply_init(&drive, &reply);
    assert_true(drive_text_request(&drive, &reply, "for ever and ever|", &params));
    pthread_mutex_lock(&hold.lock);
    while (!hold.held)
        pthread_cond_wait(&hold.change, &hold.lock);
    gen_cancel(reply.gen);
    hold.let_go = true;
    pthread_cond_broadcast(&hold.change);
    pthread_mutex_unlock(&hold.lock);
    unsigned cells = settled_cells();
    assert_int_equal(decodes, 10);
    assert_true(sched_slot(drive.sched, 0, &slot));
    assert_false(slot.busy);
    struct sched_stats stats;
    sched_stats(drive.sched, &stats);
    assert_int_equal(cells, stats.cells_idle);
    uv_run(&drive.loop.uv, UV_RUN_NOWAIT);
    assert_false(reply.done || reply.failed);
    hold.at = 0;
    drive_reply_release(&reply);
    drive.open = 0;
    drive_close(&drive);
}

/* A guess takes cells that nobody needs: the first request's stay as a cache, though guesses of the second one, which
 * a stop string ends in time, would have liked them. */
static void guesses_push_nothing_out(void **state)
{
    (void)state;
    unsigned cells[2];
    struct str stop = STR("ABCDEFGHIJKLMNO|ABCDEFGHIJKLMNO|ABCDEF");
    for (int on = 0; on < 2; on++) {
        struct drive_reply replies[2];
        struct gen_params params = drive_greedy(24);
        open_fake("fake:context=100,sequences=16", on ? SCHED_LOOKUP_EAGER : SCHED_LOOKUP_OFF);
        drive_reply_init(&drive, &replies[0]);
        assert_true(drive_text_request(&drive, &replies[0], "0123456789abcdef|", &params));
        loop_run(&drive.loop);
        params.max_tokens = 80;
        params.stops = &stop;
        params.stop_count = 1;
        drive_reply_init(&drive, &replies[1]);
        assert_true(drive_text_request(&drive, &replies[1], "ABCDEFGHIJKLMNO|", &params));
        loop_run(&drive.loop);
        assert_int_equal(replies[1].tokens[0], stop.n);
        assert_true(!on || replies[1].timings.draft_accepted > 20);
        cells[on] = settled_cells();
        drive_reply_release(&replies[0]);
        drive_reply_release(&replies[1]);
        drive_close(&drive);
    }
    assert_int_equal(cells[0], 17 + 23 + 16 + stop.n - 1);
    assert_int_equal(cells[1], cells[0]);
}

static void where_the_engine_is_full_guesses_are_given_up_first(void **state)
{
    (void)state;
    struct wish wish = {.prompt = "one two three four|", .max_tokens = 50};
    struct result off = run(&wish, SCHED_LOOKUP_OFF);
    narrow = true;
    struct result on = run(&wish, SCHED_LOOKUP_EAGER);
    narrow = false;
    assert_string_equal(buf_view(&on.text).p, buf_view(&off.text).p);
    assert_int_equal(on.drafted, 0);
    assert_true(on.decodes > off.decodes); /* it tried */
    buf_release(&on.text);
    buf_release(&off.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_are_those_of_plain_decoding),
        cmocka_unit_test(penalties_count_guessed_tokens_too),
        cmocka_unit_test(copies_take_fewer_steps),
        cmocka_unit_test(refused_guesses_leave_no_cells),
        cmocka_unit_test(the_governor_lets_copies_go_ahead),
        cmocka_unit_test(the_governor_holds_guesses_back),
        cmocka_unit_test(a_cancelled_request_frees_its_cells),
        cmocka_unit_test(guesses_push_nothing_out),
        cmocka_unit_test(where_the_engine_is_full_guesses_are_given_up_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
