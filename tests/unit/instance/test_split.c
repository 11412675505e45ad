#include "unit/unit.h"

#include "instance/backend.h"

static void words_are_a_shells_words(void **state)
{
    (void)state;
    static const struct {
        const char *command, *words; /* with '|' between them */
    } cases[] = {
        {"a b  c", "a|b|c"},
        {"  a\t\n b\r\n", "a|b"},
        {"a \\\n  --b", "a|--b"},
        {"a \\\r\n --b", "a|--b"},
        {"ab\\\ncd", "abcd"},
        {"'a b' \"c d\"", "a b|c d"},
        {"--x='a b'c", "--x=a bc"},
        {"\"\" ''", "|"},
        {"'\\n' \"\\n\" \\n", "\\n|\\n|n"},
        {"\"a\\\"b\\\\c\\$d\\`e\"", "a\"b\\c$d`e"},
        {"'it'\\''s'", "it's"},
        {"$HOME ~/x *.c #y", "$HOME|~/x|*.c|#y"},
        {"'a|b;c' \"(x)\" \\|", "a|b;c|(x)||"},
        {"\"a\nb\"", "a\nb"},
        {"a\\", "a\\"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena arena;
        struct err err = ERR_INIT;
        char joined[256] = "";
        arena_init(&arena);
        const char *const *words = backend_split(str_from(cases[i].command), &arena, &err);
        assert_non_null(words);
        for (size_t n = 0, w = 0; words[w]; w++)
            n += (size_t)snprintf(joined + n, sizeof joined - n, "%s%s", w ? "|" : "", words[w]);
        assert_string_equal(joined, cases[i].words);
        arena_dispose(&arena);
    }
}

static void refuses(struct str command, const char *part)
{
    struct arena arena;
    struct err err = ERR_INIT;
    arena_init(&arena);
    assert_null(backend_split(command, &arena, &err));
    assert_int_equal(err.code, ERR_INVALID_PARAMETERS);
    if (!strstr(err.message, part))
        print_error("%s\n", err.message);
    assert_non_null(strstr(err.message, part));
    arena_dispose(&arena);
}

static void what_is_no_plain_command_is_refused(void **state)
{
    (void)state;
    refuses(STR(""), "empty");
    refuses(STR(" \n\t\\\n"), "empty");
    refuses(STR("a \"b"), "unclosed double");
    refuses(STR("a 'b"), "unclosed single");
    refuses(STR("a \"b\\\""), "unclosed double");
    refuses(STR("a | b"), "'|'");
    refuses(STR("a; b"), "';'");
    refuses(STR("a&"), "'&'");
    refuses(STR("a >b"), "'>'");
    refuses(STR("a <b"), "'<'");
    refuses(STR("(a)"), "'('");
    refuses(STR("a\0b"), "NUL");
    refuses(STR("a \xff"), "UTF-8");
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    static char text[LIMIT_COMMAND_BYTES + 1];
    memset(text, 'a', sizeof text);
    refuses((struct str){text, sizeof text}, "longer than");
    for (size_t i = 0; i < sizeof text; i += 2)
        text[i] = ' ';
    refuses((struct str){text, 2 * BACKEND_ARGUMENTS}, "more than");
    struct arena arena;
    struct err err;
    arena_init(&arena);
    assert_non_null(backend_split((struct str){text, 2 * (BACKEND_ARGUMENTS - 1)}, &arena, &err));
    arena_dispose(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_a_shells_words),
        cmocka_unit_test(what_is_no_plain_command_is_refused),
        cmocka_unit_test(sizes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
