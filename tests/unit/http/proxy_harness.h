/* A server whose handler proxies to another server, whose answers the test scripts byte by byte over a plain listening
 * socket. */
#ifndef TESTS_PROXY_HARNESS_H
#define TESTS_PROXY_HARNESS_H

#include "harness.h"

#include "http/proxy.h"

static struct http_target target;
static int listener;
static bool replace_errors;

static inline bool on_upstream_error(void *arg, struct http_req *req, const struct err *err)
{
    (void)arg;
    (void)err;
    if (replace_errors)
        http_reply(req, 503, "text/plain", STR("later"));
    return replace_errors;
}

static inline void on_finish(void *arg, bool complete)
{
    (void)arg;
    count(complete ? SEEN : DISPOSED);
}

static inline void handle(void *arg, struct http_req *req)
{
    (void)arg;
    struct http_proxy_options options = {
        .target = target, .path_and_query = STR_NONE, .on_error = on_upstream_error, .on_finish = on_finish};
    http_proxy(req, H.client, &options);
}

static inline void free_client(struct harness *h)
{
    http_client_free(h->client);
    drain_now(h);
}

static inline void listen_tcp(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t n = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 16), 0);
    getsockname(listener, (struct sockaddr *)&at, &n);
    target = (struct http_target){.address = "127.0.0.1", .port = ntohs(at.sin_port)};
}

static inline void listen_unix(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 16), 0);
    snprintf(target.address, sizeof target.address, "%s", path);
    target.port = 0;
}

/* After listen_tcp or listen_unix. */
static inline void begin_proxy(void (*change)(struct http_server_options *))
{
    replace_errors = false;
    start_with(handle, change);
    H.client = http_client_new(&H.loop);
    go();
}

static inline void begin_with(void (*change)(struct http_server_options *))
{
    listen_tcp();
    begin_proxy(change);
}

static inline void begin(void)
{
    begin_with(NULL);
}

static inline void end(void)
{
    if (listener >= 0)
        close(listener);
    on_loop(free_client);
    finish();
}

static inline int upstream(void)
{
    int fd = accept(listener, NULL, NULL);
    struct timeval limit = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_true(fd >= 0);
    return fd;
}

static inline void hear(int fd, const char *end, const char *expected)
{
    char *heard = hear_until(fd, end);
    assert_string_equal(heard, expected);
    mem_free(heard);
}

#define FORWARDED "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: localhost\r\n"

static inline char *expected_request(const char *start, const char *rest)
{
    static char text[2048];
    snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s", start, target.port, rest);
    return text;
}

#endif
