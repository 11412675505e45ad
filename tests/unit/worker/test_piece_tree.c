#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "worker/piece_tree.h"

static const char *const pieces[] = {"b",         "abc", "a",   "</s>",  "ab",        "\xC3", "\xC3\xA9", "",
                                     "\xC3\xA9t", "a",   "abd", "b\xC3", "b\xC3\xA9", "ba",   NULL};

static const struct engine_info *info(const struct engine *engine)
{
    static struct engine_info known;
    (void)engine;
    known.vocabulary = sizeof pieces / sizeof *pieces;
    return &known;
}

static char long_piece[600];

static int piece(const struct engine *engine, engine_token token, bool special, char *out, int capacity)
{
    const char *text = pieces[token] ? pieces[token] : long_piece;
    int n = (int)strlen(text);
    (void)engine;
    assert_true(special);
    if (n > 0 && n <= capacity)
        memcpy(out, text, (size_t)n);
    return n;
}

static bool is_end(const struct engine *engine, engine_token token)
{
    (void)engine;
    return token == 3;
}

static const struct engine_ops ops = {.info = info, .piece = piece, .is_end = is_end};

/* Appends the tokens from at to end, what is below one in brackets. */
static void outline(const struct piece_tree *tree, unsigned at, unsigned end, char *out, size_t size)
{
    for (; at < end; at = tree->end[at]) {
        snprintf(out + strlen(out), size - strlen(out), " %d", tree->tokens[at]);
        if (piece_tree_child(at) < tree->end[at]) {
            snprintf(out + strlen(out), size - strlen(out), "(");
            outline(tree, piece_tree_child(at), tree->end[at], out, size);
            snprintf(out + strlen(out), size - strlen(out), ")");
        }
    }
}

static void texts_stand_below_their_beginnings(void **state)
{
    (void)state;
    char out[256] = "";
    struct piece_tree *tree = piece_tree_new();
    memset(long_piece, 'b', sizeof long_piece - 1);
    piece_tree_fill(tree, &ops, NULL);
    piece_tree_fill(tree, &ops, NULL);
    assert_int_equal(tree->count, 14); /* all but the empty one */
    outline(tree, 0, tree->count, out, sizeof out);
    /* equal texts one below the other; half a character (5, 11) above nothing; an end (3) apart from all */
    assert_string_equal(out, " 2( 9( 4( 1 10))) 0( 13 14 11 12) 5 6( 8) 3");
    piece_tree_free(tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts_stand_below_their_beginnings)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
