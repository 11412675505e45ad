/* Messages in, messages in normal form out.
 *
 * The roles are five on the way in and four on the way out: developer becomes system, the deprecated function becomes
 * tool. Content given as parts becomes one string, because templates without typed content print parts as they please;
 * an image becomes a mark in it, whether this model sees or not is the caller's to say; audio and files are refused
 * with their path. Assistant messages may lack content when they carry calls or a refusal; a legacy function_call
 * becomes a call whose id is its name.
 *
 * A mark is "<image:SECRET:NN>" with a secret of this request, 130 random bits: a template passes it on like any text,
 * and nobody can write one into a message. */
#include "openai/chat_request.h"

#include "base/json_write.h"
#include "base/rand.h"

enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL, ROLE_FUNCTION };

static const struct {
    const char *name;
    enum role role;
} roles[] = {
    {"system", ROLE_SYSTEM},       {"developer", ROLE_SYSTEM}, {"user", ROLE_USER},
    {"assistant", ROLE_ASSISTANT}, {"tool", ROLE_TOOL},        {"function", ROLE_FUNCTION},
};

/* One message being normalised. */
struct message {
    struct json *out;
    const char *path; /* "messages[3]" */
    enum role role;
    struct arena *arena;
    struct openai_chat *chat;
    struct openai_image *images; /* the chat's: LIMIT_IMAGES of them */
    struct err *err;
};

/* ---- marks ---- */

#define MARK_START "<image:"
#define SECRET     22

char *openai_image_mark(const struct openai_chat *chat, size_t index, char out[OPENAI_IMAGE_MARK])
{
    snprintf(out, OPENAI_IMAGE_MARK, MARK_START "%s:%02zu>", chat->image_secret, index % 100);
    return out;
}

struct str openai_image_cut(const struct openai_chat *chat, struct str *text, size_t *ret_index)
{
    char start[OPENAI_IMAGE_MARK];
    struct str all = *text;
    size_t length = strlen(openai_image_mark(chat, 0, start)), head = length - 3; /* without "NN>" */
    const char *found = chat->image_count ? memmem(all.p, all.n, start, head) : NULL;
    size_t before = found ? (size_t)(found - all.p) : all.n;
    *ret_index = SIZE_MAX;
    if (!found || all.n - before < length) {
        *text = STR_NONE;
        return all;
    }
    *ret_index = (size_t)(found[head] - '0') * 10 + (size_t)(found[head + 1] - '0');
    *text = (struct str){found + length, all.n - before - length};
    return (struct str){all.p, before};
}

/* ---- messages ---- */

static bool refuse(const struct message *m, const char *member, const char *what)
{
    char path[LIMIT_ERR_PARAM];
    json_path_member(path, sizeof path, m->path, member);
    return err_set_param(m->err, ERR_INVALID_PARAMETERS, path, "'%s' %s", path, what);
}

static bool find_role(struct message *m, struct str name)
{
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (!str_eq(name, str_from(roles[i].name)))
            continue;
        m->role = roles[i].role;
        return true;
    }
    return refuse(m, "role", "must be one of developer, system, user, assistant, tool, function");
}

/* Notes an image and puts its mark into the text. */
static bool read_image(struct message *m, const json_t *part, const char *path, struct buf *text)
{
    char at[LIMIT_ERR_PARAM], url_path[LIMIT_ERR_PARAM], mark[OPENAI_IMAGE_MARK];
    const json_t *image = json_object_get(part, "image_url");
    struct str url = json_str(json_object_get(image, "url"));
    struct openai_chat *chat = m->chat;
    json_path_member(at, sizeof at, path, "image_url");
    json_path_member(url_path, sizeof url_path, at, "url");
    if (!json_is_object(image))
        return err_set_param(m->err, ERR_INVALID_PARAMETERS, at, "'%s' must be an object with a 'url'", at);
    if (!url.p)
        return err_set_param(m->err, ERR_INVALID_PARAMETERS, url_path, "'%s' must be a string", url_path);
    if (chat->image_count == LIMIT_IMAGES)
        return err_set_param(m->err, ERR_INVALID_PARAMETERS, at, "'%s' is one image too many: at most %d are taken", at,
                             LIMIT_IMAGES);
    if (chat->image_count == 0)
        rand_text(chat->image_secret, SECRET);
    m->images[chat->image_count] = (struct openai_image){.url = url, .path = arena_strdup(m->arena, at)};
    buf_puts(text, openai_image_mark(chat, chat->image_count++, mark));
    return true;
}

/* The text of one content part. */
static bool read_text(const struct message *m, const json_t *part, struct str type, const char *path, struct buf *text)
{
    char at[LIMIT_ERR_PARAM];
    bool refusal = m->role == ROLE_ASSISTANT && str_eq(type, STR("refusal"));
    const char *member = refusal ? "refusal" : "text";
    json_path_member(at, sizeof at, path, "type");
    if (!refusal && !str_eq(type, STR("text"))) {
        if (str_eq(type, STR("input_audio")) || str_eq(type, STR("file")))
            return err_set_param(m->err, ERR_NOT_SUPPORTED, path,
                                 "'%s' is of type %s: texts and images are all that can be read", path, type.p);
        return err_set_param(m->err, ERR_INVALID_PARAMETERS, at, "'%s' must be 'text' or 'image_url'", at);
    }
    struct str value = json_str(json_object_get(part, member));
    json_path_member(at, sizeof at, path, member);
    buf_str(text, value);
    return value.p || err_set_param(m->err, ERR_INVALID_PARAMETERS, at, "'%s' must be a string", at);
}

/* Texts are lines of their own, as most servers have it; images stand where they are. */
static bool read_part(struct message *m, const json_t *part, const char *path, bool *after_text, struct buf *text)
{
    struct str type = json_str(json_object_get(part, "type"));
    if (!json_is_object(part))
        return err_set_param(m->err, ERR_INVALID_PARAMETERS, path, "'%s' must be an object, but is %s", path,
                             json_kind_name(part));
    bool image = str_eq(type, STR("image_url"));
    if (!image && *after_text)
        buf_putc(text, '\n');
    *after_text = !image;
    return image ? read_image(m, part, path, text) : read_text(m, part, type, path, text);
}

static bool write_parts(struct message *m, const json_t *parts)
{
    size_t count = json_array_size(parts);
    if (count < 1 || count > LIMIT_PARTS)
        return refuse(m, "content", "has a wrong length: its items must be between 1 and 1024");
    struct buf text;
    buf_init(&text, LIMIT_JSON_TEXT);
    bool good = true, after_text = false;
    for (size_t i = 0; i < count && good; i++) {
        char at[LIMIT_ERR_PARAM], path[LIMIT_ERR_PARAM];
        json_path_member(at, sizeof at, m->path, "content");
        json_path_index(path, sizeof path, at, i);
        good = read_part(m, json_array_get(parts, i), path, &after_text, &text);
    }
    if (good)
        json_put_text(m->out, "content", buf_view(&text));
    good = good && (buf_ok(&text) || err_set(m->err, ERR_REQUEST_TOO_LARGE, "the request is too large"));
    buf_release(&text);
    return good;
}

static bool write_content(struct message *m, const json_t *object, bool required)
{
    const json_t *content = json_object_get(object, "content");
    struct str refusal = m->role == ROLE_ASSISTANT ? json_str(json_object_get(object, "refusal")) : STR_NONE;
    if (json_is_string(content)) {
        json_put_text(m->out, "content", json_str(content));
        return true;
    }
    if (json_is_array(content))
        return write_parts(m, content);
    if (content && !json_is_null(content))
        return refuse(m, "content", "must be a string or an array of parts");
    if (refusal.p) {
        json_put_text(m->out, "content", refusal);
        return true;
    }
    if (required)
        return refuse(m, "content", "is required");
    json_put_null(m->out, "content");
    return true;
}

static void write_call(struct json *out, struct str id, struct str name, struct str arguments)
{
    json_open_object(out, NULL);
    json_put_text(out, "id", id);
    json_put_string(out, "type", "function");
    json_open_object(out, "function");
    json_put_text(out, "name", name);
    json_put_text(out, "arguments", arguments);
    json_close(out);
    json_close(out);
}

static bool write_tool_call(const struct message *m, const json_t *call, const char *path)
{
    struct {
        struct str id, type, name, arguments;
        const json_t *function;
    } in = {.type = STR("function"), .arguments = STR("{}")};
    static const struct json_field fields[] = {
        {.name = "id",
         .kind = JSON_KIND_TEXT,
         .offset = offsetof(__typeof__(in), id),
         .min = 1,
         .max = 512,
         .required = true},
        {.name = "type", .kind = JSON_KIND_TEXT, .offset = offsetof(__typeof__(in), type)},
        {.name = "function", .kind = JSON_KIND_OBJECT, .offset = offsetof(__typeof__(in), function), .required = true},
    };
    static const struct json_field function_fields[] = {
        {.name = "name",
         .kind = JSON_KIND_TEXT,
         .offset = offsetof(__typeof__(in), name),
         .min = 1,
         .max = 512,
         .required = true},
        {.name = "arguments", .kind = JSON_KIND_TEXT, .offset = offsetof(__typeof__(in), arguments)},
    };
    char at[LIMIT_ERR_PARAM];
    if (!json_is_object(call))
        return err_set_param(m->err, ERR_INVALID_PARAMETERS, path, "'%s' must be an object, but is %s", path,
                             json_kind_name(call));
    if (str_eq(json_str(json_object_get(call, "type")), STR("custom"))) {
        json_path_member(at, sizeof at, path, "type");
        return err_set_param(m->err, ERR_NOT_SUPPORTED, at, "'%s': custom tools are not supported", at);
    }
    if (!json_fields(call, fields, 3, &in, path, m->err))
        return false;
    json_path_member(at, sizeof at, path, "function");
    if (!json_fields(in.function, function_fields, 2, &in, at, m->err))
        return false;
    write_call(m->out, in.id, in.name, in.arguments);
    return true;
}

static bool write_tool_calls(const struct message *m, const json_t *calls)
{
    if (!json_is_array(calls))
        return refuse(m, "tool_calls", "must be an array");
    if (json_array_size(calls) < 1 || json_array_size(calls) > LIMIT_TOOLS)
        return refuse(m, "tool_calls", "has a wrong length: its items must be between 1 and 128");
    json_open_array(m->out, "tool_calls");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        char at[LIMIT_ERR_PARAM], path[LIMIT_ERR_PARAM];
        json_path_member(at, sizeof at, m->path, "tool_calls");
        json_path_index(path, sizeof path, at, i);
        if (!write_tool_call(m, json_array_get(calls, i), path))
            return false;
    }
    json_close(m->out);
    return true;
}

/* The call and its later result are told apart by name only, so the name is the id. */
static bool write_function_call(const struct message *m, const json_t *call)
{
    struct str name = json_str(json_object_get(call, "name"));
    struct str arguments = json_str(json_object_get(call, "arguments"));
    if (!name.n || !arguments.p)
        return refuse(m, "function_call", "must be an object with the strings name and arguments");
    json_open_array(m->out, "tool_calls");
    write_call(m->out, name, name, arguments);
    json_close(m->out);
    return true;
}

static bool write_assistant(struct message *m, const json_t *object)
{
    const json_t *calls = json_object_get(object, "tool_calls");
    const json_t *call = json_object_get(object, "function_call");
    struct str reasoning = json_str(json_object_get(object, "reasoning_content"));
    bool has_calls = calls && !json_is_null(calls);
    bool has_call = !has_calls && call && !json_is_null(call);
    if (!reasoning.p)
        reasoning = json_str(json_object_get(object, "reasoning"));
    json_put_string(m->out, "role", "assistant");
    if (!write_content(m, object, !has_calls && !has_call))
        return false;
    if (reasoning.n)
        json_put_text(m->out, "reasoning_content", reasoning);
    return (!has_calls || write_tool_calls(m, calls)) && (!has_call || write_function_call(m, call));
}

static bool write_tool(struct message *m, const json_t *object)
{
    bool legacy = m->role == ROLE_FUNCTION;
    const char *member = legacy ? "name" : "tool_call_id";
    struct str id = json_str(json_object_get(object, member));
    struct str name = json_str(json_object_get(object, "name"));
    if (!id.n)
        return refuse(m, member,
                      legacy ? "is required: the function's name" : "is required: the id of the call answered");
    json_put_string(m->out, "role", "tool");
    json_put_text(m->out, "tool_call_id", id);
    if (name.n)
        json_put_text(m->out, "name", name);
    return write_content(m, object, !legacy);
}

static bool write_message(struct message *m, const json_t *object)
{
    if (!json_is_object(object))
        return err_set_param(m->err, ERR_INVALID_PARAMETERS, m->path, "'%s' must be an object, but is %s", m->path,
                             json_kind_name(object));
    struct str role = json_str(json_object_get(object, "role"));
    if (!role.p)
        return refuse(m, "role", "is required");
    if (!find_role(m, role))
        return false;
    json_open_object(m->out, NULL);
    bool good = true;
    if (m->role == ROLE_ASSISTANT) {
        good = write_assistant(m, object);
    } else if (m->role == ROLE_TOOL || m->role == ROLE_FUNCTION) {
        good = write_tool(m, object);
    } else {
        json_put_string(m->out, "role", m->role == ROLE_SYSTEM ? "system" : "user");
        good = write_content(m, object, true);
    }
    json_close(m->out);
    return good;
}

bool openai_messages_read(const json_t *body, struct arena *arena, struct openai_chat *chat, struct err *err)
{
    static const struct json_field fields[] = {
        {.name = "messages", .kind = JSON_KIND_ARRAY, .min = 1, .max = LIMIT_MESSAGES, .required = true},
    };
    const json_t *messages;
    if (!json_fields(body, fields, 1, &messages, "", err))
        return false;
    struct buf text;
    struct json out;
    struct openai_image *images = arena_alloc(arena, LIMIT_IMAGES * sizeof *images);
    chat->images = images;
    chat->image_count = 0;
    buf_init(&text, LIMIT_JSON_TEXT);
    json_begin(&out, &text);
    json_open_array(&out, NULL);
    for (size_t i = 0; i < json_array_size(messages); i++) {
        char path[LIMIT_ERR_PARAM];
        json_path_index(path, sizeof path, "messages", i);
        struct message m = {.out = &out, .path = path, .arena = arena, .chat = chat, .images = images, .err = err};
        if (!write_message(&m, json_array_get(messages, i))) {
            buf_release(&text);
            return false;
        }
    }
    json_close(&out);
    json_finish(&out);
    return openai_buf_to_arena(&text, arena, &chat->messages, err);
}
