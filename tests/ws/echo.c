/* A server that sends every message back: what the protocol tests talk to. Prints its port, ends at SIGTERM.
 *   ws_echo [max-message-bytes] [ping-ms] [stall-ms] [text]   text: no binary messages
 * A message "close CODE REASON" closes, "flood BYTES" sends so many bytes in messages of 64 KiB, as fast as they go. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "http/ws.h"

#define PIECE (64 * 1024)

static struct http_ws_options options;
static struct http_server *server;
static struct loop loop;

struct echo {
    struct http_ws *ws;
    uint64_t flood;
};

static void flood(void *arg)
{
    static char text[PIECE];
    struct echo *echo = arg;
    memset(text, 'x', sizeof text);
    bool more = true;
    while (more && echo->flood >= PIECE) {
        echo->flood -= PIECE;
        more = http_ws_send(echo->ws, (struct str){text, sizeof text});
    }
}

static void on_message(void *arg, struct str message, bool binary)
{
    struct echo *echo = arg;
    int code, at = 0;
    unsigned long long bytes;
    char text[128] = "";
    if (!binary && message.n < sizeof text)
        memcpy(text, message.p, message.n);
    if (sscanf(text, "close %d %n", &code, &at) == 1) {
        http_ws_close(echo->ws, code, text + at);
    } else if (sscanf(text, "flood %llu", &bytes) == 1) {
        echo->flood = bytes;
        flood(echo);
    } else if (binary) {
        http_ws_send_binary(echo->ws, message);
    } else {
        http_ws_send(echo->ws, message);
    }
}

static void on_closed(void *arg, int code)
{
    (void)arg;
    printf("closed %d\n", code);
    fflush(stdout);
}

static void on_request(void *arg, struct http_req *req)
{
    static const struct http_ws_events events = {.on_message = on_message, .on_proceed = flood, .on_closed = on_closed};
    struct echo *echo = arena_calloc(&req->arena, sizeof *echo);
    struct http_ws_options chosen = options;
    (void)arg;
    chosen.subprotocol = http_ws_offer(req, "echo");
    struct http_ws *ws = http_ws_accept(req, &chosen, &events, echo);
    if (ws) /* else the request is gone, with its memory */
        echo->ws = ws;
}

static const char *on_error(void *arg, const struct http_req *req, const struct err *err, struct buf *body)
{
    (void)arg;
    (void)req;
    buf_puts(body, err_wire_code(err->code));
    return "text/plain";
}

static void on_drained(void *arg)
{
    (void)arg;
    http_server_free(server);
    loop_stop(&loop);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    uv_close((uv_handle_t *)handle, NULL);
    http_server_drain(server, 1000, on_drained, NULL);
}

static unsigned number(int argc, char **argv, int index)
{
    return argc > index ? (unsigned)strtoul(argv[index], NULL, 10) : 0;
}

int main(int argc, char **argv)
{
    struct http_server_options server_options = {
        .on_request = on_request, .on_error = on_error, .stall_ms = number(argc, argv, 3)};
    uv_signal_t term;
    struct err err;
    int port;
    options = (struct http_ws_options){
        .max_message = number(argc, argv, 1), .ping_ms = number(argc, argv, 2), .binary = argc < 5};
    mem_setup();
    loop_init(&loop);
    server = http_server_new(&loop, &server_options);
    if (!http_server_listen_tcp(server, "127.0.0.1", 0, &port, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    uv_signal_init(&loop.uv, &term);
    uv_signal_start(&term, on_signal, SIGTERM);
    printf("%d\n", port);
    fflush(stdout);
    loop_run(&loop);
    loop_release(&loop);
    return 0;
}
