#include "openai/chat_read.h"

#include "openai/error.h"

static struct str text_of(const json_t *object, const char *name)
{
    struct str text = json_str(json_object_get(object, name));
    return text.n ? text : STR_NONE;
}

static unsigned count_of(const json_t *object, const char *name)
{
    json_int_t count = json_integer_value(json_object_get(object, name));
    return count < 0 ? 0 : count > INT32_MAX ? INT32_MAX : (unsigned)count;
}

static void read_usage(const json_t *usage, struct openai_chat_delta *delta)
{
    delta->has_usage = json_is_object(usage);
    delta->usage = (struct openai_usage){
        .prompt_tokens = count_of(usage, "prompt_tokens"),
        .completion_tokens = count_of(usage, "completion_tokens"),
        .cached_tokens = count_of(json_object_get(usage, "prompt_tokens_details"), "cached_tokens"),
        .reasoning_tokens = count_of(json_object_get(usage, "completion_tokens_details"), "reasoning_tokens")};
    if (delta->usage.cached_tokens > delta->usage.prompt_tokens)
        delta->usage.cached_tokens = delta->usage.prompt_tokens;
}

static void read_choice(const json_t *choice, struct openai_chat_delta *delta)
{
    const json_t *message = json_object_get(choice, "delta");
    if (!message)
        message = json_object_get(choice, "message");
    delta->content = text_of(message, "content");
    delta->reasoning = text_of(message, "reasoning_content");
    if (!delta->reasoning.p)
        delta->reasoning = text_of(message, "reasoning");
    delta->calls = json_object_get(message, "tool_calls");
    delta->call_count = json_array_size(delta->calls);
    delta->finish_reason = text_of(choice, "finish_reason");
    delta->stop = text_of(choice, "stop_reason");
}

bool openai_chat_delta_read(struct str text, struct openai_chat_delta *ret_delta, struct err *err)
{
    struct err unreadable;
    json_t *document = json_read(text, &unreadable);
    const json_t *error = json_object_get(document, "error");
    *ret_delta = (struct openai_chat_delta){.document = document};
    if (!json_is_object(document)) {
        json_decref(document);
        return err_set(err, ERR_BAD_GATEWAY, "the backend's reply is no JSON object");
    }
    if (error && !json_is_null(error)) {
        if (!openai_error_read(text, 500, err))
            err_set(err, ERR_BAD_GATEWAY, "the backend failed without a word");
        json_decref(document);
        return false;
    }
    read_choice(json_array_get(json_object_get(document, "choices"), 0), ret_delta);
    read_usage(json_object_get(document, "usage"), ret_delta);
    return true;
}

void openai_chat_delta_release(struct openai_chat_delta *delta)
{
    json_decref(delta->document);
}

bool openai_call_delta_read(const struct openai_chat_delta *delta, size_t i, struct openai_call_delta *ret_call,
                            struct err *err)
{
    const json_t *call = json_array_get(delta->calls, i), *index = json_object_get(call, "index"),
                 *function = json_object_get(call, "function");
    json_int_t at = index ? json_integer_value(index) : (json_int_t)i; /* whole replies have none */
    if (!json_is_object(call) || (index && !json_is_integer(index)) || at < 0 || at >= LIMIT_TOOLS)
        return err_set(err, ERR_BAD_GATEWAY, "the backend's reply has a tool call without a usable index");
    *ret_call = (struct openai_call_delta){.index = (size_t)at,
                                           .id = text_of(call, "id"),
                                           .name = text_of(function, "name"),
                                           .arguments = text_of(function, "arguments")};
    return true;
}
