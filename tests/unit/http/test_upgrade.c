/* Upgrades through the proxy: what becomes a tunnel and what does not, bytes both ways in odd pieces, every way in
 * which a tunnel can end. */
#include "proxy_harness.h"

#include <errno.h>
#include <fcntl.h>

#include "base/limits.h"

#define MIB (1u << 20)

#define ASK                                                                                                            \
    "GET /ws?a=b HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"             \
    "Sec-WebSocket-Key: abc=\r\nSec-WebSocket-Version: 13\r\nx-request-id: id-1\r\n\r\n"
#define ASKED                                                                                                          \
    "Sec-WebSocket-Key: abc=\r\nSec-WebSocket-Version: 13\r\nx-request-id: id-1\r\n" FORWARDED                         \
    "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
#define SWITCH                                                                                                         \
    "HTTP/1.1 101 Sure\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: xyz=\r\nDate: never\r\n"  \
    "\r\n"
#define SWITCHED                                                                                                       \
    "HTTP/1.1 101 Switching Protocols\r\nx-request-id: id-1\r\nSec-WebSocket-Accept: xyz=\r\nConnection: Upgrade\r\n"  \
    "Upgrade: websocket\r\n\r\n"

static uint64_t last_bytes_out; /* guarded by H.lock */

static void log_bytes(void *arg, const struct http_req *req)
{
    pthread_mutex_lock(&H.lock);
    last_bytes_out = req->bytes_out;
    pthread_mutex_unlock(&H.lock);
    on_log(arg, req);
}

static void with_log(struct http_server_options *o)
{
    o->on_log = log_bytes;
}

static void with_short_times(struct http_server_options *o)
{
    o->body_timeout_ms = 200;
    o->stall_ms = 200;
}

static void expect_logged(unsigned n, uint64_t bytes_out)
{
    wait_for(LOGGED, n);
    pthread_mutex_lock(&H.lock);
    assert_int_equal(H.last_status, 101);
    assert_int_equal(last_bytes_out, bytes_out);
    pthread_mutex_unlock(&H.lock);
}

/* One tunnel and both its ends. */
struct tunnel {
    int client, up;
};

static struct tunnel open_tunnel(void)
{
    struct tunnel t = {.client = dial()};
    say(t.client, ASK);
    t.up = upstream();
    hear(t.up, "\r\n\r\n", expected_request("GET /ws?a=b", ASKED));
    say(t.up, SWITCH);
    hear(t.client, "\r\n\r\n", SWITCHED);
    return t;
}

static void close_tunnel(struct tunnel *t)
{
    close(t->client);
    close(t->up);
}

static void reset(int fd)
{
    struct linger now = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

static void pass(int from, int to, const char *text)
{
    say(from, text);
    hear(to, text, text);
}

/* ---- many bytes, both ways at once ---- */

/* One direction of one tunnel; its bytes are a function of their place. */
struct flow {
    int from, to;
    unsigned seed;
    size_t size, sent, heard;
};

static char byte_at(const struct flow *f, size_t at)
{
    return (char)((at * 31 + f->seed + (at >> 8)) & 0xff);
}

static bool flow_send(struct flow *f)
{
    char bytes[40000];
    size_t n = f->sent * 7919 % 39989 + 1; /* a different odd piece each time */
    n = n < f->size - f->sent ? n : f->size - f->sent;
    for (size_t i = 0; i < n; i++)
        bytes[i] = byte_at(f, f->sent + i);
    ssize_t sent = n ? send(f->from, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
    f->sent += sent > 0 ? (size_t)sent : 0;
    return sent > 0;
}

static bool flow_hear(struct flow *f)
{
    char bytes[30011];
    if (f->heard == f->size)
        return false;
    ssize_t n = recv(f->to, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        fail_msg("it ended after %zu of %zu bytes", f->heard, f->size);
    for (ssize_t i = 0; i < n; i++)
        if (bytes[i] != byte_at(f, f->heard + (size_t)i))
            fail_msg("byte %zu is another", f->heard + (size_t)i);
    f->heard += n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* Waits until one of the flows can go on. */
static void flows_wait(const struct flow *flows, size_t count)
{
    struct pollfd polls[256];
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (flows[i].heard < flows[i].size)
            polls[n++] = (struct pollfd){.fd = flows[i].to, .events = POLLIN};
        if (flows[i].sent < flows[i].size)
            polls[n++] = (struct pollfd){.fd = flows[i].from, .events = POLLOUT};
    }
    assert_true(n == 0 || poll(polls, n, 10000) > 0);
}

static void run_flows(struct flow *flows, size_t count)
{
    for (bool done = false; !done;) {
        bool moved = false;
        done = true;
        for (size_t i = 0; i < count; i++) {
            moved |= flow_send(&flows[i]);
            moved |= flow_hear(&flows[i]);
            done = done && flows[i].heard == flows[i].size;
        }
        if (!moved && !done)
            flows_wait(flows, count);
    }
}

static void test_megabytes_both_ways(void **state)
{
    (void)state;
    begin_with(with_log);
    struct tunnel t = open_tunnel();
    struct flow flows[] = {{.from = t.client, .to = t.up, .seed = 1, .size = MIB + 1},
                           {.from = t.up, .to = t.client, .seed = 2, .size = MIB + 3}};
    run_flows(flows, 2);
    close(t.client);
    expect_end(t.up);
    close(t.up);
    wait_for(SEEN, 1);
    expect_logged(1, MIB + 3);
    end();
}

static void test_many_at_once(void **state)
{
    enum { TUNNELS = 64 };
    struct tunnel tunnels[TUNNELS];
    struct flow flows[2 * TUNNELS];
    (void)state;
    begin();
    for (unsigned i = 0; i < TUNNELS; i++) {
        tunnels[i] = open_tunnel();
        flows[2 * i] = (struct flow){.from = tunnels[i].client, .to = tunnels[i].up, .seed = i, .size = 100003};
        flows[2 * i + 1] = (struct flow){.from = tunnels[i].up, .to = tunnels[i].client, .seed = ~i, .size = 70001};
    }
    run_flows(flows, 2 * TUNNELS);
    for (unsigned i = 0; i < TUNNELS; i++) /* ends from either side, in turn */
        close(i % 2 ? tunnels[i].client : tunnels[i].up);
    for (unsigned i = 0; i < TUNNELS; i++) {
        int left = i % 2 ? tunnels[i].up : tunnels[i].client;
        expect_end(left);
        close(left);
    }
    wait_for(SEEN, TUNNELS);
    end();
}

/* Bytes right behind either head belong to the tunnel, also when they come together with it. */
static void test_early_bytes(void **state)
{
    (void)state;
    begin_with(with_log);
    int client = dial();
    say(client, ASK "early");
    int up = upstream();
    hear(up, "\r\n\r\n", expected_request("GET /ws?a=b", ASKED));
    say(up, SWITCH "first");
    hear(client, "first", SWITCHED "first");
    hear(up, "early", "early");
    pass(client, up, "GET / HTTP/1.1\r\n\r\n");
    pass(up, client, "HTTP/1.1 200 OK\r\n\r\n");
    /* the client ends its direction, the upstream still has something to say */
    shutdown(client, SHUT_WR);
    expect_end(up);
    say(up, "last");
    close(up);
    char *heard = hear_all(client);
    assert_string_equal(heard, "last");
    mem_free(heard);
    expect_logged(1, strlen("first"
                            "HTTP/1.1 200 OK\r\n\r\n"
                            "last"));
    close(client);
    end();
}

/* More than the server holds for a busy connection waits for the 101; none of it is lost. */
static void test_many_early_bytes(void **state)
{
    (void)state;
    begin();
    int client = dial();
    say(client, ASK);
    int up = upstream();
    mem_free(hear_until(up, "\r\n\r\n"));
    struct flow flow = {.from = client, .to = up, .seed = 5, .size = MIB};
    while (flow_send(&flow))
        ;
    assert_true(flow.sent > LIMIT_PIPELINE_BYTES);
    say(up, "HTTP/1.1 103 Early Hints\r\n\r\n" SWITCH);
    hear(client, "\r\n\r\n", SWITCHED);
    run_flows(&flow, 1);
    close(client);
    expect_end(up);
    close(up);
    wait_for(SEEN, 1);
    end();
}

/* ---- ends ---- */

static void test_upstream_ends_first(void **state)
{
    (void)state;
    begin();
    struct tunnel t = open_tunnel();
    say(t.up, "bye");
    shutdown(t.up, SHUT_WR);
    hear(t.client, "bye", "bye");
    expect_end(t.client);
    pass(t.client, t.up, "I am still here");
    close(t.client);
    expect_end(t.up);
    close(t.up);
    wait_for(SEEN, 1);
    end();
}

/* It is gone altogether; the client learns the end and then that nobody listens. */
static void test_upstream_leaves(void **state)
{
    (void)state;
    begin();
    struct tunnel t = open_tunnel();
    say(t.up, "bye");
    close(t.up);
    hear(t.client, "bye", "bye");
    expect_end(t.client);
    say(t.client, "to nobody");
    wait_for(SEEN, 1);
    close(t.client);
    end();
}

static void test_upstream_breaks(void **state)
{
    (void)state;
    begin();
    struct tunnel t = open_tunnel();
    pass(t.up, t.client, "so far");
    reset(t.up);
    expect_end(t.client);
    wait_for(DISPOSED, 1);
    close(t.client);
    end();
}

static void test_client_ends_first(void **state)
{
    (void)state;
    begin();
    struct tunnel t = open_tunnel();
    say(t.client, "bye");
    shutdown(t.client, SHUT_WR);
    hear(t.up, "bye", "bye");
    expect_end(t.up);
    struct flow flow = {.from = t.up, .to = t.client, .seed = 3, .size = MIB};
    run_flows(&flow, 1);
    close(t.up);
    expect_end(t.client);
    wait_for(SEEN, 1);
    close(t.client);
    end();
}

/* The end of the client lies behind bytes that the upstream has not taken yet. */
static void test_end_behind_unsent_bytes(void **state)
{
    (void)state;
    begin();
    struct tunnel t = open_tunnel();
    struct flow flow = {.from = t.client, .to = t.up, .seed = 4, .size = 40 * MIB};
    while (flow.sent < flow.size) {
        struct pollfd p = {t.client, POLLOUT, 0};
        if (!flow_send(&flow) && poll(&p, 1, 200) == 0)
            break; /* held up */
    }
    assert_true(flow.sent < flow.size);
    flow.size = flow.sent;
    shutdown(t.client, SHUT_WR);
    run_flows(&flow, 1);
    expect_end(t.up);
    pass(t.up, t.client, "all of it");
    close(t.up);
    expect_end(t.client);
    wait_for(SEEN, 1);
    close(t.client);
    end();
}

/* The same where the end itself arrives while nothing is read, which depends on how much the kernel holds. */
static void test_end_while_held_up(void **state)
{
    int small = 4096;
    unsigned ended = 0;
    (void)state;
    begin();
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    for (size_t size = MIB; size <= 8 * MIB; size += MIB / 2) {
        struct tunnel t = open_tunnel();
        struct flow flow = {.from = t.client, .to = t.up, .seed = 7, .size = size};
        while (flow_send(&flow))
            ;
        flow.size = flow.sent;
        shutdown(t.client, SHUT_WR);
        run_flows(&flow, 1);
        expect_end(t.up);
        close_tunnel(&t);
        wait_for(SEEN, ++ended);
    }
    end();
}

static void test_client_vanishes(void **state)
{
    (void)state;
    begin();
    struct tunnel t = open_tunnel();
    pass(t.client, t.up, "here");
    reset(t.client);
    expect_end(t.up);
    wait_for(DISPOSED, 1);
    close(t.up);
    end();
}

/* Nothing is read from a client whose bytes the upstream does not take: its death is noticed all the same. */
static void test_client_vanishes_while_held_up(void **state)
{
    (void)state;
    begin();
    struct tunnel t = open_tunnel();
    struct flow flow = {.from = t.client, .to = t.up, .size = 40 * MIB};
    for (struct pollfd p = {t.client, POLLOUT, 0}; flow_send(&flow) || poll(&p, 1, 200) == 1;)
        ;
    assert_true(flow.sent < flow.size);
    reset(t.client);
    wait_for(DISPOSED, 1);
    close(t.up);
    end();
}

/* The same after the client has ended its direction. */
static void test_half_closed_client_vanishes(void **state)
{
    (void)state;
    begin();
    struct tunnel t = open_tunnel();
    shutdown(t.client, SHUT_WR);
    expect_end(t.up);
    pass(t.up, t.client, "still");
    say(t.up, "unread");
    struct pollfd p = {t.client, POLLIN, 0};
    assert_int_equal(poll(&p, 1, 10000), 1);
    close(t.client); /* with unread bytes: a reset */
    wait_for(DISPOSED, 1);
    close(t.up);
    end();
}

static void test_upstream_never_answers(void **state)
{
    (void)state;
    begin();
    int client = dial();
    say(client, ASK "early");
    int up = upstream();
    hear(up, "\r\n\r\n", expected_request("GET /ws?a=b", ASKED));
    close(client);
    expect_end(up);
    wait_for(DISPOSED, 1);
    close(up);
    end();
}

/* One direction has ended and in the other nothing moves: whoever should be there may be gone. */
static void test_silent_half(void **state)
{
    (void)state;
    begin_with(with_short_times);
    for (unsigned i = 0; i < 2; i++) {
        struct tunnel t = open_tunnel();
        int ended = i ? t.client : t.up, other = i ? t.up : t.client;
        shutdown(ended, SHUT_WR);
        expect_end(other);
        pass(other, ended, "one more");
        expect_end(ended);
        wait_for(DISPOSED, i + 1);
        close_tunnel(&t);
    }
    end();
}

/* Silence in both directions is no reason: only a direction that ended starts the clock. */
static void test_client_that_takes_nothing(void **state)
{
    (void)state;
    begin_with(with_short_times);
    struct tunnel t = open_tunnel();
    struct pollfd quiet = {t.client, POLLIN, 0};
    assert_int_equal(poll(&quiet, 1, 500), 0);
    struct flow flow = {.from = t.up, .to = t.client, .size = 40 * MIB};
    while (flow.sent < flow.size) {
        struct pollfd p = {t.up, POLLOUT, 0};
        if (!flow_send(&flow) && (poll(&p, 1, 10000) != 1 || p.revents & (POLLERR | POLLHUP)))
            break;
    }
    assert_true(flow.sent < flow.size);
    wait_for(DISPOSED, 1);
    close_tunnel(&t);
    end();
}

/* Its ends look different to the kernel. */
static void test_unix_upstream(void **state)
{
    char folder[] = "/tmp/test_upgrade_XXXXXX", path[sizeof folder + 8];
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
    listen_unix(path);
    begin_proxy(NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct tunnel t = {.client = dial()};
        say(t.client, ASK);
        t.up = upstream();
        mem_free(hear_until(t.up, "\r\n\r\n"));
        say(t.up, SWITCH);
        hear(t.client, "\r\n\r\n", SWITCHED);
        struct flow flows[] = {{.from = t.client, .to = t.up, .seed = 1, .size = MIB},
                               {.from = t.up, .to = t.client, .seed = 2, .size = MIB}};
        run_flows(flows, 2);
        close(i ? t.client : t.up);
        expect_end(i ? t.up : t.client);
        close(i ? t.up : t.client);
        wait_for(SEEN, i + 1);
    }
    end();
    unlink(path);
    rmdir(folder);
}

/* ---- back-pressure ---- */

static void hold_up(bool from_client)
{
    begin();
    struct tunnel t = open_tunnel();
    struct flow flow = {
        .from = from_client ? t.client : t.up, .to = from_client ? t.up : t.client, .seed = 6, .size = 40 * MIB};
    for (struct pollfd p = {flow.from, POLLOUT, 0}; flow_send(&flow) || poll(&p, 1, 300) == 1;)
        ;
    assert_true(flow.sent < flow.size); /* the proxy stopped reading */
    pass(flow.to, flow.from, "the other direction goes on");
    run_flows(&flow, 1);
    close_tunnel(&t);
    wait_for(SEEN, 1);
    end();
}

static void test_back_pressure(void **state)
{
    (void)state;
    hold_up(true);
    hold_up(false);
}

/* ---- drain ---- */

static void drain_soon(struct harness *h)
{
    http_server_drain(h->server, 1500, on_drained, NULL);
    count(SEEN);
}

static void test_drain(void **state)
{
    (void)state;
    begin();
    struct tunnel t = open_tunnel();
    on_loop(drain_soon);
    wait_for(SEEN, 1);
    pass(t.client, t.up, "within the grace");
    pass(t.up, t.client, "both ways");
    expect_end(t.client);
    expect_end(t.up);
    wait_for(DRAINED, 1);
    wait_for(DISPOSED, 1);
    close_tunnel(&t);
    close(listener);
    pthread_join(H.thread, NULL);
    http_client_free(H.client);
    http_server_free(H.server);
    loop_release(&H.loop);
}

/* ---- what becomes no tunnel ---- */

static void test_other_answers(void **state)
{
    (void)state;
    begin();
    int client = dial();
    say(client, ASK);
    int up = upstream();
    hear(up, "\r\n\r\n", expected_request("GET /ws?a=b", ASKED));
    say(up, "HTTP/1.1 426 No\r\nUpgrade: other\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nno");
    hear(client, "no", "HTTP/1.1 426 Upgrade Required\r\nx-request-id: id-1\r\nContent-Length: 2\r\n\r\nno");
    wait_for(SEEN, 1);
    /* both connections live on, and the next time it is one */
    say(client, ASK);
    hear(up, "\r\n\r\n", expected_request("GET /ws?a=b", ASKED));
    say(up, SWITCH);
    hear(client, "\r\n\r\n", SWITCHED);
    pass(client, up, "ping");
    close(client);
    expect_end(up);
    close(up);
    wait_for(SEEN, 2);
    /* but a connection that was a tunnel is not used again */
    struct tunnel t = open_tunnel();
    close_tunnel(&t);
    wait_for(SEEN, 3);
    end();
}

/* The request, and what the upstream hears of it behind the line with the Host. */
static const struct {
    const char *said, *start, *heard;
} plain[] = {
    {"GET / HTTP/1.1\r\nHost: localhost\r\nx-request-id: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
     "Content-Length: 1\r\n\r\nx",
     "GET /", "x-request-id: a\r\n" FORWARDED "Content-Length: 1\r\n\r\nx"},
    {"POST / HTTP/1.1\r\nHost: localhost\r\nx-request-id: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
     "POST /", "x-request-id: a\r\n" FORWARDED "Content-Length: 0\r\n\r\n"},
    {"GET / HTTP/1.0\r\nHost: localhost\r\nx-request-id: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
     "GET /", "x-request-id: a\r\n" FORWARDED "\r\n"},
    {"GET / HTTP/1.1\r\nHost: localhost\r\nx-request-id: a\r\nUpgrade: websocket\r\n\r\n", "GET /",
     "x-request-id: a\r\n" FORWARDED "\r\n"},
    {"GET / HTTP/1.1\r\nHost: localhost\r\nx-request-id: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
     "Upgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n",
     "GET /", "x-request-id: a\r\n" FORWARDED "\r\n"},
    {"GET / HTTP/1.1\r\nHost: localhost\r\nx-request-id: a\r\nConnection: Upgrade\r\n"
     "Upgrade: websocket, HTTP/2.0\r\n\r\n",
     "GET /", "x-request-id: a\r\n" FORWARDED "\r\n"},
};

/* Passed on without the upgrade; an upstream that switches all the same is broken. */
static void test_no_upgrade(void **state)
{
    (void)state;
    begin();
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        int client = dial();
        say(client, plain[i].said);
        int up = upstream();
        hear(up, plain[i].heard + strlen(plain[i].heard) - 5, expected_request(plain[i].start, plain[i].heard));
        say(up, SWITCH);
        mem_free(hear_until(client, "bad_gateway"));
        expect_end(up);
        close(up);
        close(client);
    }
    end();
}

static void test_switch_to_nothing(void **state)
{
    (void)state;
    begin();
    int client = dial();
    say(client, ASK);
    int up = upstream();
    mem_free(hear_until(up, "\r\n\r\n"));
    say(up, "HTTP/1.1 101 Sure\r\nConnection: Upgrade\r\n\r\n");
    mem_free(hear_until(client, "bad_gateway"));
    close(up);
    close(client);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_megabytes_both_ways),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_early_bytes),
        cmocka_unit_test(test_many_early_bytes),
        cmocka_unit_test(test_upstream_ends_first),
        cmocka_unit_test(test_upstream_leaves),
        cmocka_unit_test(test_upstream_breaks),
        cmocka_unit_test(test_client_ends_first),
        cmocka_unit_test(test_end_behind_unsent_bytes),
        cmocka_unit_test(test_end_while_held_up),
        cmocka_unit_test(test_client_vanishes),
        cmocka_unit_test(test_client_vanishes_while_held_up),
        cmocka_unit_test(test_half_closed_client_vanishes),
        cmocka_unit_test(test_upstream_never_answers),
        cmocka_unit_test(test_silent_half),
        cmocka_unit_test(test_client_that_takes_nothing),
        cmocka_unit_test(test_unix_upstream),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_other_answers),
        cmocka_unit_test(test_no_upgrade),
        cmocka_unit_test(test_switch_to_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
