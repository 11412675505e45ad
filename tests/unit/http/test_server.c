/* The server over real sockets, what tests/proto cannot say in bytes: deaths, back-pressure, time, drain. */
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
#define HOST        "Host: localhost\r\n"
#define CLOSE       "Connection: close\r\n\r\n"

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
    static const char *const heads[] = {"GET /idle HTTP/1.1\r\n" HOST "\r\n", "GET /stream HTTP/1.1\r\n" HOST "\r\n",
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
                if (much)            /* so much that reading stops: the hang-up must be seen all the same */
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
    wait_for(PROCEEDED, 3);
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
    assert_int_equal(counted(DRAINED), 0);
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
    assert_int_equal(counted(DISPOSED), 1);
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
             "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n\r\na\r\ndata: {}\n\n\r\n16\r\nevent: error\ndata: "
             "x\n\n\r\n"
             "0\r\n\r\n");
    stop();
}

static void say_nothing(void *arg, struct http_req *req)
{
    (void)arg;
    http_sse_start(req);
}

static void short_ping(struct http_server_options *o)
{
    o->ping_ms = 10;
}

static void test_quiet_stream_is_pinged(void **state)
{
    (void)state;
    start_with(say_nothing, short_ping);
    go();
    int fd = dial();
    say(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    char *heard = hear_until(fd, "8\r\n: ping\n\n\r\n8\r\n: ping\n\n\r\n"); /* and it goes on */
    assert_non_null(strstr(heard, "\r\n\r\n8\r\n: ping\n\n\r\n"));
    mem_free(heard);
    close(fd);
    wait_for(LOGGED, 1);
    stop();
}

static void test_ipv6_loopback(void **state)
{
    struct err err;
    int port;
    (void)state;
    start_with(handle, NULL);
    if (!http_server_listen_tcp(H.server, "::1", 0, &port, &err)) { /* a machine without IPv6 says so */
        assert_int_equal(err.code, ERR_IO);
        go();
        stop();
        skip();
    }
    go();
    struct sockaddr_in6 at = {
        .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    static const struct {
        const char *said, *heard;
    } cases[] = {{"GET /a HTTP/1.1\r\nHost: [::1]:80\r\n" CLOSE, LAST("2", "/a")},
                 {"GET /a HTTP/1.1\r\nHost: evil.example\r\n" CLOSE, BAD("403 Forbidden", "16", "host_not_allowed")}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd = socket(AF_INET6, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
        say(fd, cases[i].said);
        char *heard = hear_all(fd);
        assert_string_equal(heard, cases[i].heard);
        mem_free(heard);
        close(fd);
    }
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client_death_disposes_at_once),
        cmocka_unit_test(test_slow_reader_stops_the_producer),
        cmocka_unit_test(test_reader_that_takes_nothing_is_dropped),
        cmocka_unit_test(test_slow_clients),
        cmocka_unit_test(test_continue),
        cmocka_unit_test(test_drain_waits_for_running_replies),
        cmocka_unit_test(test_drain_cuts_after_grace),
        cmocka_unit_test(test_at_the_maximum_idle_ones_make_room),
        cmocka_unit_test(test_unix_listener),
        cmocka_unit_test(test_sse),
        cmocka_unit_test(test_quiet_stream_is_pinged),
        cmocka_unit_test(test_ipv6_loopback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
