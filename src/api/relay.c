#include "api/relay.h"

#include "api/admit.h"
#include "api/traced.h"
#include "http/sse.h"

static bool check(const struct app *app, const struct http_req *req, struct err *err)
{
    struct str type = http_head_find(&req->head, "content-type"), parameters = type;
    if (http_server_draining(app->server)) {
        err_set(err, ERR_DRAINING, "the server is shutting down");
        err->retry_after_ms = 5000;
        return false;
    }
    return !type.p || str_ieq(str_trim(str_cut(&parameters, ';')), STR("application/json")) ||
           err_set(err, ERR_UNSUPPORTED_MEDIA_TYPE, "the body must be JSON (Content-Type: application/json)");
}

static void on_body(struct http_req *req, struct str body)
{
    struct relay *relay = req->user;
    relay->on_body(relay, body);
}

void relay_begin(struct relay *relay, struct app *app, struct http_req *req,
                 void (*handle)(struct relay *relay, struct str body))
{
    struct err err;
    *relay = (struct relay){.app = app, .req = req, .on_body = handle};
    req->user = relay;
    if (check(app, req, &err))
        http_req_read_body(req, 0, on_body);
    else
        http_reply_error(req, &err);
}

void relay_call(struct relay *relay, const char *path, struct str body, const struct upstream_events *events, void *arg)
{
    struct http_req *req = relay->req;
    struct upstream_request request = {.path = str_from(path),
                                       .body = body,
                                       .caller = req->caller,
                                       .address = api_limit_address(relay->app, req),
                                       .request_id = req->id,
                                       .trace = traced_request(relay->app, req)};
    struct upstream *upstream = upstream_start(relay->app, &req->arena, &request, events, arg);
    if (upstream) /* else the request may be gone */
        relay->upstream = upstream;
}

static void on_proceed(struct http_req *req)
{
    struct relay *relay = req->user;
    if (relay->upstream)
        upstream_resume(relay->upstream);
}

void relay_start(struct relay *relay)
{
    if (http_reply_started(relay->req))
        return;
    http_sse_start(relay->req);
    http_reply_on_proceed(relay->req, on_proceed);
}

void relay_send(struct relay *relay, const char *name, struct str data)
{
    relay_start(relay);
    if (!http_sse_event(relay->req, name, data) && relay->upstream)
        upstream_pause(relay->upstream);
}

void relay_send_line(struct relay *relay, const char *type, struct str line)
{
    if (!http_reply_started(relay->req)) {
        http_reply_header(relay->req, "Cache-Control", "no-cache");
        http_reply_header(relay->req, "X-Accel-Buffering", "no");
        http_reply_start(relay->req, 200, type, -1);
        http_reply_on_proceed(relay->req, on_proceed);
    }
    if (!http_reply_write(relay->req, line) && relay->upstream)
        upstream_pause(relay->upstream);
}
