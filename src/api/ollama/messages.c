/* Ollama's messages to chat's. A call there has no id, or one that only newer clients send back: calls are numbered as
 * they stand in the conversation, and what a tool answered belongs to the first call of that name which has no answer
 * yet, or to the first of all when no name is given. */
#include "api/ollama/request.h"

struct message {
    const json_t *in;
    const char *path; /* "messages[3]" */
    struct err *err;
};

static bool refuse(const struct message *m, const char *member, const char *what)
{
    char path[LIMIT_ERR_PARAM];
    json_path_member(path, sizeof path, m->path, member);
    return err_set_param(m->err, ERR_INVALID_PARAMETERS, path, "'%s' %s", path, what);
}

/* ---- content ---- */

/* An image comes as bare base64: its kind is read from its first bytes. */
static const char *image_type(struct str data)
{
    static const struct {
        struct str start;
        const char *type;
    } rows[] = {{STR("/9j/"), "image/jpeg"},
                {STR("iVBORw0KGgo"), "image/png"},
                {STR("R0lGOD"), "image/gif"},
                {STR("UklGR"), "image/webp"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (str_starts(data, rows[i].start))
            return rows[i].type;
    return NULL;
}

static bool put_image(struct str data, const char *path, struct json *out, struct err *err)
{
    const char *type = image_type(data);
    struct buf url;
    if (!type)
        return err_set_param(err, ERR_INVALID_PARAMETERS, path, "'%s' must be a JPEG, PNG, GIF or WebP image in base64",
                             path);
    buf_init(&url, LIMIT_JSON_TEXT);
    buf_printf(&url, "data:%s;base64,", type);
    buf_str(&url, data);
    json_open_object(out, NULL);
    json_put_string(out, "type", "image_url");
    json_open_object(out, "image_url");
    json_put_text(out, "url", buf_view(&url));
    json_close(out);
    json_close(out);
    buf_release(&url);
    return true;
}

bool ollama_content_write(struct str text, const json_t *images, const char *path, struct json *out, struct err *err)
{
    char at[LIMIT_ERR_PARAM], image[LIMIT_ERR_PARAM];
    json_path_member(at, sizeof at, path, "images");
    if (json_array_size(images) == 0) {
        json_put_text(out, "content", text);
        return true;
    }
    if (json_array_size(images) > LIMIT_PARTS)
        return err_set_param(err, ERR_INVALID_PARAMETERS, at, "'%s' has more than %d images", at, LIMIT_PARTS);
    json_open_array(out, "content");
    json_open_object(out, NULL);
    json_put_string(out, "type", "text");
    json_put_text(out, "text", text);
    json_close(out);
    for (size_t i = 0; i < json_array_size(images); i++) {
        json_path_index(image, sizeof image, at, i);
        if (!put_image(json_str(json_array_get(images, i)), image, out, err))
            return false;
    }
    json_close(out);
    return true;
}

/* ---- calls ---- */

/* The calls that the last assistant's message made, and which of them have been answered. */
struct conversation {
    const json_t *calls;
    unsigned turn; /* of the calls, for their ids */
    bool answered[LIMIT_TOOLS];
};

static struct str name_of(const json_t *calls, size_t i)
{
    return json_str(json_object_get(json_object_get(json_array_get(calls, i), "function"), "name"));
}

static void put_call_id(struct json *out, const char *key, const struct conversation *c, size_t i)
{
    struct str given = json_str(json_object_get(json_array_get(c->calls, i), "id"));
    char id[32];
    snprintf(id, sizeof id, "call_%u_%zu", c->turn, i);
    json_put_text(out, key, given.n ? given : str_from(id));
}

static bool put_call(const struct message *m, const struct conversation *c, size_t i, struct json *out)
{
    const json_t *function = json_object_get(json_array_get(c->calls, i), "function");
    const json_t *arguments = json_object_get(function, "arguments");
    if (!name_of(c->calls, i).n)
        return refuse(m, "tool_calls", "needs of each call its function's name");
    if (arguments && !json_is_null(arguments) && !json_is_object(arguments))
        return refuse(m, "tool_calls", "needs of each call its function's arguments as an object");
    char *text = json_is_object(arguments) ? json_dumps(arguments, JSON_COMPACT) : NULL;
    json_open_object(out, NULL);
    put_call_id(out, "id", c, i);
    json_put_string(out, "type", "function");
    json_open_object(out, "function");
    json_put_text(out, "name", name_of(c->calls, i));
    json_put_string(out, "arguments", text ? text : "{}");
    json_close(out);
    json_close(out);
    free(text);
    return true;
}

static bool put_calls(const struct message *m, struct conversation *c, const json_t *calls, struct json *out)
{
    if (!calls || json_is_null(calls) || (json_is_array(calls) && json_array_size(calls) == 0))
        return true;
    if (!json_is_array(calls) || json_array_size(calls) > LIMIT_TOOLS)
        return refuse(m, "tool_calls", "must be an array of at most 128 calls");
    c->calls = calls;
    c->turn++;
    memset(c->answered, 0, sizeof c->answered);
    json_open_array(out, "tool_calls");
    for (size_t i = 0; i < json_array_size(calls); i++)
        if (!put_call(m, c, i, out))
            return false;
    json_close(out);
    return true;
}

static bool put_answered_call(const struct message *m, struct conversation *c, struct str id, struct str name,
                              struct json *out)
{
    size_t count = json_array_size(c->calls);
    for (size_t i = 0; i < count && !id.n; i++) {
        if (c->answered[i] || (name.n && !str_eq(name, name_of(c->calls, i))))
            continue;
        c->answered[i] = true;
        put_call_id(out, "tool_call_id", c, i);
        return true;
    }
    if (!id.n)
        return refuse(m, "tool_name", "answers no call of the message before");
    json_put_text(out, "tool_call_id", id);
    return true;
}

/* ---- messages ---- */

static bool put_message(const struct message *m, struct conversation *c, struct json *out)
{
    struct {
        struct str role, content, thinking, id, name;
        const json_t *images, *calls;
    } in = {.content = STR("")};
    static const struct json_field rows[] = {
        {.name = "role", .kind = JSON_KIND_TEXT, .offset = offsetof(__typeof__(in), role), .required = true},
        JSON_FIELD(__typeof__(in), content, "content", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(__typeof__(in), thinking, "thinking", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(__typeof__(in), id, "tool_call_id", JSON_KIND_TEXT, 0, 512),
        JSON_FIELD(__typeof__(in), name, "tool_name", JSON_KIND_TEXT, 0, 512),
        JSON_FIELD(__typeof__(in), images, "images", JSON_KIND_ARRAY, 0, 0),
        JSON_FIELD(__typeof__(in), calls, "tool_calls", JSON_KIND_ANY, 0, 0),
    };
    if (!json_is_object(m->in))
        return err_set_param(m->err, ERR_INVALID_PARAMETERS, m->path, "'%s' must be an object, but is %s", m->path,
                             json_kind_name(m->in));
    if (!json_fields(m->in, rows, sizeof rows / sizeof *rows, &in, m->path, m->err))
        return false;
    bool tool = str_eq(in.role, STR("tool")), assistant = str_eq(in.role, STR("assistant"));
    if (!tool && !assistant && !str_eq(in.role, STR("user")) && !str_eq(in.role, STR("system")))
        return refuse(m, "role", "must be 'system', 'user', 'assistant' or 'tool'");
    json_open_object(out, NULL);
    json_put_text(out, "role", in.role);
    bool good = ollama_content_write(in.content, in.images, m->path, out, m->err) &&
                (!assistant || put_calls(m, c, in.calls, out)) &&
                (!tool || put_answered_call(m, c, in.id, in.name, out));
    if (assistant && in.thinking.n)
        json_put_text(out, "reasoning_content", in.thinking);
    json_close(out);
    return good;
}

bool ollama_messages_write(const json_t *messages, struct json *out, struct err *err)
{
    struct conversation c = {0};
    json_open_array(out, "messages");
    for (size_t i = 0; i < json_array_size(messages); i++) {
        char path[LIMIT_ERR_PARAM];
        json_path_index(path, sizeof path, "messages", i);
        struct message m = {json_array_get(messages, i), path, err};
        if (!put_message(&m, &c, out))
            return false;
    }
    json_close(out);
    return true;
}
