/* The C cover over llama.cpp's `common`: templates (Jinja), the parsers of each model family's replies, and JSON
 * schema to grammar. The only C++ here, because `common` has no other interface; every entry catches everything.
 *
 * Schemas. `common` ignores keywords that it cannot express, some with a line on stderr. A client that was promised
 * a schema must not get less, so schema_check walks the schema first, along the same branches as the converter takes,
 * and refuses every keyword that constrains and is not enforced there. oneOf is enforced as anyOf. Keywords that are
 * no constraints pass.
 *
 * Replies. `common` parses the whole reply anew for each piece, and gives messages, not differences. Most replies
 * need no parsing at all: whether a template's reply format is plain content is found out once a request, with a probe.
 * Otherwise a long reply is parsed again only when it has grown by a fraction of its length, so the cost stays
 * proportional to it. A call's name comes with its first arguments, when it cannot grow any more. */
extern "C" {
#include "base/rand.h"
#include "worker/chat.h"
#include "worker/chat_shim.h"
}

#include <chat.h>
#include <common.h>
#include <json-schema-to-grammar.h>
#include <json.h>
#include <llama.h>
#include <log.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#define PARSE_ALWAYS_BELOW 4096 /* bytes; a longer reply is parsed when it has grown by 1/PARSE_FRACTION */
#define PARSE_FRACTION     128
#define TOOL_ID_CHARS      24

struct chat_templates {
    common_chat_templates_ptr common;
    common_chat_templates_ptr generic; /* made when tools meet a template that knows none */
    bool is_explicit = false;
};

struct chat_format {
    common_chat_parser_params params;
    bool plain = false; /* the reply is content and nothing else */
};

static std::string to_string(struct str text)
{
    return text.p ? std::string(text.p, text.n) : std::string();
}

static const char *to_arena(struct arena *arena, const std::string &text)
{
    return arena_strndup(arena, text.data(), text.size());
}

/* ---- schemas ---- */

namespace
{

struct schema_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

using keys = std::set<std::string>;

const keys constraints = {"$dynamicRef",
                          "$recursiveRef",
                          "$ref",
                          "additionalItems",
                          "additionalProperties",
                          "allOf",
                          "anyOf",
                          "const",
                          "contains",
                          "dependencies",
                          "dependentRequired",
                          "dependentSchemas",
                          "else",
                          "enum",
                          "exclusiveMaximum",
                          "exclusiveMinimum",
                          "format",
                          "if",
                          "items",
                          "maxContains",
                          "maxItems",
                          "maxLength",
                          "maxProperties",
                          "maximum",
                          "minContains",
                          "minItems",
                          "minLength",
                          "minProperties",
                          "minimum",
                          "multipleOf",
                          "not",
                          "oneOf",
                          "pattern",
                          "patternProperties",
                          "prefixItems",
                          "properties",
                          "propertyNames",
                          "required",
                          "then",
                          "type",
                          "unevaluatedItems",
                          "unevaluatedProperties",
                          "uniqueItems"};

class schema_check
{
    const common_json &root;
    std::set<std::string> seen; /* references already checked or being checked */

    [[noreturn]] static void refuse(const std::string &path, const std::string &keyword, const std::string &why)
    {
        throw schema_error("the schema's \"" + keyword + "\" at " + path + " " + why);
    }

    static void allow(const common_json &schema, const std::string &path, const keys &enforced)
    {
        for (const auto &[key, value] : schema.items()) {
            bool void_of_effect = key == "uniqueItems" && value.is_boolean() && value == false;
            if (constraints.count(key) && !enforced.count(key) && !void_of_effect)
                refuse(path, key, "cannot be enforced here");
        }
    }

    const common_json &resolve(const std::string &ref, const std::string &path) const
    {
        if (ref.compare(0, 2, "#/") != 0)
            refuse(path, "$ref", "must point into the same document");
        const common_json *target = &root;
        for (size_t at = 1; at < ref.size();) {
            size_t end = ref.find('/', at + 1);
            std::string part = ref.substr(at + 1, end == std::string::npos ? end : end - at - 1);
            if (!target->is_object() || !target->contains(part))
                refuse(path, "$ref", "points to nothing: " + ref);
            target = &target->at(part);
            at = end == std::string::npos ? ref.size() : end;
        }
        return *target;
    }

    void check_all(const common_json &list, const std::string &path, unsigned depth)
    {
        size_t i = 0;
        if (list.is_array())
            for (const auto &item : list)
                check(item, path + "/" + std::to_string(i++), depth + 1);
    }

    /* `common` merges the properties of objects and intersects enums; it knows no other parts. */
    void check_all_of(const common_json &schema, const std::string &path, unsigned depth)
    {
        allow(schema, path, {"allOf", "type"});
        const common_json &parts = schema.at("allOf");
        bool objects = false, enums = false;
        for (size_t i = 0; parts.is_array() && i < parts.size(); i++) {
            const common_json *part = &parts.at(i);
            for (unsigned hops = 0; part->is_object() && part->contains("$ref"); hops++) {
                if (hops == LIMIT_SCHEMA_DEPTH || !part->at("$ref").is_string())
                    refuse(path, "$ref", "leads nowhere");
                part = &resolve(part->at("$ref").get<std::string>(), path);
            }
            objects |= part->is_object() && part->contains("properties");
            enums |= part->is_object() && part->contains("enum");
            if (!part->is_object() || part->contains("properties") == part->contains("enum"))
                refuse(path, "allOf", "can combine only objects with properties, or only enums");
        }
        if (objects && enums)
            refuse(path, "allOf", "can combine only objects with properties, or only enums");
        check_all(parts, path + "/allOf", depth);
    }

    void check_object(const common_json &schema, const std::string &path, unsigned depth)
    {
        allow(schema, path, {"type", "properties", "required", "additionalProperties"});
        static const common_json none = common_json::object();
        const common_json &properties = schema.contains("properties") ? schema.at("properties") : none;
        if (schema.contains("required") && schema.at("required").is_array())
            for (const auto &name : schema.at("required"))
                if (!name.is_string() || !properties.is_object() || !properties.contains(name.get<std::string>()))
                    refuse(path, "required", "names a property that \"properties\" does not describe");
        if (properties.is_object())
            for (const auto &[name, property] : properties.items())
                check(property, path + "/properties/" + name, depth + 1);
        if (schema.contains("additionalProperties") && schema.at("additionalProperties").is_object())
            check(schema.at("additionalProperties"), path + "/additionalProperties", depth + 1);
    }

    void check_array(const common_json &schema, const std::string &path, unsigned depth)
    {
        const std::string key = schema.contains("items") ? "items" : "prefixItems";
        if (schema.contains(key) && schema.at(key).is_array()) {
            allow(schema, path, {"type", key});
            check_all(schema.at(key), path + "/" + key, depth);
            return;
        }
        allow(schema, path, {"type", "items", "minItems", "maxItems"});
        if (schema.contains("items"))
            check(schema.at("items"), path + "/items", depth + 1);
    }

    static void check_string(const common_json &schema, const std::string &path)
    {
        static const keys formats = {"date", "time", "date-time", "uuid", "uuid1", "uuid2", "uuid3", "uuid4", "uuid5"};
        if (schema.contains("pattern")) {
            allow(schema, path, {"type", "pattern"});
            common_json alone = common_json::object({{"type", "string"}});
            alone["pattern"] = schema.at("pattern");
            if (json_schema_to_grammar(alone, true).find("root ::= string\n") != std::string::npos) /* any string */
                refuse(path, "pattern", "uses what a grammar cannot express; anchor it with ^ and $");
        } else if (schema.contains("format")) {
            allow(schema, path, {"type", "format"});
            if (!schema.at("format").is_string() || !formats.count(schema.at("format").get<std::string>()))
                refuse(path, "format", "can be date, time, date-time or uuid only");
        } else {
            allow(schema, path, {"type", "minLength", "maxLength"});
        }
    }

    static void check_integer(const common_json &schema, const std::string &path)
    {
        allow(schema, path, {"type", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"});
        if (schema.contains("minimum") && schema.contains("exclusiveMinimum"))
            refuse(path, "exclusiveMinimum", "cannot be enforced beside \"minimum\"");
        if (schema.contains("maximum") && schema.contains("exclusiveMaximum"))
            refuse(path, "exclusiveMaximum", "cannot be enforced beside \"maximum\"");
    }

    void check_type(const common_json &schema, const std::string &type, const std::string &path, unsigned depth)
    {
        bool properties = schema.contains("properties") ||
                          (schema.contains("additionalProperties") && schema.at("additionalProperties") != true);
        bool items = schema.contains("items") || schema.contains("prefixItems");
        bool text = schema.contains("pattern") || schema.contains("minLength") || schema.contains("maxLength");
        if (schema.contains("allOf") && !properties && (type.empty() || type == "object" || type == "string"))
            check_all_of(schema, path, depth);
        else if (type == "object" || (type.empty() && properties))
            check_object(schema, path, depth);
        else if (type == "array" || (type.empty() && items))
            check_array(schema, path, depth);
        else if (type == "string" || (type.empty() && (text || schema.contains("format"))))
            check_string(schema, path);
        else if (type == "integer")
            check_integer(schema, path);
        else
            allow(schema, path, type == "number" ? keys{"type", "format"} : keys{"type"});
    }

  public:
    explicit schema_check(const common_json &root) : root(root)
    {
    }

    void check(const common_json &schema, const std::string &path, unsigned depth)
    {
        if (depth > LIMIT_SCHEMA_DEPTH)
            throw schema_error("the schema is nested deeper than is allowed");
        if (!schema.is_object())
            throw schema_error("the schema at " + path + " is not an object");
        if (schema.contains("$ref")) {
            allow(schema, path, {"$ref"});
            if (!schema.at("$ref").is_string())
                refuse(path, "$ref", "must be a string");
            std::string ref = schema.at("$ref").get<std::string>();
            if (seen.insert(ref).second)
                check(resolve(ref, path), ref, depth + 1);
        } else if (schema.contains("oneOf") || schema.contains("anyOf")) {
            const std::string key = schema.contains("oneOf") ? "oneOf" : "anyOf";
            allow(schema, path, {key});
            check_all(schema.at(key), path + "/" + key, depth);
        } else if (schema.contains("type") && schema.at("type").is_array()) {
            for (const auto &type : schema.at("type")) {
                common_json alternative = schema;
                alternative["type"] = type;
                check(alternative, path, depth + 1);
            }
        } else if (schema.contains("const") || schema.contains("enum")) {
            allow(schema, path, {"type", schema.contains("const") ? "const" : "enum"});
        } else {
            bool typed = schema.contains("type") && schema.at("type").is_string();
            check_type(schema, typed ? schema.at("type").get<std::string>() : "", path, depth);
        }
    }
};

/* Throws schema_error. An empty schema stands for any object (response_format json_object). */
common_json read_schema(const std::string &text)
{
    common_json schema = common_json::parse(text);
    if (schema.is_object() && schema.empty())
        return common_json::object({{"type", "object"}});
    schema_check(schema).check(schema, "#", 0);
    return schema;
}

/* OpenAI promises a tool's schema only where the tool says strict. */
void check_tools(const common_json &tools)
{
    for (const auto &tool : tools) {
        if (!tool.is_object() || !tool.contains("function") || !tool.at("function").is_object())
            throw schema_error("a tool has no \"function\"");
        const common_json &function = tool.at("function");
        bool strict =
            function.contains("strict") && function.at("strict").is_boolean() && function.at("strict") == true;
        if (!strict || !function.contains("parameters") || !function.at("parameters").is_object())
            continue;
        const common_json &parameters = function.at("parameters");
        schema_check(parameters).check(parameters, "#", 0);
    }
}

} // namespace

/* Runs body; what it throws becomes *err. */
template <typename Body> static bool guard(struct err *err, const char *param, Body body)
{
    try {
        body();
        return true;
    } catch (const std::exception &e) {
        return err_set_param(err, ERR_INVALID_PARAMETERS, param, "%s", e.what());
    } catch (...) {
        return err_set_param(err, ERR_INVALID_PARAMETERS, param, "unknown failure");
    }
}

const char *chat_schema_to_grammar(struct str schema, struct arena *arena, struct err *err)
{
    const char *grammar = nullptr;
    guard(err, "response_format",
          [&] { grammar = to_arena(arena, json_schema_to_grammar(read_schema(to_string(schema)), true)); });
    return grammar;
}

/* ---- templates ---- */

struct chat_templates *chat_templates_new(const struct engine_info *info, const char *override, struct err *err)
{
    std::unique_ptr<chat_templates> templates(new chat_templates);
    common_log_set_verbosity_thold(-1); /* its own log would start a thread and write to stderr */
    bool good = guard(err, "chat_template", [&] {
        const auto *model = static_cast<const struct llama_model *>(info->llama_model);
        std::string source = override ? override : model ? "" : info->chat_template;
        templates->is_explicit = override || *info->chat_template;
        if (!model && source.empty())
            source = "chatml";
        templates->common = common_chat_templates_init(model, source, info->bos_text, info->eos_text);
    });
    return good ? templates.release() : nullptr;
}

void chat_templates_free(struct chat_templates *templates)
{
    delete templates;
}

bool chat_templates_explicit(const struct chat_templates *templates)
{
    return templates->is_explicit;
}

bool chat_templates_think(const struct chat_templates *templates)
{
    bool thinks = false;
    guard(nullptr, "", [&] { thinks = common_chat_templates_support_enable_thinking(templates->common.get()); });
    return thinks;
}

static common_chat_templates_inputs read_request(const struct chat_request *request)
{
    common_chat_templates_inputs inputs;
    inputs.messages = common_chat_msgs_parse_oaicompat(common_json::parse(to_string(request->messages)));
    inputs.grammar = to_string(request->grammar);
    inputs.add_generation_prompt = request->add_generation_prompt;
    inputs.parallel_tool_calls = request->parallel_tool_calls;
    inputs.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
    inputs.enable_thinking = request->enable_thinking;
    inputs.tool_choice = request->tool_choice == CHAT_TOOLS_REQUIRED ? COMMON_CHAT_TOOL_CHOICE_REQUIRED
                         : request->tool_choice == CHAT_TOOLS_NONE   ? COMMON_CHAT_TOOL_CHOICE_NONE
                                                                     : COMMON_CHAT_TOOL_CHOICE_AUTO;
    if (request->template_kwargs.n > 0)
        for (const auto &[key, value] : common_json::parse(to_string(request->template_kwargs)).items())
            inputs.chat_template_kwargs[key] = value.dump();
    return inputs;
}

static engine_token single_token(const struct engine_ops *ops, const struct engine *engine, const std::string &text)
{
    engine_token tokens[4];
    struct str view = {text.data(), text.size()};
    return ops->tokenize(engine, view, false, true, tokens, 4) == 1 ? tokens[0] : ENGINE_TOKEN_NONE;
}

static std::string anchored(const std::string &pattern)
{
    return (pattern.empty() || pattern.front() != '^' ? "^" : "") + pattern +
           (pattern.empty() || pattern.back() != '$' ? "$" : "");
}

static void put_triggers(const common_chat_params &params, const struct engine_ops *ops, const struct engine *engine,
                         struct arena *arena, struct chat_prompt *prompt)
{
    size_t count = params.grammar_triggers.size();
    auto **patterns = static_cast<const char **>(arena_alloc(arena, (count + 1) * sizeof(char *)));
    auto *tokens = static_cast<engine_token *>(arena_alloc(arena, (count + 1) * sizeof(engine_token)));
    prompt->trigger_patterns = patterns;
    prompt->trigger_tokens = tokens;
    for (const auto &trigger : params.grammar_triggers) {
        bool word = trigger.type == COMMON_GRAMMAR_TRIGGER_TYPE_WORD;
        engine_token token = word ? single_token(ops, engine, trigger.value)
                             : trigger.type == COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN ? trigger.token
                                                                                 : ENGINE_TOKEN_NONE;
        if (token != ENGINE_TOKEN_NONE)
            tokens[prompt->trigger_token_count++] = token;
        else if (word)
            patterns[prompt->trigger_pattern_count++] = to_arena(arena, regex_escape(trigger.value));
        else if (trigger.type == COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN)
            patterns[prompt->trigger_pattern_count++] = to_arena(arena, trigger.value);
        else
            patterns[prompt->trigger_pattern_count++] = to_arena(arena, anchored(trigger.value));
    }
}

static void put_texts(const common_chat_params &params, const struct engine_ops *ops, const struct engine *engine,
                      struct arena *arena, struct chat_prompt *prompt)
{
    prompt->text = arena_str(arena, {params.prompt.data(), params.prompt.size()});
    auto *stops =
        static_cast<struct str *>(arena_alloc(arena, (params.additional_stops.size() + 1) * sizeof(struct str)));
    prompt->stops = stops;
    for (const auto &stop : params.additional_stops)
        stops[prompt->stop_count++] = arena_str(arena, {stop.data(), stop.size()});
    auto *preserved =
        static_cast<engine_token *>(arena_alloc(arena, (params.preserved_tokens.size() + 1) * sizeof(engine_token)));
    prompt->preserved = preserved;
    for (const auto &text : params.preserved_tokens) {
        engine_token token = single_token(ops, engine, text);
        if (token != ENGINE_TOKEN_NONE)
            preserved[prompt->preserved_count++] = token;
    }
}

/* Whether what is parsed comes out as it went in. */
static bool is_plain(const common_chat_parser_params &params)
{
    static const std::string probe = " A [b] <c> {\"d\": 1}\n\n**e** ";
    try {
        common_chat_msg message = common_chat_parse(probe, true, params);
        return message.content == probe && message.reasoning_content.empty() && message.tool_calls.empty();
    } catch (...) {
        return false;
    }
}

using format_ptr = std::shared_ptr<chat_format>;

static void free_format(void *arg)
{
    delete static_cast<format_ptr *>(arg);
}

static void put_format(const common_chat_params &params, bool tools, struct arena *arena, struct chat_prompt *prompt)
{
    auto format = std::make_shared<chat_format>();
    format->params = common_chat_parser_params(params);
    format->params.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
    format->params.parse_tool_calls = tools;
    if (!params.parser.empty())
        format->params.parser.load(params.parser);
    format->plain = !tools && is_plain(format->params) && params.thinking_start_tag.empty();
    auto *held = new format_ptr(format);
    arena_on_dispose(arena, free_format, held);
    prompt->format = reinterpret_cast<struct chat_format *>(held);
}

/* A template that knows no tools would drop them without a word. Then the tools, the calls made so far and their
 * results are told to the model as text, in its own template; the reply's format (parser, grammar, triggers) is that
 * of the template below, whose calls look like those of many models. */
static const char generic_source[] =
    "{%- if tools %}<|im_start|>system\nTools: {% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n"
    "{% endif %}{%- for message in messages %}<|im_start|>{{ message.role }}\n"
    "{%- if message.content %}{{ message.content }}{% endif %}"
    "{%- if message.tool_calls %}{% for call in message.tool_calls %}<tool_call>\n"
    "{\"name\": \"{{ call.function.name }}\", \"arguments\": {{ call.function.arguments | tojson }}}\n</tool_call>"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/* The rule for text before a forced call goes: a model untrained for calls would never end it. */
static void forbid_free_text(std::string &grammar)
{
    size_t root = grammar.find("root ::= "), end = grammar.find('\n', root), until = grammar.find("until-", root);
    size_t calls = grammar.find("tool-calls", root);
    if (root != std::string::npos && until < calls && calls < end)
        grammar.erase(until, calls - until);
}

/* `common` lets some formats repeat their calls whatever was asked. */
static void forbid_repeats(std::string &grammar)
{
    static const std::string repeated = "\ntool-calls ::= (tool-call space)+";
    size_t at = grammar.find(repeated);
    if (at != std::string::npos)
        grammar.erase(at + repeated.size() - 1, 1);
}

static void tell_tools(common_chat_templates_inputs &inputs)
{
    std::string text = "You can call these functions:\n" + common_chat_tools_to_json_oaicompat(inputs.tools).dump() +
                       "\nTo call one, reply with <tool_call>\n{\"name\": ..., \"arguments\": {...}}\n</tool_call> "
                       "and nothing else.";
    for (auto &message : inputs.messages) {
        for (const auto &call : message.tool_calls)
            message.content += "<tool_call>\n{\"name\": " + common_json::make(call.name).dump() +
                               ", \"arguments\": " + (call.arguments.empty() ? "{}" : call.arguments) +
                               "}\n</tool_call>";
        message.tool_calls.clear();
        if (message.role == "tool") {
            message.role = "user";
            message.content = "<tool_response>\n" + message.content + "\n</tool_response>";
        }
    }
    if (!inputs.messages.empty() && inputs.messages[0].role == "system" && inputs.messages[0].content_parts.empty()) {
        inputs.messages[0].content += "\n\n" + text;
    } else {
        common_chat_msg system;
        system.role = "system";
        system.content = text;
        inputs.messages.insert(inputs.messages.begin(), system);
    }
    inputs.tools.clear();
}

static common_chat_params apply(struct chat_templates *templates, const common_chat_templates_inputs &inputs)
{
    bool tools = !inputs.tools.empty() && inputs.tool_choice != COMMON_CHAT_TOOL_CHOICE_NONE;
    if (!tools || common_chat_templates_get_caps(templates->common.get())["supports_tools"])
        return common_chat_templates_apply(templates->common.get(), inputs);
    if (!templates->generic)
        templates->generic = common_chat_templates_init(nullptr, generic_source);
    common_chat_params params = common_chat_templates_apply(templates->generic.get(), inputs);
    if (inputs.tool_choice == COMMON_CHAT_TOOL_CHOICE_REQUIRED)
        forbid_free_text(params.grammar);
    common_chat_templates_inputs told = inputs;
    told.json_schema.clear();
    tell_tools(told);
    params.prompt = common_chat_templates_apply(templates->common.get(), told).prompt;
    return params;
}

static bool read_constraints(const struct chat_request *request, common_chat_templates_inputs &inputs, struct err *err)
{
    bool tools = request->tools.n > 0 && request->tool_choice != CHAT_TOOLS_NONE;
    return guard(err, "response_format",
                 [&] {
                     if (request->json_schema.n > 0)
                         inputs.json_schema = read_schema(to_string(request->json_schema)).dump();
                 }) &&
           guard(err, "tools", [&] {
               if (request->tools.n == 0)
                   return;
               common_json list = common_json::parse(to_string(request->tools));
               if (tools)
                   check_tools(list);
               inputs.tools = common_chat_tools_parse_oaicompat(list);
           });
}

bool chat_render(struct chat_templates *templates, const struct engine_ops *ops, const struct engine *engine,
                 const struct chat_request *request, struct arena *arena, struct chat_prompt *ret_prompt,
                 struct err *err)
{
    common_chat_templates_inputs inputs;
    if (!guard(err, "messages", [&] { inputs = read_request(request); }) || !read_constraints(request, inputs, err))
        return false;
    return guard(err, "messages", [&] {
        common_chat_params params = apply(templates, inputs);
        struct chat_prompt prompt = {};
        bool own = !inputs.grammar.empty();
        bool tools = !inputs.tools.empty() && inputs.tool_choice != COMMON_CHAT_TOOL_CHOICE_NONE;
        if (!inputs.parallel_tool_calls)
            forbid_repeats(params.grammar);
        bool direct = params.grammar.empty() && !inputs.json_schema.empty();
        if (direct) /* a template whose format knows no schemas */
            params.grammar = json_schema_to_grammar(common_json::parse(inputs.json_schema), true);
        put_texts(params, ops, engine, arena, &prompt);
        if (!params.grammar.empty()) {
            prompt.grammar = to_arena(arena, params.grammar);
            prompt.grammar_lazy = params.grammar_lazy;
            put_triggers(params, ops, engine, arena, &prompt);
            if (!own && !direct && !params.grammar_lazy && !params.generation_prompt.empty())
                prompt.grammar_prefill = to_arena(arena, params.generation_prompt);
        }
        put_format(params, tools, arena, &prompt);
        *ret_prompt = prompt;
    });
}

/* ---- replies ---- */

struct chat_parser {
    format_ptr format;
    std::string text;
    size_t parsed = 0; /* bytes of text at the last parse */
    common_chat_msg message;
    std::vector<std::string> ids;
    std::set<size_t> announced; /* calls whose id and name are out */
};

typedef void on_delta_fn(void *arg, const struct chat_delta *delta);

static struct str view(const std::string &text)
{
    return {text.data(), text.size()};
}

static void give_text(const std::string &content, const std::string &reasoning, on_delta_fn *on_delta, void *arg)
{
    if (content.empty() && reasoning.empty())
        return;
    struct chat_delta delta = {};
    delta.content = view(content);
    delta.reasoning = view(reasoning);
    delta.tool_index = -1;
    on_delta(arg, &delta);
}

static void give_call(struct chat_parser *parser, size_t index, const std::string &arguments, on_delta_fn *on_delta,
                      void *arg)
{
    const common_chat_tool_call &call = parser->message.tool_calls[index];
    bool first = parser->announced.insert(index).second;
    if (!first && arguments.empty())
        return;
    struct chat_delta delta = {};
    delta.tool_index = static_cast<int>(index);
    delta.tool_id = first ? view(call.id) : STR_NONE;
    delta.tool_name = first ? view(call.name) : STR_NONE;
    delta.tool_arguments = view(arguments);
    on_delta(arg, &delta);
}

static std::string new_id()
{
    char text[TOOL_ID_CHARS + 1];
    return std::string("call_") + rand_text(text, TOOL_ID_CHARS);
}

/* Parses all there is and gives out what is new. Throws when the text does not fit the format. */
static void parse_more(struct chat_parser *parser, bool final, on_delta_fn *on_delta, void *arg)
{
    common_chat_msg next = common_chat_parse(parser->text, !final, parser->format->params);
    next.set_tool_call_ids(parser->ids, new_id);
    auto diffs = common_chat_msg_diff::compute_diffs(parser->message, next);
    parser->message = next;
    for (const auto &diff : diffs) {
        give_text(diff.content_delta, diff.reasoning_content_delta, on_delta, arg);
        if (diff.tool_call_index == std::string::npos)
            continue;
        for (size_t i = 0; i < diff.tool_call_index; i++) /* a later call has begun: these are complete */
            if (!parser->announced.count(i))
                give_call(parser, i, "", on_delta, arg);
        if (final || parser->announced.count(diff.tool_call_index) || !diff.tool_call_delta.arguments.empty())
            give_call(parser, diff.tool_call_index, diff.tool_call_delta.arguments, on_delta, arg);
    }
    for (size_t i = 0; final && i < next.tool_calls.size(); i++)
        if (!parser->announced.count(i))
            give_call(parser, i, "", on_delta, arg);
}

struct chat_parser *chat_parser_new(const struct chat_prompt *prompt)
{
    auto *parser = new chat_parser;
    parser->format = *reinterpret_cast<format_ptr *>(prompt->format);
    return parser;
}

void chat_parser_free(struct chat_parser *parser)
{
    delete parser;
}

/* The reply is not what its format promises: whatever of it is not out yet goes out as content. */
static void give_rest(struct chat_parser *parser, on_delta_fn *on_delta, void *arg)
{
    const std::string &out = parser->message.content;
    bool continues = parser->text.compare(0, out.size(), out) == 0;
    give_text(continues ? parser->text.substr(out.size()) : parser->text, "", on_delta, arg);
}

void chat_parser_feed(struct chat_parser *parser, struct str text, bool final, on_delta_fn *on_delta, void *arg)
{
    if (parser->format->plain) {
        if (text.n > 0)
            give_text(to_string(text), "", on_delta, arg);
        return;
    }
    parser->text.append(text.p ? text.p : "", text.n);
    size_t size = parser->text.size();
    if (!final && size > PARSE_ALWAYS_BELOW && size - parser->parsed < size / PARSE_FRACTION)
        return;
    parser->parsed = size;
    try {
        parse_more(parser, final, on_delta, arg);
    } catch (...) {
        if (final)
            give_rest(parser, on_delta, arg);
    }
}

/* ---- grammars, for engine_llama.c ---- */

struct llama_sampler *shim_grammar_new(const struct llama_vocab *vocab, const char *text, bool lazy,
                                       const char *const *patterns, size_t pattern_count, const int32_t *tokens,
                                       size_t token_count, struct err *err)
{
    struct llama_sampler *sampler = nullptr;
    bool good = guard(err, "grammar", [&] {
        std::vector<const char *> copy(patterns, patterns + pattern_count);
        copy.push_back(nullptr); /* so that data() is never NULL */
        std::vector<int32_t> ids(tokens, tokens + token_count);
        ids.push_back(0);
        sampler = lazy ? llama_sampler_init_grammar_lazy_patterns(vocab, text, "root", copy.data(), pattern_count,
                                                                  ids.data(), token_count)
                       : llama_sampler_init_grammar(vocab, text, "root");
    });
    if (good && !sampler)
        err_set_param(err, ERR_INVALID_PARAMETERS, "grammar", "the grammar does not parse");
    return sampler;
}

bool shim_grammar_accept(struct llama_sampler *grammar, int32_t token)
{
    return guard(nullptr, "", [&] { llama_sampler_accept(grammar, token); });
}
