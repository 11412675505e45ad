/* The older dialect, /ws/stream: the server introduces itself, chats answer with whole chunks, errors are flat, and a
 * heartbeat comes every half a minute. */
#include "api/ws/session.h"
#include "base/clock.h"
#include "base/version.h"

static void send_json(struct ws_session *s, struct json *j)
{
    if (json_finish(j))
        http_ws_send(s->ws, buf_view(j->out));
    buf_release(j->out);
}

static void begin_json(struct json *j, struct buf *out, const char *type)
{
    buf_init(out, 8 * (LIMIT_ERR_MESSAGE + LIMIT_WS_ID) + 1024);
    json_begin(j, out);
    json_open_object(j, NULL);
    json_put_string(j, "type", type);
}

static void on_heartbeat(struct deadline *deadline)
{
    struct ws_session *s = container_of(deadline, struct ws_session, deadline);
    struct buf out;
    struct json j;
    char now[CLOCK_RFC3339_SIZE];
    deadline_arm(s->app->loop, &s->deadline, LIMIT_WS_HEARTBEAT_MS, on_heartbeat);
    if (http_ws_is_blocked(s->ws))
        return;
    begin_json(&j, &out, "heartbeat");
    json_put_string(&j, "timestamp", clock_rfc3339(clock_unix_ms(), now));
    json_put_int(&j, "active_streams", s->chat_count);
    json_close(&j);
    send_json(s, &j);
}

static void greet(struct ws_session *s)
{
    struct buf out;
    struct json j;
    begin_json(&j, &out, "connection_info");
    json_put_string(&j, "connection_id", s->req->id);
    json_put_string(&j, "server_version", INFERD_VERSION);
    json_open_array(&j, "capabilities");
    json_put_string(&j, NULL, "chat_streaming");
    json_put_string(&j, NULL, "cancel");
    json_close(&j);
    json_close(&j);
    send_json(s, &j);
    deadline_arm(s->app->loop, &s->deadline, LIMIT_WS_HEARTBEAT_MS, on_heartbeat);
}

static const char *code_of(const struct err *err)
{
    switch (err->code) {
    case ERR_INVALID_MESSAGE:
    case ERR_UNKNOWN_MESSAGE_TYPE:
    case ERR_INVALID_JSON: return "INVALID_FORMAT";
    case ERR_INTERNAL: return "INTERNAL_ERROR";
    default: return "STREAM_ERROR";
    }
}

static void write_error(struct ws_session *s, struct str raw_id, const struct err *err)
{
    struct buf out;
    struct json j;
    begin_json(&j, &out, "error");
    json_put_raw(&j, "id", raw_id);
    json_put_string(&j, "message", err->message);
    json_put_string(&j, "code", code_of(err));
    json_close(&j);
    send_json(s, &j);
}

const struct ws_dialect ws_legacy_dialect = {.whole_chunks = true, .greet = greet, .error = write_error};
