#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/limits.h"
#include "worker/lookup.h"

#define LENGTH 60000

static engine_token tokens[LENGTH + LIMIT_DRAFT_TOKENS];

static unsigned spell(const char *text)
{
    unsigned count = 0;
    for (; text[count]; count++)
        tokens[count] = (unsigned char)text[count];
    return count;
}

/* As if all but the last tokens were a prompt. */
static struct lookup lookup_at(unsigned count)
{
    struct lookup lookup = {.seen = count};
    lookup_find(&lookup, tokens, count);
    return lookup;
}

static void finds_what_followed(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned source, matched;
    } cases[] = {
        {"", 0, 0},
        {"a", 0, 0},
        {"abab", 2, 2},      /* what the last two are followed by: "ab" again */
        {"abcd", 0, 0},      /* nothing twice */
        {"abcXab", 2, 2},    /* two tokens */
        {"abcdXabcd", 4, 4}, /* four */
        {"0123456789X0123456789", 10, 10},
        {"abYabXcab", 5, 2},    /* the latest of two */
        {"abcdYcdXabcd", 4, 4}, /* the longer one beats the later one */
        {"Xa", 0, 0},           /* one token is no match */
        {"aaaa", 3, 3},         /* overlaps itself, never the very end */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lookup lookup = lookup_at(spell(cases[i].text));
        if (lookup.source != cases[i].source || lookup.matched != cases[i].matched)
            fail_msg("%s: source %u, matched %u", cases[i].text, lookup.source, lookup.matched);
        lookup_release(&lookup);
    }
}

static void follows_and_loses_its_match(void **state)
{
    (void)state;
    unsigned count = spell("the cat sat. the catXat");
    struct lookup lookup = {.seen = 16}; /* "the cat sat. the" */
    lookup_find(&lookup, tokens, 16);
    assert_int_equal(lookup.source, 3);
    assert_int_equal(lookup.matched, 3);
    for (unsigned i = 16; i < 20; i++)
        assert_true(lookup_advance(&lookup, tokens));
    assert_int_equal(lookup.source, 7);
    assert_int_equal(lookup.matched, 7);
    assert_false(lookup_advance(&lookup, tokens)); /* X instead of the blank */
    assert_int_equal(lookup.source, 0);
    assert_int_equal(lookup.matched, 0);
    assert_false(lookup_advance(&lookup, tokens));
    assert_false(lookup_advance(&lookup, tokens));
    assert_int_equal(lookup.seen, count);
    lookup_find(&lookup, tokens, count);
    assert_int_equal(lookup.source, 20); /* behind the latest "at" whose successor is known */
    lookup_release(&lookup);
}

static void a_guess_goes_on_with_itself(void **state)
{
    (void)state;
    unsigned count = spell("xyzabab");
    struct lookup lookup = lookup_at(count);
    lookup_draft(&lookup, tokens, count, 7);
    for (unsigned i = 0; i < 7; i++)
        assert_int_equal(tokens[count + i], i % 2 ? 'b' : 'a');
    lookup_release(&lookup);
}

static void long_matches_are_counted_to_the_limit(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 500; i++)
        tokens[i] = (engine_token)(i % 200);
    struct lookup lookup = lookup_at(400);
    assert_int_equal(lookup.source, 200);
    assert_int_equal(lookup.matched, LIMIT_LOOKUP_MATCH);
    assert_true(lookup_advance(&lookup, tokens));
    assert_int_equal(lookup.matched, LIMIT_LOOKUP_MATCH);
    lookup_release(&lookup);
}

static void a_long_prompt_is_indexed_in_pieces(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LENGTH; i++)
        tokens[i] = (engine_token)i;
    memcpy(tokens + LENGTH - 4, tokens + LIMIT_LOOKUP_FEED + 10, 4 * sizeof *tokens);
    struct lookup lookup = lookup_at(LENGTH);
    assert_int_equal(lookup.indexed, LIMIT_LOOKUP_FEED);
    assert_int_equal(lookup.source, 0); /* not there yet */
    lookup_find(&lookup, tokens, LENGTH);
    assert_int_equal(lookup.indexed, 2 * LIMIT_LOOKUP_FEED);
    assert_int_equal(lookup.source, LIMIT_LOOKUP_FEED + 14);
    assert_int_equal(lookup.matched, 4);
    for (unsigned i = 0; i < LENGTH / LIMIT_LOOKUP_FEED + 1; i++)
        lookup_find(&lookup, tokens, LENGTH);
    assert_int_equal(lookup.indexed, LENGTH);
    assert_true(lookup.capacity <= LIMIT_LOOKUP_SLOTS && (lookup.capacity & (lookup.capacity - 1)) == 0);
    lookup_release(&lookup);
}

/* Token by token as a reply grows, against the obvious way: whatever is found is a match, and the latest place of the
 * last four is found unless a later n-gram took its slot. */
static void agrees_with_a_plain_search(void **state)
{
    (void)state;
    unsigned count = 5000, found = 0, there = 0;
    uint32_t random = 7;
    for (unsigned i = 0; i < count; i++)
        tokens[i] = (engine_token)((random = random * 1664525 + 1013904223) >> 29);
    struct lookup lookup = {.seen = 1};
    for (unsigned at = 1; at < count; at++) {
        lookup.source = lookup.matched = 0; /* search anew */
        lookup_find(&lookup, tokens, at);
        unsigned latest = at > 4 ? at - 1 : 0;
        while (latest >= 4 && memcmp(tokens + latest - 4, tokens + at - 4, 4 * sizeof *tokens) != 0)
            latest--;
        there += latest >= 4;
        found += latest >= 4 && lookup.matched >= 4;
        assert_true(lookup.source < at && lookup.matched <= lookup.source);
        for (unsigned n = 1; n <= lookup.matched; n++)
            assert_int_equal(tokens[lookup.source - n], tokens[at - n]);
        lookup_advance(&lookup, tokens);
    }
    assert_true(there > 1000 && found * 100 > there * 80);
    lookup_release(&lookup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_followed),
        cmocka_unit_test(follows_and_loses_its_match),
        cmocka_unit_test(a_guess_goes_on_with_itself),
        cmocka_unit_test(long_matches_are_counted_to_the_limit),
        cmocka_unit_test(a_long_prompt_is_indexed_in_pieces),
        cmocka_unit_test(agrees_with_a_plain_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
