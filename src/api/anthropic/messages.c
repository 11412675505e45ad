/* Anthropic's messages to chat's. A message there is a list of blocks, and three things differ: what a tool answered is
 * a block of the user's message, and becomes a message of its own; a call is a block of the assistant's, and moves
 * beside the text; thinking is a block too, and becomes reasoning_content. The order within a user's message stays:
 * what stands before a tool's result is sent before it. */
#include "api/anthropic/request.h"

struct block {
    const json_t *in;
    const char *path; /* "messages[3].content[1]" */
    struct err *err;
};

static bool refuse(const struct block *b, enum err_code code, const char *member, const char *what)
{
    char path[LIMIT_ERR_PARAM];
    json_path_member(path, sizeof path, b->path, member);
    return err_set_param(b->err, code, path, "'%s' %s", path, what);
}

static bool is_object(const struct block *b)
{
    if (!b->in)
        return err_set_param(b->err, ERR_INVALID_PARAMETERS, b->path, "'%s' is required", b->path);
    return json_is_object(b->in) || err_set_param(b->err, ERR_INVALID_PARAMETERS, b->path,
                                                  "'%s' must be an object, but is %s", b->path, json_kind_name(b->in));
}

static bool read_string(const struct block *b, const char *member, struct str *ret_text)
{
    const json_t *value = json_object_get(b->in, member);
    *ret_text = json_str(value);
    return ret_text->p || refuse(b, ERR_INVALID_PARAMETERS, member, value ? "must be a string" : "is required");
}

static bool has_type(const struct block *b, const char *type)
{
    return str_eq(json_str(json_object_get(b->in, "type")), str_from(type));
}

static bool put_text(const struct block *b, struct json *parts)
{
    struct str text;
    if (!read_string(b, "text", &text))
        return false;
    json_open_object(parts, NULL);
    json_put_string(parts, "type", "text");
    json_put_text(parts, "text", text);
    json_close(parts);
    return true;
}

static bool put_image(const struct block *b, struct json *parts)
{
    char path[LIMIT_ERR_PARAM];
    struct buf url;
    struct str media, data, where;
    json_path_member(path, sizeof path, b->path, "source");
    struct block source = {json_object_get(b->in, "source"), path, b->err};
    if (!is_object(&source))
        return false;
    buf_init(&url, LIMIT_JSON_TEXT);
    bool good = true;
    if (has_type(&source, "base64")) {
        good = read_string(&source, "media_type", &media) && read_string(&source, "data", &data);
        if (good) {
            buf_printf(&url, "data:" STR_FMT ";base64,", STR_ARG(media));
            buf_str(&url, data);
        }
    } else if (has_type(&source, "url")) {
        good = read_string(&source, "url", &where);
        if (good)
            buf_str(&url, where);
    } else {
        good = refuse(&source, ERR_NOT_SUPPORTED, "type", "must be 'base64' or 'url'");
    }
    if (good) {
        json_open_object(parts, NULL);
        json_put_string(parts, "type", "image_url");
        json_open_object(parts, "image_url");
        json_put_text(parts, "url", buf_view(&url));
        json_close(parts);
        json_close(parts);
    }
    buf_release(&url);
    return good;
}

/* Calls read on each block of the array body[member], which may be a string: then only on_string, when there is one. */
struct blocks {
    bool (*read)(void *arg, const struct block *b);
    void (*on_string)(void *arg, struct str text);
    void *arg;
};

static bool each_block(const struct block *holder, const char *member, const struct blocks *do_this)
{
    const json_t *content = json_object_get(holder->in, member);
    char at[LIMIT_ERR_PARAM], path[LIMIT_ERR_PARAM];
    json_path_member(at, sizeof at, holder->path, member);
    if (json_is_string(content)) {
        do_this->on_string(do_this->arg, json_str(content));
        return true;
    }
    if (!json_is_array(content))
        return refuse(holder, ERR_INVALID_PARAMETERS, member,
                      content ? "must be a string or an array of blocks" : "is required");
    if (json_array_size(content) > LIMIT_PARTS)
        return refuse(holder, ERR_INVALID_PARAMETERS, member, "has more than 1024 blocks");
    for (size_t i = 0; i < json_array_size(content); i++) {
        json_path_index(path, sizeof path, at, i);
        struct block b = {json_array_get(content, i), path, holder->err};
        if (!is_object(&b) || !do_this->read(do_this->arg, &b))
            return false;
    }
    return true;
}

/* ---- texts alone: system, a tool's result ---- */

static void add_line(void *arg, struct str text)
{
    struct buf *lines = arg;
    if (lines->len)
        buf_putc(lines, '\n');
    buf_str(lines, text);
}

static bool read_line(void *arg, const struct block *b)
{
    struct str text;
    if (!has_type(b, "text"))
        return refuse(b, ERR_NOT_SUPPORTED, "type", "is not supported here: it must be 'text'");
    if (!read_string(b, "text", &text))
        return false;
    add_line(arg, text);
    return true;
}

static bool put_lines(const struct block *holder, const char *member, struct json *out)
{
    struct buf lines;
    buf_init(&lines, LIMIT_JSON_TEXT);
    bool good = each_block(holder, member, &(struct blocks){read_line, add_line, &lines});
    if (good)
        json_put_text(out, "content", buf_view(&lines));
    buf_release(&lines);
    return good;
}

/* ---- user ---- */

/* The parts gathered since the last message that was written. */
struct user {
    struct json *out;
    struct json parts;
    struct buf text;
    bool images; /* it has some */
};

static void begin_parts(struct user *u)
{
    buf_clear(&u->text);
    json_begin(&u->parts, &u->text);
    json_open_array(&u->parts, NULL);
}

static void flush_parts(struct user *u)
{
    if (u->parts.empty[1])
        return;
    json_close(&u->parts);
    json_open_object(u->out, NULL);
    json_put_string(u->out, "role", "user");
    json_put_raw(u->out, "content", buf_view(&u->text));
    json_close(u->out);
    if (!json_finish(&u->parts))
        u->out->failed = true;
    begin_parts(u);
}

static bool put_result(struct user *u, const struct block *b)
{
    struct str id;
    const json_t *content = json_object_get(b->in, "content");
    if (!read_string(b, "tool_use_id", &id))
        return false;
    flush_parts(u);
    json_open_object(u->out, NULL);
    json_put_string(u->out, "role", "tool");
    json_put_text(u->out, "tool_call_id", id);
    bool good = true;
    if (content && !json_is_null(content))
        good = put_lines(b, "content", u->out);
    else
        json_put_string(u->out, "content", "");
    json_close(u->out);
    return good;
}

static bool read_user_block(void *arg, const struct block *b)
{
    struct user *u = arg;
    if (has_type(b, "text"))
        return put_text(b, &u->parts);
    if (has_type(b, "image")) {
        u->images = true;
        return put_image(b, &u->parts);
    }
    if (has_type(b, "tool_result"))
        return put_result(u, b);
    return refuse(b, ERR_NOT_SUPPORTED, "type", "is not supported: it may be text, image or tool_result");
}

static void on_user_string(void *arg, struct str text)
{
    const struct user *u = arg;
    json_open_object(u->out, NULL);
    json_put_string(u->out, "role", "user");
    json_put_text(u->out, "content", text);
    json_close(u->out);
}

static bool put_user(const struct block *message, struct json *out, bool *images)
{
    struct user u = {.out = out};
    buf_init(&u.text, LIMIT_JSON_TEXT);
    begin_parts(&u);
    bool good = each_block(message, "content", &(struct blocks){read_user_block, on_user_string, &u});
    if (good)
        flush_parts(&u);
    *images |= u.images;
    buf_release(&u.text);
    return good;
}

/* ---- assistant ---- */

struct assistant {
    struct buf text, reasoning, call_text;
    struct json calls;
};

static void add_said(void *arg, struct str text)
{
    struct assistant *a = arg;
    buf_str(&a->text, text);
}

static bool put_call(struct assistant *a, const struct block *b)
{
    struct str id, name;
    const json_t *input = json_object_get(b->in, "input");
    if (!read_string(b, "id", &id) || !read_string(b, "name", &name))
        return false;
    if (!json_is_object(input))
        return refuse(b, ERR_INVALID_PARAMETERS, "input", "must be an object");
    char *arguments = json_dumps(input, JSON_COMPACT);
    json_open_object(&a->calls, NULL);
    json_put_text(&a->calls, "id", id);
    json_put_string(&a->calls, "type", "function");
    json_open_object(&a->calls, "function");
    json_put_text(&a->calls, "name", name);
    json_put_string(&a->calls, "arguments", arguments);
    json_close(&a->calls);
    json_close(&a->calls);
    free(arguments);
    return true;
}

static bool read_assistant_block(void *arg, const struct block *b)
{
    struct assistant *a = arg;
    struct str text;
    if (has_type(b, "tool_use"))
        return put_call(a, b);
    if (has_type(b, "redacted_thinking")) /* nobody here can read it */
        return true;
    bool thinking = has_type(b, "thinking");
    if (!thinking && !has_type(b, "text"))
        return refuse(b, ERR_NOT_SUPPORTED, "type", "is not supported: it may be text, tool_use or thinking");
    if (!read_string(b, thinking ? "thinking" : "text", &text))
        return false;
    buf_str(thinking ? &a->reasoning : &a->text, text);
    return true;
}

static void write_assistant(struct assistant *a, struct json *out)
{
    bool called = !a->calls.empty[1];
    json_close(&a->calls);
    json_open_object(out, NULL);
    json_put_string(out, "role", "assistant");
    json_put_text(out, "content", buf_view(&a->text));
    if (a->reasoning.len)
        json_put_text(out, "reasoning_content", buf_view(&a->reasoning));
    if (called)
        json_put_raw(out, "tool_calls", buf_view(&a->call_text));
    json_close(out);
    if (!json_finish(&a->calls))
        out->failed = true;
}

static bool put_assistant(const struct block *message, struct json *out)
{
    struct assistant a;
    buf_init(&a.text, LIMIT_JSON_TEXT);
    buf_init(&a.reasoning, LIMIT_JSON_TEXT);
    buf_init(&a.call_text, LIMIT_JSON_TEXT);
    json_begin(&a.calls, &a.call_text);
    json_open_array(&a.calls, NULL);
    bool good = each_block(message, "content", &(struct blocks){read_assistant_block, add_said, &a});
    if (good)
        write_assistant(&a, out);
    buf_release(&a.text);
    buf_release(&a.reasoning);
    buf_release(&a.call_text);
    return good;
}

/* ---- all ---- */

static bool put_system(const json_t *body, struct json *out, struct err *err)
{
    const json_t *system = json_object_get(body, "system");
    struct block holder = {body, "", err};
    if (!system || json_is_null(system) || (json_is_array(system) && json_array_size(system) == 0))
        return true;
    json_open_object(out, NULL);
    json_put_string(out, "role", "system");
    bool good = put_lines(&holder, "system", out);
    json_close(out);
    return good;
}

static bool put_message(const struct block *message, struct json *out, bool *images)
{
    struct str role = json_str(json_object_get(message->in, "role"));
    if (!is_object(message))
        return false;
    if (str_eq(role, STR("user")))
        return put_user(message, out, images);
    if (str_eq(role, STR("assistant")))
        return put_assistant(message, out);
    return refuse(message, ERR_INVALID_PARAMETERS, "role", "must be 'user' or 'assistant'");
}

bool anthropic_messages_write(const json_t *body, struct json *out, bool *ret_images, struct err *err)
{
    static const struct json_field fields[] = {
        {.name = "messages", .kind = JSON_KIND_ARRAY, .min = 1, .max = LIMIT_MESSAGES, .required = true},
    };
    const json_t *messages;
    *ret_images = false;
    if (!json_fields(body, fields, 1, &messages, "", err))
        return false;
    json_open_array(out, "messages");
    if (!put_system(body, out, err))
        return false;
    for (size_t i = 0; i < json_array_size(messages); i++) {
        char path[LIMIT_ERR_PARAM];
        json_path_index(path, sizeof path, "messages", i);
        struct block message = {json_array_get(messages, i), path, err};
        if (!put_message(&message, out, ret_images))
            return false;
    }
    json_close(out);
    return true;
}
