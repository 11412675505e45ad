/* Forms read as they come: whatever the pieces, the parts are the same. */
#include "http/multipart_read.h"

#include "unit/unit.h"

#define TYPE STR("multipart/form-data; boundary=xYz")

static struct buf seen;

static void on_part(void *arg, struct str name, struct str filename)
{
    (void)arg;
    buf_printf(&seen, "[" STR_FMT "|" STR_FMT "]", STR_ARG(name), STR_ARG(filename.p ? filename : STR("-")));
}

static void on_data(void *arg, struct str piece)
{
    (void)arg;
    assert_true(piece.n > 0);
    buf_str(&seen, piece);
}

static const struct http_form_events events = {on_part, on_data};

/* The parts as one text, or NULL when it is refused. */
static const char *read_form(struct str body, struct str type, size_t stride, struct err *err)
{
    struct http_form_reader reader;
    buf_release(&seen);
    buf_init(&seen, 1 << 20);
    *err = ERR_INIT;
    bool good = http_form_reader_init(&reader, type, &events, NULL, err);
    for (size_t i = 0; good && i < body.n; i += stride)
        good = http_form_reader_feed(&reader, (struct str){body.p + i, body.n - i < stride ? body.n - i : stride}, err);
    good = good && http_form_reader_end(&reader, err);
    http_form_reader_release(&reader);
    return good ? buf_view(&seen).p : NULL;
}

static void test_every_cut(void **state)
{
    static const char body[] = "preamble\r\n--xYz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch"
                               "\r\n--xYz \t\r\ncontent-disposition: form-data; name=file; filename=\"a.jsonl\"\r\n"
                               "Content-Type: text/plain\r\n\r\n\r\n--xY\r\n-\r--xYz\r\n"
                               "\r\n--xYz\r\n\r\nbare\r\n--xYz--\r\nepilogue --xYz\r\n";
    struct err err;
    (void)state;
    for (size_t stride = 1; stride <= sizeof body; stride++)
        assert_string_equal(read_form(str_from(body), TYPE, stride, &err),
                            "[purpose|-]batch[file|a.jsonl]\r\n--xY\r\n-\r--xYz\r\n[|-]bare");
}

static void test_refused(void **state)
{
    static const struct {
        const char *body, *why;
    } cases[] = {
        {"", "the body holds no part with the boundary that its type names"},
        {"--other\r\n", "the body holds no part with the boundary that its type names"},
        {"--xYz\r\nContent-Disposition: form-data; name=a\r\n\r\nx", "the form breaks off: part 1 has no end"},
        {"--xYz\r\nContent-Disposition: form-data", "the form breaks off: part 1 has no end"},
        {"--xYzz\r\n\r\n\r\n--xYz--", "the form's delimiter is followed by something else than a line's end"},
    };
    struct err err;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t stride = 1; stride < 64; stride++) {
            assert_null(read_form(str_from(cases[i].body), TYPE, stride, &err));
            assert_string_equal(err.message, cases[i].why);
            assert_int_equal(err.code, ERR_BAD_REQUEST);
        }
    assert_null(read_form(STR("--x--"), STR("multipart/form-data"), 9, &err));
}

static void test_limits(void **state)
{
    struct buf body;
    struct err err;
    (void)state;
    buf_init(&body, 1 << 20);
    buf_puts(&body, "--xYz\r\nX: ");
    for (int i = 0; i < LIMIT_PART_HEAD; i++)
        buf_putc(&body, 'x');
    buf_puts(&body, "\r\n\r\nx\r\n--xYz--");
    assert_null(read_form(buf_view(&body), TYPE, 1000, &err));
    assert_non_null(strstr(err.message, "headers of the form's part 1"));
    buf_clear(&body);
    for (int i = 0; i <= LIMIT_FORM_PARTS; i++)
        buf_puts(&body, "\r\n--xYz\r\n\r\n\r\n");
    assert_null(read_form(buf_view(&body), TYPE, 7, &err));
    assert_non_null(strstr(err.message, "more than 64 parts"));
    buf_release(&body);
    buf_release(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
