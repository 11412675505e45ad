#include "http/sse.h"

#include "http/conn.h"

/* The stream's ping: armed anew by every event. */
struct sse {
    struct deadline ping;
    struct http_req *req;
};

static void on_quiet(struct deadline *deadline)
{
    struct sse *sse = container_of(deadline, struct sse, ping);
    deadline_arm(sse->req->server->loop, &sse->ping, sse->req->server->options.ping_ms, on_quiet);
    http_reply_write(sse->req, STR(": ping\n\n"));
}

static void sse_release(void *arg)
{
    struct sse *sse = arg;
    deadline_cancel(sse->req->server->loop, &sse->ping);
}

void http_sse_start(struct http_req *req)
{
    struct sse *sse = arena_calloc(&req->arena, sizeof *sse);
    sse->req = req;
    req->conn->sse = sse;
    arena_on_dispose(&req->arena, sse_release, sse);
    http_reply_header(req, "Cache-Control", "no-cache");
    http_reply_header(req, "X-Accel-Buffering", "no");
    http_reply_start(req, 200, "text/event-stream", -1);
    deadline_arm(req->server->loop, &sse->ping, req->server->options.ping_ms, on_quiet);
}

static bool send_event(struct http_req *req, const struct str *pieces, size_t count)
{
    struct sse *sse = req->conn->sse;
    deadline_arm(req->server->loop, &sse->ping, req->server->options.ping_ms, on_quiet);
    return http_reply_writev(req, pieces, count);
}

bool http_sse_data(struct http_req *req, struct str data)
{
    struct str pieces[] = {STR("data: "), data, STR("\n\n")};
    return send_event(req, pieces, 3);
}

bool http_sse_event(struct http_req *req, const char *name, struct str data)
{
    struct str pieces[] = {STR("event: "), str_from(name), STR("\ndata: "), data, STR("\n\n")};
    return send_event(req, pieces, 5);
}

void http_sse_end(struct http_req *req)
{
    http_reply_end(req);
}
