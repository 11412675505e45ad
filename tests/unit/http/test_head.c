/* Which heads are accepted and with which status the others are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/head.h"

#define POST(lines) "POST / HTTP/1.1\r\nHost: a\r\n" lines "\r\n"

static void test_requests(void **state)
{
    static const struct {
        const char *head;
        int status; /* 0: accepted */
        enum http_body_kind kind;
    } cases[] = {
        {POST(""), 0, HTTP_BODY_NONE},
        {POST("Content-Length: 5\r\n"), 0, HTTP_BODY_LENGTH},
        {POST("Content-Length: \t5 \r\n"), 0, HTTP_BODY_LENGTH},
        {POST("transfer-encoding: CHUNKED\r\n"), 0, HTTP_BODY_CHUNKED},
        {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 0, HTTP_BODY_NONE},
        {"GET / HTTP/1.0\r\n\r\n", 0, HTTP_BODY_NONE},
        {POST("Content-Length: +5\r\n"), 400, 0},
        {POST("Content-Length: -5\r\n"), 400, 0},
        {POST("Content-Length: 0x5\r\n"), 400, 0},
        {POST("Content-Length: 5, 5\r\n"), 400, 0},
        {POST("Content-Length: 9223372036854775808\r\n"), 400, 0},
        {POST("Content-Length:\r\n"), 400, 0},
        {POST("Content-Length: 5\r\nContent-Length: 5\r\n"), 400, 0},
        {POST("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, 0},
        {POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400, 0},
        {POST("Transfer-Encoding : chunked\r\n"), 400, 0},
        {POST("Transfer-Encoding: gzip, chunked\r\n"), 501, 0},
        {POST("Transfer-Encoding: xchunked\r\n"), 501, 0},
        {POST("Transfer-Encoding: identity\r\n"), 501, 0},
        {POST("X: a\r\n b\r\n"), 400, 0},
        {POST("X: a\nY: b\r\n"), 400, 0},
        {POST("X: a\rY: b\r\n"), 400, 0},
        {POST("X: a\x01\r\n"), 400, 0},
        {POST(": a\r\n"), 400, 0},
        {POST("nothing\r\n"), 400, 0},
        {POST("Host: b\r\n"), 400, 0},
        {POST("Expect: magic\r\n"), 417, 0},
        {"GET / HTTP/1.1\r\n\r\n", 400, 0},
        {"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},
        {"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},
        {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},
        {"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400, 0},
        {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, 0},
        {"GET /\r\n\r\n", 400, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena arena;
        struct http_head head;
        struct err err = ERR_INIT;
        arena_init(&arena);
        bool ok = http_head_parse_request(cases[i].head, strlen(cases[i].head), &arena, &head, &err);
        if ((ok ? 0 : err_status(err.code)) != cases[i].status)
            print_message("%s\n", cases[i].head);
        assert_int_equal(ok ? 0 : err_status(err.code), cases[i].status);
        if (ok)
            assert_int_equal(head.body_kind, cases[i].kind);
        arena_dispose(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_requests)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
