#include "api/anthropic/request.h"

#include "openai/chat_request.h"

struct fields {
    int64_t max_tokens, top_k, budget;
    double temperature, top_p;
    const json_t *stops, *tools, *choice, *metadata, *thinking, *output, *format, *schema;
    struct str type, name, user, effort, description;
    bool stream, serial;
};

static bool refuse(struct err *err, enum err_code code, const char *param, const char *what)
{
    return err_set_param(err, code, param, "'%s' %s", param, what);
}

static bool given(const json_t *body, const char *name)
{
    const json_t *value = json_object_get(body, name);
    return value && !json_is_null(value);
}

/* ---- tools ---- */

static bool put_tool(const json_t *tool, const char *path, struct json *out, struct err *err)
{
    struct fields in = {.type = STR("custom")};
    static const struct json_field fields[] = {
        JSON_FIELD(struct fields, type, "type", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(struct fields, description, "description", JSON_KIND_TEXT, 0, 0),
        {.name = "name", .kind = JSON_KIND_TEXT, .offset = offsetof(struct fields, name), .required = true},
    };
    static const struct json_field schema_fields[] = {
        {.name = "input_schema", .kind = JSON_KIND_OBJECT, .offset = offsetof(struct fields, schema), .required = true},
    };
    char at[LIMIT_ERR_PARAM];
    if (!json_is_object(tool))
        return err_set_param(err, ERR_INVALID_PARAMETERS, path, "'%s' must be an object, but is %s", path,
                             json_kind_name(tool));
    if (!json_fields(tool, fields, sizeof fields / sizeof *fields, &in, path, err))
        return false;
    json_path_member(at, sizeof at, path, "type");
    if (!str_eq(in.type, STR("custom")))
        return refuse(err, ERR_NOT_SUPPORTED, at, "is not supported: only tools that the client runs are");
    if (!json_fields(tool, schema_fields, 1, &in, path, err))
        return false;
    json_path_member(at, sizeof at, path, "name");
    if (!openai_tool_name_ok(in.name))
        return refuse(err, ERR_INVALID_PARAMETERS, at, "must be 1 to 64 of the characters a-z A-Z 0-9 _ -");
    json_open_object(out, NULL);
    json_put_string(out, "type", "function");
    json_open_object(out, "function");
    json_put_text(out, "name", in.name);
    if (in.description.p)
        json_put_text(out, "description", in.description);
    json_put_value(out, "parameters", in.schema);
    json_close(out);
    json_close(out);
    return true;
}

static bool put_tools(const json_t *tools, struct json *out, struct err *err)
{
    if (json_array_size(tools) == 0)
        return true;
    json_open_array(out, "tools");
    for (size_t i = 0; i < json_array_size(tools); i++) {
        char path[LIMIT_ERR_PARAM];
        json_path_index(path, sizeof path, "tools", i);
        if (!put_tool(json_array_get(tools, i), path, out, err))
            return false;
    }
    json_close(out);
    return true;
}

static bool put_named_choice(const struct fields *in, struct json *out, struct err *err)
{
    for (size_t i = 0; i < json_array_size(in->tools); i++)
        if (in->name.n && str_eq(json_str(json_object_get(json_array_get(in->tools, i), "name")), in->name)) {
            json_open_object(out, "tool_choice");
            json_put_string(out, "type", "function");
            json_open_object(out, "function");
            json_put_text(out, "name", in->name);
            json_close(out);
            json_close(out);
            return true;
        }
    return refuse(err, ERR_INVALID_PARAMETERS, "tool_choice.name", "must name one of 'tools'");
}

static bool put_choice(struct fields *in, struct json *out, struct err *err)
{
    static const struct json_field fields[] = {
        {.name = "type", .kind = JSON_KIND_TEXT, .offset = offsetof(struct fields, type), .required = true},
        JSON_FIELD(struct fields, name, "name", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(struct fields, serial, "disable_parallel_tool_use", JSON_KIND_BOOL, 0, 0),
    };
    static const char *const words[][2] = {{"auto", "auto"}, {"any", "required"}, {"none", "none"}};
    if (!json_fields(in->choice, fields, sizeof fields / sizeof *fields, in, "tool_choice", err))
        return false;
    bool named = str_eq(in->type, STR("tool"));
    const char *word = NULL;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (str_eq(in->type, str_from(words[i][0])))
            word = words[i][1];
    if (!word && !named)
        return refuse(err, ERR_INVALID_PARAMETERS, "tool_choice.type", "must be 'auto', 'any', 'tool' or 'none'");
    if (json_array_size(in->tools) == 0 && strcmp(word ? word : "", "none") != 0)
        return refuse(err, ERR_INVALID_PARAMETERS, "tool_choice", "is only allowed together with 'tools'");
    if (json_array_size(in->tools) == 0)
        return true;
    if (in->serial)
        json_put_bool(out, "parallel_tool_calls", false);
    if (named)
        return put_named_choice(in, out, err);
    json_put_string(out, "tool_choice", word);
    return true;
}

/* ---- the rest ---- */

static bool put_stops(const json_t *stops, struct json *out, struct err *err)
{
    if (json_array_size(stops) == 0)
        return true;
    json_open_array(out, "stop");
    for (size_t i = 0; i < json_array_size(stops); i++) {
        char path[LIMIT_ERR_PARAM];
        struct str stop = json_str(json_array_get(stops, i));
        json_path_index(path, sizeof path, "stop_sequences", i);
        if (stop.n < 1 || stop.n > LIMIT_STOP_BYTES)
            return refuse(err, ERR_INVALID_PARAMETERS, path, "must be a string of 1 to 256 bytes");
        json_put_text(out, NULL, stop);
    }
    json_close(out);
    return true;
}

/* Asked for or forbidden; what is not said is the model's own way. */
static bool put_thinking(struct fields *in, struct json *out, struct err *err)
{
    static const struct json_field fields[] = {
        {.name = "type", .kind = JSON_KIND_TEXT, .offset = offsetof(struct fields, type), .required = true},
        JSON_FIELD(struct fields, budget, "budget_tokens", JSON_KIND_INT, 1, INT32_MAX),
    };
    if (!json_fields(in->thinking, fields, 2, in, "thinking", err))
        return false;
    bool off = str_eq(in->type, STR("disabled")), on = str_eq(in->type, STR("enabled"));
    if (!off && !on && !str_eq(in->type, STR("adaptive")))
        return refuse(err, ERR_INVALID_PARAMETERS, "thinking.type", "must be 'enabled', 'adaptive' or 'disabled'");
    if (on && !given(in->thinking, "budget_tokens"))
        return refuse(err, ERR_INVALID_PARAMETERS, "thinking.budget_tokens", "is required");
    json_open_object(out, "chat_template_kwargs");
    json_put_bool(out, "enable_thinking", !off);
    json_close(out);
    return true;
}

static bool put_output(struct fields *in, struct json *out, struct err *err)
{
    static const struct json_field fields[] = {
        JSON_FIELD(struct fields, effort, "effort", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(struct fields, format, "format", JSON_KIND_OBJECT, 0, 0),
    };
    static const struct json_field format_fields[] = {
        {.name = "type", .kind = JSON_KIND_TEXT, .offset = offsetof(struct fields, type), .required = true},
        {.name = "schema", .kind = JSON_KIND_OBJECT, .offset = offsetof(struct fields, schema), .required = true},
    };
    if (!json_fields(in->output, fields, 2, in, "output_config", err))
        return false;
    if (in->effort.p)
        json_put_text(out, "reasoning_effort", in->effort);
    if (!in->format)
        return true;
    if (!json_fields(in->format, format_fields, 2, in, "output_config.format", err))
        return false;
    if (!str_eq(in->type, STR("json_schema")))
        return refuse(err, ERR_INVALID_PARAMETERS, "output_config.format.type", "must be 'json_schema'");
    json_open_object(out, "response_format");
    json_put_string(out, "type", "json_schema");
    json_open_object(out, "json_schema");
    json_put_string(out, "name", "output");
    json_put_value(out, "schema", in->schema);
    json_close(out);
    json_close(out);
    return true;
}

static bool put_user(struct fields *in, struct json *out, struct err *err)
{
    static const struct json_field fields[] = {
        JSON_FIELD(struct fields, user, "user_id", JSON_KIND_TEXT, 0, LIMIT_METADATA_TEXT),
    };
    if (!json_fields(in->metadata, fields, 1, in, "metadata", err))
        return false;
    if (in->user.p)
        json_put_text(out, "user", in->user);
    return true;
}

static void put_numbers(const json_t *body, const struct fields *in, struct json *out)
{
    if (in->max_tokens)
        json_put_int(out, "max_tokens", in->max_tokens);
    if (given(body, "temperature"))
        json_put_number(out, "temperature", in->temperature);
    if (given(body, "top_p"))
        json_put_number(out, "top_p", in->top_p);
    if (given(body, "top_k"))
        json_put_int(out, "top_k", in->top_k);
    json_put_bool(out, "stream", in->stream);
    if (!in->stream)
        return;
    json_open_object(out, "stream_options");
    json_put_bool(out, "include_usage", true);
    json_close(out);
}

static bool read_fields(const json_t *body, bool counting, struct fields *in, struct err *err)
{
    static const struct json_field fields[] = {
        JSON_FIELD(struct fields, max_tokens, "max_tokens", JSON_KIND_INT, 1, INT32_MAX),
        JSON_FIELD(struct fields, top_k, "top_k", JSON_KIND_INT, 0, INT32_MAX),
        JSON_FIELD(struct fields, temperature, "temperature", JSON_KIND_NUMBER, 0, 1),
        JSON_FIELD(struct fields, top_p, "top_p", JSON_KIND_NUMBER, 0, 1),
        JSON_FIELD(struct fields, stops, "stop_sequences", JSON_KIND_ARRAY, 0, LIMIT_STOPS),
        JSON_FIELD(struct fields, tools, "tools", JSON_KIND_ARRAY, 0, LIMIT_TOOLS),
        JSON_FIELD(struct fields, choice, "tool_choice", JSON_KIND_OBJECT, 0, 0),
        JSON_FIELD(struct fields, metadata, "metadata", JSON_KIND_OBJECT, 0, 0),
        JSON_FIELD(struct fields, thinking, "thinking", JSON_KIND_OBJECT, 0, 0),
        JSON_FIELD(struct fields, output, "output_config", JSON_KIND_OBJECT, 0, 0),
        JSON_FIELD(struct fields, stream, "stream", JSON_KIND_BOOL, 0, 0),
    };
    if (!json_fields(body, fields, sizeof fields / sizeof *fields, in, "", err))
        return false;
    if (!counting && !in->max_tokens)
        return refuse(err, ERR_INVALID_PARAMETERS, "max_tokens", "is required");
    if (given(body, "container") || given(body, "mcp_servers"))
        return refuse(err, ERR_NOT_SUPPORTED, given(body, "container") ? "container" : "mcp_servers",
                      "is not supported: this server runs no tools");
    return true;
}

static bool write_chat(const json_t *body, struct anthropic_request *request, struct fields *in, struct json *out,
                       struct err *err)
{
    json_open_object(out, NULL);
    json_put_text(out, "model", request->model);
    if (!anthropic_messages_write(body, out, &request->images, err) || !put_tools(in->tools, out, err) ||
        (in->choice && !put_choice(in, out, err)) || !put_stops(in->stops, out, err) ||
        (in->thinking && !put_thinking(in, out, err)) || (in->output && !put_output(in, out, err)) ||
        (in->metadata && !put_user(in, out, err)))
        return false;
    put_numbers(body, in, out);
    json_close(out);
    return true;
}

bool anthropic_request_read(struct str body, bool counting, struct arena *arena, struct anthropic_request *ret_request,
                            struct err *err)
{
    struct anthropic_request request = {0};
    struct fields in = {0};
    struct buf text;
    struct json out;
    const json_t *document = openai_document_read(body, arena, err);
    if (!document || !openai_model_read(document, &request.model, err) || !read_fields(document, counting, &in, err))
        return false;
    request.stream = in.stream && !counting;
    in.stream = request.stream;
    buf_init(&text, LIMIT_JSON_TEXT);
    json_begin(&out, &text);
    if (!write_chat(document, &request, &in, &out, err)) {
        buf_release(&text);
        return false;
    }
    if (!json_finish(&out))
        text.failed = true;
    if (!openai_buf_to_arena(&text, arena, &request.chat, err))
        return false;
    *ret_request = request;
    return true;
}

void anthropic_error_translate(struct err *err)
{
    static const char *const rows[][2] = {{"messages", "messages"},
                                          {"stop", "stop_sequences"},
                                          {"response_format", "output_config.format"},
                                          {"reasoning_effort", "output_config.effort"},
                                          {"chat_template_kwargs", "thinking"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strncmp(err->param, rows[i][0], strlen(rows[i][0])) == 0)
            snprintf(err->param, sizeof err->param, "%s", rows[i][1]);
}
