/* Base64: exact bytes, blanks, padding, and what is none. */
#include "base/base64.h"

#include "unit/unit.h"

static bool decode(const char *text, unsigned char *out, size_t *n)
{
    return base64_decode(str_from(text), out, n);
}

static void test_good(void **state)
{
    static const struct {
        const char *text, *bytes;
    } rows[] = {{"", ""},
                {"Zg==", "f"},
                {"Zm8=", "fo"},
                {"Zm9v", "foo"},
                {"Zm9vYg", "foob"},
                {"Zm9vYmE", "fooba"},
                {"Zm9v\r\nYmFy", "foobar"},
                {" Z m\t9v ", "foo"},
                {"+/+/", "\xfb\xff\xbf"}};
    unsigned char out[64];
    size_t n;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_true(decode(rows[i].text, out, &n));
        assert_int_equal(n, strlen(rows[i].bytes));
        assert_memory_equal(out, rows[i].bytes, n);
        assert_true(n <= base64_room(strlen(rows[i].text)));
    }
}

static void test_bad(void **state)
{
    static const char *const rows[] = {
        "Z", "Zm9vY", "Zg=", "Zg===", "Z===", "====", "Zg==Zg==", "Zm-v", "Zm_v", "Zm9v!", "Zm9v=", "\x80Zm9"};
    unsigned char out[64];
    size_t n = 7;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (decode(rows[i], out, &n))
            fail_msg("was accepted: %s", rows[i]);
        assert_int_equal(n, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_bad)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
