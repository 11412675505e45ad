/* POST /v1/responses: reads the request, puts the conversation together, has the chat answered, keeps the turn, and
 * only then says that it is complete: what a client has seen to the end can be gone on from, whatever happens. */
#include "api/relay.h"
#include "api/responses/chain.h"
#include "api/responses/reply.h"
#include "api/responses/responses.h"
#include "http/sse.h"

struct create {
    struct relay relay;
    struct response_request request;
    struct response_reply reply;
    struct chain chain;
    struct str input; /* as it is kept */
    struct err problem;
    bool begun;
};

static struct arena *arena_of(const struct create *c)
{
    return &c->relay.req->arena;
}

static void tell(void *arg, const char *name, struct str data)
{
    struct create *c = arg;
    relay_send(&c->relay, name, data);
}

/* ---- the end ---- */

static void deliver(struct create *c)
{
    struct http_req *req = c->relay.req;
    if (c->request.stream) {
        response_reply_finish(&c->reply);
        http_sse_end(req);
        return;
    }
    struct json *j = api_json_begin(req);
    response_reply_put(&c->reply, j, NULL);
    api_reply_json(req, 200, j);
}

/* Before anything was sent the error is the reply; later it is the last event. */
static void fail(struct create *c, const struct err *err)
{
    struct err told = *err;
    response_error_translate(&told);
    if (!http_reply_started(c->relay.req)) {
        http_reply_error(c->relay.req, &told);
        return;
    }
    response_reply_fail(&c->reply, &told);
    deliver(c);
}

static void on_saved(void *arg, const struct err *err)
{
    struct create *c = arg;
    if (err)
        fail(c, err);
    else
        deliver(c);
}

static void save(struct create *c)
{
    struct buf body;
    struct json j;
    struct err err;
    buf_init(&body, LIMIT_RESPONSE_BYTES);
    json_begin(&j, &body);
    response_reply_put(&c->reply, &j, NULL);
    bool good = json_finish(&j) || err_set_param(&err, ERR_REQUEST_TOO_LARGE, "store",
                                                 "the response has more than %u bytes and cannot be kept; ask with "
                                                 "store: false",
                                                 LIMIT_RESPONSE_BYTES);
    struct chain_turn turn = {.id = c->reply.id,
                              .previous_id = c->request.previous_id,
                              .input = c->input,
                              .body = buf_view(&body),
                              .created_at = c->reply.created_at,
                              .length = c->chain.length + 1,
                              .bytes = c->chain.bytes + (int64_t)(c->input.n + body.len)};
    if (good)
        chain_save(c->relay.app, arena_of(c), chain_owner(c->relay.req), &turn, on_saved, c);
    buf_release(&body);
    if (!good)
        fail(c, &err);
}

/* ---- the reply as it comes ---- */

static void feed(struct create *c, struct str data)
{
    if (c->problem.code != ERR_NONE)
        return;
    if (!c->begun) {
        c->begun = true;
        response_reply_begin(&c->reply);
    }
    response_reply_feed(&c->reply, data, &c->problem);
}

static void on_event(void *arg, struct str data)
{
    struct create *c = arg;
    feed(c, data);
    if (c->problem.code == ERR_NONE)
        return;
    upstream_cancel(c->relay.upstream);
    c->relay.upstream = NULL;
    fail(c, &c->problem);
}

static void on_reply(void *arg, struct str body)
{
    feed(arg, body);
}

static void on_end(void *arg, const struct err *err)
{
    struct create *c = arg;
    c->relay.upstream = NULL;
    if (!err && c->problem.code != ERR_NONE)
        err = &c->problem;
    if (err) {
        fail(c, err);
        return;
    }
    response_reply_end(&c->reply);
    if (c->request.store)
        save(c);
    else
        deliver(c);
}

static void on_stream(void *arg)
{
    struct create *c = arg;
    relay_start(&c->relay);
}

static const struct upstream_events events = {
    .on_stream = on_stream, .on_event = on_event, .on_reply = on_reply, .on_end = on_end};

/* ---- the request ---- */

static bool write_input(struct create *c, struct err *err)
{
    c->input = c->request.store ? json_text(c->request.input, arena_of(c)) : STR("");
    return c->input.n <= LIMIT_RESPONSE_BYTES ||
           err_set_param(err, ERR_INVALID_PARAMETERS, "store",
                         "'input' has more than %u bytes and cannot be kept; ask with store: false",
                         LIMIT_RESPONSE_BYTES);
}

static void ask(struct create *c)
{
    struct str chat;
    struct err err;
    if (!write_input(c, &err) ||
        !response_chat_write(&c->request, c->chain.items, c->chain.count, arena_of(c), &chat, &err)) {
        http_reply_error(c->relay.req, &err);
        return;
    }
    response_reply_init(&c->reply, &c->request, arena_of(c), c->request.stream ? tell : NULL, c);
    relay_call(&c->relay, "/v1/chat/completions", chat, &events, c);
}

static void on_chain(void *arg, const struct chain *chain, const struct err *err)
{
    struct create *c = arg;
    if (err) {
        http_reply_error(c->relay.req, err);
        return;
    }
    c->chain = *chain;
    ask(c);
}

static void on_body(struct relay *relay, struct str body)
{
    struct create *c = container_of(relay, struct create, relay);
    struct http_req *req = relay->req;
    struct err err;
    if (!response_request_read(body, &req->arena, &c->request, &err))
        http_reply_error(req, &err);
    else if (c->request.previous_id.p)
        chain_load(relay->app, &req->arena, chain_owner(req), c->request.previous_id, on_chain, c);
    else
        ask(c);
}

void response_create(void *arg, struct http_req *req, const struct http_match *match)
{
    struct create *c = arena_calloc(&req->arena, sizeof *c);
    (void)match;
    relay_begin(&c->relay, arg, req, on_body);
}
