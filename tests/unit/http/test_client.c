/* The client's connections: over a Unix socket and IPv6, refused, into the void, kept, forgotten; and how many system
 * calls a request takes. A server proxies to listeners that the test plays itself. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "http/proxy.h"

static struct http_target target;
static char folder[] = "/tmp/inferd-client-XXXXXX";

/* ---- the writes of the loop's thread, seen before the kernel sees them ---- */

static char seen[4096]; /* the last write that began with a request line of ours, under H.lock */

static void look(const struct iovec *pieces, int count)
{
    size_t n = 0;
    if (!count || pieces[0].iov_len < 4 || memcmp(pieces[0].iov_base, "POST", 4) != 0)
        return;
    pthread_mutex_lock(&H.lock);
    for (int i = 0; i < count && n + pieces[i].iov_len < sizeof seen; i++) {
        memcpy(seen + n, pieces[i].iov_base, pieces[i].iov_len);
        n += pieces[i].iov_len;
    }
    seen[n] = '\0';
    pthread_mutex_unlock(&H.lock);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    look(&(struct iovec){(void *)bytes, n}, 1);
    return syscall(SYS_write, fd, bytes, n);
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    look(pieces, count);
    return syscall(SYS_writev, fd, pieces, count);
}

/* ---- the server under test ---- */

static void handle(void *arg, struct http_req *req)
{
    (void)arg;
    struct http_proxy_options options = {.target = target, .path_and_query = STR_NONE};
    http_proxy(req, H.client, &options);
}

static void begin(void)
{
    start_with(handle, NULL);
    H.client = http_client_new(&H.loop);
    http_client_connect_within(H.client, 30);
    go();
}

/* The requests go before the client that carries their calls. */
static void end(void)
{
    on_loop(drain_now);
    pthread_join(H.thread, NULL);
    http_server_free(H.server);
    http_client_free(H.client);
    loop_release(&H.loop);
}

static int listen_at(const struct sockaddr *at, socklen_t n, int backlog)
{
    int fd = socket(at->sa_family, SOCK_STREAM, 0);
    if (bind(fd, at, n) != 0 || listen(fd, backlog) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int listen_tcp(int backlog)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    int fd = listen_at((struct sockaddr *)&at, n, backlog);
    assert_true(fd >= 0);
    getsockname(fd, (struct sockaddr *)&at, &n);
    target = (struct http_target){.address = "127.0.0.1", .port = ntohs(at.sin_port)};
    return fd;
}

static int upstream(int listener)
{
    int fd = accept(listener, NULL, NULL);
    struct timeval limit = {.tv_sec = 10};
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

/* One request over the client's connection, answered by the upstream; the connection stays. */
static void serve_one(int client, int up)
{
    mem_free(hear_until(up, "\r\n\r\n"));
    say(up, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    mem_free(hear_until(client, "\r\n\r\nhi"));
}

#define GET_ONE "GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\n"

static void test_unix_upstream(void **state)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)state;
    assert_non_null(mkdtemp(folder));
    target = (struct http_target){.port = 0};
    snprintf(target.address, sizeof target.address, "%s/s", folder);
    snprintf(at.sun_path, sizeof at.sun_path, "%s/s", folder);
    int listener = listen_at((struct sockaddr *)&at, sizeof at, 4);
    assert_true(listener >= 0);
    begin();
    int client = dial();
    say(client, GET_ONE);
    int up = upstream(listener);
    char *heard = hear_until(up, "\r\n\r\n");
    assert_non_null(strstr(heard, "GET /1 HTTP/1.1\r\nHost: localhost\r\n"));
    mem_free(heard);
    say(up, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    mem_free(hear_until(client, "\r\n\r\nhi"));
    say(client, GET_ONE); /* kept, and used again */
    serve_one(client, up);
    close(up);
    close(listener);
    unlink(at.sun_path);
    say(client, GET_ONE); /* the socket's file is gone */
    mem_free(hear_until(client, "bad_gateway"));
    close(client);
    end();
    rmdir(folder);
}

static void test_ipv6_upstream(void **state)
{
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t n = sizeof at;
    char host[64];
    (void)state;
    int listener = listen_at((struct sockaddr *)&at, n, 4);
    if (listener < 0) /* a machine without IPv6 */
        skip();
    getsockname(listener, (struct sockaddr *)&at, &n);
    target = (struct http_target){.address = "::1", .port = ntohs(at.sin6_port)};
    begin();
    int client = dial();
    say(client, GET_ONE);
    int up = upstream(listener);
    char *heard = hear_until(up, "\r\n\r\n");
    snprintf(host, sizeof host, "\r\nHost: [::1]:%d\r\n", target.port);
    assert_non_null(strstr(heard, host));
    mem_free(heard);
    close(up);
    close(client);
    close(listener);
    end();
}

static void test_refused(void **state)
{
    (void)state;
    close(listen_tcp(4)); /* a port nobody listens on any more */
    begin();
    int client = dial();
    say(client, GET_ONE);
    char *heard = hear_until(client, "bad_gateway");
    assert_memory_equal(heard, "HTTP/1.1 502 ", 13);
    mem_free(heard);
    close(client);
    end();
}

/* A listener whose queue is full lets further handshakes go unanswered, as a firewall does. */
static void test_connecting_takes_too_long(void **state)
{
    enum { FILLERS = 4 };
    int fillers[FILLERS];
    (void)state;
    int listener = listen_tcp(0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)target.port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < FILLERS; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(fillers[i], (struct sockaddr *)&at, sizeof at) != 0)
            assert_int_equal(errno, EINPROGRESS);
    }
    begin();
    int client = dial();
    say(client, GET_ONE);
    char *heard = hear_until(client, "timeout");
    assert_memory_equal(heard, "HTTP/1.1 504 ", 13);
    mem_free(heard);
    close(client);
    end();
    for (int i = 0; i < FILLERS; i++)
        close(fillers[i]);
    close(listener);
}

static void forget(struct harness *h)
{
    struct http_target other = {.address = "127.0.0.2", .port = 1};
    http_client_forget(h->client, &other); /* one it never knew */
    http_client_forget(h->client, &target);
}

static void test_forget(void **state)
{
    (void)state;
    int listener = listen_tcp(4);
    begin();
    int client = dial();
    say(client, GET_ONE);
    int up = upstream(listener);
    serve_one(client, up);
    on_loop(forget);
    expect_end(up); /* the idle connection is closed at once */
    close(up);
    say(client, GET_ONE);
    up = upstream(listener); /* the next call opens another */
    mem_free(hear_until(up, "\r\n\r\n"));
    on_loop(forget); /* which is busy, and therefore stays */
    say(up, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    mem_free(hear_until(client, "\r\n\r\nhi"));
    close(up);
    close(client);
    close(listener);
    end();
}

/* Head and first bytes of a streamed body leave in one system call, whatever the framing, over fresh and kept links. */
static void test_streamed_body_leaves_with_its_head(void **state)
{
    static const struct {
        const char *said, *last;
    } cases[] = {
        {"POST /1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", "Content-Length: 3\r\n\r\nabc"},
        {"POST /2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
         "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"},
        {"POST /3 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
    };
    (void)state;
    int listener = listen_tcp(4), up = -1;
    begin();
    int client = dial();
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        const char *last = cases[i / 2].last;
        say(client, cases[i / 2].said);
        if (up < 0)
            up = upstream(listener);
        mem_free(hear_until(up, i / 2 == 0 ? "abc" : "0\r\n\r\n"));
        pthread_mutex_lock(&H.lock);
        bool whole = str_ends(str_from(seen), str_from(last));
        *seen = '\0';
        pthread_mutex_unlock(&H.lock);
        assert_true(whole);
        say(up, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        mem_free(hear_until(client, "\r\n\r\nhi"));
    }
    close(up);
    close(client);
    close(listener);
    end();
}

/* A body that is late holds nothing up: the head goes ahead. */
static void test_head_does_not_wait_for_a_late_body(void **state)
{
    (void)state;
    int listener = listen_tcp(4);
    begin();
    int client = dial();
    say(client, "POST /1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n");
    int up = upstream(listener);
    mem_free(hear_until(up, "Content-Length: 3\r\n\r\n"));
    say(client, "abc");
    mem_free(hear_until(up, "abc"));
    say(up, "HTTP/1.1 204 No Content\r\n\r\n");
    mem_free(hear_until(client, "\r\n\r\n"));
    close(up);
    close(client);
    close(listener);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unix_upstream),
        cmocka_unit_test(test_ipv6_upstream),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_connecting_takes_too_long),
        cmocka_unit_test(test_forget),
        cmocka_unit_test(test_streamed_body_leaves_with_its_head),
        cmocka_unit_test(test_head_does_not_wait_for_a_late_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
