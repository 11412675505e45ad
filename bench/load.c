/* A closed-loop HTTP load on epoll, kept apart from our own HTTP code so that it cannot share its faults.
 *   bench_load post PORT CONNECTIONS BODY_BYTES SECONDS [PATH]  -> requests/s, p50 and p99 in microseconds
 *   bench_load sse  PORT CONNECTIONS INTERVAL_MS SECONDS [PATH] -> events/s, p50 and p99 of an event's way through
 *   bench_load idle PORT CONNECTIONS PID [PATH]                 -> growth of PID's private memory a stream, in bytes
 * Environment: BENCH_BODY, a file to send instead of BODY_BYTES of padding; BENCH_KEY, a bearer token. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#define SAMPLES (4u << 20)

struct peer {
    int fd;
    uint64_t sent_ns;
    size_t have;
    long left; /* bytes of the reply's body; -1: its head is awaited */
    char in[16384];
};

static struct buf request;
static uint32_t *samples;
static size_t sample_count;
static unsigned long done, failed;
static bool measuring;

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void sample(uint64_t ns)
{
    done++;
    if (measuring && sample_count < SAMPLES)
        samples[sample_count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static int dial(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        perror("connect");
        exit(1);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void ask(struct peer *p)
{
    size_t at = 0;
    p->have = 0;
    p->left = -1;
    p->sent_ns = clock_ns();
    while (at < request.len) {
        ssize_t n = send(p->fd, request.data + at, request.len - at, MSG_NOSIGNAL);
        if (n <= 0) {
            perror("send");
            exit(1);
        }
        at += (size_t)n;
    }
}

/* Length of the body by the head in p->in; head_end is behind its empty line. Chunked: -2. */
static long body_length(struct peer *p, const char *head_end)
{
    for (const char *line = p->in; line < head_end; line = strchr(line, '\n') + 1) {
        if (strncasecmp(line, "content-length:", 15) == 0)
            return strtol(line + 15, NULL, 10);
        if (strncasecmp(line, "transfer-encoding:", 18) == 0)
            return -2;
    }
    return 0;
}

static void on_post_bytes(struct peer *p)
{
    ssize_t n = recv(p->fd, p->in + p->have, sizeof p->in - 1 - p->have, 0);
    if (n <= 0) {
        fprintf(stderr, "connection lost: %s\n", n ? strerror(errno) : "closed");
        exit(1);
    }
    p->have += (size_t)n;
    p->in[p->have] = '\0';
    const char *end = strstr(p->in, "\r\n\r\n");
    if (!end)
        return;
    long length = body_length(p, end + 2);
    bool complete = length == -2 ? p->have >= 5 && memcmp(p->in + p->have - 5, "0\r\n\r\n", 5) == 0
                                 : p->have >= (size_t)(end + 4 - p->in) + (size_t)length;
    if (!complete)
        return;
    failed += p->in[9] != '2';
    sample(clock_ns() - p->sent_ns);
    ask(p);
}

static void on_event_bytes(struct peer *p)
{
    ssize_t n = recv(p->fd, p->in + p->have, sizeof p->in - 1 - p->have, 0);
    if (n <= 0) {
        fprintf(stderr, "stream lost\n");
        exit(1);
    }
    p->have += (size_t)n;
    p->in[p->have] = '\0';
    char *at = p->in, *mark, *end;
    uint64_t now = clock_ns();
    while ((mark = strstr(at, "{\"t\":")) && (end = strchr(mark, '}'))) {
        sample(now - strtoull(mark + 5, NULL, 10));
        at = end + 1;
    }
    p->have -= (size_t)(at - p->in);
    memmove(p->in, at, p->have);
}

static void build_request(const char *mode, const char *path, size_t body_bytes)
{
    const char *file = getenv("BENCH_BODY"), *key = getenv("BENCH_KEY");
    struct buf body;
    buf_init(&request, 64u << 20);
    buf_init(&body, 32u << 20);
    if (file) {
        FILE *in = fopen(file, "rb");
        char bytes[4096];
        size_t n;
        while (in && (n = fread(bytes, 1, sizeof bytes, in)) > 0)
            buf_append(&body, bytes, n);
        if (in)
            fclose(in);
    }
    if (!file) { /* a chat as a client sends it, padded to the size asked for */
        buf_puts(&body, "{\"model\": \"bench\", \"messages\": [{\"role\": \"user\", \"content\": \"");
        while (body.len + 40 < body_bytes)
            buf_putc(&body, 'x');
        buf_printf(&body, "\"}], \"stream\": %s}", strcmp(mode, "post") == 0 ? "false" : "true");
    }
    buf_printf(&request, "POST %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n", path);
    if (key)
        buf_printf(&request, "Authorization: Bearer %s\r\n", key);
    buf_printf(&request, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body.len);
    buf_puts(&request, "\r\n");
    buf_append(&request, body.data, body.len);
    buf_release(&body);
}

static struct peer *open_peers(int epoll, int port, int count)
{
    struct peer *peers = mem_calloc((size_t)count, sizeof *peers);
    for (int i = 0; i < count; i++) {
        peers[i].fd = dial(port);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &peers[i]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, peers[i].fd, &event);
        ask(&peers[i]);
    }
    return peers;
}

static void work_until(int epoll, uint64_t until, void (*on_bytes)(struct peer *))
{
    struct epoll_event events[256];
    while (clock_ns() < until) {
        int n = epoll_wait(epoll, events, 256, 100);
        for (int i = 0; i < n; i++)
            on_bytes(events[i].data.ptr);
    }
}

static void measure(int epoll, double seconds, void (*on_bytes)(struct peer *))
{
    samples = mem_alloc(SAMPLES * sizeof *samples);
    work_until(epoll, clock_ns() + 200000000, on_bytes); /* warm up */
    measuring = true;
    unsigned long before = done;
    uint64_t start = clock_ns();
    work_until(epoll, start + (uint64_t)(seconds * 1e9), on_bytes);
    double took = (double)(clock_ns() - start) / 1e9;
    qsort(samples, sample_count, sizeof *samples, by_value);
    if (!sample_count || failed) {
        fprintf(stderr, "%lu answers, %lu of them errors\n", done, failed);
        exit(1);
    }
    printf("%.0f %.1f %.1f\n", (double)(done - before) / took, samples[sample_count / 2] / 1e3,
           samples[sample_count * 99 / 100] / 1e3);
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

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: bench_load post|sse|spread|idle PORT CONNECTIONS ...\n");
        return 2;
    }
    const char *mode = argv[1];
    int port = (int)strtol(argv[2], NULL, 10), count = (int)strtol(argv[3], NULL, 10), epoll = epoll_create1(0);
    char path[128];
    if (strcmp(mode, "idle") == 0) {
        build_request(mode, argc > 5 ? argv[5] : "/v1/chat/completions?n=1000&ms=30000", 0);
        long before = private_bytes(argv[4]);
        open_peers(epoll, port, count);
        work_until(epoll, clock_ns() + 1000000000, on_event_bytes);
        printf("%.0f\n", (double)(private_bytes(argv[4]) - before) / count);
        return 0;
    }
    bool spread = strcmp(mode, "spread") == 0, sse = spread || strcmp(mode, "sse") == 0;
    snprintf(path, sizeof path, "/v1/chat/completions?n=100000000&ms=%s%s", argv[4], spread ? "&spread=1" : "");
    build_request(mode, argc > 6 ? argv[6] : sse ? path : "/v1/chat/completions", sse ? 0 : strtoul(argv[4], NULL, 10));
    open_peers(epoll, port, count);
    measure(epoll, strtod(argv[5], NULL), sse ? on_event_bytes : on_post_bytes);
    return 0;
}
