/* Pictures in the scheduler: cells that are decoded from embeddings, found again whole or not at all, and never taken
 * for tokens. The fake engine's text follows from the ids of all cells, so a cell that is lost, doubled or out of place
 * shows. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdint.h>
#include <cmocka.h>

#include "gate.h"

#define WIDTH 16 /* of the fake engine */

/* ---- what the engine was asked for ---- */

static struct {
    atomic_uint spans; /* also read while the decode thread runs */
    unsigned longest, in_a_row, most_in_a_row;
    bool streams; /* a token step came since the last span */
} seen;

static enum engine_status watched_span(struct engine *engine, const struct engine_span *span,
                                       const struct engine_stop *stop)
{
    seen.spans++;
    seen.in_a_row++;
    seen.longest = span->count > seen.longest ? span->count : seen.longest;
    seen.most_in_a_row = seen.in_a_row > seen.most_in_a_row ? seen.in_a_row : seen.most_in_a_row;
    for (unsigned i = 0; i < span->count; i++) /* each cell's own */
        if (span->ids[i] >= 0 || span->embeddings[(size_t)i * WIDTH] != (float)(uint32_t)span->ids[i])
            return ENGINE_FAILED;
    return engine_fake.decode_span(engine, span, stop);
}

static enum engine_status watched_decode(struct engine *engine, const struct engine_row *rows, unsigned count,
                                         const struct engine_stop *stop)
{
    seen.in_a_row = 0;
    return gated_decode(engine, rows, count, stop);
}

static void open_watched(const char *settings, struct sched_config config)
{
    struct err err = ERR_INIT;
    struct engine_config engine = {.path = settings};
    ops = engine_fake;
    ops.decode = watched_decode;
    ops.decode_span = watched_span;
    gate_set(false, 0);
    memset(&seen, 0, sizeof seen);
    config.ops = &ops;
    config.queue_size = 16;
    assert_true(drive_open_with(&drive, &engine, config, &err));
}

/* ---- prompts: "text#N:M text", a picture of N cells that is the M-th ---- */

struct prompt {
    engine_token tokens[4096];
    size_t count;
    struct picture_place places[8];
    size_t place_count;
};

static void put_picture(struct prompt *p, unsigned count, unsigned which, bool acausal)
{
    unsigned char sum[HASH_SHA256_SIZE];
    hash_sha256(&which, sizeof which, sum);
    struct picture *picture = picture_new(sum, count, WIDTH, false);
    picture->acausal = acausal;
    picture_ids(sum, count, p->tokens + p->count);
    for (unsigned i = 0; i < count; i++)
        picture->embeddings[(size_t)i * WIDTH] = (float)(uint32_t)p->tokens[p->count + i];
    p->places[p->place_count++] = (struct picture_place){(unsigned)p->count, picture};
    p->count += count;
}

static void read_prompt(struct prompt *p, const char *text, bool acausal)
{
    p->count = p->place_count = 0;
    while (*text) {
        unsigned count, which;
        int used;
        if (sscanf(text, "#%u:%u%n", &count, &which, &used) == 2) {
            put_picture(p, count, which, acausal);
            text += used;
        } else {
            p->tokens[p->count++] = (unsigned char)*text++;
        }
    }
}

static void release_prompt(struct prompt *p)
{
    for (size_t i = 0; i < p->place_count; i++)
        picture_unref(p->places[i].picture); /* the scheduler has its own */
}

static void submit(struct drive_reply *reply, const struct prompt *p, unsigned choices, unsigned max_tokens)
{
    struct gen_request request = {.kind = GEN_GENERATE,
                                  .tokens = p->tokens,
                                  .token_count = p->count,
                                  .pictures = p->places,
                                  .picture_count = p->place_count,
                                  .choices = choices,
                                  .params = drive_greedy(max_tokens)};
    drive_reply_init(&drive, reply);
    assert_true(drive_submit(&drive, reply, &request));
}

static void look_as(struct drive_reply *reply, const char *text, bool acausal, unsigned max_tokens)
{
    static struct prompt p;
    read_prompt(&p, text, acausal);
    submit(reply, &p, 1, max_tokens);
    release_prompt(&p);
}

/* The text, and how many tokens were cached. */
static const char *look(const char *text, unsigned *ret_cached)
{
    static char out[256];
    struct drive_reply reply;
    look_as(&reply, text, false, 12);
    loop_run(&drive.loop);
    assert_true(reply.done);
    snprintf(out, sizeof out, "%s", drive_text(&reply, 0));
    *ret_cached = reply.timings.cached_tokens;
    drive_reply_release(&reply);
    return out;
}

/* ---- tests ---- */

static void found_again_whole(void **state)
{
    (void)state;
    char first[64];
    unsigned cached;
    open_watched("fake:", (struct sched_config){0});
    snprintf(first, sizeof first, "%s", look("see #20:1 what", &cached));
    assert_int_equal(cached, 0);
    assert_int_equal(seen.spans, 1);
    assert_string_equal(look("see #20:1 what", &cached), first);
    assert_int_equal(cached, 28);
    assert_int_equal(seen.spans, 1); /* not decoded again */
    assert_string_not_equal(look("see #20:2 what", &cached), first);
    assert_int_equal(cached, 4);
    look("see #20:1 how", &cached);
    assert_int_equal(cached, 25);
    look("see #20:1", &cached); /* all of it is there, but the last cell's logits: no picture is cut */
    assert_int_equal(cached, 4);
    close_fake();
}

/* Ids that begin alike, as a collision of the first cells would. */
static void never_found_in_part(void **state)
{
    (void)state;
    static struct prompt p;
    struct drive_reply reply;
    open_watched("fake:", (struct sched_config){0});
    read_prompt(&p, "see #20:1 what", false);
    submit(&reply, &p, 1, 4);
    loop_run(&drive.loop);
    drive_reply_release(&reply);
    for (unsigned i = 10; i < 20; i++) {
        p.tokens[4 + i] ^= 1;
        p.places[0].picture->embeddings[(size_t)i * WIDTH] = (float)(uint32_t)p.tokens[4 + i];
    }
    submit(&reply, &p, 1, 4);
    loop_run(&drive.loop);
    assert_int_equal(reply.timings.cached_tokens, 4);
    drive_reply_release(&reply);
    release_prompt(&p);
    close_fake();
}

static void long_ones_come_in_pieces(void **state)
{
    (void)state;
    char whole[64];
    unsigned cached;
    open_watched("fake:", (struct sched_config){0});
    snprintf(whole, sizeof whole, "%s", look("a#200:1b#7:2#9:3c", &cached));
    assert_int_equal(seen.spans, 3);
    close_fake();
    open_watched("fake:batch=64,sequences=4", (struct sched_config){0});
    assert_string_equal(look("a#200:1b#7:2#9:3c", &cached), whole);
    assert_int_equal(seen.spans, 4 + 2);
    assert_int_equal(seen.longest, 64);
    close_fake();
}

static void those_that_see_themselves_come_at_once(void **state)
{
    (void)state;
    struct drive_reply stream, reply;
    open_watched("fake:batch=300", (struct sched_config){0});
    gate_set(true, 3);
    start(&stream, "for ever|", 50);
    gate_await();
    look_as(&reply, "a#290:1b", true, 4);
    gate_set(false, 0);
    loop_run(&drive.loop);
    assert_true(stream.done && reply.done);
    assert_int_equal(seen.spans, 1);
    assert_int_equal(seen.longest, 290);
    drive_reply_release(&stream);
    drive_reply_release(&reply);
    close_fake();
}

static void streams_go_on_between_pieces(void **state)
{
    (void)state;
    struct drive_reply stream, one, two;
    open_watched("fake:", (struct sched_config){0});
    gate_set(true, 3);
    start(&stream, "for ever|", 400);
    gate_await();
    look_as(&one, "a#900:1b", false, 4);
    look_as(&two, "c#900:2d", false, 4);
    gate_set(false, 0);
    loop_run(&drive.loop);
    assert_true(stream.done && one.done && two.done);
    assert_true(seen.spans > 4);
    assert_true(seen.longest <= LIMIT_PREFILL_PIECE);
    assert_int_equal(seen.most_in_a_row, 1);
    drive_reply_release(&stream);
    drive_reply_release(&one);
    drive_reply_release(&two);
    close_fake();
}

static void choices_share_it(void **state)
{
    (void)state;
    static struct prompt p;
    struct drive_reply reply;
    open_watched("fake:", (struct sched_config){0});
    read_prompt(&p, "see #50:1 what", false);
    submit(&reply, &p, 4, 8);
    release_prompt(&p);
    loop_run(&drive.loop);
    assert_int_equal(seen.spans, 1);
    for (unsigned i = 1; i < 4; i++)
        assert_string_equal(drive_text(&reply, i), drive_text(&reply, 0));
    drive_reply_release(&reply);
    close_fake();
}

static void preempted_ones_see_it_again(void **state)
{
    (void)state;
    struct drive_reply alone[3], crowded[3];
    char prompt[64];
    open_watched("fake:context=4096", (struct sched_config){0});
    for (unsigned i = 0; i < 3; i++) {
        snprintf(prompt, sizeof prompt, "%c see #30:%u then", 'A' + i, i);
        look_as(&alone[i], prompt, false, 60);
        loop_run(&drive.loop);
    }
    close_fake();
    open_watched("fake:context=170", (struct sched_config){0});
    for (unsigned i = 0; i < 3; i++) {
        snprintf(prompt, sizeof prompt, "%c see #30:%u then", 'A' + i, i);
        look_as(&crowded[i], prompt, false, 60);
    }
    loop_run(&drive.loop);
    for (unsigned i = 0; i < 3; i++) {
        assert_string_equal(drive_text(&crowded[i], 0), drive_text(&alone[i], 0));
        drive_reply_release(&crowded[i]);
        drive_reply_release(&alone[i]);
    }
    close_fake();
}

/* Engines that cannot cut, or continue states at their end only: nothing is kept that ends in a picture. */
static void whole_states(void **state)
{
    static const char *const engines[] = {"fake:trim=0", "fake:window=8", "fake:trim=0,batch=16,sequences=2"};
    (void)state;
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++) {
        char first[64], longer[64], other[32];
        unsigned cached;
        open_watched("fake:", (struct sched_config){0});
        snprintf(first, sizeof first, "%s", look("x#20:1#20:2 y", &cached));
        snprintf(longer, sizeof longer, "%s", look("x#20:1#20:2 y and #20:3", &cached));
        close_fake();
        open_watched(engines[i], (struct sched_config){.kv_memory = 1 << 20});
        for (unsigned again = 0; again < 3; again++) {
            assert_string_equal(look("x#20:1#20:2 y", &cached), first);
            assert_string_equal(look("x#20:1#20:2 y and #20:3", &cached), longer);
            snprintf(other, sizeof other, "x#20:1#20:%u y", 4 + again);
            look(other, &cached);
            assert_true(cached == 0 || cached == 1 || cached == 21);
        }
        close_fake();
    }
}

static unsigned guess(const char *prompt, enum sched_lookup lookup, char *out, size_t size)
{
    struct drive_reply reply;
    open_watched("fake:", (struct sched_config){.lookup = lookup});
    look_as(&reply, prompt, false, 60);
    loop_run(&drive.loop);
    assert_true(reply.done);
    snprintf(out, size, "%s", drive_text(&reply, 0));
    drive_reply_release(&reply);
    close_fake();
    return reply.timings.draft_accepted;
}

/* What is guessed is never a cell of a picture, though one followed the same words before: the engine would fail. */
static void guesses_are_tokens(void **state)
{
    (void)state;
    unsigned accepted = 0;
    for (unsigned length = 8; length < 26; length++) { /* so that guesses end everywhere */
        char prompt[64], plain[128], eager[128];
        snprintf(prompt, sizeof prompt, "%.*s#9:1 and more|", (int)length, "abcdefghijklmnopqrstuvwxyz");
        guess(prompt, SCHED_LOOKUP_OFF, plain, sizeof plain);
        accepted += guess(prompt, SCHED_LOOKUP_EAGER, eager, sizeof eager);
        assert_string_equal(eager, plain);
    }
    assert_true(accepted > 0);
}

static void cancelled_in_the_middle(void **state)
{
    (void)state;
    struct drive_reply gone;
    char first[64];
    unsigned cached;
    open_watched("fake:", (struct sched_config){0});
    snprintf(first, sizeof first, "%s", look("ab#90:1c", &cached));
    close_fake();
    open_watched("fake:batch=16,sequences=4,prefill=2000", (struct sched_config){0});
    look_as(&gone, "ab#90:1c", false, 4);
    while (seen.spans == 0 && !gone.done)
        uv_run(&drive.loop.uv, UV_RUN_NOWAIT);
    gen_cancel(gone.gen);
    drive.open--;
    settle();
    assert_string_equal(look("ab#90:1c", &cached), first);
    assert_true(cached == 2 || cached == 0);
    drive_reply_release(&gone);
    close_fake();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(found_again_whole),
        cmocka_unit_test(never_found_in_part),
        cmocka_unit_test(long_ones_come_in_pieces),
        cmocka_unit_test(those_that_see_themselves_come_at_once),
        cmocka_unit_test(streams_go_on_between_pieces),
        cmocka_unit_test(choices_share_it),
        cmocka_unit_test(preempted_ones_see_it_again),
        cmocka_unit_test(whole_states),
        cmocka_unit_test(guesses_are_tokens),
        cmocka_unit_test(cancelled_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
