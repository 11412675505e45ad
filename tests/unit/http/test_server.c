/* The server over real sockets: exact bytes in and out, whatever the cuts between them; deaths; back-pressure. */
#include "harness.h"

#include "base/limits.h"

static void echo_body(struct http_req *req, struct str body)
{
    http_reply(req, 200, "text/plain", body);
}

static void handle(void *arg, struct http_req *req)
{
    (void)arg;
    if (str_eq(req->head.path, STR("/echo")))
        http_req_read_body(req, 0, echo_body);
    else if (str_eq(req->head.path, STR("/small")))
        http_req_read_body(req, 4, echo_body);
    else if (str_eq(req->head.path, STR("/chunks"))) {
        http_reply_start(req, 200, "text/plain", -1);
        http_reply_write(req, STR("ab"));
        http_reply_write(req, STR("cde"));
        http_reply_end(req);
    } else {
        http_reply(req, 200, "text/plain", req->head.path);
    }
}

#define OK(length, body) "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " length "\r\n\r\n" body
#define LAST(length, body)                                                                                             \
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " length "\r\nConnection: close\r\n\r\n" body
#define BAD(status, length, body)                                                                                      \
    "HTTP/1.1 " status "\r\nContent-Type: text/plain\r\nContent-Length: " length "\r\nConnection: close\r\n\r\n" body
#define BAD_REQUEST BAD("400 Bad Request", "11", "bad_request")
#define HOST "Host: localhost\r\n"
#define CLOSE "Connection: close\r\n\r\n"

static const struct script {
    const char *said, *heard;
} scripts[] = {
    {"GET /a HTTP/1.1\r\n" HOST CLOSE, LAST("2", "/a")},
    {"\r\nGET /a HTTP/1.1\r\n" HOST CLOSE, LAST("2", "/a")},
    {"GET /a HTTP/1.0\r\n\r\n", LAST("2", "/a")},
    {"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /b HTTP/1.0\r\n\r\n",
     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n/a"
     LAST("2", "/b")},
    {"HEAD /a HTTP/1.1\r\n" HOST CLOSE, LAST("2", "")},
    /* pipelining: in order, the bodies between them understood */
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n" HOST "\r\n"
     "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n"
     "GET /d HTTP/1.1\r\n" HOST CLOSE,
     OK("3", "abc") OK("2", "/b") OK("5", "abcde") LAST("2", "/d")},
    {"GET /chunks HTTP/1.1\r\n" HOST CLOSE,
     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
     "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"},
    {"GET /chunks HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nabcde"},
    {"GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nabcde"},
    /* a body that nobody wanted is read over */
    {"POST /a HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nGET /GET /b HTTP/1.1\r\n" HOST CLOSE,
     OK("2", "/a") LAST("2", "/b")},
    {"POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 0\r\n" CLOSE, LAST("0", "")},
    {"POST /a HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n", LAST("2", "/a")},
    {"POST /small HTTP/1.1\r\n" HOST "Content-Length: 4\r\n" CLOSE "abcd", LAST("4", "abcd")},
    {"POST /small HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nabcde",
     BAD("413 Content Too Large", "17", "request_too_large")},
    {"POST /small HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
     BAD("413 Content Too Large", "17", "request_too_large")},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
     BAD("415 Unsupported Media Type", "22", "unsupported_media_type")},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope", BAD_REQUEST},
    {"GET /a HTTP/1.1\r\nHost: evil.example\r\n\r\n", BAD("403 Forbidden", "16", "host_not_allowed")},
    {"GET /a HTTP/1.1\r\nHost: 127.0.0.1:80\r\n" CLOSE, LAST("2", "/a")},
    {"GET /a HTTP/1.1\r\nHost: [::1]:80\r\n" CLOSE, LAST("2", "/a")},
    {"GET /a HTTP/1.1\r\nHost: 127.evil.example\r\n" CLOSE, BAD("403 Forbidden", "16", "host_not_allowed")},
    {"GET /a HTTP/1.1\r\n" HOST "x-request-id: mine-1\r\n" CLOSE,
     "HTTP/1.1 200 OK\r\nx-request-id: mine-1\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n"
     "Connection: close\r\n\r\n/a"},
    {"GET /a HTTP/1.1\r\n" HOST "x-request-id: no good\r\n" CLOSE, LAST("2", "/a")},
    /* smuggling: one answer, and the end */
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n"
     HOST "\r\n", BAD_REQUEST},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", BAD_REQUEST},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", BAD_REQUEST},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", BAD_REQUEST},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n", BAD_REQUEST},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
     BAD("501 Not Implemented", "15", "not_implemented")},
    {"GET /a HTTP/1.1\n" HOST "\r\n", BAD_REQUEST},
    {"GET /a HTTP/1.1\nHost: localhost\n\n", BAD_REQUEST},
    {"GET http://localhost/a HTTP/1.1\r\n" HOST "\r\n", BAD_REQUEST},
    {"PRI * HTTP/2.0\r\n\r\n", BAD("505 HTTP Version Not Supported", "26", "http_version_not_supported")},
};

/* x-should-retry belongs to some errors; keep the table readable. */
static char *without_retry(char *text)
{
    char *at = strstr(text, "x-should-retry: false\r\n");
    if (at)
        memmove(at, at + 23, strlen(at + 23) + 1);
    return text;
}

static void test_scripts(void **state)
{
    (void)state;
    start(handle);
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        size_t n = strlen(scripts[i].said);
        for (size_t cut = n; cut > 0; cut--) { /* first whole, then cut at every byte */
            int fd = dial();
            say_bytes(fd, scripts[i].said, cut);
            say_bytes(fd, scripts[i].said + cut, n - cut);
            char *heard = without_retry(hear_all(fd));
            if (strcmp(heard, scripts[i].heard) != 0)
                print_message("script %zu cut at %zu\n", i, cut);
            assert_string_equal(heard, scripts[i].heard);
            mem_free(heard);
            close(fd);
        }
    }
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scripts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
