#include "api/ollama/reply.h"

#include <math.h>

#include "base/clock.h"

/* ---- what all forms share ---- */

static void release(void *arg)
{
    struct ollama_reply *r = arg;
    buf_release(&r->line);
    buf_release(&r->arguments);
}

void ollama_reply_init(struct ollama_reply *reply, const struct ollama_request *request, struct arena *arena,
                       void (*on_line)(void *arg, struct str line), void *arg)
{
    *reply = (struct ollama_reply){.model = request->model,
                                   .form = request->form,
                                   .arena = arena,
                                   .on_line = on_line,
                                   .arg = arg,
                                   .started_ns = clock_ns(),
                                   .load_ms = -1};
    buf_init(&reply->line, LIMIT_JSON_TEXT);
    buf_init(&reply->arguments, LIMIT_JSON_TEXT);
    arena_on_dispose(arena, release, reply);
}

static void open_object(const struct ollama_reply *r, struct json *j)
{
    char now[CLOCK_RFC3339_SIZE];
    json_open_object(j, NULL);
    json_put_text(j, "model", r->model);
    json_put_string(j, "created_at", clock_rfc3339(clock_unix_ms(), now));
}

/* ---- what was said ---- */

struct said {
    struct str content, thinking;
    const json_t *logprobs;
};

/* Leaves the message open in chat's form, for the calls. */
static void open_said(const struct ollama_reply *r, struct json *j, const struct said *said)
{
    bool chat = r->form == OLLAMA_CHAT;
    if (chat) {
        json_open_object(j, "message");
        json_put_string(j, "role", "assistant");
    }
    json_put_text(j, chat ? "content" : "response", said->content.p ? said->content : STR(""));
    if (said->thinking.p)
        json_put_text(j, "thinking", said->thinking);
}

static void close_said(const struct ollama_reply *r, struct json *j, const struct said *said)
{
    if (r->form == OLLAMA_CHAT)
        json_close(j);
    if (json_array_size(said->logprobs))
        json_put_value(j, "logprobs", said->logprobs);
}

/* A call's arguments are an object there. One that the token limit cut off has none that could be told: left out. */
static bool put_call(struct ollama_reply *r, struct json *j, struct str id, struct str name, struct str arguments,
                     struct err *err)
{
    json_t *object = json_read(arguments.n ? arguments : STR("{}"), NULL);
    bool good = json_is_object(object) && name.n;
    if (good) {
        json_open_object(j, NULL);
        if (id.n)
            json_put_text(j, "id", id);
        json_open_object(j, "function");
        json_put_int(j, "index", r->calls++);
        json_put_text(j, "name", name);
        json_put_value(j, "arguments", object);
        json_close(j);
        json_close(j);
    }
    json_decref(object);
    return good || str_eq(r->finish_reason, STR("length")) ||
           err_set(err, ERR_BAD_GATEWAY, "the model's call of a tool has arguments that are no JSON object");
}

/* ---- what it took ---- */

static void put_duration(struct json *j, const char *key, double ms)
{
    json_put_int(j, key, (int64_t)llround(ms * 1e6));
}

static bool is_time(double ms)
{
    return ms >= 0 && ms < 1e12;
}

static void put_end(const struct ollama_reply *r, struct json *j)
{
    bool length = str_eq(r->finish_reason, STR("length"));
    json_put_bool(j, "done", true);
    json_put_string(j, "done_reason", length ? "length" : "stop");
    json_put_int(j, "total_duration", (int64_t)(clock_ns() - r->started_ns));
    if (r->load_ms >= 0)
        put_duration(j, "load_duration", r->load_ms);
    if (r->has_usage)
        json_put_int(j, "prompt_eval_count", r->usage.prompt_tokens);
    if (r->has_timings)
        put_duration(j, "prompt_eval_duration", r->prompt_ms);
    if (r->has_usage)
        json_put_int(j, "eval_count", r->usage.completion_tokens);
    if (r->has_timings)
        put_duration(j, "eval_duration", r->generated_ms);
}

static void note_end(struct ollama_reply *r, const struct openai_chat_delta *delta)
{
    const json_t *timings = json_object_get(delta->document, "timings");
    if (delta->finish_reason.p)
        r->finish_reason = arena_str(r->arena, delta->finish_reason);
    if (delta->has_usage) {
        r->has_usage = true;
        r->usage = delta->usage;
    }
    if (!json_is_object(timings))
        return;
    const json_t *prompt = json_object_get(timings, "prompt_ms"), *said = json_object_get(timings, "predicted_ms");
    r->prompt_ms = json_number_value(prompt);
    r->generated_ms = json_number_value(said);
    r->has_timings =
        json_is_number(prompt) && json_is_number(said) && is_time(r->prompt_ms) && is_time(r->generated_ms);
}

/* Completions have their text where chat has a message. */
static struct said said_of(const struct openai_chat_delta *delta)
{
    const json_t *choice = json_array_get(json_object_get(delta->document, "choices"), 0);
    struct str text = json_str(json_object_get(choice, "text"));
    return (struct said){.content = delta->content.p ? delta->content
                                    : text.n         ? text
                                                     : STR_NONE,
                         .thinking = delta->reasoning,
                         .logprobs = json_object_get(json_object_get(choice, "logprobs"), "content")};
}

/* ---- lines ---- */

static void line_begin(struct ollama_reply *r, struct json *j)
{
    buf_clear(&r->line);
    json_begin(j, &r->line);
    open_object(r, j);
}

static void line_end(struct ollama_reply *r, struct json *j)
{
    json_close(j);
    json_finish(j);
    buf_putc(&r->line, '\n');
    r->on_line(r->arg, buf_view(&r->line));
}

static void tell_said(struct ollama_reply *r, const struct said *said)
{
    struct json j;
    line_begin(r, &j);
    open_said(r, &j, said);
    close_said(r, &j, said);
    json_put_bool(&j, "done", false);
    line_end(r, &j);
}

static bool tell_call(struct ollama_reply *r, struct err *err)
{
    static const struct said nothing;
    struct json j;
    if (!r->calling)
        return true;
    r->calling = false;
    int64_t told = r->calls;
    line_begin(r, &j);
    open_said(r, &j, &nothing);
    json_open_array(&j, "tool_calls");
    if (!put_call(r, &j, r->call_id, r->call_name, buf_view(&r->arguments), err))
        return false;
    json_close(&j);
    close_said(r, &j, &nothing);
    json_put_bool(&j, "done", false);
    if (r->calls > told)
        line_end(r, &j);
    return true;
}

static bool gather_call(struct ollama_reply *r, const struct openai_call_delta *call, struct err *err)
{
    bool same = r->calling && r->call_index == call->index;
    if (!same && !call->name.p)
        return err_set(err, ERR_BAD_GATEWAY, "the backend's reply goes back to a tool call that had ended");
    if (!same) {
        if (!tell_call(r, err))
            return false;
        r->calling = true;
        r->call_index = call->index;
        r->call_id = call->id.p ? arena_str(r->arena, call->id) : STR_NONE;
        r->call_name = arena_str(r->arena, call->name);
        buf_clear(&r->arguments);
    }
    buf_str(&r->arguments, call->arguments);
    return true;
}

static bool feed_delta(struct ollama_reply *r, const struct openai_chat_delta *delta, struct err *err)
{
    struct said said = said_of(delta);
    note_end(r, delta);
    if (said.content.p || said.thinking.p)
        tell_said(r, &said);
    for (size_t i = 0; i < delta->call_count; i++) {
        struct openai_call_delta call;
        if (!openai_call_delta_read(delta, i, &call, err) || !gather_call(r, &call, err))
            return false;
    }
    return true;
}

bool ollama_reply_feed(struct ollama_reply *reply, struct str data, struct err *err)
{
    struct openai_chat_delta delta;
    if (!openai_chat_delta_read(data, &delta, err))
        return false;
    bool good = feed_delta(reply, &delta, err);
    openai_chat_delta_release(&delta);
    return good;
}

bool ollama_reply_end(struct ollama_reply *reply, struct err *err)
{
    static const struct said nothing;
    struct json j;
    if (!tell_call(reply, err))
        return false;
    line_begin(reply, &j);
    open_said(reply, &j, &nothing);
    close_said(reply, &j, &nothing);
    put_end(reply, &j);
    line_end(reply, &j);
    return true;
}

void ollama_reply_fail(struct ollama_reply *reply, const struct err *err)
{
    buf_clear(&reply->line);
    ollama_error_write(&reply->line, err);
    buf_putc(&reply->line, '\n');
    reply->on_line(reply->arg, buf_view(&reply->line));
}

/* ---- whole replies ---- */

static bool put_calls(struct ollama_reply *r, struct json *j, const struct openai_chat_delta *delta, struct err *err)
{
    if (delta->call_count == 0)
        return true;
    json_open_array(j, "tool_calls");
    for (size_t i = 0; i < delta->call_count; i++) {
        struct openai_call_delta call;
        if (!openai_call_delta_read(delta, i, &call, err) || !put_call(r, j, call.id, call.name, call.arguments, err))
            return false;
    }
    json_close(j);
    return true;
}

static bool finish(struct json *j, struct err *err)
{
    json_close(j);
    return json_finish(j) || err_set(err, ERR_INTERNAL, "the answer could not be written");
}

bool ollama_reply_write(struct ollama_reply *reply, struct str whole, struct buf *out, struct err *err)
{
    struct openai_chat_delta delta;
    struct json j;
    if (!openai_chat_delta_read(whole, &delta, err))
        return false;
    struct said said = said_of(&delta);
    note_end(reply, &delta);
    json_begin(&j, out);
    open_object(reply, &j);
    open_said(reply, &j, &said);
    bool good = reply->form != OLLAMA_CHAT || put_calls(reply, &j, &delta, err);
    if (good) {
        close_said(reply, &j, &said);
        put_end(reply, &j);
        good = finish(&j, err);
    }
    openai_chat_delta_release(&delta);
    return good;
}

bool ollama_reply_empty(struct ollama_reply *reply, const char *done_reason, struct buf *out)
{
    static const struct said nothing;
    struct json j;
    json_begin(&j, out);
    open_object(reply, &j);
    open_said(reply, &j, &nothing);
    close_said(reply, &j, &nothing);
    json_put_bool(&j, "done", true);
    json_put_string(&j, "done_reason", done_reason);
    json_close(&j);
    return json_finish(&j);
}

bool ollama_embedding_write(struct ollama_reply *reply, struct str whole, struct buf *out, struct err *err)
{
    bool list = reply->form == OLLAMA_EMBED;
    json_t *document = whole.p ? json_read(whole, NULL) : NULL;
    const json_t *data = json_object_get(document, "data"), *usage = json_object_get(document, "usage");
    struct json j;
    if (whole.p && (!json_is_array(data) || json_array_size(data) == 0)) {
        json_decref(document);
        return err_set(err, ERR_BAD_GATEWAY, "the backend's reply has no embeddings");
    }
    json_begin(&j, out);
    json_open_object(&j, NULL);
    if (list)
        json_put_text(&j, "model", reply->model);
    if (list || !whole.p)
        json_open_array(&j, list ? "embeddings" : "embedding");
    for (size_t i = 0; i < json_array_size(data) && (list || i == 0); i++)
        json_put_value(&j, list ? NULL : "embedding", json_object_get(json_array_get(data, i), "embedding"));
    if (list || !whole.p)
        json_close(&j);
    if (list) {
        json_put_int(&j, "total_duration", (int64_t)(clock_ns() - reply->started_ns));
        if (reply->load_ms >= 0)
            put_duration(&j, "load_duration", reply->load_ms);
        if (json_is_integer(json_object_get(usage, "prompt_tokens")))
            json_put_int(&j, "prompt_eval_count", json_integer_value(json_object_get(usage, "prompt_tokens")));
    }
    json_decref(document);
    return finish(&j, err);
}

/* ---- errors ---- */

void ollama_error_write(struct buf *out, const struct err *err)
{
    struct json j;
    json_begin(&j, out);
    json_open_object(&j, NULL);
    json_put_string(&j, "error", err->message);
    json_close(&j);
    json_finish(&j);
}
