#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "worker/detok.h"

static struct engine *engine;
static struct detok detok;
static struct buf out;

static void begin(const struct str *stops, size_t count)
{
    struct err err = ERR_INIT;
    engine = engine_fake.open(&(struct engine_config){.path = "fake:"}, &err);
    detok_init(&detok, &engine_fake, engine, false, NULL, 0, stops, count);
    buf_init(&out, 4096);
}

static void end(void)
{
    buf_release(&out);
    detok_release(&detok);
    engine_fake.close(engine);
}

static bool push(const char *bytes)
{
    bool stopped = false;
    for (; *bytes && !stopped; bytes++)
        stopped = detok_push(&detok, (unsigned char)*bytes);
    return stopped;
}

static void holds_back_unfinished_characters(void **state)
{
    (void)state;
    begin(NULL, 0);
    push("a\xf0\x9f\x98");
    assert_int_equal(detok_take(&detok, false, &out), 1);
    assert_string_equal(out.data, "a");
    push("\x80");
    assert_int_equal(detok_take(&detok, false, &out), 4);
    assert_string_equal(out.data, "a\xf0\x9f\x98\x80");
    end();
}

static void an_unfinished_end_becomes_the_replacement_character(void **state)
{
    (void)state;
    begin(NULL, 0);
    push("z\xc3");
    assert_int_equal(detok_take(&detok, false, &out), 1);
    assert_int_equal(detok_take(&detok, true, &out), 1);
    assert_string_equal(out.data, "z\xef\xbf\xbd");
    end();
}

static void invalid_bytes_do_not_wait(void **state)
{
    (void)state;
    begin(NULL, 0);
    push("a\xff"
         "b");
    assert_int_equal(detok_take(&detok, false, &out), 3);
    assert_string_equal(out.data, "a\xef\xbf\xbd"
                                  "b");
    end();
}

static void a_stop_over_three_tokens_is_never_leaked(void **state)
{
    (void)state;
    struct str stops[] = {STR("###")};
    begin(stops, 1);
    assert_false(push("ab#"));
    assert_int_equal(detok_take(&detok, false, &out), 2);
    assert_false(push("#"));
    assert_int_equal(detok_take(&detok, false, &out), 0);
    assert_true(push("#"));
    assert_int_equal(detok_take(&detok, true, &out), 0);
    assert_string_equal(out.data, "ab");
    assert_int_equal(detok.stopped, 0);
    end();
}

static void what_only_began_like_a_stop_comes_out(void **state)
{
    (void)state;
    struct str stops[] = {STR("aab"), STR("zz")};
    begin(stops, 2);
    assert_false(push("aaa"));
    assert_int_equal(detok_take(&detok, false, &out), 1); /* "aa" may still become "aab" */
    assert_false(push("c"));
    assert_int_equal(detok_take(&detok, false, &out), 3);
    assert_string_equal(out.data, "aaac");
    assert_false(push("z"));
    assert_int_equal(detok_take(&detok, false, &out), 0);
    assert_int_equal(detok_take(&detok, true, &out), 1);
    assert_string_equal(out.data, "aaacz");
    end();
}

static void the_earliest_stop_wins(void **state)
{
    (void)state;
    struct str stops[] = {STR("d"), STR("bcd")};
    begin(stops, 2);
    assert_true(push("abcd"));
    assert_int_equal(detok_take(&detok, true, &out), 1);
    assert_string_equal(out.data, "a");
    assert_int_equal(detok.stopped, 1);
    end();
}

static void control_tokens_show_only_when_preserved(void **state)
{
    (void)state;
    engine_token preserved[] = {257};
    begin(NULL, 0);
    detok_push(&detok, 257);
    assert_int_equal(detok_take(&detok, false, &out), 1);
    assert_int_equal(out.len, 0);
    detok.preserved = preserved;
    detok.preserved_count = 1;
    detok_push(&detok, 257);
    detok_push(&detok, 256);
    assert_int_equal(detok_take(&detok, false, &out), 2);
    assert_string_equal(out.data, "<eos>");
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds_back_unfinished_characters),
        cmocka_unit_test(an_unfinished_end_becomes_the_replacement_character),
        cmocka_unit_test(invalid_bytes_do_not_wait),
        cmocka_unit_test(a_stop_over_three_tokens_is_never_leaked),
        cmocka_unit_test(what_only_began_like_a_stop_comes_out),
        cmocka_unit_test(the_earliest_stop_wins),
        cmocka_unit_test(control_tokens_show_only_when_preserved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
