/* A server on a loop in a thread of its own; the test talks to it over blocking sockets from the main thread, byte by
 * byte if it likes. What handlers see is counted under a lock, and the test waits for counts, never for time. */
#ifndef TESTS_HARNESS_H
#define TESTS_HARNESS_H

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include "base/mem.h"
#include "http/server.h"
#include "http/sse.h"

enum { DISPOSED, BLOCKED, PROCEEDED, DRAINED, LOGGED, SEEN, COUNTERS };

struct harness {
    struct loop loop;
    struct http_server *server;
    struct http_server_options options;
    pthread_t thread;
    int port;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned counts[COUNTERS];
    int last_status;
    void *client; /* the test's http_client, if any */
};

static struct harness H;

static inline void count(int what)
{
    pthread_mutex_lock(&H.lock);
    H.counts[what]++;
    pthread_cond_broadcast(&H.changed);
    pthread_mutex_unlock(&H.lock);
}

static inline unsigned counted(int what)
{
    pthread_mutex_lock(&H.lock);
    unsigned n = H.counts[what];
    pthread_mutex_unlock(&H.lock);
    return n;
}

/* Waits until the counter has reached n; fails after ten seconds. */
static inline void wait_for(int what, unsigned n)
{
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 10;
    pthread_mutex_lock(&H.lock);
    int rc = 0;
    while (H.counts[what] < n && rc == 0)
        rc = pthread_cond_timedwait(&H.changed, &H.lock, &limit);
    unsigned seen = H.counts[what];
    pthread_mutex_unlock(&H.lock);
    assert_true(seen >= n);
}

static inline const char *on_error(void *arg, const struct http_req *req, const struct err *err, struct buf *body)
{
    (void)arg;
    (void)req;
    buf_printf(body, "%s", err_wire_code(err->code));
    return "text/plain";
}

static inline void on_log(void *arg, const struct http_req *req)
{
    (void)arg;
    pthread_mutex_lock(&H.lock);
    H.last_status = req->status;
    pthread_mutex_unlock(&H.lock);
    count(LOGGED);
}

static inline void *run_loop(void *arg)
{
    (void)arg;
    loop_run(&H.loop);
    return NULL;
}

static inline void start_with(http_on_request *on_request, void (*change)(struct http_server_options *))
{
    H = (struct harness){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    loop_init(&H.loop);
    H.options = (struct http_server_options){.on_request = on_request, .on_error = on_error, .on_log = on_log};
    if (change)
        change(&H.options);
    H.server = http_server_new(&H.loop, &H.options);
    struct err err;
    assert_true(http_server_listen_tcp(H.server, "127.0.0.1", 0, &H.port, &err));
}

static inline void go(void)
{
    assert_int_equal(pthread_create(&H.thread, NULL, run_loop, NULL), 0);
}

static inline void start(http_on_request *on_request)
{
    start_with(on_request, NULL);
    go();
}

struct errand {
    struct loop_post post;
    void (*function)(struct harness *h);
};

static inline void run_post(struct loop_post *post)
{
    struct errand *errand = container_of(post, struct errand, post);
    errand->function(&H);
    free(errand);
}

/* Runs a function on the loop thread. */
static inline void on_loop(void (*function)(struct harness *h))
{
    struct errand *errand = malloc(sizeof *errand); /* one each: the last one may still be under way */
    assert_non_null(errand);
    errand->function = function;
    loop_send(&H.loop, &errand->post, run_post);
}

static inline void on_drained(void *arg)
{
    (void)arg;
    count(DRAINED);
    loop_stop(&H.loop);
}

static inline void drain_now(struct harness *h)
{
    http_server_drain(h->server, 0, on_drained, NULL);
}

static inline void finish(void)
{
    pthread_join(H.thread, NULL);
    http_server_free(H.server);
    loop_release(&H.loop);
}

static inline void stop(void)
{
    on_loop(drain_now);
    finish();
}

static inline int dial(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)H.port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    struct timeval limit = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &one, sizeof one);
    return fd;
}

static inline void say_bytes(int fd, const char *bytes, size_t n)
{
    while (n) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* refused half-way: the answer is being checked */
        bytes += sent;
        n -= (size_t)sent;
    }
}

static inline void say(int fd, const char *text)
{
    say_bytes(fd, text, strlen(text));
}

/* Everything until the server closes, with the values of Date and x-request-id masked. Free with mem_free. */
static inline char *mask(const char *text)
{
    struct buf out;
    buf_init(&out, 80u << 20);
    while (*text) {
        if (strncmp(text, "Date: ", 6) == 0 || strncmp(text, "x-request-id: req_", 18) == 0) {
            text = strstr(text, "\r\n");
            assert_non_null(text);
            text += 2;
            continue;
        }
        const char *end = strstr(text, "\n");
        size_t n = end ? (size_t)(end - text) + 1 : strlen(text);
        buf_append(&out, text, n);
        text += n;
    }
    return buf_take(&out, NULL);
}

static inline char *hear_all(int fd)
{
    struct buf in;
    char bytes[65536];
    ssize_t n;
    buf_init(&in, 80u << 20);
    while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0)
        buf_append(&in, bytes, (size_t)n);
    char *text = buf_take(&in, NULL);
    char *masked = mask(text);
    mem_free(text);
    return masked;
}

/* Reads until the text (unmasked) ends in `end`. */
static inline char *hear_until(int fd, const char *end)
{
    struct buf in;
    char byte;
    buf_init(&in, 1u << 20);
    while (!str_ends(buf_view(&in), str_from(end)) && recv(fd, &byte, 1, 0) == 1)
        buf_putc(&in, byte);
    assert_true(str_ends(buf_view(&in), str_from(end)));
    char *text = buf_take(&in, NULL);
    char *masked = mask(text);
    mem_free(text);
    return masked;
}

static inline void expect_end(int fd)
{
    char byte;
    assert_true(recv(fd, &byte, 1, 0) <= 0);
}

/* One connection: says the bytes, hears all until the end, compares. */
static inline void exchange(const char *said, size_t n, const char *expected)
{
    int fd = dial();
    say_bytes(fd, said, n);
    char *heard = hear_all(fd);
    assert_string_equal(heard, expected);
    mem_free(heard);
    close(fd);
}

#endif
