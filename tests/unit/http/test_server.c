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

/* ---- deaths ---- */

static void disposed(void *arg)
{
    (void)arg;
    count(DISPOSED);
}

static void body_never(struct http_req *req, struct str piece)
{
    (void)piece;
    http_req_pause(req);
    count(SEEN);
}

static void ended_never(struct http_req *req)
{
    (void)req;
}

/* Requests that nobody answers: they can only end by the client's death. */
static void hold(void *arg, struct http_req *req)
{
    (void)arg;
    arena_on_dispose(&req->arena, disposed, NULL);
    if (str_eq(req->head.path, STR("/stream")))
        http_sse_start(req);
    if (str_eq(req->head.path, STR("/paused")))
        http_req_stream_body(req, body_never, ended_never);
    else
        count(SEEN);
}

static void fill(int fd, size_t n)
{
    char bytes[4096] = {0};
    memset(bytes, 'x', sizeof bytes);
    while (n) {
        size_t part = n < sizeof bytes ? n : sizeof bytes;
        ssize_t sent = send(fd, bytes, part, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* the server has stopped reading, as it should */
        n -= (size_t)sent;
    }
}

static void test_client_death_disposes_at_once(void **state)
{
    static const char *const heads[] = {
        "GET /idle HTTP/1.1\r\n" HOST "\r\n", "GET /stream HTTP/1.1\r\n" HOST "\r\n",
        "POST /paused HTTP/1.1\r\n" HOST "Content-Length: 100000000\r\n\r\nx",
        "POST /unread HTTP/1.1\r\n" HOST "Content-Length: 100000000\r\n\r\nx"};
    unsigned round = 0;
    (void)state;
    start(hold);
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        for (int half = 0; half < 2; half++)
            for (int much = 0; much < (i >= 2 ? 2 : 1); much++) {
                int fd = dial();
                say(fd, heads[i]);
                wait_for(SEEN, ++round);
                if (much) /* so much that reading stops: the hang-up must be seen all the same */
                    fill(fd, 80000); /* but no more than both hold: a FIN behind a full window never arrives */
                if (half)
                    shutdown(fd, SHUT_WR);
                else
                    close(fd);
                wait_for(DISPOSED, round);
                wait_for(LOGGED, round);
                assert_int_equal(H.last_status, i == 1 ? 200 : 499);
                if (half)
                    close(fd);
            }
    stop();
}

/* ---- back-pressure ---- */

static void produce(struct http_req *req)
{
    static char block[65536];
    memset(block, 'p', sizeof block);
    count(PROCEEDED);
    while (req->bytes_out < 64u << 20)
        if (!http_reply_write(req, (struct str){block, sizeof block})) {
            count(BLOCKED);
            return;
        }
    http_reply_end(req);
}

static void produce_much(void *arg, struct http_req *req)
{
    (void)arg;
    http_reply_start(req, 200, "text/plain", 64 << 20);
    http_reply_on_proceed(req, produce);
    produce(req);
}

static void test_slow_reader_stops_the_producer(void **state)
{
    (void)state;
    start(produce_much);
    int fd = dial();
    say(fd, "GET / HTTP/1.1\r\n" HOST CLOSE);
    wait_for(BLOCKED, 1);
    char *heard = hear_all(fd);
    assert_int_equal(strlen(strstr(heard, "\r\n\r\n") + 4), 64u << 20);
    assert_true(H.counts[PROCEEDED] > 2);
    mem_free(heard);
    close(fd);
    stop();
}

static void short_stall(struct http_server_options *o)
{
    o->stall_ms = 20;
}

static void test_reader_that_takes_nothing_is_dropped(void **state)
{
    (void)state;
    start_with(produce_much, short_stall);
    go();
    int fd = dial();
    say(fd, "GET / HTTP/1.1\r\n" HOST CLOSE);
    wait_for(LOGGED, 1);
    close(fd);
    stop();
}

/* ---- time ---- */

static void short_times(struct http_server_options *o)
{
    o->header_timeout_ms = o->keep_alive_ms = o->body_timeout_ms = 20;
}

static void test_slow_clients(void **state)
{
    (void)state;
    start_with(handle, short_times);
    go();
    exchange("", 0, "");
    exchange("GET / HT", 8, BAD("408 Request Timeout", "15", "request_timeout"));
    const char *slow = "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nabc";
    exchange(slow, strlen(slow), BAD("408 Request Timeout", "15", "request_timeout"));
    const char *idle = "GET /a HTTP/1.1\r\n" HOST "\r\n";
    exchange(idle, strlen(idle), OK("2", "/a"));
    stop();
}

/* ---- the rest ---- */

static void test_continue(void **state)
{
    (void)state;
    start(handle);
    int fd = dial();
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n" CLOSE);
    mem_free(hear_until(fd, "HTTP/1.1 100 Continue\r\n\r\n"));
    say(fd, "ok");
    char *heard = hear_all(fd);
    assert_string_equal(heard, LAST("2", "ok"));
    mem_free(heard);
    close(fd);
    stop();
}

static void test_gzip_body(void **state)
{
    static const unsigned char packed[] = { /* "abcdef" */
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0x4b, 0x4c, 0x4a,
        0x4e, 0x49, 0x4d, 0x03, 0x00, 0xef, 0x39, 0x8e, 0x4b, 0x06, 0x00, 0x00, 0x00};
    (void)state;
    start(handle);
    for (int small = 0; small < 2; small++) {
        char head[200];
        int fd = dial();
        snprintf(head, sizeof head, "POST %s HTTP/1.1\r\n" HOST "Content-Encoding: gzip\r\nContent-Length: %zu\r\n" CLOSE,
                 small ? "/small" : "/echo", sizeof packed);
        say(fd, head);
        say_bytes(fd, (const char *)packed, sizeof packed);
        char *heard = hear_all(fd);
        assert_string_equal(heard, small ? BAD("413 Content Too Large", "17", "request_too_large") : LAST("6", "abcdef"));
        mem_free(heard);
        close(fd);
    }
    stop();
}

static void fail_busy(void *arg, struct http_req *req)
{
    struct err err;
    (void)arg;
    err_set(&err, ERR_SERVER_OVERLOADED, "Full.");
    err.retry_after_ms = 1500;
    http_reply_error(req, &err);
}

static const char *const origins[] = {"https://app.example", NULL};

static void with_origins(struct http_server_options *o)
{
    o->cors_origins = origins;
    o->server_name = "inferd";
}

static void test_retry_and_cors_headers(void **state)
{
    (void)state;
    start_with(fail_busy, with_origins);
    go();
    const char *said = "GET / HTTP/1.1\r\n" HOST "Origin: https://app.example\r\n" CLOSE;
    exchange(said, strlen(said),
             "HTTP/1.1 503 Service Unavailable\r\nServer: inferd\r\nVary: Origin\r\n"
             "Access-Control-Allow-Origin: https://app.example\r\n"
             "Access-Control-Expose-Headers: x-request-id, retry-after, retry-after-ms\r\nContent-Type: text/plain\r\n"
             "Content-Length: 17\r\nConnection: close\r\nRetry-After: 2\r\nretry-after-ms: 1500\r\n"
             "x-should-retry: true\r\n\r\nserver_overloaded");
    said = "OPTIONS /x HTTP/1.1\r\n" HOST "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n"
           "Access-Control-Request-Headers: authorization\r\n" CLOSE;
    exchange(said, strlen(said),
             "HTTP/1.1 204 No Content\r\nServer: inferd\r\nVary: Origin\r\n"
             "Access-Control-Allow-Origin: https://app.example\r\n"
             "Access-Control-Expose-Headers: x-request-id, retry-after, retry-after-ms\r\nConnection: close\r\n"
             "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
             "Access-Control-Allow-Headers: authorization\r\nAccess-Control-Max-Age: 600\r\n\r\n");
    said = "GET / HTTP/1.1\r\n" HOST "Origin: https://evil.example\r\n" CLOSE;
    exchange(said, strlen(said),
             "HTTP/1.1 503 Service Unavailable\r\nServer: inferd\r\nVary: Origin\r\nContent-Type: text/plain\r\n"
             "Content-Length: 17\r\nConnection: close\r\nRetry-After: 2\r\nretry-after-ms: 1500\r\n"
             "x-should-retry: true\r\n\r\nserver_overloaded");
    stop();
}

static struct http_req *held;

static void hold_one(void *arg, struct http_req *req)
{
    (void)arg;
    held = req;
    count(SEEN);
}

static void drain_gently(struct harness *h)
{
    http_server_drain(h->server, 60000, on_drained, NULL);
    count(BLOCKED);
}

static void answer_held(struct harness *h)
{
    (void)h;
    http_reply(held, 200, "text/plain", STR("done"));
}

static void test_drain_waits_for_running_replies(void **state)
{
    (void)state;
    start(hold_one);
    int idle = dial(), busy = dial();
    say(busy, "GET / HTTP/1.1\r\n" HOST "\r\n");
    wait_for(SEEN, 1);
    on_loop(drain_gently);
    wait_for(BLOCKED, 1);
    expect_end(idle);
    assert_int_equal(H.counts[DRAINED], 0);
    on_loop(answer_held);
    char *heard = hear_all(busy);
    assert_string_equal(heard, LAST("4", "done"));
    mem_free(heard);
    wait_for(DRAINED, 1);
    close(idle);
    close(busy);
    finish();
}

static void test_drain_cuts_after_grace(void **state)
{
    (void)state;
    start(hold);
    int fd = dial();
    say(fd, "GET /idle HTTP/1.1\r\n" HOST "\r\n");
    wait_for(SEEN, 1);
    stop();
    assert_int_equal(H.counts[DISPOSED], 1);
    expect_end(fd);
    close(fd);
}

static void few(struct http_server_options *o)
{
    o->max_connections = 2;
}

static void test_at_the_maximum_idle_ones_make_room(void **state)
{
    (void)state;
    start_with(handle, few);
    go();
    int first = dial(), second = dial(), third = dial();
    say(third, "GET /a HTTP/1.1\r\n" HOST "\r\n");
    mem_free(hear_until(third, "/a"));
    expect_end(first);
    close(first);
    close(second);
    close(third);
    stop();
}

static void test_unix_listener(void **state)
{
    struct err err;
    char path[] = "/tmp/inferd-test-XXXXXX";
    (void)state;
    assert_non_null(mkdtemp(path));
    char name[64];
    snprintf(name, sizeof name, "%s/s", path);
    start_with(handle, NULL);
    assert_true(http_server_listen_unix(H.server, name, 0600, &err));
    assert_false(http_server_listen_unix(H.server, name, 0600, &err));
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_false(http_server_listen_tcp(H.server, "127.0.0.1", H.port, NULL, &err));
    assert_int_equal(err.code, ERR_CONFLICT);
    go();
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", name);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    say(fd, "GET /a HTTP/1.1\r\nHost: anything\r\n" CLOSE);
    char *heard = hear_all(fd);
    assert_string_equal(heard, LAST("2", "/a"));
    mem_free(heard);
    close(fd);
    stop();
    rmdir(path);
}

static void stream_three(void *arg, struct http_req *req)
{
    (void)arg;
    http_sse_start(req);
    http_sse_data(req, STR("{}"));
    http_sse_event(req, "error", STR("x"));
    http_sse_end(req);
}

static void test_sse(void **state)
{
    (void)state;
    start(stream_three);
    const char *said = "GET / HTTP/1.1\r\n" HOST CLOSE;
    exchange(said, strlen(said),
             "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
             "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n\r\na\r\ndata: {}\n\n\r\n16\r\nevent: error\ndata: x\n\n\r\n"
             "0\r\n\r\n");
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scripts),
        cmocka_unit_test(test_client_death_disposes_at_once),
        cmocka_unit_test(test_slow_reader_stops_the_producer),
        cmocka_unit_test(test_reader_that_takes_nothing_is_dropped),
        cmocka_unit_test(test_slow_clients),
        cmocka_unit_test(test_continue),
        cmocka_unit_test(test_gzip_body),
        cmocka_unit_test(test_retry_and_cors_headers),
        cmocka_unit_test(test_drain_waits_for_running_replies),
        cmocka_unit_test(test_drain_cuts_after_grace),
        cmocka_unit_test(test_at_the_maximum_idle_ones_make_room),
        cmocka_unit_test(test_unix_listener),
        cmocka_unit_test(test_sse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
