/* The upstream of the gateway bench: answers every request with a static JSON body, and one whose query says
 * n=N&ms=M with N events, M milliseconds apart (0: as fast as they are taken), each carrying the time it was sent; with
 * spread=1 streams begin at different points of that time, else those that begin together send together.
 * Usage: bench_upstream PORT */
#include "base/clock.h"
#include "base/mem.h"
#include "http/server.h"
#include "http/sse.h"

struct stream {
    struct http_req *req;
    struct deadline deadline;
    uint64_t left, ms;
};

static void emit(struct stream *stream);

static void on_due(struct deadline *deadline)
{
    emit(container_of(deadline, struct stream, deadline));
}

static void on_proceed(struct http_req *req)
{
    emit(req->user);
}

static void emit(struct stream *s)
{
    char data[224];
    while (s->left) {
        int n = snprintf(data, sizeof data, "{\"t\":%llu,\"pad\":\"%0180d\"}", (unsigned long long)clock_ns(), 0);
        s->left--;
        bool more = http_sse_data(s->req, (struct str){data, (size_t)n});
        if (s->ms) {
            deadline_arm(http_server_loop(s->req->server), &s->deadline, s->ms, on_due);
            return;
        }
        if (!more)
            return;
    }
    http_sse_end(s->req);
}

static void release(void *arg)
{
    struct stream *s = arg;
    deadline_cancel(http_server_loop(s->req->server), &s->deadline);
}

static uint64_t number(struct http_req *req, const char *name, uint64_t otherwise)
{
    struct str text;
    uint64_t value = otherwise;
    if (http_query_find(&req->arena, req->head.query, name, &text))
        str_u64(text, 1u << 30, &value);
    return value;
}

static void start_stream(struct http_req *req)
{
    struct stream *s = arena_calloc(&req->arena, sizeof *s);
    s->req = req;
    s->left = number(req, "n", 0);
    s->ms = number(req, "ms", 0);
    req->user = s;
    arena_on_dispose(&req->arena, release, s);
    http_sse_start(req);
    http_reply_on_proceed(req, on_proceed);
    static uint64_t streams;
    if (number(req, "spread", 0) && s->ms)
        deadline_arm(http_server_loop(req->server), &s->deadline, 1 + streams++ * 7919 % s->ms, on_due);
    else
        emit(s);
}

static void on_body(struct http_req *req, struct str body)
{
    (void)body;
    if (number(req, "n", 0)) {
        start_stream(req);
        return;
    }
    http_reply(
        req, 200, "application/json",
        STR("{\"id\":\"x\",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
            "\"assistant\",\"content\":\"Hello there, how can I help you today?\"},\"finish_reason\":\"stop\"}]}"));
}

static void on_request(void *arg, struct http_req *req)
{
    (void)arg;
    http_req_read_body(req, 0, on_body);
}

static const char *on_error(void *arg, const struct http_req *req, const struct err *err, struct buf *body)
{
    (void)arg;
    (void)req;
    buf_puts(body, err->message);
    return "text/plain";
}

int main(int argc, char **argv)
{
    static struct loop loop;
    struct err err;
    if (argc != 2)
        return 2;
    loop_init(&loop);
    struct http_server *server =
        http_server_new(&loop, &(struct http_server_options){.on_request = on_request, .on_error = on_error});
    if (!http_server_listen_tcp(server, "127.0.0.1", (int)strtol(argv[1], NULL, 10), NULL, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    loop_run(&loop);
    return 0;
}
