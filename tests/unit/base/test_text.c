/* str, utf8, buf, map, arena: the small things everything else stands on. */
#include "unit/unit.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/utf8.h"

static void cut_takes_parts_and_tells_the_last(void **state)
{
    (void)state;
    struct str rest = STR("a,,b");
    assert_str(str_cut(&rest, ','), "a");
    assert_str(str_cut(&rest, ','), "");
    assert_str(str_cut(&rest, ','), "b");
    assert_null(rest.p);
}

static void numbers_are_read_whole_or_not_at_all(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "-1", "+1", " 1", "1 ", "0x1", "18446744073709551616", "99999999999999999999999"};
    uint64_t value = 7;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(str_u64(str_from(bad[i]), UINT64_MAX, &value));
    assert_int_equal(value, 7);
    assert_true(str_u64(STR("18446744073709551615"), UINT64_MAX, &value));
    assert_true(value == UINT64_MAX);
    assert_false(str_u64(STR("101"), 100, &value));
    assert_true(str_u64(STR("100"), 100, &value));
}

static void the_nearest_name_is_found_only_when_near(void **state)
{
    (void)state;
    static const char *const names[] = {"server", "cache", "inference"};
    assert_string_equal(str_nearest(STR("sever"), names, 3), "server");
    assert_string_equal(str_nearest(STR("CACHE"), names, 3), "cache");
    assert_string_equal(str_nearest(STR("infer"), names, 3), "inference");
    assert_null(str_nearest(STR("zzzzzz"), names, 3));
}

/* Wherever it is cut, text in pieces is as valid as in one; what is wrong shows at its first wrong byte. */
static void utf8_in_pieces(void **state)
{
    static const struct {
        const char *text;
        size_t wrong_at; /* bytes after which it must be refused; 0: never */
    } cases[] = {{"a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xED\x9F\xBF\xF4\x8F\xBF\xBF", 0},
                 {"\x80", 1},
                 {"\xC1\xBF", 1},
                 {"\xE0\x9F\xBF", 2},
                 {"x\xED\xA0\x80", 3},
                 {"\xF0\x8F\xBF\xBF", 2},
                 {"\xF4\x90\x80\x80", 2},
                 {"\xF5\x80\x80\x80", 1},
                 {"\xC3x", 2},
                 {"\xE2\x82\xC3", 3}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct utf8_check check = {0};
        size_t n = strlen(cases[i].text), fed = 0;
        while (fed < n && utf8_check_feed(&check, cases[i].text + fed, 1))
            fed++;
        assert_int_equal(fed == n ? 0 : fed + 1, cases[i].wrong_at);
        assert_int_equal(fed == n && utf8_check_whole(&check), utf8_valid(cases[i].text, n));
    }
    struct utf8_check check = {0};
    assert_true(utf8_check_feed(&check, "\xE2\x82", 2));
    assert_false(utf8_check_whole(&check));
}

static void utf8_is_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {"\xC0\x80",     "\xC1\xBF",         "\xE0\x80\x80",
                                      "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
                                      "\x80",         "\xE2\x82",         "\xFF"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(utf8_valid(bad[i], strlen(bad[i])));
    assert_true(utf8_valid("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 10));
}

static void a_character_is_never_cut(void **state)
{
    (void)state;
    static const char text[] = "a\xF0\x9F\x98\x80";
    assert_int_equal(utf8_complete(text, 5), 5);
    assert_int_equal(utf8_complete(text, 4), 1);
    assert_int_equal(utf8_complete(text, 3), 1);
    assert_int_equal(utf8_complete(text, 2), 1);
    assert_int_equal(utf8_complete("\x80\x80\x80\x80", 4), 4); /* can never become valid */
}

static void utf8_round_trip(void **state)
{
    (void)state;
    static const unsigned points[] = {0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        char bytes[4];
        unsigned back;
        size_t n = utf8_encode(points[i], bytes);
        assert_int_equal(utf8_decode(bytes, n, &back), n);
        assert_int_equal(back, points[i]);
    }
}

static void a_buffer_never_passes_its_maximum(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    buf_puts(&b, "12345");
    buf_printf(&b, "%d", 67890);
    assert_true(buf_ok(&b));
    buf_putc(&b, 'x');
    assert_false(buf_ok(&b));
    buf_puts(&b, "more");
    assert_int_equal(b.len, 10);
    assert_string_equal(b.data, "1234567890");
    buf_clear(&b);
    assert_true(buf_ok(&b));
    buf_puts(&b, "ab");
    buf_consume(&b, 1);
    assert_str(buf_view(&b), "b");
    size_t n;
    char *taken = buf_take(&b, &n);
    assert_string_equal(taken, "b");
    mem_free(taken);
    buf_release(&b);
}

static void a_map_keeps_what_it_is_given(void **state)
{
    (void)state;
    struct map map;
    static int values[2000];
    char key[16];
    map_init(&map);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2000; i++) {
            snprintf(key, sizeof key, "k%d", i);
            assert_null(map_put(&map, str_from(key), &values[i]));
        }
        assert_int_equal(map.count, 2000);
        for (int i = 0; i < 2000; i++) {
            snprintf(key, sizeof key, "k%d", i);
            assert_ptr_equal(map_remove(&map, str_from(key)), &values[i]);
        }
        assert_int_equal(map.count, 0);
        assert_null(map_get(&map, STR("k1")));
    }
    assert_true(map.capacity <= 8192);
    map_release(&map);
}

static void note(void *arg)
{
    *(int *)arg = *(int *)arg * 10 + 1;
}

static void note_two(void *arg)
{
    *(int *)arg = *(int *)arg * 10 + 2;
}

static void an_arena_tells_in_reverse_order(void **state)
{
    (void)state;
    struct arena arena;
    int order = 0;
    arena_init(&arena);
    arena_on_dispose(&arena, note, &order);
    arena_on_dispose(&arena, note_two, &order);
    arena_forget(arena_on_dispose(&arena, note, &order));
    for (int i = 0; i < 200; i++)
        memset(arena_alloc(&arena, 999), 1, 999);
    assert_string_equal(arena_printf(&arena, "%d-%s", 5, "x"), "5-x");
    arena_dispose(&arena);
    assert_int_equal(order, 21);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_takes_parts_and_tells_the_last),
        cmocka_unit_test(numbers_are_read_whole_or_not_at_all),
        cmocka_unit_test(the_nearest_name_is_found_only_when_near),
        cmocka_unit_test(utf8_is_strict),
        cmocka_unit_test(utf8_in_pieces),
        cmocka_unit_test(a_character_is_never_cut),
        cmocka_unit_test(utf8_round_trip),
        cmocka_unit_test(a_buffer_never_passes_its_maximum),
        cmocka_unit_test(a_map_keeps_what_it_is_given),
        cmocka_unit_test(an_arena_tells_in_reverse_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
