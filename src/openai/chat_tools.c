/* tools and tool_choice, and their ancestors functions and function_call, in one normal form: the array of tools that
 * may be called, and how free the model is to call one. A named choice is an array of one plus REQUIRED;
 * allowed_tools filters the array. */
#include "openai/chat_request.h"

#include "base/json_write.h"

/* The functions offered, borrowed from the document. */
struct tools {
    const json_t *functions[LIMIT_TOOLS];
    size_t count;
    const char *path; /* "tools" or "functions" */
};

bool openai_tool_name_ok(struct str name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!good)
            return false;
    }
    return name.n >= 1 && name.n <= LIMIT_TOOL_NAME;
}

static bool check_function(const json_t *function, const char *path, struct err *err)
{
    char at[LIMIT_ERR_PARAM];
    json_path_member(at, sizeof at, path, "name");
    struct str name = json_str(json_object_get(function, "name"));
    if (!name.p)
        return err_set_param(err, ERR_INVALID_PARAMETERS, at, "'%s' is required", at);
    if (!openai_tool_name_ok(name))
        return err_set_param(err, ERR_INVALID_PARAMETERS, at, "'%s' must be 1 to %d of the characters a-z A-Z 0-9 _ -",
                             at, LIMIT_TOOL_NAME);
    const json_t *parameters = json_object_get(function, "parameters");
    if (parameters && !json_is_null(parameters) && !json_is_object(parameters)) {
        json_path_member(at, sizeof at, path, "parameters");
        return err_set_param(err, ERR_INVALID_PARAMETERS, at, "'%s' must be an object (a JSON schema), but is %s", at,
                             json_kind_name(parameters));
    }
    return true;
}

static bool read_tool(const json_t *tool, bool legacy, const char *path, struct tools *tools, struct err *err)
{
    char at[LIMIT_ERR_PARAM];
    if (!json_is_object(tool))
        return err_set_param(err, ERR_INVALID_PARAMETERS, path, "'%s' must be an object, but is %s", path,
                             json_kind_name(tool));
    if (legacy) {
        tools->functions[tools->count++] = tool;
        return check_function(tool, path, err);
    }
    struct str type = json_str(json_object_get(tool, "type"));
    json_path_member(at, sizeof at, path, "type");
    if (str_eq(type, STR("custom")))
        return err_set_param(err, ERR_NOT_SUPPORTED, at, "'%s': custom tools are not supported", at);
    if (!str_eq(type, STR("function")))
        return err_set_param(err, ERR_INVALID_PARAMETERS, at, "'%s' must be 'function'", at);
    const json_t *function = json_object_get(tool, "function");
    json_path_member(at, sizeof at, path, "function");
    if (!json_is_object(function))
        return err_set_param(err, ERR_INVALID_PARAMETERS, at, "'%s' must be an object", at);
    tools->functions[tools->count++] = function;
    return check_function(function, at, err);
}

static bool read_tools(const json_t *array, bool legacy, struct tools *tools, struct err *err)
{
    tools->path = legacy ? "functions" : "tools";
    for (size_t i = 0; i < json_array_size(array); i++) {
        char path[LIMIT_ERR_PARAM];
        json_path_index(path, sizeof path, tools->path, i);
        if (!read_tool(json_array_get(array, i), legacy, path, tools, err))
            return false;
    }
    return true;
}

static const json_t *find_function(const struct tools *tools, struct str name)
{
    for (size_t i = 0; i < tools->count; i++)
        if (str_eq(json_str(json_object_get(tools->functions[i], "name")), name))
            return tools->functions[i];
    return NULL;
}

/* Adds the function that choice names ({"name":...}) to only. */
static bool pick(const struct tools *tools, const json_t *choice, const char *path, struct tools *only, struct err *err)
{
    char at[LIMIT_ERR_PARAM];
    json_path_member(at, sizeof at, path, "name");
    struct str name = json_str(json_object_get(choice, "name"));
    const json_t *function = name.p ? find_function(tools, name) : NULL;
    if (!name.p)
        return err_set_param(err, ERR_INVALID_PARAMETERS, at, "'%s' is required", at);
    if (!function)
        return err_set_param(err, ERR_INVALID_PARAMETERS, at, "'%s' names '%s', which is not among '%s'", at, name.p,
                             tools->path);
    if (!find_function(only, name))
        only->functions[only->count++] = function;
    return true;
}

/* {"type":"allowed_tools","allowed_tools":{"mode":...,"tools":[...]}} */
static bool read_allowed(const json_t *allowed, struct openai_chat *chat, struct tools *tools, struct err *err)
{
    struct tools only = {.path = tools->path};
    struct str mode = json_str(json_object_get(allowed, "mode"));
    const json_t *list = json_object_get(allowed, "tools");
    if (!str_eq(mode, STR("auto")) && !str_eq(mode, STR("required")))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "tool_choice.allowed_tools.mode",
                             "'tool_choice.allowed_tools.mode' must be 'auto' or 'required'");
    if (!json_is_array(list) || json_array_size(list) < 1 || json_array_size(list) > LIMIT_TOOLS)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "tool_choice.allowed_tools.tools",
                             "'tool_choice.allowed_tools.tools' must be an array of 1 to %d items", LIMIT_TOOLS);
    for (size_t i = 0; i < json_array_size(list); i++) {
        char at[LIMIT_ERR_PARAM], path[LIMIT_ERR_PARAM];
        json_path_index(at, sizeof at, "tool_choice.allowed_tools.tools", i);
        json_path_member(path, sizeof path, at, "function");
        if (!pick(tools, json_object_get(json_array_get(list, i), "function"), path, &only, err))
            return false;
    }
    *tools = only;
    chat->tool_mode = str_eq(mode, STR("required")) ? OPENAI_TOOLS_REQUIRED : OPENAI_TOOLS_AUTO;
    return true;
}

static bool read_named(const json_t *choice, const char *path, struct openai_chat *chat, struct tools *tools,
                       struct err *err)
{
    struct tools only = {.path = tools->path};
    if (!pick(tools, choice, path, &only, err))
        return false;
    *tools = only;
    chat->tool_mode = OPENAI_TOOLS_REQUIRED;
    return true;
}

static bool read_choice_object(const json_t *choice, struct openai_chat *chat, struct tools *tools, struct err *err)
{
    struct str type = json_str(json_object_get(choice, "type"));
    if (str_eq(type, STR("function")))
        return read_named(json_object_get(choice, "function"), "tool_choice.function", chat, tools, err);
    if (str_eq(type, STR("allowed_tools")))
        return read_allowed(json_object_get(choice, "allowed_tools"), chat, tools, err);
    if (str_eq(type, STR("custom")))
        return err_set_param(err, ERR_NOT_SUPPORTED, "tool_choice.type",
                             "'tool_choice.type': custom tools are not supported");
    return err_set_param(err, ERR_INVALID_PARAMETERS, "tool_choice.type",
                         "'tool_choice.type' must be 'function' or 'allowed_tools'");
}

static bool read_choice(const json_t *choice, bool legacy, struct openai_chat *chat, struct tools *tools,
                        struct err *err)
{
    const char *name = legacy ? "function_call" : "tool_choice";
    struct str word = json_str(choice);
    if (!choice || json_is_null(choice))
        return true;
    if (tools->count == 0 && !str_eq(word, STR("none")))
        return err_set_param(err, ERR_INVALID_PARAMETERS, name, "'%s' is only allowed together with '%s'", name,
                             legacy ? "functions" : "tools");
    if (json_is_object(choice))
        return legacy ? read_named(choice, name, chat, tools, err) : read_choice_object(choice, chat, tools, err);
    if (str_eq(word, STR("none")))
        chat->tool_mode = OPENAI_TOOLS_NONE;
    else if (str_eq(word, STR("auto")))
        chat->tool_mode = OPENAI_TOOLS_AUTO;
    else if (!legacy && str_eq(word, STR("required")))
        chat->tool_mode = OPENAI_TOOLS_REQUIRED;
    else
        return err_set_param(err, ERR_INVALID_PARAMETERS, name, "'%s' must be 'none', 'auto'%s or an object", name,
                             legacy ? "" : ", 'required'");
    return true;
}

static bool write_tools(const struct tools *tools, struct arena *arena, struct str *ret_tools, struct err *err)
{
    struct buf text;
    struct json out;
    buf_init(&text, LIMIT_JSON_TEXT);
    json_begin(&out, &text);
    json_open_array(&out, NULL);
    for (size_t i = 0; i < tools->count; i++) {
        const json_t *parameters = json_object_get(tools->functions[i], "parameters");
        struct str description = json_str(json_object_get(tools->functions[i], "description"));
        char *schema = json_is_object(parameters) ? json_dumps(parameters, JSON_COMPACT) : NULL;
        json_open_object(&out, NULL);
        json_put_string(&out, "type", "function");
        json_open_object(&out, "function");
        json_put_text(&out, "name", json_str(json_object_get(tools->functions[i], "name")));
        json_put_text(&out, "description", description.p ? description : STR(""));
        json_put_raw(&out, "parameters", schema ? str_from(schema) : STR("{\"type\":\"object\",\"properties\":{}}"));
        json_close(&out);
        json_close(&out);
        free(schema);
    }
    json_close(&out);
    json_finish(&out);
    return openai_buf_to_arena(&text, arena, ret_tools, err);
}

bool openai_tools_read(const json_t *body, struct arena *arena, struct openai_chat *chat, struct err *err)
{
    struct {
        const json_t *tools, *functions, *tool_choice, *function_call;
    } in = {0};
    static const struct json_field fields[] = {
        JSON_FIELD(__typeof__(in), tools, "tools", JSON_KIND_ARRAY, 0, LIMIT_TOOLS),
        JSON_FIELD(__typeof__(in), functions, "functions", JSON_KIND_ARRAY, 0, LIMIT_TOOLS),
        JSON_FIELD(__typeof__(in), tool_choice, "tool_choice", JSON_KIND_ANY, 0, 0),
        JSON_FIELD(__typeof__(in), function_call, "function_call", JSON_KIND_ANY, 0, 0),
    };
    struct tools tools = {0};
    if (!json_fields(body, fields, sizeof fields / sizeof *fields, &in, "", err))
        return false;
    if (in.tools && in.functions)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "functions", "'functions' cannot be combined with 'tools'");
    bool legacy = in.functions || (in.function_call && !in.tools && !in.tool_choice);
    chat->legacy_functions = legacy;
    if (!read_tools(legacy ? in.functions : in.tools, legacy, &tools, err) ||
        !read_choice(legacy ? in.function_call : in.tool_choice, legacy, chat, &tools, err))
        return false;
    if (tools.count == 0)
        return true;
    return write_tools(&tools, arena, &chat->tools, err);
}
