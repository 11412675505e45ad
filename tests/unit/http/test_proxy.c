/* Client and proxy: what passes, what is cancelled, what a broken upstream leads to. */
#include "proxy_harness.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>

static void test_passes_heads_and_bodies(void **state)
{
    (void)state;
    begin();
    int client = dial();
    say(client,
        "POST /v1/x?a=b HTTP/1.1\r\nHost: localhost\r\nX-Own: 1\r\nConnection: keep-alive, x-hop\r\nx-hop: 2\r\n"
        "TE: trailers\r\nx-request-id: id-1\r\nContent-Length: 3\r\n\r\nabc");
    int up = upstream();
    hear(up, "abc",
         expected_request("POST /v1/x?a=b",
                          "X-Own: 1\r\nx-request-id: id-1\r\n" FORWARDED "Content-Length: 3\r\n\r\nabc"));
    say(up,
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Made\r\nContent-Type: a/b\r\nDate: never\r\nServer: other\r\n"
        "x-request-id: theirs\r\nAccess-Control-Allow-Origin: *\r\nKeep-Alive: 5\r\nX-Up: 3\r\nContent-Length: 4\r\n"
        "\r\nde");
    hear(client, "de",
         "HTTP/1.1 201 Created\r\nx-request-id: id-1\r\nContent-Type: a/b\r\nX-Up: 3\r\n"
         "Content-Length: 4\r\n\r\nde");
    say(up, "fg");
    hear(client, "fg", "fg");
    /* the connection is used again; this time the body has no length, nor has the reply */
    say(client,
        "POST /2 HTTP/1.1\r\nHost: localhost\r\nx-request-id: id-2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    hear(up, "abc\r\n",
         expected_request("POST /2",
                          "x-request-id: id-2\r\n" FORWARDED "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"));
    say(client, "0\r\n\r\n");
    hear(up, "0\r\n\r\n", "0\r\n\r\n");
    say(up, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;e=f\r\nwxyz\r\n");
    hear(client, "wxyz\r\n",
         "HTTP/1.1 200 OK\r\nx-request-id: id-2\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwxyz\r\n");
    say(up, "0\r\n\r\n");
    hear(client, "0\r\n\r\n", "0\r\n\r\n");
    wait_for(SEEN, 2);
    close(up);
    close(client);
    end();
}

static void test_death_of_the_client_cancels(void **state)
{
    (void)state;
    begin();
    for (int streaming = 0; streaming < 2; streaming++) {
        int client = dial();
        say(client, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        int up = upstream();
        char *heard = hear_until(up, "\r\n\r\n");
        mem_free(heard);
        if (streaming) {
            say(up, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
            heard = hear_until(client, "abc\r\n");
            mem_free(heard);
        }
        close(client);
        expect_end(up);
        wait_for(DISPOSED, (unsigned)streaming + 1);
        close(up);
    }
    end();
}

static void test_death_of_the_upstream(void **state)
{
    static const struct {
        const char *said, *heard;
    } cases[] = {
        {"",
         "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nContent-Length: 11\r\nx-should-retry: true\r\n\r\n"
         "bad_gateway"},
        {"HTTP/1.1 200 OK\r\nConte", "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n"
                                     "x-should-retry: true\r\n\r\nbad_gateway"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
         "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nContent-Length: 11\r\nx-should-retry: true\r\n\r\n"
         "bad_gateway"},
    };
    (void)state;
    begin();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int client = dial();
        say(client, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx");
        int up = upstream();
        char *heard = hear_until(up, "\r\n\r\nx");
        mem_free(heard);
        say(up, cases[i].said);
        close(up);
        hear(client, "bad_gateway", cases[i].heard);
        close(client);
    }
    replace_errors = true;
    int client = dial();
    say(client, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    close(upstream());
    hear(client, "later",
         "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nlater");
    close(client);
    end();
}

/* A reply that breaks off must not look complete: no last chunk, no orderly end. */
static void test_broken_reply_is_aborted(void **state)
{
    (void)state;
    begin();
    int client = dial();
    say(client, "GET / HTTP/1.0\r\n\r\n");
    int up = upstream();
    mem_free(hear_until(up, "\r\n\r\n"));
    say(up, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    mem_free(hear_until(client, "abc"));
    close(up);
    char byte;
    assert_int_equal(recv(client, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    close(client);
    end();
}

static void test_stale_connection(void **state)
{
    (void)state;
    begin();
    int client = dial();
    say(client, "GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    int up = upstream();
    mem_free(hear_until(up, "\r\n\r\n"));
    say(up, "HTTP/1.1 204 No Content\r\n\r\n");
    mem_free(hear_until(client, "\r\n\r\n"));
    /* the pooled connection takes the next request and dies without a word: an idempotent one is sent again, once */
    say(client, "GET /2 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    char *heard = hear_until(up, "\r\n\r\n");
    close(up);
    up = upstream();
    char *again = hear_until(up, "\r\n\r\n");
    assert_string_equal(heard + 6, again + 6);
    mem_free(heard);
    mem_free(again);
    say(up, "HTTP/1.1 204 No Content\r\n\r\n");
    mem_free(hear_until(client, "\r\n\r\n"));
    say(client, "POST /3 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx");
    mem_free(hear_until(up, "\r\n\r\nx"));
    close(up);
    mem_free(hear_until(client, "bad_gateway"));
    close(client);
    end();
}

/* 40 MB, more than the kernel's buffers, through to a client that takes nothing: the upstream is held up, then all of
 * it arrives. */
static void test_back_pressure(void **state)
{
    enum { SIZE = 40 << 20 };
    (void)state;
    begin();
    int client = dial();
    say(client, "GET / HTTP/1.0\r\n\r\n");
    int up = upstream();
    mem_free(hear_until(up, "\r\n\r\n"));
    char *body = mem_alloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        body[i] = (char)('a' + i % 26);
    say(up, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    size_t sent = 0;
    for (struct pollfd p = {up, POLLOUT, 0}; sent < SIZE && poll(&p, 1, 300) == 1;) {
        ssize_t n = send(up, body + sent, SIZE - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
    }
    assert_true(sent < SIZE);
    pid_t child = fork(); /* the two ends of a full pipe need two hands */
    if (child == 0) {
        close(client); /* or its copy would keep the connection alive */
        fcntl(up, F_SETFL, 0);
        while (sent < SIZE) {
            ssize_t n = send(up, body + sent, SIZE - sent, MSG_NOSIGNAL);
            sent += n > 0 ? (size_t)n : 0;
        }
        _exit(0);
    }
    close(up);
    char *heard = hear_all(client);
    char *got = strstr(heard, "\r\n\r\n") + 4;
    assert_int_equal(strlen(got), SIZE);
    assert_memory_equal(got, body, SIZE);
    mem_free(heard);
    mem_free(body);
    close(client);
    waitpid(child, NULL, 0);
    end();
}

static void test_no_upstream(void **state)
{
    (void)state;
    begin();
    close(listener);
    listener = -1;
    int client = dial();
    say(client, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    mem_free(hear_until(client, "bad_gateway"));
    on_loop(free_client);
    close(client);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passes_heads_and_bodies),
        cmocka_unit_test(test_death_of_the_client_cancels),
        cmocka_unit_test(test_death_of_the_upstream),
        cmocka_unit_test(test_broken_reply_is_aborted),
        cmocka_unit_test(test_stale_connection),
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_no_upstream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
