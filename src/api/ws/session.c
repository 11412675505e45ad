/* GET /ws: the upgrade, who is there, and what its messages ask for.
 *
 * A key comes with the upgrade (header, or the subprotocol "bearer.KEY", which is all that a browser can set) and is
 * then checked before the 101; or in the first message. Until it is known, nothing else is answered. Where the server
 * asks for no key, all this is passed over.
 *
 * What a client gets wrong is told in an error frame and the socket stays; ten senseless messages in a row end it. */
#include "api/admit.h"
#include "api/ws/session.h"

#include "api/docs/doc.h"
#include "base/json_scan.h"

#define SUBPROTOCOL     "inferno"
#define BEARER_PROTOCOL "bearer."

enum { CODE_UNAUTHENTICATED = 4401 };

static struct str say(struct buf *out, const char *type, struct str raw_id)
{
    buf_printf(out, "{\"type\":\"%s\",\"id\":" STR_FMT ",\"data\":{}}", type, STR_ARG(raw_id));
    return buf_view(out);
}

static void reply(struct ws_session *s, const char *type, struct str raw_id)
{
    struct buf out;
    buf_init(&out, 64 + 8 * LIMIT_WS_ID);
    http_ws_send(s->ws, say(&out, type, raw_id));
    buf_release(&out);
}

static void write_error(struct ws_session *s, struct str raw_id, const struct err *err)
{
    struct buf out;
    buf_init(&out, 8 * (LIMIT_ERR_MESSAGE + LIMIT_ERR_PARAM + LIMIT_ERR_DETAILS + LIMIT_WS_ID));
    ws_error_write(&out, raw_id, err);
    http_ws_send(s->ws, buf_view(&out));
    buf_release(&out);
}

void ws_session_error(struct ws_session *s, struct str raw_id, const struct err *err)
{
    s->dialect->error(s, raw_id, err);
}

/* A message that made no sense. */
static void bad_message(struct ws_session *s, struct str raw_id, const struct err *err)
{
    ws_session_error(s, raw_id, err);
    if (++s->bad >= LIMIT_WS_BAD)
        http_ws_close(s->ws, HTTP_WS_POLICY, "too many messages that make no sense");
}

/* ---- who is there ---- */

static bool is_key_wanted(const struct ws_session *s)
{
    return !s->caller && keys_required(s->app->keys, AUTH_INFERENCE);
}

static void turn_away(struct ws_session *s, struct str raw_id, const char *why)
{
    struct err err;
    err_set(&err, ERR_AUTHENTICATION_FAILED, "%s", why);
    ws_session_error(s, raw_id, &err);
    http_ws_close(s->ws, CODE_UNAUTHENTICATED, why);
}

static void on_caller_lost(void *arg)
{
    turn_away(arg, STR("null"), "This key or token was revoked, or has expired");
}

/* The one place where somebody becomes the session's caller. */
static void adopt_caller(struct ws_session *s, const struct caller *caller)
{
    s->caller = caller;
    s->req->caller = caller;
    s->address = api_limit_address(s->app, s->req);
    callers_watch(s->app, &s->req->arena, caller, on_caller_lost, s);
}

bool ws_session_may(struct ws_session *s, unsigned access, struct str raw_id)
{
    struct err err;
    if (api_allows(s->app, s->caller, access))
        return true;
    err_set(&err, ERR_PERMISSION_DENIED, "This key may not do that");
    ws_session_error(s, raw_id, &err);
    return false;
}

static void on_message_caller(void *arg, const struct caller *caller, const struct err *err)
{
    struct ws_session *s = arg;
    s->identifying = false;
    if (!caller) {
        turn_away(s, STR("null"), err->message);
        return;
    }
    deadline_cancel(s->app->loop, &s->deadline);
    adopt_caller(s, caller);
    reply(s, "auth_ok", STR("null"));
    if (s->dialect->greet)
        s->dialect->greet(s);
}

static void on_auth(struct ws_session *s, const struct ws_envelope *envelope)
{
    struct json_scan token = {.key = "token"};
    struct str text;
    struct err err;
    if (!is_key_wanted(s)) {
        reply(s, "auth_ok", envelope->raw_id);
        return;
    }
    if (!json_scan(envelope->data, &token, 1, &err) || !token.raw.p ||
        !json_scan_text(token.raw, &s->req->arena, &text) || text.n == 0) {
        turn_away(s, envelope->raw_id, "'data.token' must hold a key");
        return;
    }
    s->identifying = true;
    api_identify(s->app, s->req, text, on_message_caller, s);
}

static void on_no_key(struct deadline *deadline)
{
    turn_away(container_of(deadline, struct ws_session, deadline), STR("null"), "no key came in time");
}

/* ---- messages ---- */

static void on_ping(struct ws_session *s, const struct ws_envelope *envelope)
{
    reply(s, "pong", envelope->raw_id);
}

bool ws_session_id_free(struct ws_session *s, const struct ws_envelope *envelope, struct err *err)
{
    return !ws_chat_is_running(s, envelope->id) ||
           err_set_param(err, ERR_DUPLICATE_ID, "id", "A chat with this id is running already");
}

static void not_running(struct ws_session *s, const struct ws_envelope *envelope)
{
    struct err err;
    err_set_param(&err, ERR_NOT_FOUND, "id", "Nothing with this id is running");
    ws_session_error(s, envelope->raw_id, &err);
}

static void on_cancel(struct ws_session *s, const struct ws_envelope *envelope)
{
    struct ws_subscription *sub = ws_subscription_find(s, envelope->id);
    if (ws_chat_cancel(s, envelope->id))
        return;
    if (!sub) {
        not_running(s, envelope);
        return;
    }
    ws_subscription_end(sub);
    reply(s, "unsubscribed", envelope->raw_id);
}

static void on_unsubscribe(struct ws_session *s, const struct ws_envelope *envelope)
{
    struct ws_subscription *sub = ws_subscription_find(s, envelope->id);
    if (!sub) {
        not_running(s, envelope);
        return;
    }
    ws_subscription_end(sub);
    reply(s, "unsubscribed", envelope->raw_id);
}

static const struct message_kind {
    const char *type;
    void (*handle)(struct ws_session *s, const struct ws_envelope *envelope);
    bool anonymous; /* needs no id */
    bool legacy;    /* the older dialect has it too */
    bool stranger;  /* before the key is known */
} kinds[] = {
    {"chat", ws_chat_start, false, true, false},
    {"chat_request", ws_chat_start, false, true, false},
    {"cancel", on_cancel, false, true, false},
    {"unsubscribe", on_unsubscribe, false, false, false},
    {"subscribe_metrics", ws_metrics_subscribe, false, false, false},
    {"subscribe_models", ws_models_subscribe, false, false, false},
    {"ping", on_ping, true, true, true},
    {"auth", on_auth, true, true, true},
};

static const struct message_kind *kind_of(const struct ws_session *s, struct str type)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (str_eq(type, str_from(kinds[i].type)) && (kinds[i].legacy || !s->dialect->whole_chunks))
            return &kinds[i];
    return NULL;
}

static void handle(struct ws_session *s, const struct ws_envelope *envelope)
{
    const struct message_kind *kind = kind_of(s, envelope->type);
    struct err err;
    if (!kind) {
        err_set_param(&err, ERR_UNKNOWN_MESSAGE_TYPE, "type", "There is no message type '%.*s'",
                      envelope->type.n > 64 ? 64 : (int)envelope->type.n, envelope->type.p);
        bad_message(s, envelope->raw_id, &err);
    } else if (!kind->stranger && is_key_wanted(s)) {
        turn_away(s, envelope->raw_id,
                  s->identifying ? "the key is still being looked up; wait for auth_ok"
                                 : "the first message must be auth");
    } else if (!kind->anonymous && !envelope->id.p) {
        err_set_param(&err, ERR_INVALID_MESSAGE, "id", "'id' is required");
        bad_message(s, envelope->raw_id, &err);
    } else {
        s->bad = 0;
        kind->handle(s, envelope);
    }
}

static void on_message(void *arg, struct str message, bool binary)
{
    struct ws_session *s = arg;
    struct ws_envelope envelope;
    struct arena arena;
    struct err err;
    (void)binary; /* not allowed: never is */
    arena_init(&arena);
    if (ws_envelope_read(message, &arena, &envelope, &err))
        handle(s, &envelope);
    else
        bad_message(s, envelope.raw_id, &err);
    arena_dispose(&arena);
}

static void on_proceed(void *arg)
{
    struct ws_session *s = arg;
    ws_subscriptions_resume(s);
    if (!http_ws_is_blocked(s->ws)) /* else it comes again */
        ws_chats_resume(s);
}

/* ---- the end ---- */

static void leave(struct ws_session *s)
{
    http_ws_close(s->ws, HTTP_WS_GOING_AWAY, "the server is shutting down");
}

void ws_session_chat_ended(struct ws_session *s)
{
    if (s->leaving && s->chat_count == 0)
        leave(s);
}

/* The server ends: running chats go to their end, as replies do; the server cuts what takes too long. */
static void on_drain(void *arg)
{
    struct ws_session *s = arg;
    s->leaving = true;
    ws_session_chat_ended(s);
}

static void on_closed(void *arg, int code)
{
    struct ws_session *s = arg;
    (void)code;
    deadline_cancel(s->app->loop, &s->deadline);
    ws_chats_dispose(s);
    ws_subscriptions_dispose(s);
}

/* ---- the beginning ---- */

static const struct ws_dialect dialect = {.error = write_error};

static void accept_session(struct ws_session *s)
{
    static const struct http_ws_events events = {
        .on_message = on_message, .on_proceed = on_proceed, .on_drain = on_drain, .on_closed = on_closed};
    const struct conf *conf = s->app->conf;
    struct str subprotocol = http_ws_offer(s->req, SUBPROTOCOL);
    if (!str_eq(subprotocol, STR(SUBPROTOCOL))) /* browsers want one of their offers back */
        subprotocol = http_ws_offer(s->req, BEARER_PROTOCOL);
    struct http_ws_options options = {.max_message = (uint32_t)conf->ws_max_message_kb << 10,
                                      .ping_ms = (unsigned)conf->ws_ping_seconds * 1000,
                                      .subprotocol = subprotocol};
    struct http_ws *ws = http_ws_accept(s->req, &options, &events, s);
    if (!ws) /* the request is gone, and the session with it */
        return;
    s->ws = ws;
    if (is_key_wanted(s))
        deadline_arm(s->app->loop, &s->deadline, (uint64_t)conf->ws_auth_timeout_seconds * 1000, on_no_key);
    else if (s->dialect->greet)
        s->dialect->greet(s);
}

static void on_upgrade_caller(void *arg, const struct caller *caller, const struct err *err)
{
    struct ws_session *s = arg;
    if (caller) {
        adopt_caller(s, caller);
        accept_session(s);
        return;
    }
    if (err->code == ERR_AUTHENTICATION_FAILED)
        http_reply_header(s->req, "WWW-Authenticate", "Bearer");
    http_reply_error(s->req, err);
}

static struct str key_of_upgrade(struct ws_session *s)
{
    struct str key = api_presented(s->req), offer = http_ws_offer(s->req, BEARER_PROTOCOL);
    if (!key.n && offer.n)
        key = (struct str){offer.p + strlen(BEARER_PROTOCOL), offer.n - strlen(BEARER_PROTOCOL)};
    if (!key.n && s->app->conf->ws_allow_query_token)
        http_query_find(&s->req->arena, s->req->head.query, "token", &key);
    return key;
}

static bool has_room(struct app *app, struct err *err)
{
    if (http_server_draining(app->server)) {
        err->retry_after_ms = 5000;
        return err_set(err, ERR_DRAINING, "the server is shutting down");
    }
    return http_ws_count(app->server) < (size_t)app->conf->ws_max_connections ||
           err_set(err, ERR_SERVER_OVERLOADED, "websocket.max_connections are open already");
}

static void begin(struct app *app, struct http_req *req, const struct ws_dialect *spoken)
{
    struct err err = ERR_INIT;
    if (!has_room(app, &err)) {
        http_reply_error(req, &err);
        return;
    }
    struct ws_session *s = arena_calloc(&req->arena, sizeof *s);
    s->app = app;
    s->req = req;
    s->dialect = spoken;
    list_init(&s->chats);
    list_init(&s->ended);
    list_init(&s->subscriptions);
    s->address = api_limit_address(app, req);
    struct str key = is_key_wanted(s) ? key_of_upgrade(s) : STR_NONE;
    if (key.n)
        api_identify(app, req, key, on_upgrade_caller, s);
    else
        accept_session(s);
}

static void open_session(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    begin(arg, req, &dialect);
}

static void open_legacy(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    begin(arg, req, &ws_legacy_dialect);
}

void ws_routes(struct app *app)
{
    const struct conf *conf = app->conf;
    app->ws_rows[0] = (struct http_route){
        "GET",     conf->ws_path, open_session, (void *)&openai_dialect, "WebSocket: chats, metrics and models, live",
        AUTH_NONE, &doc_ws};
    app->ws_rows[1] = (struct http_route){
        "GET",     conf->ws_legacy_path, open_legacy, (void *)&openai_dialect, "WebSocket in the older dialect",
        AUTH_NONE, &doc_ws_legacy};
    for (size_t i = 0; i < 2; i++)
        if (*app->ws_rows[i].pattern)
            http_router_add(app->router, &app->ws_rows[i], 1);
}
