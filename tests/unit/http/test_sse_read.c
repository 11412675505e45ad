#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/sse_read.h"

static void note(void *arg, struct str name, struct str data)
{
    buf_printf(arg, "[%.*s|%.*s]", STR_ARG(name), STR_ARG(data));
}

static void test_events(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"data: a\n\n", "[|a]"},
        {"data:a\r\n\r\ndata: b\r\rdata\n\n", "[|a][|b][|]"},
        {"event: error\ndata: 1\ndata:  2\n\ndata: 3\n\n", "[error|1\n 2][|3]"},
        {": ping\n\nid: 7\nretry: 3\n\ndata: x\n\n", "[|x]"},
        {"event: only\n\ndata: y\n\n", "[|y]"},
        {"\xEF\xBB\xBF"
         "data: z\n\n",
         "[|z]"},
        {"data: cut", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t step = 1; step < 9; step++) {
            struct http_sse_reader reader;
            struct buf out;
            buf_init(&out, 1000);
            http_sse_reader_init(&reader, note, &out);
            size_t n = strlen(cases[i].in);
            for (size_t at = 0; at < n; at += step) {
                size_t part = n - at < step ? n - at : step;
                assert_true(http_sse_reader_feed(&reader, (struct str){cases[i].in + at, part}));
            }
            assert_string_equal(buf_view(&out).p, cases[i].out);
            http_sse_reader_release(&reader);
            buf_release(&out);
        }
}

static void test_large_event_is_refused(void **state)
{
    static char block[1 << 20];
    struct http_sse_reader reader;
    bool ok = true;
    (void)state;
    memset(block, 'd', sizeof block);
    http_sse_reader_init(&reader, note, NULL);
    for (int i = 0; i < 17 && ok; i++)
        ok = http_sse_reader_feed(&reader, (struct str){block, sizeof block});
    assert_false(ok);
    http_sse_reader_release(&reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_events), cmocka_unit_test(test_large_event_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
