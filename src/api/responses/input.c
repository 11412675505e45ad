/* Items in, items in normal form out; and these as chat messages. The kinds of items are rows of a table, each with the
 * function that reads it. What is read here is kept and read again when a conversation is continued, so the second half
 * may trust its form. */
#include "api/responses/input.h"

#include "openai/reply.h"

struct item {
    const json_t *in;
    json_t *out;
    const char *path; /* "input[3]" */
    struct err *err;
};

static bool refuse(const struct item *item, enum err_code code, const char *member, const char *what)
{
    char path[LIMIT_ERR_PARAM];
    json_path_member(path, sizeof path, item->path, member);
    return err_set_param(item->err, code, path, "'%s' %s", path, what);
}

/* Copies a required string; "" is one. */
static bool copy_text(const struct item *item, const char *member)
{
    const json_t *value = json_object_get(item->in, member);
    if (!json_is_string(value))
        return refuse(item, ERR_INVALID_PARAMETERS, member, value ? "must be a string" : "is required");
    json_object_set(item->out, member, (json_t *)value);
    return true;
}

static bool copy_name(const struct item *item, const char *member)
{
    if (!copy_text(item, member))
        return false;
    size_t n = json_string_length(json_object_get(item->in, member));
    return (n >= 1 && n <= LIMIT_RESPONSE_ID) ||
           refuse(item, ERR_INVALID_PARAMETERS, member, "must have between 1 and 256 bytes");
}

/* ---- content parts ---- */

static bool read_image(const struct item *part)
{
    const json_t *detail = json_object_get(part->in, "detail");
    if (!json_is_string(json_object_get(part->in, "image_url")))
        return refuse(part, ERR_NOT_SUPPORTED, "image_url",
                      "is required: images come as URLs, files are not kept here");
    if (detail && !json_is_null(detail) && !json_is_string(detail))
        return refuse(part, ERR_INVALID_PARAMETERS, "detail", "must be a string");
    json_object_set_new(part->out, "detail",
                        json_is_string(detail) ? json_copy((json_t *)detail) : json_string("auto"));
    return copy_text(part, "image_url");
}

static bool read_part(const struct item *part, bool assistant)
{
    struct str type = json_str(json_object_get(part->in, "type"));
    if (!json_is_object(part->in))
        return err_set_param(part->err, ERR_INVALID_PARAMETERS, part->path, "'%s' must be an object, but is %s",
                             part->path, json_kind_name(part->in));
    json_object_set(part->out, "type", json_object_get(part->in, "type"));
    if (str_eq(type, STR("refusal")) && assistant)
        return copy_text(part, "refusal");
    if (str_eq(type, STR("output_text")) && assistant) {
        json_object_set_new(part->out, "annotations", json_array());
        return copy_text(part, "text");
    }
    if (str_eq(type, STR("input_text")) && !assistant)
        return copy_text(part, "text");
    if (str_eq(type, STR("input_image")) && !assistant)
        return read_image(part);
    if (str_eq(type, STR("input_file")) || str_eq(type, STR("input_audio")))
        return refuse(part, ERR_NOT_SUPPORTED, "type", "is not supported: only text and images are");
    return refuse(part, ERR_INVALID_PARAMETERS, "type",
                  assistant ? "must be 'output_text' or 'refusal'" : "must be 'input_text' or 'input_image'");
}

/* A string becomes one part of that text. */
static json_t *one_part(const json_t *text, bool assistant)
{
    json_t *part = json_object(), *parts = json_array();
    json_object_set_new(part, "type", json_string(assistant ? "output_text" : "input_text"));
    json_object_set(part, "text", (json_t *)text);
    if (assistant)
        json_object_set_new(part, "annotations", json_array());
    json_array_append_new(parts, part);
    return parts;
}

static bool read_parts(const struct item *item, const char *member, bool assistant)
{
    const json_t *in = json_object_get(item->in, member);
    char at[LIMIT_ERR_PARAM], path[LIMIT_ERR_PARAM];
    json_path_member(at, sizeof at, item->path, member);
    if (json_is_string(in)) {
        json_object_set_new(item->out, member, one_part(in, assistant));
        return true;
    }
    if (!json_is_array(in))
        return refuse(item, ERR_INVALID_PARAMETERS, member, "must be a string or an array of parts");
    if (json_array_size(in) > LIMIT_PARTS)
        return refuse(item, ERR_INVALID_PARAMETERS, member, "has more than 1024 parts");
    json_t *parts = json_array();
    json_object_set_new(item->out, member, parts);
    for (size_t i = 0; i < json_array_size(in); i++) {
        json_path_index(path, sizeof path, at, i);
        struct item part = {json_array_get(in, i), json_object(), path, item->err};
        json_array_append_new(parts, part.out);
        if (!read_part(&part, assistant))
            return false;
    }
    return true;
}

/* ---- items ---- */

static bool read_message(const struct item *item)
{
    static const char *const roles[] = {"user", "assistant", "system", "developer"};
    struct str role = json_str(json_object_get(item->in, "role"));
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (str_eq(role, str_from(roles[i])))
            return copy_text(item, "role") && read_parts(item, "content", str_eq(role, STR("assistant")));
    return refuse(item, ERR_INVALID_PARAMETERS, "role", "must be one of user, assistant, system, developer");
}

static bool read_call(const struct item *item)
{
    return copy_name(item, "call_id") && copy_name(item, "name") && copy_text(item, "arguments");
}

static bool read_call_output(const struct item *item)
{
    if (!copy_name(item, "call_id") || !read_parts(item, "output", false))
        return false;
    const json_t *parts = json_object_get(item->out, "output");
    for (size_t i = 0; i < json_array_size(parts); i++)
        if (!json_object_get(json_array_get(parts, i), "text"))
            return refuse(item, ERR_NOT_SUPPORTED, "output", "may hold text only");
    return true;
}

/* What the model thought, given back. A summary without the content, or an encrypted one, says nothing to a template.
 */
static bool read_reasoning(const struct item *item)
{
    const json_t *content = json_object_get(item->in, "content");
    json_t *parts = json_array();
    json_object_set_new(item->out, "summary", json_array());
    json_object_set_new(item->out, "content", parts);
    if (content && !json_is_null(content) && !json_is_array(content))
        return refuse(item, ERR_INVALID_PARAMETERS, "content", "must be an array of parts");
    if (json_array_size(content) > LIMIT_PARTS)
        return refuse(item, ERR_INVALID_PARAMETERS, "content", "has more than 1024 parts");
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *text = json_object_get(json_array_get(content, i), "text");
        if (!json_is_string(text))
            return refuse(item, ERR_INVALID_PARAMETERS, "content", "must hold parts with a text");
        json_array_append_new(parts, json_pack("{s:s,s:O}", "type", "reasoning_text", "text", text));
    }
    return true;
}

static const struct {
    const char *type, *id_prefix;
    bool (*read)(const struct item *item);
} kinds[] = {
    {"message", "msg_", read_message},
    {"function_call", "fc_", read_call},
    {"function_call_output", "fco_", read_call_output},
    {"reasoning", "rs_", read_reasoning},
};

static bool read_item(struct item *item)
{
    const json_t *type = json_object_get(item->in, "type"), *id = json_object_get(item->in, "id");
    struct str name = type && !json_is_null(type) ? json_str(type) : STR("message");
    if (!json_is_object(item->in))
        return err_set_param(item->err, ERR_INVALID_PARAMETERS, item->path, "'%s' must be an object, but is %s",
                             item->path, json_kind_name(item->in));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char fresh[OPENAI_ID_SIZE];
        if (!str_eq(name, str_from(kinds[i].type)))
            continue;
        if (json_string_length(id) > LIMIT_RESPONSE_ID)
            return refuse(item, ERR_INVALID_PARAMETERS, "id", "has more than 256 bytes");
        json_object_set_new(item->out, "id",
                            json_string_length(id) ? json_copy((json_t *)id)
                                                   : json_string(openai_id(fresh, kinds[i].id_prefix)));
        json_object_set_new(item->out, "type", json_string(kinds[i].type));
        json_object_set_new(item->out, "status", json_string("completed"));
        return kinds[i].read(item);
    }
    if (!name.p)
        return refuse(item, ERR_INVALID_PARAMETERS, "type", "must be a string");
    return refuse(item, ERR_NOT_SUPPORTED, "type",
                  "is not supported: items are message, function_call, function_call_output and reasoning");
}

static json_t *from_string(const json_t *input)
{
    char id[OPENAI_ID_SIZE];
    return json_pack("[{s:s,s:s,s:s,s:s,s:o}]", "id", openai_id(id, "msg_"), "type", "message", "status", "completed",
                     "role", "user", "content", one_part(input, false));
}

bool response_items_read(const json_t *input, json_t **ret_items, struct err *err)
{
    if (json_is_string(input)) {
        *ret_items = from_string(input);
        return true;
    }
    if (!json_is_array(input))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "input", "'input' %s",
                             input ? "must be a string or an array of items" : "is required");
    if (json_array_size(input) > LIMIT_RESPONSE_ITEMS)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "input", "'input' has more than %d items",
                             LIMIT_RESPONSE_ITEMS);
    json_t *items = json_array();
    for (size_t i = 0; i < json_array_size(input); i++) {
        char path[LIMIT_ERR_PARAM];
        json_path_index(path, sizeof path, "input", i);
        struct item item = {json_array_get(input, i), json_object(), path, err};
        json_array_append_new(items, item.out);
        if (read_item(&item))
            continue;
        json_decref(items);
        return false;
    }
    *ret_items = items;
    return true;
}

/* ---- items to messages ---- */

void response_turn_begin(struct response_turn *turn, struct json *out)
{
    turn->out = out;
    buf_init(&turn->reasoning, LIMIT_JSON_TEXT);
    buf_init(&turn->text, LIMIT_JSON_TEXT);
    buf_init(&turn->calls, LIMIT_JSON_TEXT);
}

static void flush(struct response_turn *turn)
{
    if (!turn->reasoning.len && !turn->text.len && !turn->calls.len)
        return;
    json_open_object(turn->out, NULL);
    json_put_string(turn->out, "role", "assistant");
    if (turn->text.len || !turn->calls.len)
        json_put_text(turn->out, "content", buf_view(&turn->text));
    else
        json_put_null(turn->out, "content");
    if (turn->reasoning.len)
        json_put_text(turn->out, "reasoning_content", buf_view(&turn->reasoning));
    if (turn->calls.len) {
        buf_putc(&turn->calls, ']');
        json_put_raw(turn->out, "tool_calls", buf_view(&turn->calls));
    }
    json_close(turn->out);
    buf_clear(&turn->reasoning);
    buf_clear(&turn->text);
    buf_clear(&turn->calls);
}

void response_turn_end(struct response_turn *turn)
{
    flush(turn);
    if (!buf_ok(&turn->reasoning) || !buf_ok(&turn->text) || !buf_ok(&turn->calls))
        turn->out->failed = true;
    buf_release(&turn->reasoning);
    buf_release(&turn->text);
    buf_release(&turn->calls);
}

/* The texts of parts: said by the model they are one text, else lines of their own. */
static void gather(struct buf *out, const json_t *parts, const char *between)
{
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i), *text = json_object_get(part, "text");
        if (out->len && i > 0)
            buf_puts(out, between);
        buf_str(out, json_str(text ? text : json_object_get(part, "refusal")));
    }
}

static void put_part(struct json *out, const json_t *part)
{
    const json_t *url = json_object_get(part, "image_url");
    json_open_object(out, NULL);
    json_put_string(out, "type", url ? "image_url" : "text");
    if (url) {
        json_open_object(out, "image_url");
        json_put_value(out, "url", url);
        json_put_value(out, "detail", json_object_get(part, "detail"));
        json_close(out);
    } else {
        json_put_value(out, "text", json_object_get(part, "text"));
    }
    json_close(out);
}

static void put_message(struct response_turn *turn, const json_t *item)
{
    const json_t *parts = json_object_get(item, "content"), *only = json_array_get(parts, 0);
    flush(turn);
    json_open_object(turn->out, NULL);
    json_put_value(turn->out, "role", json_object_get(item, "role"));
    if (json_array_size(parts) == 1 && json_object_get(only, "text")) {
        json_put_value(turn->out, "content", json_object_get(only, "text"));
    } else if (json_array_size(parts) == 0) {
        json_put_string(turn->out, "content", "");
    } else {
        json_open_array(turn->out, "content");
        for (size_t i = 0; i < json_array_size(parts); i++)
            put_part(turn->out, json_array_get(parts, i));
        json_close(turn->out);
    }
    json_close(turn->out);
}

static void put_call(struct response_turn *turn, const json_t *item)
{
    struct json j;
    buf_putc(&turn->calls, turn->calls.len ? ',' : '[');
    json_begin(&j, &turn->calls);
    json_open_object(&j, NULL);
    json_put_value(&j, "id", json_object_get(item, "call_id"));
    json_put_string(&j, "type", "function");
    json_open_object(&j, "function");
    json_put_value(&j, "name", json_object_get(item, "name"));
    json_put_value(&j, "arguments", json_object_get(item, "arguments"));
    json_close(&j);
    json_close(&j);
}

static void put_call_output(struct response_turn *turn, const json_t *item)
{
    struct buf text;
    flush(turn);
    buf_init(&text, LIMIT_JSON_TEXT);
    gather(&text, json_object_get(item, "output"), "\n");
    json_open_object(turn->out, NULL);
    json_put_string(turn->out, "role", "tool");
    json_put_value(turn->out, "tool_call_id", json_object_get(item, "call_id"));
    json_put_text(turn->out, "content", buf_view(&text));
    json_close(turn->out);
    buf_release(&text);
}

static void put_item(struct response_turn *turn, const json_t *item)
{
    struct str type = json_str(json_object_get(item, "type"));
    if (str_eq(type, STR("function_call"))) {
        put_call(turn, item);
    } else if (str_eq(type, STR("function_call_output"))) {
        put_call_output(turn, item);
    } else if (str_eq(type, STR("reasoning"))) {
        if (turn->text.len || turn->calls.len)
            flush(turn);
        gather(&turn->reasoning, json_object_get(item, "content"), "\n");
    } else if (str_eq(json_str(json_object_get(item, "role")), STR("assistant"))) {
        if (turn->text.len || turn->calls.len)
            flush(turn);
        gather(&turn->text, json_object_get(item, "content"), "");
    } else {
        put_message(turn, item);
    }
}

void response_turn_items(struct response_turn *turn, const json_t *items)
{
    for (size_t i = 0; i < json_array_size(items); i++)
        put_item(turn, json_array_get(items, i));
}
