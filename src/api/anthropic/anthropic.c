/* The routes of Anthropic's Messages API. A message is one internal call; counting tokens is two, on backends that have
 * llama.cpp's paths: the prompt that the template makes of the messages, then its tokens. */
#include "api/anthropic/reply.h"
#include "api/anthropic/request.h"
#include "api/docs/doc.h"
#include "api/relay.h"
#include "http/sse.h"

static const struct dialect anthropic_dialect = {
    .content_type = "application/json", .write = anthropic_error_write, .id_header = "request-id"};

struct message {
    struct relay relay;
    struct anthropic_request request;
    struct anthropic_reply reply;
    struct str whole; /* the reply when it is not streamed: a JSON text */
    struct err problem;
    bool begun;
};

static void refuse(struct http_req *req, const struct err *err)
{
    struct err told = *err;
    anthropic_error_translate(&told);
    http_reply_error(req, &told);
}

/* ---- a message ---- */

static void tell(void *arg, const char *name, struct str data)
{
    struct message *m = arg;
    relay_send(&m->relay, name, data);
}

/* Before anything was sent the error is the reply; later it is the last event. */
static void fail(struct message *m, const struct err *err)
{
    if (!http_reply_started(m->relay.req)) {
        refuse(m->relay.req, err);
        return;
    }
    anthropic_reply_fail(&m->reply, err);
    http_sse_end(m->relay.req);
}

static void on_event(void *arg, struct str data)
{
    struct message *m = arg;
    if (!m->begun)
        anthropic_reply_begin(&m->reply);
    m->begun = true;
    if (anthropic_reply_feed(&m->reply, data, &m->problem))
        return;
    upstream_cancel(m->relay.upstream);
    m->relay.upstream = NULL;
    fail(m, &m->problem);
}

/* A backend that does not stream though it was asked to is answered for as one that does, in one piece. */
static void on_reply(void *arg, struct str body)
{
    struct message *m = arg;
    struct buf out;
    if (m->request.stream) {
        anthropic_reply_begin(&m->reply);
        m->begun = true;
        anthropic_reply_feed(&m->reply, body, &m->problem);
        return;
    }
    buf_init(&out, LIMIT_JSON_TEXT);
    if (anthropic_message_write(m->request.model, body, &out, &m->problem))
        m->whole = arena_str(&m->relay.req->arena, buf_view(&out));
    buf_release(&out);
}

static void on_end(void *arg, const struct err *err)
{
    struct message *m = arg;
    m->relay.upstream = NULL;
    if (!err && m->problem.code != ERR_NONE)
        err = &m->problem;
    if (err) {
        fail(m, err);
    } else if (m->request.stream) {
        if (!m->begun)
            anthropic_reply_begin(&m->reply);
        anthropic_reply_end(&m->reply);
        http_sse_end(m->relay.req);
    } else {
        http_reply(m->relay.req, 200, "application/json", m->whole);
    }
}

static void on_stream(void *arg)
{
    struct message *m = arg;
    relay_start(&m->relay);
}

static const struct upstream_events message_events = {
    .on_stream = on_stream, .on_event = on_event, .on_reply = on_reply, .on_end = on_end};

static void on_message_body(struct relay *relay, struct str body)
{
    struct message *m = container_of(relay, struct message, relay);
    struct arena *arena = &relay->req->arena;
    struct err err;
    if (!anthropic_request_read(body, false, arena, &m->request, &err)) {
        http_reply_error(relay->req, &err);
        return;
    }
    anthropic_reply_init(&m->reply, m->request.model, arena, tell, m);
    relay_call(relay, "/v1/chat/completions", m->request.chat, &message_events, m);
}

static void post_message(void *arg, struct http_req *req, const struct http_match *match)
{
    struct message *m = arena_calloc(&req->arena, sizeof *m);
    (void)match;
    relay_begin(&m->relay, arg, req, on_message_body);
}

/* ---- counting ---- */

struct counting {
    struct relay relay;
    struct anthropic_request request;
    json_t *document; /* the reply to the call that runs */
};

static void on_count_reply(void *arg, struct str body)
{
    struct counting *c = arg;
    c->document = json_read(body, NULL);
    json_give(c->document, &c->relay.req->arena);
}

/* What stands behind the name has no such path, or its answer is another program's. */
static void refuse_counting(const struct counting *c)
{
    struct err err;
    err_set_param(&err, ERR_NOT_SUPPORTED, "model", "what runs '" STR_FMT "' does not count tokens",
                  STR_ARG(c->request.model));
    http_reply_error(c->relay.req, &err);
}

static void on_counted(void *arg, const struct err *err)
{
    struct counting *c = arg;
    const json_t *tokens = json_object_get(c->document, "tokens");
    c->relay.upstream = NULL;
    if (err) {
        refuse(c->relay.req, err);
        return;
    }
    if (!json_is_array(tokens)) {
        refuse_counting(c);
        return;
    }
    struct json *j = api_json_begin(c->relay.req);
    json_open_object(j, NULL);
    json_put_int(j, "input_tokens", (int64_t)json_array_size(tokens));
    json_close(j);
    api_reply_json(c->relay.req, 200, j);
}

static const struct upstream_events count_events = {.on_reply = on_count_reply, .on_end = on_counted};

static void on_rendered(void *arg, const struct err *err)
{
    struct counting *c = arg;
    struct arena *arena = &c->relay.req->arena;
    json_t *prompt = json_object_get(c->document, "prompt");
    c->relay.upstream = NULL;
    if (err) {
        refuse(c->relay.req, err);
        return;
    }
    if (!json_is_string(prompt)) {
        refuse_counting(c);
        return;
    }
    json_t *body = json_pack("{s:s%,s:O,s:b,s:b}", "model", c->request.model.p, c->request.model.n, "content", prompt,
                             "add_special", true, "parse_special", true);
    struct str text = json_text(body, arena);
    json_decref(body);
    relay_call(&c->relay, "/tokenize", text, &count_events, c);
}

static const struct upstream_events render_events = {.on_reply = on_count_reply, .on_end = on_rendered};

/* Whether the instance of that name, or the worker behind that model file, has llama.cpp's own paths. */
static bool counts(const struct counting *c)
{
    struct str inner = c->request.model, head = str_cut(&inner, '/');
    const struct instance *i = instances_find(c->relay.app->instances, head);
    const char *type = i ? instance_backend_type(i) : "worker";
    return (!i || !instance_is_remote(i)) && (strcmp(type, "worker") == 0 || strcmp(type, "llama_cpp") == 0);
}

/* How many cells an image takes is known to who prepares it only, and counting prepares none. */
static void refuse_images(const struct counting *c)
{
    struct err err;
    err_set_param(&err, ERR_NOT_SUPPORTED, "messages", "messages with images cannot be counted without being read");
    http_reply_error(c->relay.req, &err);
}

static void on_counting_body(struct relay *relay, struct str body)
{
    struct counting *c = container_of(relay, struct counting, relay);
    struct err err;
    if (!anthropic_request_read(body, true, &relay->req->arena, &c->request, &err))
        http_reply_error(relay->req, &err);
    else if (!counts(c))
        refuse_counting(c);
    else if (c->request.images)
        refuse_images(c);
    else
        relay_call(relay, "/apply-template", c->request.chat, &render_events, c);
}

static void post_counting(void *arg, struct http_req *req, const struct http_match *match)
{
    struct counting *c = arena_calloc(&req->arena, sizeof *c);
    (void)match;
    relay_begin(&c->relay, arg, req, on_counting_body);
}

/* ---- routes ---- */

#define JSON_TYPE "application/json"

static const struct api_doc doc_message = {
    .tag = "Messages",
    .text = "Answered by a chat completion of the model.",
    .bodies = {{JSON_TYPE, "MessageRequest"}},
    .replies = {{200, {JSON_TYPE, "Message"}}, {200, {"text/event-stream", "MessageStream"}}},
    .errors = {404, 409, 502, 503, 504},
    .error_schema = "MessageError",
    .passes = true,
};

static const struct api_doc doc_message_count = {
    .tag = "Messages",
    .text = "The model's own template and tokenizer count; a model that does not run is started.",
    .bodies = {{JSON_TYPE, "MessageCountRequest"}},
    .replies = {{200, {JSON_TYPE, "MessageCount"}}},
    .errors = {404, 409, 502, 503, 504},
    .error_schema = "MessageError",
    .passes = true,
};

#define ANTHROPIC (void *)&anthropic_dialect

static const struct http_route routes[] = {
    {"POST", "/v1/messages", post_message, ANTHROPIC, "Anthropic's messages, streamed with \"stream\": true",
     AUTH_INFERENCE, &doc_message},
    {"POST", "/v1/messages/count_tokens", post_counting, ANTHROPIC, "Tokens that messages would take", AUTH_INFERENCE,
     &doc_message_count},
};

void anthropic_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
