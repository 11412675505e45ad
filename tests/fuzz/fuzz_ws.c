/* Bytes into an open WebSocket: no crash, the connection always ends, and its end is told once. */
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "http/ws.h"

#define BYTES_MAX 32768 /* they must fit into the socket's buffer: nobody else writes meanwhile */
#define UPGRADE                                                                                                        \
    "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"          \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop loop;
static struct http_server *server;
static struct sockaddr_un at = {.sun_family = AF_UNIX};
static struct http_ws *ws;
static unsigned ends;

static void on_message(void *arg, struct str message, bool binary)
{
    (void)arg;
    if (binary)
        http_ws_send_binary(ws, message);
    else
        http_ws_send(ws, message);
    if (message.n == 5)
        http_ws_close(ws, 4000, "five");
}

static void on_closed(void *arg, int code)
{
    (void)arg;
    (void)code;
    ends++;
}

static void on_request(void *arg, struct http_req *req)
{
    static const struct http_ws_events events = {.on_message = on_message, .on_closed = on_closed};
    struct http_ws_options options = {.max_message = 10000, .binary = true};
    (void)arg;
    ws = http_ws_accept(req, &options, &events, NULL);
}

static const char *on_error(void *arg, const struct http_req *req, const struct err *err, struct buf *body)
{
    (void)arg;
    (void)req;
    buf_puts(body, err->message);
    return "text/plain";
}

static void begin(void)
{
    struct http_server_options options = {.on_request = on_request, .on_error = on_error};
    struct err err;
    snprintf(at.sun_path, sizeof at.sun_path, "/tmp/fuzz_ws.%d", (int)getpid());
    loop_init(&loop);
    server = http_server_new(&loop, &options);
    if (!http_server_listen_unix(server, at.sun_path, 0600, &err))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!server)
        begin();
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0 ||
        send(fd, UPGRADE, sizeof UPGRADE - 1, 0) != sizeof UPGRADE - 1)
        abort();
    if (size > BYTES_MAX)
        size = BYTES_MAX;
    if (size && send(fd, data, size, 0) != (ssize_t)size)
        abort();
    shutdown(fd, SHUT_WR);
    ends = 0;
    do
        uv_run(&loop.uv, UV_RUN_ONCE);
    while (http_server_connections(server));
    close(fd);
    if (ends != 1)
        abort();
    return 0;
}
