#include "openai/chat_request.h"

#include "base/json_write.h"

/* The members that chat has beside the shared sampling ones. */
struct chat_fields {
    const json_t *response_format, *kwargs, *modalities, *audio, *suffix;
    struct str effort;
};

/* A jansson value as JSON text in the arena. */
static struct str dump(const json_t *value, struct arena *arena)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    struct str copy = text ? arena_str(arena, str_from(text)) : STR_NONE;
    free(text);
    return copy;
}

static bool read_json_schema(const json_t *format, struct arena *arena, struct openai_chat *chat, struct err *err)
{
    struct {
        struct str name;
        const json_t *schema;
    } in = {0};
    static const struct json_field fields[] = {
        {.name = "name",
         .kind = JSON_KIND_TEXT,
         .offset = offsetof(__typeof__(in), name),
         .min = 1,
         .max = LIMIT_TOOL_NAME,
         .required = true},
        {.name = "schema", .kind = JSON_KIND_OBJECT, .offset = offsetof(__typeof__(in), schema)},
    };
    const json_t *holder = json_object_get(format, "json_schema");
    if (!json_is_object(holder))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "response_format.json_schema",
                             "'response_format.json_schema' must be an object");
    if (!json_fields(holder, fields, 2, &in, "response_format.json_schema", err))
        return false;
    chat->json_schema = in.schema ? dump(in.schema, arena) : STR("{}");
    return true;
}

static bool read_response_format(const json_t *format, struct arena *arena, struct openai_chat *chat, struct err *err)
{
    struct str type = json_str(json_object_get(format, "type"));
    if (str_eq(type, STR("text")))
        return true;
    if (str_eq(type, STR("json_schema")))
        return read_json_schema(format, arena, chat, err);
    if (!str_eq(type, STR("json_object")))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "response_format.type",
                             "'response_format.type' must be 'text', 'json_object' or 'json_schema'");
    const json_t *schema = json_object_get(format, "schema"); /* llama-server's extension */
    chat->json_schema = json_is_object(schema) ? dump(schema, arena) : STR("{\"type\":\"object\"}");
    return true;
}

/* Text is all there is. */
static bool check_modalities(const struct chat_fields *in, struct err *err)
{
    if (in->audio)
        return err_set_param(err, ERR_NOT_SUPPORTED, "audio", "'audio' output is not supported");
    for (size_t i = 0; i < json_array_size(in->modalities); i++)
        if (!str_eq(json_str(json_array_get(in->modalities, i)), STR("text")))
            return err_set_param(err, ERR_NOT_SUPPORTED, "modalities",
                                 "'modalities' other than text are not supported");
    if (in->suffix)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "suffix", "'suffix' belongs to /v1/completions");
    return true;
}

/* reasoning_effort in the three words that templates know. */
static bool map_effort(struct str effort, const char **ret_word, struct err *err)
{
    static const struct {
        const char *effort, *word;
    } rows[] = {
        {"none", NULL},   {"minimal", "low"}, {"low", "low"},  {"medium", "medium"},
        {"high", "high"}, {"xhigh", "high"},  {"max", "high"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!str_eq(effort, str_from(rows[i].effort)))
            continue;
        *ret_word = rows[i].word;
        return true;
    }
    return err_set_param(err, ERR_INVALID_PARAMETERS, "reasoning_effort",
                         "'reasoning_effort' must be one of none, minimal, low, medium, high, xhigh, max");
}

/* What the client says in chat_template_kwargs goes before what reasoning_effort implies. */
static bool read_reasoning(const struct chat_fields *in, struct arena *arena, struct openai_chat *chat, struct err *err)
{
    const char *word = NULL;
    if (in->effort.p && !map_effort(in->effort, &word, err))
        return false;
    chat->enable_thinking = !in->effort.p || word;
    const json_t *asked = json_object_get(in->kwargs, "enable_thinking");
    if (json_is_boolean(asked))
        chat->enable_thinking = json_is_true(asked);
    if (!in->kwargs && !word)
        return true;
    json_t *merged = json_object();
    if (word)
        json_object_set_new(merged, "reasoning_effort", json_string(word));
    json_object_update(merged, (json_t *)in->kwargs);
    chat->template_kwargs = dump(merged, arena);
    json_decref(merged);
    return true;
}

static bool check_constraints(struct openai_chat *chat, struct err *err)
{
    if (chat->sampling.grammar.n == 0)
        chat->sampling.grammar = STR_NONE;
    bool calls = chat->tools.p && chat->tool_mode != OPENAI_TOOLS_NONE;
    if (chat->sampling.grammar.p && (chat->json_schema.p || calls))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "grammar", "'grammar' cannot be combined with '%s'",
                             chat->json_schema.p ? "response_format" : "tools");
    /* A forced call leaves no room for a reply of another shape: tools win. */
    if (calls && chat->tool_mode == OPENAI_TOOLS_REQUIRED)
        chat->json_schema = STR_NONE;
    return true;
}

static bool read_own_fields(const json_t *document, struct arena *arena, struct openai_chat *chat, struct err *err)
{
    static const struct json_field fields[] = {
        JSON_FIELD(struct openai_chat, sampling.max_tokens, "max_tokens", JSON_KIND_INT, 1, INT32_MAX),
        JSON_FIELD(struct openai_chat, sampling.max_tokens, "max_completion_tokens", JSON_KIND_INT, 1, INT32_MAX),
        JSON_FIELD(struct openai_chat, logprobs, "logprobs", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(struct openai_chat, top_logprobs, "top_logprobs", JSON_KIND_INT, 0, LIMIT_TOP_LOGPROBS),
        JSON_FIELD(struct openai_chat, parallel_tool_calls, "parallel_tool_calls", JSON_KIND_BOOL, 0, 0),
    };
    static const struct json_field more_fields[] = {
        JSON_FIELD(struct chat_fields, response_format, "response_format", JSON_KIND_OBJECT, 0, 0),
        JSON_FIELD(struct chat_fields, kwargs, "chat_template_kwargs", JSON_KIND_OBJECT, 0, 0),
        JSON_FIELD(struct chat_fields, modalities, "modalities", JSON_KIND_ARRAY, 0, 0),
        JSON_FIELD(struct chat_fields, audio, "audio", JSON_KIND_ANY, 0, 0),
        JSON_FIELD(struct chat_fields, suffix, "suffix", JSON_KIND_ANY, 0, 0),
        JSON_FIELD(struct chat_fields, effort, "reasoning_effort", JSON_KIND_TEXT, 0, 0),
    };
    struct chat_fields in = {0};
    if (!json_fields(document, fields, sizeof fields / sizeof *fields, chat, "", err) ||
        !json_fields(document, more_fields, sizeof more_fields / sizeof *more_fields, &in, "", err))
        return false;
    const json_t *top = json_object_get(document, "top_logprobs");
    if (top && !json_is_null(top) && !chat->logprobs)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "top_logprobs",
                             "'top_logprobs' is only allowed together with 'logprobs': true");
    return check_modalities(&in, err) &&
           (!in.response_format || read_response_format(in.response_format, arena, chat, err)) &&
           read_reasoning(&in, arena, chat, err);
}

bool openai_chat_from_document(const json_t *document, const struct openai_defaults *defaults, struct arena *arena,
                               struct openai_chat *ret_request, struct err *err)
{
    struct openai_chat chat = {.parallel_tool_calls = true};
    openai_sampling_init(&chat.sampling, defaults);
    if (!openai_sampling_read(document, arena, &chat.sampling, err) ||
        !openai_messages_read(document, arena, &chat, err) || !openai_tools_read(document, arena, &chat, err) ||
        !read_own_fields(document, arena, &chat, err) || !check_constraints(&chat, err))
        return false;
    *ret_request = chat;
    return true;
}

bool openai_chat_read(struct str body, const struct openai_defaults *defaults, struct arena *arena,
                      struct openai_chat *ret_request, struct err *err)
{
    struct openai_chat chat;
    struct str model;
    const json_t *document = openai_document_read(body, arena, err);
    if (!document || !openai_model_read(document, &model, err) ||
        !openai_chat_from_document(document, defaults, arena, &chat, err))
        return false;
    chat.model = model;
    *ret_request = chat;
    return true;
}
