#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "worker/draft.h"

/* A machine as the governor sees it: seconds of a step of so many rows. */
typedef double machine(unsigned rows);

static double processor(unsigned rows) /* measured with a small model on two cores */
{
    static const double at[] = {1, 4, 8, 16, 64}, ms[] = {5.5, 17, 26, 45, 150};
    unsigned i = 1;
    while (i < 4 && rows > at[i])
        i++;
    return (ms[i - 1] + (ms[i] - ms[i - 1]) * (rows - at[i - 1]) / (at[i] - at[i - 1])) / 1e3;
}

static double card(unsigned rows)
{
    return 0.004 + rows * 0.00002;
}

static double alone(unsigned rows) /* one core: a row costs a row */
{
    return rows * 0.007;
}

struct text {
    unsigned run; /* tokens in a row that the match foretells, then one that it does not, and a new match of two */
    unsigned matched, left;
};

struct outcome {
    double seconds, plain_seconds;
    unsigned tokens, drafted, accepted;
};

static uint32_t random_state;

static double noise(void)
{
    random_state = random_state * 1664525 + 1013904223;
    uint32_t dice = random_state >> 24;
    return dice == 0 ? 50 : 1 + dice / 1280.0; /* now and then a neighbour */
}

/* Lets streams of one kind of text generate so many steps. */
static struct outcome simulate(struct draft_governor *governor, machine *cost, const struct text *kind,
                               unsigned streams, unsigned wanted)
{
    struct draft_record records[8] = {0};
    struct draft_bid bids[8];
    struct text texts[8];
    struct outcome outcome = {0};
    for (unsigned s = 0; s < streams; s++)
        texts[s] = (struct text){.run = kind->run, .matched = 2, .left = kind->run};
    while (outcome.tokens < wanted) {
        unsigned rows = streams, tokens = 0;
        for (unsigned s = 0; s < streams; s++)
            bids[s] = (struct draft_bid){
                .record = &records[s], .matched = texts[s].matched, .limit = records[s].wait ? 0 : LIMIT_DRAFT_TOKENS};
        rows += draft_plan(governor, bids, streams, streams, 100);
        for (unsigned s = 0; s < streams; s++) {
            unsigned accepted = bids[s].length < texts[s].left ? bids[s].length : texts[s].left;
            if (bids[s].length > 0)
                draft_note_guess(governor, &records[s], streams, bids[s].length, accepted);
            outcome.drafted += bids[s].length;
            outcome.accepted += accepted;
            for (unsigned i = 0; i <= accepted; i++, tokens++) {
                bool foretold = texts[s].left > 0;
                draft_note_token(governor, &records[s], texts[s].matched, foretold);
                records[s].wait -= records[s].wait > 0;
                texts[s].matched = foretold ? texts[s].matched + 1 : 2;
                texts[s].left = foretold ? texts[s].left - 1 : texts[s].run;
            }
        }
        draft_note_step(governor, streams, rows, tokens, cost(rows) * noise());
        outcome.seconds += cost(rows);
        outcome.plain_seconds += cost(streams) * tokens / streams;
        outcome.tokens += tokens;
    }
    return outcome;
}

static double speedup(machine *cost, unsigned run, unsigned streams, unsigned tokens)
{
    struct draft_governor governor;
    struct text kind = {.run = run};
    random_state = 1;
    draft_init(&governor);
    struct outcome outcome = simulate(&governor, cost, &kind, streams, tokens);
    return outcome.plain_seconds / outcome.seconds;
}

static void copies_are_faster(void **state)
{
    (void)state;
    double one = speedup(processor, 1000, 1, 256), four = speedup(processor, 1000, 4, 1024);
    if (one < 1.5 || four < 1.05)
        fail_msg("%.2f with one stream, %.2f with four", one, four);
    assert_true(speedup(processor, 60, 1, 512) > 1.2); /* with a change here and there */
    assert_true(speedup(card, 1000, 1, 256) > 5);
    assert_true(speedup(card, 1000, 8, 2048) > 4);
    assert_true(speedup(card, 6, 1, 512) > 1.2);
}

static void check_least(machine *cost, unsigned runs, double least)
{
    for (unsigned run = 0; run < runs; run++)
        for (unsigned streams = 1; streams <= 8; streams *= 2) {
            double faster = speedup(cost, run, streams, 1024 * streams);
            if (faster < least)
                fail_msg("%.3f: runs of %u, %u streams", faster, run, streams);
        }
}

static void free_text_is_not_slower(void **state)
{
    (void)state;
    check_least(processor, 12, 0.98);
    check_least(card, 12, 0.98);
    check_least(alone, 8, 0.98);
}

/* Repeats that always break off, where nothing can be won by any guess: what it costs to find that out has an end. */
static void the_worst_text_on_the_worst_machine_is_bounded(void **state)
{
    (void)state;
    check_least(alone, 60, 0.94);
    check_least(processor, 60, 0.96);
}

static void the_curve_is_learnt_in_spite_of_neighbours(void **state)
{
    (void)state;
    struct draft_governor governor;
    random_state = 3;
    draft_init(&governor);
    draft_note_step(&governor, 1, 1, 1, 6); /* the very first step: weights come from the disk */
    for (unsigned i = 0; i < 50; i++)
        for (unsigned rows = 1; rows <= 32; rows *= 2)
            draft_note_step(&governor, 1, rows, rows, card(rows) * noise());
    assert_true(fabs(governor.cost[32] / governor.cost[1] - card(32) / card(1)) < 0.2);
    for (unsigned i = 1; i < LIMIT_DRAFT_ROWS; i++)
        assert_true(governor.cost[i + 1] >= governor.cost[i]);
}

/* The one that is likelier to be right gets its rows first, and nobody more than the limit or the room. */
static void rows_go_where_they_count(void **state)
{
    (void)state;
    struct draft_governor governor;
    struct draft_record good = {0}, bad = {0};
    draft_init(&governor);
    for (unsigned i = 0; i < 10; i++)
        for (unsigned rows = 1; rows <= LIMIT_DRAFT_ROWS; rows *= 2)
            draft_note_step(&governor, 1, rows, rows, card(rows));
    for (unsigned i = 0; i < 40; i++)
        for (unsigned matched = 2; matched < 40; matched++) {
            draft_note_token(&governor, &good, matched, true);
            draft_note_token(&governor, &bad, matched, i % 2);
        }
    struct draft_bid bids[] = {{.record = &bad, .matched = 10, .limit = 24},
                               {.record = &good, .matched = 10, .limit = 5},
                               {.record = &good, .matched = 40, .limit = 24}};
    assert_int_equal(draft_plan(&governor, bids, 3, 3, 7), 7);
    assert_int_equal(bids[0].length, 0);
    assert_true(bids[1].length <= 5);
    assert_int_equal(bids[1].length + bids[2].length, 7);
    assert_int_equal(draft_plan(&governor, bids, 3, 3, 0), 0);
    draft_plan(&governor, bids, 3, 3, 1000);
    assert_int_equal(bids[1].length, 5);
    assert_int_equal(bids[2].length, 24);
    assert_true(bids[0].length < 8);
    assert_int_equal(draft_plan(&governor, bids, 3, LIMIT_DRAFT_ROWS, 1000), 0); /* no row is left */
    assert_int_equal(draft_plan(&governor, bids, 0, 3, 1000), 0);
}

/* A copy among four streams makes the other three wait for twice a plain step at most; four copies wait for each
 * other as long as it pays. */
static void streams_without_guesses_wait_for_little(void **state)
{
    (void)state;
    struct draft_governor governor;
    struct draft_record good = {0};
    struct draft_bid bids[4];
    draft_init(&governor);
    for (unsigned i = 0; i < 10; i++)
        for (unsigned rows = 1; rows <= LIMIT_DRAFT_ROWS; rows *= 2)
            draft_note_step(&governor, rows, rows, rows, processor(rows));
    for (unsigned i = 0; i < 40; i++)
        for (unsigned matched = 2; matched < 40; matched++)
            draft_note_token(&governor, &good, matched, true);
    for (unsigned i = 0; i < 4; i++)
        bids[i] = (struct draft_bid){.record = &good, .matched = 30, .limit = LIMIT_DRAFT_TOKENS};
    governor.credit = 100;
    unsigned beside = draft_plan(&governor, bids, 1, 4, 100);
    assert_true(beside > 0);
    assert_true(governor.cost[4 + beside] <= 2 * governor.cost[4]);
    unsigned all = draft_plan(&governor, bids, 4, 4, 100);
    assert_true(governor.cost[4 + all] > 2 * governor.cost[4]);
}

static void a_guess_that_did_not_pay_waits_longer_each_time(void **state)
{
    (void)state;
    struct draft_governor governor;
    struct draft_record record = {0};
    draft_init(&governor);
    for (unsigned wait = 1; wait <= 64; wait *= 2) {
        draft_note_guess(&governor, &record, 1, 16, 0);
        assert_int_equal(record.wait, wait);
    }
    draft_note_guess(&governor, &record, 1, 16, 0);
    assert_int_equal(record.wait, 64);
    draft_note_guess(&governor, &record, 1, 16, 16);
    assert_int_equal(record.wait, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_are_faster),
        cmocka_unit_test(free_text_is_not_slower),
        cmocka_unit_test(the_worst_text_on_the_worst_machine_is_bounded),
        cmocka_unit_test(the_curve_is_learnt_in_spite_of_neighbours),
        cmocka_unit_test(rows_go_where_they_count),
        cmocka_unit_test(streams_without_guesses_wait_for_little),
        cmocka_unit_test(a_guess_that_did_not_pay_waits_longer_each_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
