/* Forms: the field that is looked for, wherever it lies, and everything that is no form. */
#include "http/multipart.h"

#include "unit/unit.h"

#define TYPE STR("multipart/form-data; boundary=xYz")

static struct str find(const char *body, struct str type, const char *name, struct err *err)
{
    struct str content;
    *err = ERR_INIT;
    return http_multipart_find(str_from(body), type, str_from(name), &content, err) ? content : STR_NONE;
}

static void test_found(void **state)
{
    static const char body[] = "--xYz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n"
                               "Content-Type: audio/wav\r\n\r\nRIFF--xYz\r\n-\r\n--xYz\r\n"
                               "content-disposition: form-data; name=model\r\n\r\nwhisper/large\r\n--xYz--\r\n";
    struct err err;
    (void)state;
    struct str model = find(body, TYPE, "model", &err);
    assert_true(str_eq(model, STR("whisper/large")));
    assert_true(model.p > body && model.p < body + sizeof body);
    assert_true(str_eq(find(body, TYPE, "file", &err), STR("RIFF--xYz\r\n-")));
    assert_null(find(body, TYPE, "nothing", &err).p);
    assert_int_equal(err.code, ERR_NONE);
    assert_true(str_eq(find(body, STR("multipart/form-data; charset=utf-8; boundary=\"xYz\""), "model", &err),
                       STR("whisper/large")));
}

static void test_edges(void **state)
{
    struct err err;
    (void)state;
    assert_true(str_eq(find("--xYz\r\nContent-Disposition: form-data; name=\"m\"\r\n\r\n\r\n--xYz--", TYPE, "m", &err),
                       STR("")));
    assert_true(str_eq(
        find("preamble\r\n--xYz\r\nContent-Disposition: form-data; name=\"m\"\r\n\r\n1\r\n--xYz--", TYPE, "m", &err),
        STR("1")));
}

static void test_refused(void **state)
{
    static const struct {
        const char *body, *type;
    } bad[] = {
        {"--xYz\r\n\r\nx\r\n--xYz--", "multipart/form-data"},
        {"--xYz\r\n\r\nx\r\n--xYz--", "multipart/form-data; boundary="},
        {"--xYz\r\n\r\nx\r\n--xYz--", "multipart/form-data; boundary=\"xYz"},
        {"", "multipart/form-data; boundary=xYz"},
        {"nothing of the kind", "multipart/form-data; boundary=xYz"},
        {"--xYz\r\nContent-Disposition: form-data; name=\"m\"\r\n\r\nno end", "multipart/form-data; boundary=xYz"},
        {"--xYz\r\nno headers' end\r\n--xYz--", "multipart/form-data; boundary=xYz"},
        {"--xYz\r\nContent-Disposition: form-data; name=\"m\"\r\n\r\n--xYz--", "multipart/form-data; boundary=xYz"},
    };
    struct err err;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(find(bad[i].body, str_from(bad[i].type), "m", &err).p);
        assert_int_equal(err.code, ERR_BAD_REQUEST);
    }
}

static void test_type(void **state)
{
    (void)state;
    assert_true(http_multipart_is(STR("Multipart/Form-Data; boundary=a")));
    assert_false(http_multipart_is(STR("multipart/mixed; boundary=a")));
    assert_false(http_multipart_is(STR_NONE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_found), cmocka_unit_test(test_edges),
                                       cmocka_unit_test(test_refused), cmocka_unit_test(test_type)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
