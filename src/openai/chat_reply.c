#include "openai/chat_reply.h"

static void put_function(struct json *j, const char *key, struct str name, struct str arguments)
{
    json_open_object(j, key);
    if (name.p)
        json_put_text(j, "name", name);
    json_put_text(j, "arguments", arguments);
    json_close(j);
}

static void put_calls(struct json *j, const struct openai_chat_choice *c)
{
    json_open_array(j, "tool_calls");
    for (size_t i = 0; i < c->call_count; i++) {
        json_open_object(j, NULL);
        json_put_text(j, "id", c->calls[i].id);
        json_put_string(j, "type", "function");
        put_function(j, "function", c->calls[i].name, c->calls[i].arguments);
        json_close(j);
    }
    json_close(j);
}

static void put_message(struct json *j, const struct openai_chat_choice *c)
{
    json_open_object(j, "message");
    json_put_string(j, "role", "assistant");
    if (c->call_count && c->content.n == 0)
        json_put_null(j, "content");
    else
        json_put_text(j, "content", c->content);
    json_put_null(j, "refusal");
    if (c->reasoning.n)
        json_put_text(j, "reasoning_content", c->reasoning);
    if (c->call_count && c->legacy)
        put_function(j, "function_call", c->calls[0].name, c->calls[0].arguments);
    else if (c->call_count)
        put_calls(j, c);
    json_close(j);
}

static void put_stop(struct json *j, struct str stop)
{
    if (stop.p)
        json_put_text(j, "stop_reason", stop);
}

bool openai_chat_write(struct buf *out, const struct openai_identity *identity,
                       const struct openai_chat_choice *choices, size_t count, const struct openai_usage *usage,
                       const struct openai_timings *timings)
{
    struct json j;
    json_begin(&j, out);
    json_open_object(&j, NULL);
    openai_put_identity(&j, "chat.completion", identity);
    json_open_array(&j, "choices");
    for (size_t i = 0; i < count; i++) {
        json_open_object(&j, NULL);
        json_put_int(&j, "index", (int64_t)i);
        put_message(&j, &choices[i]);
        openai_put_chat_logprobs(&j, choices[i].tokens, choices[i].token_count, choices[i].logprobs);
        json_put_string(&j, "finish_reason", choices[i].finish_reason);
        put_stop(&j, choices[i].stop);
        json_close(&j);
    }
    json_close(&j);
    openai_put_usage(&j, usage);
    openai_put_timings(&j, timings);
    json_close(&j);
    return json_finish(&j);
}

/* Every chunk of one choice: open leaves the writer inside the delta. */
static void open_delta(struct openai_stream *stream, struct json *j, unsigned choice)
{
    openai_chunk_begin(stream, j);
    json_put_int(j, "index", choice);
    json_open_object(j, "delta");
}

static struct str close_delta(struct openai_stream *stream, struct json *j)
{
    json_close(j);
    json_put_null(j, "logprobs");
    json_put_null(j, "finish_reason");
    return openai_chunk_end(stream, j);
}

struct str openai_chat_chunk_role(struct openai_stream *stream, unsigned choice)
{
    struct json j;
    open_delta(stream, &j, choice);
    json_put_string(&j, "role", "assistant");
    json_put_string(&j, "content", "");
    return close_delta(stream, &j);
}

struct str openai_chat_chunk_content(struct openai_stream *stream, unsigned choice, struct str text,
                                     const struct openai_token *tokens, size_t token_count, bool logprobs)
{
    struct json j;
    open_delta(stream, &j, choice);
    json_put_text(&j, "content", text);
    json_close(&j);
    openai_put_chat_logprobs(&j, tokens, token_count, logprobs);
    json_put_null(&j, "finish_reason");
    return openai_chunk_end(stream, &j);
}

struct str openai_chat_chunk_reasoning(struct openai_stream *stream, unsigned choice, struct str text)
{
    struct json j;
    open_delta(stream, &j, choice);
    json_put_text(&j, "reasoning_content", text);
    return close_delta(stream, &j);
}

struct str openai_chat_chunk_call(struct openai_stream *stream, unsigned choice, unsigned index, struct str id,
                                  struct str name)
{
    struct json j;
    open_delta(stream, &j, choice);
    json_open_array(&j, "tool_calls");
    json_open_object(&j, NULL);
    json_put_int(&j, "index", index);
    json_put_text(&j, "id", id);
    json_put_string(&j, "type", "function");
    put_function(&j, "function", name, STR(""));
    json_close(&j);
    json_close(&j);
    return close_delta(stream, &j);
}

struct str openai_chat_chunk_arguments(struct openai_stream *stream, unsigned choice, unsigned index,
                                       struct str fragment)
{
    struct json j;
    open_delta(stream, &j, choice);
    json_open_array(&j, "tool_calls");
    json_open_object(&j, NULL);
    json_put_int(&j, "index", index);
    put_function(&j, "function", STR_NONE, fragment);
    json_close(&j);
    json_close(&j);
    return close_delta(stream, &j);
}

struct str openai_chat_chunk_function(struct openai_stream *stream, unsigned choice, struct str name,
                                      struct str fragment)
{
    struct json j;
    open_delta(stream, &j, choice);
    put_function(&j, "function_call", name, fragment);
    return close_delta(stream, &j);
}

struct str openai_chat_chunk_finish(struct openai_stream *stream, unsigned choice, const char *finish_reason,
                                    struct str stop)
{
    struct json j;
    open_delta(stream, &j, choice);
    json_close(&j);
    json_put_null(&j, "logprobs");
    json_put_string(&j, "finish_reason", finish_reason);
    put_stop(&j, stop);
    return openai_chunk_end(stream, &j);
}
