#include "api/anthropic/reply.h"

#include "base/json_copy.h"

/* ---- what both forms share ---- */

/* A stop string of the caller's is told apart only where the backend names it. */
static const char *stop_reason(struct str finish, struct str stop, bool called)
{
    if (str_eq(finish, STR("length")))
        return "max_tokens";
    if (str_eq(finish, STR("content_filter")))
        return "refusal";
    if (called && !str_eq(finish, STR("stop")))
        return "tool_use";
    return stop.p ? "stop_sequence" : "end_turn";
}

static void put_stop(struct json *j, struct str finish, struct str stop, bool called)
{
    const char *reason = stop_reason(finish, stop, called);
    json_put_string(j, "stop_reason", reason);
    if (strcmp(reason, "stop_sequence") == 0)
        json_put_text(j, "stop_sequence", stop);
    else
        json_put_null(j, "stop_sequence");
}

/* Anthropic counts what came from the cache beside the input, not as a part of it. */
static void put_usage(struct json *j, const struct openai_usage *usage)
{
    json_open_object(j, "usage");
    json_put_int(j, "input_tokens", usage->prompt_tokens - usage->cached_tokens);
    json_put_int(j, "cache_creation_input_tokens", 0);
    json_put_int(j, "cache_read_input_tokens", usage->cached_tokens);
    json_put_int(j, "output_tokens", usage->completion_tokens);
    json_close(j);
}

static void open_message(struct json *j, const char *key, const char *id, struct str model)
{
    json_open_object(j, key);
    json_put_string(j, "id", id);
    json_put_string(j, "type", "message");
    json_put_string(j, "role", "assistant");
    json_put_text(j, "model", model);
    json_open_array(j, "content");
}

static void put_text_block(struct json *j, const char *key, bool thinking, struct str text)
{
    json_open_object(j, key);
    json_put_string(j, "type", thinking ? "thinking" : "text");
    json_put_text(j, thinking ? "thinking" : "text", text);
    if (thinking)
        json_put_string(j, "signature", "");
    else
        json_put_null(j, "citations");
    json_close(j);
}

static void put_call_block(struct json *j, const char *key, struct str id, struct str name, const json_t *input)
{
    char fresh[OPENAI_ID_SIZE];
    json_open_object(j, key);
    json_put_string(j, "type", "tool_use");
    json_put_text(j, "id", id.p ? id : str_from(openai_id(fresh, "toolu_")));
    json_put_text(j, "name", name);
    if (input)
        json_put_value(j, "input", input);
    else
        json_put_raw(j, "input", STR("{}"));
    json_close(j);
}

/* ---- events ---- */

static struct json *event_begin(struct anthropic_reply *r, struct json *j, const char *name)
{
    buf_clear(&r->event);
    json_begin(j, &r->event);
    json_open_object(j, NULL);
    json_put_string(j, "type", name);
    return j;
}

static void event_end(struct anthropic_reply *r, struct json *j, const char *name)
{
    json_close(j);
    json_finish(j);
    r->on_event(r->arg, name, buf_view(&r->event));
}

static void close_block(struct anthropic_reply *r)
{
    struct json j;
    if (!r->open)
        return;
    r->open = false;
    event_begin(r, &j, "content_block_stop");
    json_put_int(&j, "index", r->count - 1);
    event_end(r, &j, "content_block_stop");
}

static void tell_ping(struct anthropic_reply *r)
{
    struct json j;
    event_begin(r, &j, "ping");
    event_end(r, &j, "ping");
}

/* call: of a tool_use block, else NULL. */
static void open_block(struct anthropic_reply *r, enum anthropic_block_kind kind, const struct openai_call_delta *call)
{
    struct json j;
    close_block(r);
    event_begin(r, &j, "content_block_start");
    json_put_int(&j, "index", r->count++);
    if (call)
        put_call_block(&j, "content_block", call->id, call->name, NULL);
    else
        put_text_block(&j, "content_block", kind == ANTHROPIC_THINKING, STR(""));
    event_end(r, &j, "content_block_start");
    r->open = true;
    r->kind = kind;
    if (r->count == 1)
        tell_ping(r);
}

static void tell_delta(struct anthropic_reply *r, struct str text)
{
    static const char *const types[] = {"thinking_delta", "text_delta", "input_json_delta"};
    static const char *const members[] = {"thinking", "text", "partial_json"};
    struct json j;
    event_begin(r, &j, "content_block_delta");
    json_put_int(&j, "index", r->count - 1);
    json_open_object(&j, "delta");
    json_put_string(&j, "type", types[r->kind]);
    json_put_text(&j, members[r->kind], text);
    json_close(&j);
    event_end(r, &j, "content_block_delta");
}

static void add_text(struct anthropic_reply *r, enum anthropic_block_kind kind, struct str text)
{
    if (!r->open || r->kind != kind)
        open_block(r, kind, NULL);
    tell_delta(r, text);
}

static bool add_call(struct anthropic_reply *r, const struct openai_call_delta *call, struct err *err)
{
    bool same = r->open && r->kind == ANTHROPIC_TOOL_USE && r->call_index == call->index;
    if (!same && !call->name.p)
        return err_set(err, ERR_BAD_GATEWAY, "the backend's reply goes back to a tool call that had ended");
    if (!same)
        open_block(r, ANTHROPIC_TOOL_USE, call);
    r->call_index = call->index;
    r->called = true;
    if (call->arguments.p)
        tell_delta(r, call->arguments);
    return true;
}

static void release(void *arg)
{
    struct anthropic_reply *r = arg;
    buf_release(&r->event);
}

void anthropic_reply_init(struct anthropic_reply *reply, struct str model, struct arena *arena,
                          void (*on_event)(void *arg, const char *name, struct str data), void *arg)
{
    *reply = (struct anthropic_reply){.model = model, .arena = arena, .on_event = on_event, .arg = arg};
    openai_id(reply->id, "msg_");
    buf_init(&reply->event, LIMIT_JSON_TEXT);
    arena_on_dispose(arena, release, reply);
}

/* The tokens are known at the end only; message_delta tells them. */
void anthropic_reply_begin(struct anthropic_reply *reply)
{
    struct json j;
    event_begin(reply, &j, "message_start");
    open_message(&j, "message", reply->id, reply->model);
    json_close(&j);
    json_put_null(&j, "stop_reason");
    json_put_null(&j, "stop_sequence");
    put_usage(&j, &reply->usage);
    json_close(&j);
    event_end(reply, &j, "message_start");
}

static bool add_delta(struct anthropic_reply *r, const struct openai_chat_delta *delta, struct err *err)
{
    if (delta->reasoning.p)
        add_text(r, ANTHROPIC_THINKING, delta->reasoning);
    if (delta->content.p)
        add_text(r, ANTHROPIC_TEXT, delta->content);
    for (size_t i = 0; i < delta->call_count; i++) {
        struct openai_call_delta call;
        if (!openai_call_delta_read(delta, i, &call, err) || !add_call(r, &call, err))
            return false;
    }
    if (delta->finish_reason.p)
        r->finish_reason = arena_str(r->arena, delta->finish_reason);
    if (delta->stop.p)
        r->stop = arena_str(r->arena, delta->stop);
    if (delta->has_usage)
        r->usage = delta->usage;
    return true;
}

bool anthropic_reply_feed(struct anthropic_reply *reply, struct str data, struct err *err)
{
    struct openai_chat_delta delta;
    if (!openai_chat_delta_read(data, &delta, err))
        return false;
    bool good = add_delta(reply, &delta, err);
    openai_chat_delta_release(&delta);
    return good;
}

void anthropic_reply_end(struct anthropic_reply *reply)
{
    struct json j;
    close_block(reply);
    event_begin(reply, &j, "message_delta");
    json_open_object(&j, "delta");
    put_stop(&j, reply->finish_reason, reply->stop, reply->called);
    json_close(&j);
    put_usage(&j, &reply->usage);
    event_end(reply, &j, "message_delta");
    event_begin(reply, &j, "message_stop");
    event_end(reply, &j, "message_stop");
}

void anthropic_reply_fail(struct anthropic_reply *reply, const struct err *err)
{
    buf_clear(&reply->event);
    anthropic_error_write(&reply->event, err);
    reply->on_event(reply->arg, "error", buf_view(&reply->event));
}

/* ---- the whole message ---- */

/* A call that the token limit cut off has no input that could be told, so it is left out. */
static bool put_calls(struct json *j, const struct openai_chat_delta *delta, struct err *err)
{
    bool cut = str_eq(delta->finish_reason, STR("length"));
    for (size_t i = 0; i < delta->call_count; i++) {
        struct openai_call_delta call;
        if (!openai_call_delta_read(delta, i, &call, err))
            return false;
        json_t *input = json_read(call.arguments.p ? call.arguments : STR("{}"), NULL);
        bool good = json_is_object(input) && call.name.p;
        if (good)
            put_call_block(j, NULL, call.id, call.name, input);
        json_decref(input);
        if (!good && !cut)
            return err_set(err, ERR_BAD_GATEWAY, "the model's call of a tool has arguments that are no JSON object");
    }
    return true;
}

bool anthropic_message_write(struct str model, struct str chat, struct buf *out, struct err *err)
{
    struct openai_chat_delta delta;
    char id[OPENAI_ID_SIZE];
    struct json j;
    if (!openai_chat_delta_read(chat, &delta, err))
        return false;
    json_begin(&j, out);
    open_message(&j, NULL, openai_id(id, "msg_"), model);
    if (delta.reasoning.p)
        put_text_block(&j, NULL, true, delta.reasoning);
    if (delta.content.p)
        put_text_block(&j, NULL, false, delta.content);
    bool good = put_calls(&j, &delta, err);
    json_close(&j);
    put_stop(&j, delta.finish_reason, delta.stop, delta.call_count > 0);
    put_usage(&j, &delta.usage);
    json_close(&j);
    if (good && !json_finish(&j))
        good = err_set(err, ERR_INTERNAL, "the answer could not be written");
    openai_chat_delta_release(&delta);
    return good;
}

/* ---- errors ---- */

static const char *error_type(const struct err *err)
{
    switch (err_status(err->code)) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 503: return "overloaded_error";
    case 504: return "timeout_error";
    default: return err_status(err->code) < 500 ? "invalid_request_error" : "api_error";
    }
}

void anthropic_error_write(struct buf *out, const struct err *err)
{
    struct json j;
    json_begin(&j, out);
    json_open_object(&j, NULL);
    json_put_string(&j, "type", "error");
    json_open_object(&j, "error");
    json_put_string(&j, "type", error_type(err));
    json_put_string(&j, "message", err->message);
    json_close(&j);
    json_close(&j);
    json_finish(&j);
}
