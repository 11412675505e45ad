/* An instance's log: its last lines at once, or these and then every new line as an event. Works for stopped instances
 * too: the log is the file's, not the process's. */
#include "api/docs/doc.h"
#include "api/instances/instances.h"
#include "base/mem.h"
#include "http/sse.h"
#include "instance/output.h"

#define FOLLOW_LINES 100 /* sent before the live ones when ?lines does not say */

struct log_call {
    struct app *app;
    struct http_req *req;
    struct output *output;
    struct lease *lease;
};

static void on_tail(void *arg, int fd, uint64_t offset, uint64_t length, const struct err *err)
{
    struct log_call *call = arg;
    if (err)
        http_reply_error(call->req, err);
    else
        http_reply_file(call->req, 200, "text/plain; charset=utf-8", fd, offset, length);
}

/* ---- following ---- */

/* A line as a JSON string, so that whatever the program prints is one event. */
static void send_line(void *arg, struct str line)
{
    struct log_call *call = arg;
    struct buf text;
    struct json j;
    buf_init(&text, LIMIT_SSE_EVENT);
    json_begin(&j, &text);
    json_open_object(&j, NULL);
    json_put_text(&j, "line", line);
    json_close(&j);
    if (json_finish(&j))
        http_sse_event(call->req, "log", buf_view(&text)); /* a reader that is too slow is dropped by the server */
    buf_release(&text);
}

static void send_lines(struct log_call *call, struct str text)
{
    while (text.p && text.n)
        send_line(call, str_cut(&text, '\n'));
}

struct tail_job {
    struct loop_job job;
    struct log_call *call; /* NULL: the client is gone */
    struct arena_disposer *disposer;
    int fd;
    uint64_t offset, length;
    struct buf text;
};

static void read_tail(struct loop_job *job)
{
    struct tail_job *t = container_of(job, struct tail_job, job);
    char piece[65536];
    for (uint64_t at = 0; at < t->length;) {
        size_t wanted = t->length - at < sizeof piece ? (size_t)(t->length - at) : sizeof piece;
        ssize_t n = pread(t->fd, piece, wanted, (off_t)(t->offset + at));
        if (n <= 0)
            break;
        buf_append(&t->text, piece, (size_t)n);
        at += (uint64_t)n;
    }
}

static void tail_read(struct loop_job *job)
{
    struct tail_job *t = container_of(job, struct tail_job, job);
    if (t->call) {
        arena_forget(t->disposer);
        http_sse_start(t->call->req);
        api_endless(t->call->app, t->call->req);
        send_lines(t->call, buf_view(&t->text));
        output_follow(t->call->output, &t->call->req->arena, send_line, t->call);
    }
    close(t->fd);
    buf_release(&t->text);
    mem_free(t);
}

static void on_client_gone(void *arg)
{
    struct tail_job *t = arg;
    t->call = NULL;
}

static void on_follow_tail(void *arg, int fd, uint64_t offset, uint64_t length, const struct err *err)
{
    struct log_call *call = arg;
    if (err) {
        http_reply_error(call->req, err);
        return;
    }
    struct tail_job *t = mem_calloc(1, sizeof *t);
    *t = (struct tail_job){.call = call, .fd = fd, .offset = offset, .length = length};
    if (length > LIMIT_FOLLOW_TAIL) {
        t->offset += length - LIMIT_FOLLOW_TAIL;
        t->length = LIMIT_FOLLOW_TAIL;
    }
    buf_init(&t->text, LIMIT_FOLLOW_TAIL);
    t->disposer = arena_on_dispose(&call->req->arena, on_client_gone, t);
    loop_work(call->app->loop, &t->job, read_tail, tail_read);
}

/* ---- the request ---- */

static void on_remote(void *arg, struct lease *lease, const struct err *err)
{
    struct log_call *call = arg;
    if (!lease) {
        http_reply_error(call->req, err);
        return;
    }
    api_pass(call->app, call->req, lease, api_target(call->req), NULL, 0, NULL);
}

static void logs(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    bool follow = query_flag(req, "follow");
    int64_t lines = follow ? FOLLOW_LINES : -1;
    struct instance *i = instance_of_match(app, req, match);
    if (!i || !query_int(req, "lines", &lines))
        return;
    struct log_call *call = arena_calloc(&req->arena, sizeof *call);
    *call = (struct log_call){.app = app, .req = req, .output = instance_output(i)};
    if (instance_is_remote(i))
        instance_acquire(i, false, &req->arena, on_remote, call);
    else
        output_tail(call->output, lines, &req->arena, follow ? on_follow_tail : on_tail, call);
}

const struct http_route log_routes[] = {
    {"GET", "/api/v1/instances/{name}/logs", logs, (void *)&manager_dialect,
     "Log as text; ?lines=N the last ones, ?follow=1 as an event stream", AUTH_MANAGEMENT, &doc_logs},
    {0},
};
