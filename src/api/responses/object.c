/* The response object as JSON: what was asked, echoed, and what came of it. */
#include "api/responses/object.h"

static void put_text_part(struct json *j, const char *key, const char *type, struct str text)
{
    json_open_object(j, key);
    json_put_string(j, "type", type);
    json_put_text(j, "text", text);
    if (strcmp(type, "output_text") == 0) {
        json_open_array(j, "annotations");
        json_close(j);
        json_open_array(j, "logprobs");
        json_close(j);
    }
    json_close(j);
}

void response_part_put(const struct response_item *item, struct json *j, const char *key, struct str text)
{
    put_text_part(j, key, item->kind == RESPONSE_REASONING ? "reasoning_text" : "output_text", text);
}

void response_item_put(const struct response_item *item, struct json *j, const char *key, bool empty)
{
    static const char *const types[] = {"reasoning", "message", "function_call"};
    json_open_object(j, key);
    json_put_string(j, "id", item->id);
    json_put_string(j, "type", types[item->kind]);
    json_put_string(j, "status", item->status);
    if (item->kind == RESPONSE_CALL) {
        json_put_text(j, "call_id", item->call_id);
        json_put_text(j, "name", item->name);
        json_put_text(j, "arguments", empty ? STR("") : buf_view(&item->text));
        json_close(j);
        return;
    }
    if (item->kind == RESPONSE_MESSAGE) {
        json_put_string(j, "role", "assistant");
    } else {
        json_open_array(j, "summary");
        json_close(j);
    }
    json_open_array(j, "content");
    if (!empty)
        response_part_put(item, j, NULL, buf_view(&item->text));
    json_close(j);
    json_close(j);
}

static void put_usage(const struct response_reply *reply, struct json *j)
{
    const struct openai_usage *usage = &reply->usage;
    if (!reply->has_usage) {
        json_put_null(j, "usage");
        return;
    }
    json_open_object(j, "usage");
    json_put_int(j, "input_tokens", usage->prompt_tokens);
    json_open_object(j, "input_tokens_details");
    json_put_int(j, "cached_tokens", usage->cached_tokens);
    json_close(j);
    json_put_int(j, "output_tokens", usage->completion_tokens);
    json_open_object(j, "output_tokens_details");
    json_put_int(j, "reasoning_tokens", usage->reasoning_tokens);
    json_close(j);
    json_put_int(j, "total_tokens", (int64_t)usage->prompt_tokens + usage->completion_tokens);
    json_close(j);
}

static void put_outcome(const struct response_reply *reply, struct json *j)
{
    bool incomplete = strcmp(reply->status, "incomplete") == 0;
    if (reply->error.code) {
        json_open_object(j, "error");
        json_put_string(j, "code",
                        reply->error.code == ERR_RATE_LIMIT_EXCEEDED ? "rate_limit_exceeded" : "server_error");
        json_put_string(j, "message", reply->error.message);
        json_close(j);
    } else {
        json_put_null(j, "error");
    }
    if (incomplete) {
        json_open_object(j, "incomplete_details");
        json_put_string(j, "reason",
                        str_eq(reply->finish_reason, STR("length")) ? "max_output_tokens" : "content_filter");
        json_close(j);
    } else {
        json_put_null(j, "incomplete_details");
    }
}

static void put_text_options(const struct response_request *r, struct json *j)
{
    json_open_object(j, "text");
    if (r->format)
        json_put_value(j, "format", r->format);
    else
        json_put_raw(j, "format", STR("{\"type\":\"text\"}"));
    if (r->verbosity)
        json_put_value(j, "verbosity", r->verbosity);
    json_close(j);
    json_open_object(j, "reasoning");
    json_put_value(j, "effort", r->effort);
    json_put_null(j, "summary");
    json_close(j);
}

static void put_text_or_null(struct json *j, const char *key, struct str text)
{
    if (text.p)
        json_put_text(j, key, text);
    else
        json_put_null(j, key);
}

/* What was asked. A sampling value that was not given is the model's own and not known here: null. */
static void put_request(const struct response_request *r, struct json *j)
{
    bool chosen = r->tool_choice && !json_is_null(r->tool_choice);
    put_text_or_null(j, "instructions", r->instructions);
    json_put_value(j, "max_output_tokens", r->max_output_tokens);
    json_put_value(j, "max_tool_calls", r->max_tool_calls);
    json_put_text(j, "model", r->model);
    json_put_bool(j, "parallel_tool_calls", r->parallel_tool_calls);
    put_text_or_null(j, "previous_response_id", r->previous_id);
    json_put_bool(j, "store", r->store);
    json_put_value(j, "temperature", r->temperature);
    put_text_options(r, j);
    if (chosen)
        json_put_value(j, "tool_choice", r->tool_choice);
    else
        json_put_string(j, "tool_choice", "auto");
    if (r->tools)
        json_put_value(j, "tools", r->tools);
    else
        json_put_raw(j, "tools", STR("[]"));
    json_put_int(j, "top_logprobs", 0);
    json_put_value(j, "top_p", r->top_p);
    json_put_string(j, "truncation", "disabled");
    put_text_or_null(j, "user", r->user);
    if (r->metadata)
        json_put_value(j, "metadata", r->metadata);
    else
        json_put_raw(j, "metadata", STR("{}"));
}

void response_reply_put_output(const struct response_reply *reply, struct json *j, const char *key)
{
    json_open_array(j, key);
    for (size_t i = 0; i < reply->count; i++)
        response_item_put(&reply->items[i], j, NULL, false);
    json_close(j);
}

void response_reply_put(const struct response_reply *reply, struct json *j, const char *key)
{
    json_open_object(j, key);
    json_put_string(j, "id", reply->id);
    json_put_string(j, "object", "response");
    json_put_int(j, "created_at", reply->created_at);
    json_put_string(j, "status", reply->status);
    json_put_bool(j, "background", false);
    if (reply->completed_at)
        json_put_int(j, "completed_at", reply->completed_at);
    else
        json_put_null(j, "completed_at");
    put_outcome(reply, j);
    put_request(reply->request, j);
    response_reply_put_output(reply, j, "output");
    put_usage(reply, j);
    json_close(j);
}
