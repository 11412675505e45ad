#include "unit/unit.h"

#include "base/json_read.h"
#include "base/json_scan.h"
#include "base/json_write.h"

static void the_writer_knows_its_level(void **state)
{
    (void)state;
    struct buf out;
    struct json j;
    buf_init(&out, 1000);
    json_begin(&j, &out);
    json_open_object(&j, NULL);
    json_put_string(&j, "a", "x\"\\\n\x01\xC3\xA9\xFF");
    json_open_array(&j, "b");
    json_put_int(&j, NULL, -5);
    json_put_number(&j, NULL, 0.1);
    json_put_number(&j, NULL, 1e300 * 1e300);
    json_put_bool(&j, NULL, true);
    json_put_null(&j, NULL);
    json_open_object(&j, NULL);
    json_close(&j);
    json_close(&j);
    json_put_raw(&j, "c", STR("{}"));
    json_put_float(&j, "d", 0.1f);
    json_close(&j);
    assert_true(json_finish(&j));
    assert_string_equal(
        out.data,
        "{\"a\":\"x\\\"\\\\\\n\\u0001\xC3\xA9\xEF\xBF\xBD\",\"b\":[-5,0.1,null,true,null,{}],\"c\":{},\"d\":0.1}");
    buf_release(&out);
}

static void the_writer_refuses_misuse(void **state)
{
    (void)state;
    struct buf out;
    struct json j;
    buf_init(&out, 1000);
    json_begin(&j, &out);
    json_open_object(&j, NULL);
    json_put_int(&j, NULL, 1); /* a member without a name */
    json_close(&j);
    assert_false(json_finish(&j));
    buf_clear(&out);
    json_begin(&j, &out);
    json_open_array(&j, NULL);
    assert_false(json_finish(&j)); /* not closed */
    buf_release(&out);
    buf_init(&out, 8);
    json_begin(&j, &out);
    json_put_string(&j, NULL, "too long for it");
    assert_false(json_finish(&j));
    buf_release(&out);
}

static void documents_are_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    "{",           "{\"a\":1,}",   "[1 2]",      "{'a':1}",
                                      "nan", "\"\\ud800\"", "\"\xC0\x80\"", "{\"a\":1}x", "\"a\\u0000b\"",
                                      "01",  "[1e999]"};
    struct err err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *document = json_read(str_from(bad[i]), &err);
        if (document)
            print_error("accepted: %s\n", bad[i]);
        assert_null(document);
        assert_int_equal(err.code, ERR_INVALID_JSON);
    }
}

static void depth_is_bounded(void **state)
{
    (void)state;
    char text[2 * 65 + 1];
    struct err err;
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    assert_null(json_read((struct str){text, 130}, &err));
    assert_non_null(strstr(err.message, "deeper than 64"));
    json_t *document = json_read((struct str){text + 1, 128}, &err);
    assert_non_null(document);
    json_decref(document);
    document = json_read(STR("\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\""), &err);
    assert_non_null(document);
    json_decref(document);
}

struct sample {
    bool stream;
    int64_t n;
    double t;
    struct str name;
    const json_t *list;
};

static const struct json_field sample_fields[] = {
    JSON_FIELD(struct sample, stream, "stream", JSON_KIND_BOOL, 0, 0),
    JSON_FIELD(struct sample, n, "n", JSON_KIND_INT, 1, 128),
    JSON_FIELD(struct sample, t, "t", JSON_KIND_NUMBER, 0, 2),
    JSON_FIELD(struct sample, name, "name", JSON_KIND_TEXT, 1, 8),
    JSON_FIELD(struct sample, list, "list", JSON_KIND_ARRAY, 0, 2),
};

static bool read_sample(const char *text, struct sample *s, struct err *err)
{
    json_t *document = json_read(str_from(text), err);
    assert_non_null(document);
    bool good = json_fields(document, sample_fields, 5, s, "x", err);
    json_decref(document);
    return good;
}

static void fields_keep_defaults_and_take_integral_floats(void **state)
{
    (void)state;
    struct sample s = {.n = 3, .t = 0.7};
    struct err err;
    assert_true(read_sample("{\"n\":16.0,\"t\":null,\"other\":[{}]}", &s, &err));
    assert_int_equal(s.n, 16);
    assert_true(s.t == 0.7);
    assert_false(s.stream);
}

static void fields_name_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *text, *param, *word;
    } cases[] = {
        {"{\"n\":\"1\"}", "x.n", "an integer, but is a string"},
        {"{\"n\":1.5}", "x.n", "an integer"},
        {"{\"n\":0}", "x.n", "between 1 and 128"},
        {"{\"t\":2.01}", "x.t", "between 0 and 2"},
        {"{\"t\":true}", "x.t", "a number, but is a boolean"},
        {"{\"stream\":1}", "x.stream", "a boolean"},
        {"{\"name\":\"\"}", "x.name", "between 1 and 8"},
        {"{\"list\":[1,2,3]}", "x.list", "between 0 and 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sample s = {0};
        struct err err;
        assert_false(read_sample(cases[i].text, &s, &err));
        assert_int_equal(err.code, ERR_INVALID_PARAMETERS);
        assert_string_equal(err.param, cases[i].param);
        assert_non_null(strstr(err.message, cases[i].word));
    }
}

static void scan_finds_top_members_only(void **state)
{
    (void)state;
    struct json_scan wanted[2] = {{.key = "model"}, {.key = "stream"}};
    struct err err;
    assert_true(
        json_scan(STR(" {\"messages\":[{\"model\":\"no\",\"x\":\"}]\\\"\"}], \"model\" : \"a\\/b\" ,\"stream\":true} "),
                  wanted, 2, &err));
    assert_str(wanted[0].raw, "\"a\\/b\"");
    assert_str(wanted[1].raw, "true");
    struct arena arena;
    struct str text;
    arena_init(&arena);
    assert_true(json_scan_text(wanted[0].raw, &arena, &text));
    assert_str(text, "a/b");
    arena_dispose(&arena);
    assert_true(json_scan(STR("{\"m\\u006fdel\":1,\"model\":2}"), wanted, 1, &err));
    assert_str(wanted[0].raw, "2"); /* the last one counts, escaped or not */
    assert_true(json_scan(STR("{\"model\":1,\"m\\u006fdel\":\"z\"}"), wanted, 1, &err));
    assert_str(wanted[0].raw, "\"z\"");
    assert_true(json_scan(STR("{}"), wanted, 1, &err));
    assert_true(json_scan(STR("{\"a\":{}} \n"), wanted, 1, &err));
    assert_null(wanted[0].raw.p);
}

static void scan_refuses_what_is_no_object(void **state)
{
    (void)state;
    static const char *const bad[] = {"",          " ",           "[]",        "\"x\"",      "{",     "{\"a\"",
                                      "{\"a\":",   "{\"a\":1",    "{\"a\":\"", "{\"a\":[1}", "{a:1}", "{\"a\":1,}",
                                      "{\"a\" 1}", "{\"a\":\"\\", "{} x",      "{\"a\":1}}"};
    struct json_scan wanted = {.key = "model"};
    struct err err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err = ERR_INIT;
        assert_false(json_scan(str_from(bad[i]), &wanted, 1, &err));
        assert_int_equal(err.code, ERR_INVALID_JSON);
        assert_true(*err.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_writer_knows_its_level),
        cmocka_unit_test(the_writer_refuses_misuse),
        cmocka_unit_test(documents_are_strict),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(fields_keep_defaults_and_take_integral_floats),
        cmocka_unit_test(fields_name_what_is_wrong),
        cmocka_unit_test(scan_finds_top_members_only),
        cmocka_unit_test(scan_refuses_what_is_no_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
