/* One streamed chat through all of it in one process and loop: a client posts JSON to a server on TCP, which reads
 * the body, scans it for the model and passes it on to a second server on a Unix socket, which streams events back. */
#include "base/json_scan.h"
#include "base/mem.h"
#include "fault/scenario.h"
#include "http/proxy.h"
#include "http/server.h"
#include "http/sse.h"

static const char question[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"model\":\"f\\u0061ke\",\"stream\":true}";
static const char answer[] = "data: {\"n\":1}\n\ndata: {\"n\":2}\n\ndata: [DONE]\n\n";

static struct {
    struct loop loop;
    struct http_server *gateway, *worker;
    struct http_client *pool, *caller;
    struct http_target worker_at;
    struct http_call *call;
    struct buf heard;
    int status, draining;
    enum outcome outcome;
} C;

static const char *on_error(void *arg, const struct http_req *req, const struct err *err, struct buf *body)
{
    (void)arg;
    (void)req;
    buf_puts(body, err->message);
    return "text/plain";
}

/* ---- the worker ---- */

static void answer_chat(struct http_req *req, struct str body)
{
    struct err err;
    if (!str_eq(body, str_from(question))) {
        err_set(&err, ERR_BAD_REQUEST, "Not what the client sent.");
        http_reply_error(req, &err);
        return;
    }
    http_sse_start(req);
    http_sse_data(req, STR("{\"n\":1}"));
    http_sse_data(req, STR("{\"n\":2}"));
    http_sse_data(req, STR("[DONE]"));
    http_sse_end(req);
}

static void on_worker_request(void *arg, struct http_req *req)
{
    (void)arg;
    http_req_read_body(req, 0, answer_chat);
}

/* ---- the gateway ---- */

static void pass_on(struct http_req *req, struct str body)
{
    struct json_scan wanted = {.key = "model"};
    struct str model = STR_NONE;
    struct err err;
    if (!json_scan(body, &wanted, 1, &err)) {
        http_reply_error(req, &err);
        return;
    }
    if (!json_scan_text(wanted.raw, &req->arena, &model) || !str_eq(model, STR("fake"))) {
        err_set(&err, ERR_MODEL_NOT_FOUND, "No such model.");
        http_reply_error(req, &err);
        return;
    }
    struct http_proxy_options options = {.target = C.worker_at, .body = {body}, .body_count = 1};
    http_proxy(req, C.pool, &options);
}

static void on_gateway_request(void *arg, struct http_req *req)
{
    (void)arg;
    http_req_read_body(req, 0, pass_on);
}

/* ---- the client ---- */

static void on_drained(void *arg)
{
    (void)arg;
    if (--C.draining == 0)
        loop_stop(&C.loop);
}

static void finish(enum outcome outcome)
{
    C.outcome = outcome;
    C.draining = 2;
    http_server_drain(C.gateway, 0, on_drained, NULL);
    http_server_drain(C.worker, 0, on_drained, NULL);
}

static void on_head(void *arg, const struct http_head *head)
{
    (void)arg;
    C.status = head->status;
}

static void on_data(void *arg, struct str piece)
{
    (void)arg;
    buf_str(&C.heard, piece);
}

/* The request was good: an error may blame the servers (5xx), never the client. */
static void on_end(void *arg)
{
    (void)arg;
    fprintf(stderr, "status %d: %.*s\n", C.status, STR_ARG(buf_view(&C.heard)));
    if (C.status == 200)
        finish(str_eq(buf_view(&C.heard), str_from(answer)) ? OUTCOME_PASSED : OUTCOME_WRONG);
    else
        finish(C.status < 500 ? OUTCOME_WRONG : C.heard.len ? OUTCOME_CLEAN : OUTCOME_SILENT);
}

static void on_call_error(void *arg, const struct err *err)
{
    (void)arg;
    finish(scenario_failed(err));
}

static const struct http_call_events call_events = {
    .on_head = on_head, .on_data = on_data, .on_end = on_end, .on_error = on_call_error};

static void post(int port)
{
    struct http_target target = {.address = "127.0.0.1", .port = port};
    struct str head = STR("Content-Type: application/json\r\n");
    C.call = http_call_start(C.caller, &target, STR("POST"), STR("/v1/chat/completions"), head, sizeof question - 1,
                             str_from(question), &call_events, NULL);
}

static enum outcome run_chat(void)
{
    struct http_server_options worker = {.on_request = on_worker_request, .on_error = on_error};
    struct http_server_options gateway = {.on_request = on_gateway_request, .on_error = on_error};
    struct err err = ERR_INIT;
    int port = 0;
    loop_init(&C.loop);
    buf_init(&C.heard, 1u << 20);
    C.worker = http_server_new(&C.loop, &worker);
    C.gateway = http_server_new(&C.loop, &gateway);
    C.pool = http_client_new(&C.loop);
    C.caller = http_client_new(&C.loop);
    snprintf(C.worker_at.address, sizeof C.worker_at.address, "%s/socket", scenario_folder);
    unlink(C.worker_at.address); /* a run that was ended left it */
    if (!http_server_listen_unix(C.worker, C.worker_at.address, 0600, &err) ||
        !http_server_listen_tcp(C.gateway, "127.0.0.1", 0, &port, &err))
        finish(scenario_failed(&err));
    else
        post(port);
    loop_run(&C.loop);
    http_server_free(C.worker);
    http_server_free(C.gateway);
    http_client_free(C.caller);
    http_client_free(C.pool);
    loop_release(&C.loop);
    buf_release(&C.heard);
    return C.outcome;
}

const struct scenario chat_scenario = {"chat", run_chat};
