/* Requests without messages: generate and the embeddings. A prompt goes through the model's chat template, as one user
 * message, unless it is raw or something follows it. */
#include "api/ollama/request.h"

static bool refuse(struct err *err, enum err_code code, const char *param, const char *what)
{
    return err_set_param(err, code, param, "'%s' %s", param, what);
}

static bool given(const json_t *document, const char *name)
{
    const json_t *value = json_object_get(document, name);
    return value && !json_is_null(value);
}

/* ---- generate ---- */

struct generate {
    struct str prompt, suffix, system, template;
    const json_t *images, *context;
    bool raw;
};

static bool read_generate(const json_t *document, struct generate *in, struct err *err)
{
    static const struct json_field rows[] = {
        JSON_FIELD(struct generate, prompt, "prompt", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(struct generate, suffix, "suffix", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(struct generate, system, "system", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(struct generate, template, "template", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(struct generate, images, "images", JSON_KIND_ARRAY, 0, 0),
        JSON_FIELD(struct generate, context, "context", JSON_KIND_ARRAY, 0, 0),
        JSON_FIELD(struct generate, raw, "raw", JSON_KIND_BOOL, 0, 0),
    };
    *in = (struct generate){.prompt = STR("")};
    if (!json_fields(document, rows, sizeof rows / sizeof *rows, in, "", err))
        return false;
    if (in->template.n)
        return refuse(err, ERR_NOT_SUPPORTED, "template",
                      "is not supported: the model's own is used; send 'raw' with a finished prompt instead");
    return true;
}

/* Nothing is put around the prompt. */
static bool write_bare(const struct generate *in, const struct ollama_fields *fields, struct ollama_request *request,
                       struct json *out, struct err *err)
{
    const char *how = in->raw ? "raw" : "suffix";
    const char *with = in->system.n                                                                      ? "system"
                       : json_array_size(in->images)                                                     ? "images"
                       : fields->format && json_str(fields->format).n + json_object_size(fields->format) ? "format"
                                                                                                         : NULL;
    if (with)
        return err_set_param(err, ERR_NOT_SUPPORTED, with, "'%s' is not supported together with '%s'", with, how);
    request->path = "/v1/completions";
    json_put_text(out, "prompt", in->prompt);
    if (in->suffix.n)
        json_put_text(out, "suffix", in->suffix);
    return ollama_options_write(fields, request->stream, out, err);
}

static bool write_templated(const struct generate *in, const struct ollama_fields *fields,
                            struct ollama_request *request, struct json *out, struct err *err)
{
    request->path = "/v1/chat/completions";
    json_open_array(out, "messages");
    if (in->system.n) {
        json_open_object(out, NULL);
        json_put_string(out, "role", "system");
        json_put_text(out, "content", in->system);
        json_close(out);
    }
    json_open_object(out, NULL);
    json_put_string(out, "role", "user");
    if (!ollama_content_write(in->prompt, in->images, "", out, err))
        return false;
    json_close(out);
    json_close(out);
    return ollama_format_write(fields, out, err) && ollama_think_write(fields, out, err) &&
           ollama_options_write(fields, request->stream, out, err);
}

bool ollama_generate_write(const json_t *document, const struct ollama_fields *fields, struct ollama_request *request,
                           struct json *out, struct err *err)
{
    struct generate in;
    if (!read_generate(document, &in, err))
        return false;
    request->empty = in.prompt.n == 0 && in.suffix.n == 0 && json_array_size(in.images) == 0;
    if (request->empty)
        return true;
    return in.raw || in.suffix.n ? write_bare(&in, fields, request, out, err)
                                 : write_templated(&in, fields, request, out, err);
}

/* ---- embeddings ---- */

/* The worker reads a text that is too long as an error; cutting it would need the model's tokenizer here. */
bool ollama_embed_write(const json_t *document, struct ollama_request *request, struct json *out, struct err *err)
{
    struct {
        int64_t dimensions;
        bool truncate;
    } in = {.truncate = true};
    static const struct json_field rows[] = {
        JSON_FIELD(__typeof__(in), dimensions, "dimensions", JSON_KIND_INT, 1, INT32_MAX),
        JSON_FIELD(__typeof__(in), truncate, "truncate", JSON_KIND_BOOL, 0, 0),
    };
    const char *name = request->form == OLLAMA_EMBED ? "input" : "prompt";
    const json_t *input = json_object_get(document, name);
    bool list = request->form == OLLAMA_EMBED && json_is_array(input);
    if (!json_fields(document, rows, sizeof rows / sizeof *rows, &in, "", err))
        return false;
    if (given(document, name) && !json_is_string(input) && !list)
        return refuse(err, ERR_INVALID_PARAMETERS, name,
                      request->form == OLLAMA_EMBED ? "must be a string or an array of strings" : "must be a string");
    request->path = "/v1/embeddings";
    request->empty = list ? json_array_size(input) == 0 : json_str(input).n == 0;
    if (request->empty)
        return true;
    json_put_value(out, "input", input);
    json_put_string(out, "encoding_format", "float");
    if (in.dimensions)
        json_put_int(out, "dimensions", in.dimensions);
    return true;
}
