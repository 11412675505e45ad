#include "api/responses/request.h"

#include "openai/chat_request.h"

/* What is read only to be refused or checked. */
struct fields {
    const json_t *input, *text, *reasoning, *include, *conversation, *prompt, *stream_options;
    struct str truncation;
    int64_t top_logprobs, integer;
    double real;
    bool background;
};

static bool refuse(struct err *err, enum err_code code, const char *param, const char *what)
{
    return err_set_param(err, code, param, "'%s' %s", param, what);
}

/* ---- tools ---- */

static bool check_tool(const json_t *tool, const char *path, struct err *err)
{
    struct {
        struct str type, description;
        const json_t *parameters;
        bool strict;
    } in = {0};
    static const struct json_field fields[] = {
        {.name = "type", .kind = JSON_KIND_TEXT, .offset = offsetof(__typeof__(in), type), .required = true},
        JSON_FIELD(__typeof__(in), description, "description", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(__typeof__(in), parameters, "parameters", JSON_KIND_OBJECT, 0, 0),
        JSON_FIELD(__typeof__(in), strict, "strict", JSON_KIND_BOOL, 0, 0),
    };
    char at[LIMIT_ERR_PARAM];
    if (!json_is_object(tool))
        return err_set_param(err, ERR_INVALID_PARAMETERS, path, "'%s' must be an object, but is %s", path,
                             json_kind_name(tool));
    if (!json_fields(tool, fields, sizeof fields / sizeof *fields, &in, path, err))
        return false;
    json_path_member(at, sizeof at, path, "type");
    if (!str_eq(in.type, STR("function")))
        return refuse(err, ERR_NOT_SUPPORTED, at, "is not supported: only tools of type 'function' are");
    json_path_member(at, sizeof at, path, "name");
    return openai_tool_name_ok(json_str(json_object_get(tool, "name"))) ||
           refuse(err, ERR_INVALID_PARAMETERS, at, "must be 1 to 64 of the characters a-z A-Z 0-9 _ -");
}

static bool check_tools(const json_t *tools, struct err *err)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        char path[LIMIT_ERR_PARAM];
        json_path_index(path, sizeof path, "tools", i);
        if (!check_tool(json_array_get(tools, i), path, err))
            return false;
    }
    return true;
}

static bool tool_known(const struct response_request *r, const json_t *choice)
{
    struct str name = json_str(json_object_get(choice, "name"));
    for (size_t i = 0; i < json_array_size(r->tools); i++)
        if (name.n && str_eq(name, json_str(json_object_get(json_array_get(r->tools, i), "name"))))
            return true;
    return false;
}

static bool check_allowed(const struct response_request *r, struct err *err)
{
    const json_t *tools = json_object_get(r->tool_choice, "tools");
    struct str mode = json_str(json_object_get(r->tool_choice, "mode"));
    if (!str_eq(mode, STR("auto")) && !str_eq(mode, STR("required")))
        return refuse(err, ERR_INVALID_PARAMETERS, "tool_choice.mode", "must be 'auto' or 'required'");
    if (json_array_size(tools) < 1 || json_array_size(tools) > LIMIT_TOOLS)
        return refuse(err, ERR_INVALID_PARAMETERS, "tool_choice.tools", "must be an array of 1 to 128 tools");
    for (size_t i = 0; i < json_array_size(tools); i++)
        if (!tool_known(r, json_array_get(tools, i)))
            return refuse(err, ERR_INVALID_PARAMETERS, "tool_choice.tools", "names a tool that is not among 'tools'");
    return true;
}

static bool check_choice(const struct response_request *r, struct err *err)
{
    const json_t *choice = r->tool_choice;
    struct str word = json_str(choice), type = json_str(json_object_get(choice, "type"));
    if (!choice || json_is_null(choice) || str_eq(word, STR("none")) || str_eq(word, STR("auto")))
        return true;
    if (!str_eq(word, STR("required")) && !json_is_object(choice))
        return refuse(err, ERR_INVALID_PARAMETERS, "tool_choice", "must be 'none', 'auto', 'required' or an object");
    if (json_array_size(r->tools) == 0)
        return refuse(err, ERR_INVALID_PARAMETERS, "tool_choice", "is only allowed together with 'tools'");
    if (word.p)
        return true;
    if (str_eq(type, STR("allowed_tools")))
        return check_allowed(r, err);
    if (!str_eq(type, STR("function")))
        return refuse(err, ERR_NOT_SUPPORTED, "tool_choice.type",
                      "is not supported: it may be 'function' or 'allowed_tools'");
    return tool_known(r, choice) ||
           refuse(err, ERR_INVALID_PARAMETERS, "tool_choice.name", "names a tool that is not among 'tools'");
}

/* ---- the other objects ---- */

static bool read_text(const json_t *text, struct response_request *r, struct err *err)
{
    struct {
        const json_t *format, *schema;
        struct str type, name, verbosity;
    } in = {0};
    static const struct json_field fields[] = {
        JSON_FIELD(__typeof__(in), format, "format", JSON_KIND_OBJECT, 0, 0),
        JSON_FIELD(__typeof__(in), verbosity, "verbosity", JSON_KIND_TEXT, 0, 0),
    };
    static const struct json_field type_fields[] = {
        {.name = "type", .kind = JSON_KIND_TEXT, .offset = offsetof(__typeof__(in), type), .required = true},
    };
    static const struct json_field schema_fields[] = {
        {.name = "name",
         .kind = JSON_KIND_TEXT,
         .offset = offsetof(__typeof__(in), name),
         .min = 1,
         .max = LIMIT_TOOL_NAME,
         .required = true},
        {.name = "schema", .kind = JSON_KIND_OBJECT, .offset = offsetof(__typeof__(in), schema), .required = true},
    };
    if (!json_fields(text, fields, 2, &in, "text", err))
        return false;
    r->verbosity = in.verbosity.p ? json_object_get(text, "verbosity") : NULL;
    if (!in.format)
        return true;
    r->format = in.format;
    if (!json_fields(in.format, type_fields, 1, &in, "text.format", err))
        return false;
    if (str_eq(in.type, STR("text")) || str_eq(in.type, STR("json_object")))
        return true;
    if (!str_eq(in.type, STR("json_schema")))
        return refuse(err, ERR_INVALID_PARAMETERS, "text.format.type",
                      "must be 'text', 'json_object' or 'json_schema'");
    return json_fields(in.format, schema_fields, 2, &in, "text.format", err);
}

static bool read_reasoning(const json_t *reasoning, struct response_request *r, struct err *err)
{
    struct {
        struct str effort, summary;
    } in = {0};
    static const struct json_field fields[] = {
        JSON_FIELD(__typeof__(in), effort, "effort", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(__typeof__(in), summary, "summary", JSON_KIND_TEXT, 0, 0),
    };
    r->effort = json_object_get(reasoning, "effort");
    if (json_is_null(r->effort))
        r->effort = NULL;
    return json_fields(reasoning, fields, 2, &in, "reasoning", err);
}

static bool check_metadata(const json_t *metadata, struct err *err)
{
    const char *key;
    json_t *value;
    if (json_object_size(metadata) > LIMIT_METADATA)
        return refuse(err, ERR_INVALID_PARAMETERS, "metadata", "has more than 16 members");
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value) || json_string_length(value) > LIMIT_METADATA_TEXT)
            return refuse(err, ERR_INVALID_PARAMETERS, "metadata", "must hold strings of at most 512 bytes");
    }
    return true;
}

static bool check_include(const json_t *include, struct err *err)
{
    for (size_t i = 0; i < json_array_size(include); i++) {
        char path[LIMIT_ERR_PARAM];
        struct str word = json_str(json_array_get(include, i));
        json_path_index(path, sizeof path, "include", i);
        if (!word.p)
            return refuse(err, ERR_INVALID_PARAMETERS, path, "must be a string");
        if (str_eq(word, STR("message.output_text.logprobs")))
            return refuse(err, ERR_NOT_SUPPORTED, path, "is not supported: /v1/chat/completions has log probabilities");
    }
    return true; /* the other words ask for parts of tools and secrets that do not exist here */
}

static bool check_unsupported(const struct fields *in, struct err *err)
{
    if (in->background)
        return refuse(err, ERR_NOT_SUPPORTED, "background", "is not supported: ask for a stream instead");
    if (in->conversation)
        return refuse(err, ERR_NOT_SUPPORTED, "conversation", "is not supported: use previous_response_id");
    if (in->prompt)
        return refuse(err, ERR_NOT_SUPPORTED, "prompt", "is not supported: this server keeps no prompts");
    if (in->top_logprobs)
        return refuse(err, ERR_NOT_SUPPORTED, "top_logprobs",
                      "is not supported: /v1/chat/completions has log probabilities");
    if (in->truncation.p && str_eq(in->truncation, STR("auto")))
        return refuse(err, ERR_NOT_SUPPORTED, "truncation", "may be 'disabled' only: no input is dropped");
    if (in->truncation.p && !str_eq(in->truncation, STR("disabled")))
        return refuse(err, ERR_INVALID_PARAMETERS, "truncation", "must be 'disabled'");
    return true;
}

/* ---- all of it ---- */

static bool read_checked(const json_t *body, struct fields *in, struct err *err)
{
    static const struct json_field fields[] = {
        JSON_FIELD(struct fields, input, "input", JSON_KIND_ANY, 0, 0),
        JSON_FIELD(struct fields, text, "text", JSON_KIND_OBJECT, 0, 0),
        JSON_FIELD(struct fields, reasoning, "reasoning", JSON_KIND_OBJECT, 0, 0),
        JSON_FIELD(struct fields, include, "include", JSON_KIND_ARRAY, 0, 32),
        JSON_FIELD(struct fields, conversation, "conversation", JSON_KIND_ANY, 0, 0),
        JSON_FIELD(struct fields, prompt, "prompt", JSON_KIND_ANY, 0, 0),
        JSON_FIELD(struct fields, stream_options, "stream_options", JSON_KIND_OBJECT, 0, 0),
        JSON_FIELD(struct fields, truncation, "truncation", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(struct fields, top_logprobs, "top_logprobs", JSON_KIND_INT, 0, LIMIT_TOP_LOGPROBS),
        JSON_FIELD(struct fields, background, "background", JSON_KIND_BOOL, 0, 0),
        /* Checked here, and passed on as they are written. */
        JSON_FIELD(struct fields, real, "temperature", JSON_KIND_NUMBER, 0, 2),
        JSON_FIELD(struct fields, real, "top_p", JSON_KIND_NUMBER, 0, 1),
        JSON_FIELD(struct fields, integer, "max_output_tokens", JSON_KIND_INT, 1, INT32_MAX),
        JSON_FIELD(struct fields, integer, "max_tool_calls", JSON_KIND_INT, 1, INT32_MAX),
    };
    return json_fields(body, fields, sizeof fields / sizeof *fields, in, "", err);
}

static bool read_kept(const json_t *body, struct response_request *r, struct err *err)
{
    static const struct json_field fields[] = {
        JSON_FIELD(struct response_request, instructions, "instructions", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(struct response_request, previous_id, "previous_response_id", JSON_KIND_TEXT, 1, LIMIT_RESPONSE_ID),
        JSON_FIELD(struct response_request, user, "user", JSON_KIND_TEXT, 0, LIMIT_METADATA_TEXT),
        JSON_FIELD(struct response_request, tools, "tools", JSON_KIND_ARRAY, 0, LIMIT_TOOLS),
        JSON_FIELD(struct response_request, tool_choice, "tool_choice", JSON_KIND_ANY, 0, 0),
        JSON_FIELD(struct response_request, metadata, "metadata", JSON_KIND_OBJECT, 0, 0),
        JSON_FIELD(struct response_request, temperature, "temperature", JSON_KIND_ANY, 0, 0),
        JSON_FIELD(struct response_request, top_p, "top_p", JSON_KIND_ANY, 0, 0),
        JSON_FIELD(struct response_request, max_output_tokens, "max_output_tokens", JSON_KIND_ANY, 0, 0),
        JSON_FIELD(struct response_request, max_tool_calls, "max_tool_calls", JSON_KIND_ANY, 0, 0),
        JSON_FIELD(struct response_request, stream, "stream", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(struct response_request, store, "store", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(struct response_request, parallel_tool_calls, "parallel_tool_calls", JSON_KIND_BOOL, 0, 0),
    };
    return json_fields(body, fields, sizeof fields / sizeof *fields, r, "", err);
}

bool response_request_read(struct str body, struct arena *arena, struct response_request *ret_request, struct err *err)
{
    struct response_request r = {.store = true, .parallel_tool_calls = true};
    struct fields in = {0};
    const json_t *document = openai_document_read(body, arena, err);
    if (!document || !openai_model_read(document, &r.model, err) || !read_checked(document, &in, err) ||
        !read_kept(document, &r, err) || !check_unsupported(&in, err) || !check_tools(r.tools, err) ||
        !check_choice(&r, err) || (in.text && !read_text(in.text, &r, err)) ||
        (in.reasoning && !read_reasoning(in.reasoning, &r, err)) || !check_metadata(r.metadata, err) ||
        !check_include(in.include, err) || !response_items_read(in.input, &r.input, err))
        return false;
    json_give(r.input, arena);
    *ret_request = r;
    return true;
}

/* ---- the chat request ---- */

static void put_function(struct json *j, const json_t *tool)
{
    static const char *const members[] = {"name", "description", "parameters", "strict"};
    json_open_object(j, NULL);
    json_put_string(j, "type", "function");
    json_open_object(j, "function");
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const json_t *value = json_object_get(tool, members[i]);
        if (value && !json_is_null(value))
            json_put_value(j, members[i], value);
    }
    json_close(j);
    json_close(j);
}

static void put_named(struct json *j, const char *key, const json_t *named)
{
    json_open_object(j, key);
    json_put_string(j, "type", "function");
    json_open_object(j, "function");
    json_put_value(j, "name", json_object_get(named, "name"));
    json_close(j);
    json_close(j);
}

static void put_allowed(struct json *j, const json_t *choice)
{
    const json_t *tools = json_object_get(choice, "tools");
    json_open_object(j, "tool_choice");
    json_put_string(j, "type", "allowed_tools");
    json_open_object(j, "allowed_tools");
    json_put_value(j, "mode", json_object_get(choice, "mode"));
    json_open_array(j, "tools");
    for (size_t i = 0; i < json_array_size(tools); i++)
        put_named(j, NULL, json_array_get(tools, i));
    json_close(j);
    json_close(j);
    json_close(j);
}

static void put_tools(struct json *j, const struct response_request *r)
{
    if (json_array_size(r->tools) == 0)
        return;
    json_open_array(j, "tools");
    for (size_t i = 0; i < json_array_size(r->tools); i++)
        put_function(j, json_array_get(r->tools, i));
    json_close(j);
    json_put_bool(j, "parallel_tool_calls", r->parallel_tool_calls);
    if (json_is_string(r->tool_choice))
        json_put_value(j, "tool_choice", r->tool_choice);
    else if (json_object_get(r->tool_choice, "mode"))
        put_allowed(j, r->tool_choice);
    else if (json_is_object(r->tool_choice))
        put_named(j, "tool_choice", r->tool_choice);
}

static void put_format(struct json *j, const json_t *format)
{
    static const char *const members[] = {"name", "description", "schema", "strict"};
    struct str type = json_str(json_object_get(format, "type"));
    if (!format || str_eq(type, STR("text")))
        return;
    json_open_object(j, "response_format");
    json_put_text(j, "type", type);
    if (str_eq(type, STR("json_schema"))) {
        json_open_object(j, "json_schema");
        for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
            const json_t *value = json_object_get(format, members[i]);
            if (value && !json_is_null(value))
                json_put_value(j, members[i], value);
        }
        json_close(j);
    }
    json_close(j);
}

static void put_options(struct json *j, const struct response_request *r)
{
    const struct {
        const char *name;
        const json_t *value;
    } rows[] = {{"temperature", r->temperature},
                {"top_p", r->top_p},
                {"max_tokens", r->max_output_tokens},
                {"reasoning_effort", r->effort}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].value)
            json_put_value(j, rows[i].name, rows[i].value);
    if (r->user.p)
        json_put_text(j, "user", r->user);
    json_put_bool(j, "stream", r->stream);
    if (r->stream) {
        json_open_object(j, "stream_options");
        json_put_bool(j, "include_usage", true);
        json_close(j);
    }
}

static void put_messages(struct json *j, const struct response_request *r, const json_t *const *earlier, size_t count)
{
    struct response_turn turn;
    json_open_array(j, "messages");
    if (r->instructions.n) {
        json_open_object(j, NULL);
        json_put_string(j, "role", "system");
        json_put_text(j, "content", r->instructions);
        json_close(j);
    }
    response_turn_begin(&turn, j);
    for (size_t i = 0; i < count; i++)
        response_turn_items(&turn, earlier[i]);
    response_turn_items(&turn, r->input);
    response_turn_end(&turn);
    json_close(j);
}

bool response_chat_write(const struct response_request *request, const json_t *const *earlier, size_t count,
                         struct arena *arena, struct str *ret_body, struct err *err)
{
    struct buf text;
    struct json j;
    buf_init(&text, LIMIT_JSON_TEXT);
    json_begin(&j, &text);
    json_open_object(&j, NULL);
    json_put_text(&j, "model", request->model);
    put_messages(&j, request, earlier, count);
    put_tools(&j, request);
    put_format(&j, request->format);
    put_options(&j, request);
    json_close(&j);
    if (!json_finish(&j))
        text.failed = true;
    return openai_buf_to_arena(&text, arena, ret_body, err);
}

void response_error_translate(struct err *err)
{
    static const struct {
        const char *prefix, *name;
    } rows[] = {
        {"messages", "input"},
        {"max_tokens", "max_output_tokens"},
        {"max_completion_tokens", "max_output_tokens"},
        {"response_format", "text.format"},
        {"reasoning_effort", "reasoning.effort"},
        {"chat_template_kwargs", "reasoning"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strncmp(err->param, rows[i].prefix, strlen(rows[i].prefix)) == 0)
            snprintf(err->param, sizeof err->param, "%s", rows[i].name);
}
