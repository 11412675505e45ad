#include "worker/serve_tools.h"

#include "base/json_read.h"

static struct str dump(const json_t *value, struct arena *arena)
{
    char *text = json_dumps(value, JSON_COMPACT);
    struct str copy = text ? arena_str(arena, str_from(text)) : STR_NONE;
    free(text);
    return copy;
}

/* What a call of one tool looks like. */
static json_t *call_schema(const json_t *tool)
{
    const json_t *function = json_object_get(tool, "function");
    return json_pack("{s:s, s:{s:{s:O}, s:O}, s:[s, s], s:b}", "type", "object", "properties", "name", "const",
                     json_object_get(function, "name"), "arguments", json_object_get(function, "parameters"),
                     "required", "name", "arguments", "additionalProperties", 0);
}

static json_t *calls_schema(const json_t *tools)
{
    if (json_array_size(tools) == 1)
        return call_schema(json_array_get(tools, 0));
    json_t *any = json_array();
    for (size_t i = 0; i < json_array_size(tools); i++)
        json_array_append_new(any, call_schema(json_array_get(tools, i)));
    return json_pack("{s:o}", "anyOf", any);
}

/* Puts the description at the head of the system message; templates take one system message, the first. */
static void describe(json_t *messages, struct str tools, struct arena *arena)
{
    json_t *first = json_array_get(messages, 0);
    struct str role = json_str(json_object_get(first, "role")), old = STR("");
    bool has_system = str_eq(role, STR("system"));
    if (has_system)
        old = json_str(json_object_get(first, "content"));
    const char *text = arena_printf(arena,
                                    "You can call these tools:\n" STR_FMT "\nAnswer with one call as JSON: "
                                    "{\"name\": the tool's name, \"arguments\": {...}}%s" STR_FMT,
                                    STR_ARG(tools), old.n ? "\n\n" : "", STR_ARG(old));
    if (has_system)
        json_object_set_new(first, "content", json_string(text));
    else
        json_array_insert_new(messages, 0, json_pack("{s:s, s:s}", "role", "system", "content", text));
}

bool serve_tools_rewrite(struct chat_request *request, struct arena *arena, struct err *err)
{
    json_t *tools = json_read(request->tools, err);
    json_t *messages = tools ? json_read(request->messages, err) : NULL;
    bool good = tools && messages;
    if (good) {
        json_t *schema = calls_schema(tools);
        describe(messages, request->tools, arena);
        request->messages = dump(messages, arena);
        request->json_schema = dump(schema, arena);
        request->tools = STR_NONE;
        request->tool_choice = CHAT_TOOLS_AUTO;
        json_decref(schema);
    }
    json_decref(messages);
    json_decref(tools);
    return good;
}

bool serve_tools_read(struct str text, struct arena *arena, struct str *ret_name, struct str *ret_arguments)
{
    json_t *call = json_read(text, NULL);
    struct str name = json_str(json_object_get(call, "name"));
    const json_t *arguments = json_object_get(call, "arguments");
    bool good = name.n > 0 && json_is_object(arguments);
    if (good) {
        *ret_name = arena_str(arena, name);
        *ret_arguments = dump(arguments, arena);
    }
    json_decref(call);
    return good;
}
