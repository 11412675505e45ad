/* WebSockets as a load, on blocking sockets and epoll, kept apart from our own code for them.
 *   bench_ws idle PORT SOCKETS PID            -> growth of PID's private memory a socket, in bytes
 *   bench_ws chat PORT SOCKETS CHATS PID...   -> milliseconds of CPU that the PIDs spent on a chat, over WebSockets;
 *   bench_ws sse  PORT SOCKETS CHATS PID...      and the same chats over server-sent events, to compare
 * SOCKETS chats run side by side until CHATS are done. Environment: BENCH_MODEL (bench), BENCH_TOKENS (100),
 * BENCH_PATH (/ws), BENCH_KEY, a bearer token. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"

#define PIDS     8
#define BODY_MAX 16384
#define WINDOW   65536
#define OVERLAP  32 /* of a window with the next, so that no mark is missed */

struct peer {
    int fd;
    size_t have;
    char in[WINDOW + 1];
};

static struct buf request; /* a chat: a masked frame, or an HTTP request */
static const char *end_mark;
static long left_to_start, left_to_end;

static const char *setting(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value ? value : otherwise;
}

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "unexpected answer");
    exit(1);
}

static int dial(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void send_all(int fd, const char *bytes, size_t n)
{
    while (n) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent <= 0)
            fail("send");
        bytes += sent;
        n -= (size_t)sent;
    }
}

static void put_key(struct buf *out)
{
    if (getenv("BENCH_KEY"))
        buf_printf(out, "Authorization: Bearer %s\r\n", getenv("BENCH_KEY"));
}

static void upgrade(struct peer *p)
{
    struct buf head;
    buf_init(&head, 4096);
    buf_printf(&head,
               "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
               setting("BENCH_PATH", "/ws"));
    put_key(&head);
    buf_puts(&head, "\r\n");
    send_all(p->fd, head.data, head.len);
    buf_release(&head);
    while (p->have < 4 || memcmp(p->in + p->have - 4, "\r\n\r\n", 4) != 0) {
        if (recv(p->fd, p->in + p->have, 1, 0) != 1 || ++p->have == WINDOW)
            fail("upgrade");
    }
    if (memcmp(p->in, "HTTP/1.1 101", 12) != 0)
        fail("upgrade");
    p->have = 0;
}

static void put_chat(struct buf *out)
{
    buf_printf(out,
               "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"go on |\"}],\"max_tokens\":%s,"
               "\"stream\":true,\"stream_options\":{\"include_usage\":true}}",
               setting("BENCH_MODEL", "bench"), setting("BENCH_TOKENS", "100"));
}

/* Masked with zeros: as valid as any other mask. */
static void build_frame(void)
{
    struct buf message;
    buf_init(&message, BODY_MAX);
    buf_puts(&message, "{\"type\":\"chat\",\"id\":\"c\",\"data\":");
    put_chat(&message);
    buf_putc(&message, '}');
    buf_putc(&request, (char)0x81);
    buf_putc(&request, (char)(0x80 | 126));
    buf_putc(&request, (char)(message.len >> 8));
    buf_putc(&request, (char)message.len);
    buf_append(&request, "\0\0\0\0", 4);
    buf_str(&request, buf_view(&message));
    buf_release(&message);
    end_mark = "\"type\":\"chat_done\"";
}

static void build_request(void)
{
    struct buf body;
    buf_init(&body, BODY_MAX);
    put_chat(&body);
    buf_puts(&request, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n");
    put_key(&request);
    buf_printf(&request, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n", body.len);
    buf_str(&request, buf_view(&body));
    buf_release(&body);
    end_mark = "\r\n0\r\n\r\n"; /* the reply's last chunk */
}

static struct peer *open_peers(int epoll, int port, int count, bool websocket)
{
    struct peer *peers = mem_calloc((size_t)count, sizeof *peers);
    for (int i = 0; i < count; i++) {
        peers[i].fd = dial(port);
        if (websocket)
            upgrade(&peers[i]);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &peers[i]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, peers[i].fd, &event);
    }
    return peers;
}

static void ask(struct peer *p)
{
    if (left_to_start-- > 0)
        send_all(p->fd, request.data, request.len);
}

static void on_bytes(struct peer *p)
{
    ssize_t n = recv(p->fd, p->in + p->have, WINDOW - p->have, 0);
    if (n <= 0)
        fail("recv");
    p->have += (size_t)n;
    if (memmem(p->in, p->have, "\"error\"", 7))
        fail("chat");
    if (memmem(p->in, p->have, end_mark, strlen(end_mark))) {
        p->have = 0; /* nothing follows before the next chat */
        left_to_end--;
        ask(p);
    } else if (p->have > OVERLAP) {
        memmove(p->in, p->in + p->have - OVERLAP, OVERLAP);
        p->have = OVERLAP;
    }
}

static void run_chats(int epoll, struct peer *peers, int count, long chats)
{
    struct epoll_event events[256];
    left_to_start = left_to_end = chats;
    for (int i = 0; i < count; i++)
        ask(&peers[i]);
    while (left_to_end > 0) {
        int n = epoll_wait(epoll, events, 256, 1000);
        for (int i = 0; i < n; i++)
            on_bytes(events[i].data.ptr);
    }
}

static long private_bytes(const char *pid)
{
    char path[64], line[256];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%s/smaps_rollup", pid);
    FILE *in = fopen(path, "r");
    while (in && fgets(line, sizeof line, in))
        if (strncmp(line, "Private_Dirty:", 14) == 0)
            kib = strtol(line + 14, NULL, 10);
    if (in)
        fclose(in);
    return kib * 1024;
}

/* Milliseconds that the process has used, user and system. */
static double cpu_ms(const char *pid)
{
    char path[64], line[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    FILE *in = fopen(path, "r");
    const char *behind = in && fgets(line, sizeof line, in) ? strrchr(line, ')') : NULL;
    if (in)
        fclose(in);
    if (!behind || sscanf(behind, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        fail(path);
    return (double)(user + system) * 1000 / (double)sysconf(_SC_CLK_TCK);
}

int main(int argc, char **argv)
{
    int least = argc > 1 && strcmp(argv[1], "idle") == 0 ? 5 : 6;
    if (argc < least || argc > least + PIDS) {
        fprintf(stderr, "usage: bench_ws idle PORT SOCKETS PID | chat|sse PORT SOCKETS CHATS PID...\n");
        return 2;
    }
    const char *mode = argv[1];
    int port = (int)strtol(argv[2], NULL, 10), count = (int)strtol(argv[3], NULL, 10), epoll = epoll_create1(0);
    bool websocket = strcmp(mode, "sse") != 0;
    if (strcmp(mode, "idle") == 0) {
        mem_free(open_peers(epoll, port, 16, true)); /* what the first sockets cost is not theirs */
        long before = private_bytes(argv[4]);
        open_peers(epoll, port, count, true);
        printf("%.0f\n", (double)(private_bytes(argv[4]) - before) / count);
        return 0;
    }
    double cpu[PIDS], spent = 0;
    long chats = strtol(argv[4], NULL, 10);
    buf_init(&request, 2 * BODY_MAX);
    if (websocket)
        build_frame();
    else
        build_request();
    struct peer *peers = open_peers(epoll, port, count, websocket);
    run_chats(epoll, peers, count, count); /* warm up */
    for (int i = 5; i < argc; i++)
        cpu[i - 5] = cpu_ms(argv[i]);
    run_chats(epoll, peers, count, chats);
    for (int i = 5; i < argc; i++)
        spent += cpu_ms(argv[i]) - cpu[i - 5];
    printf("%.3f\n", spent / (double)chats);
    return 0;
}
