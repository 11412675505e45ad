#include "api/ollama/request.h"

#include <math.h>

#include "openai/request.h"

#define WITHOUT_END INT32_MAX /* tokens: until the context is full */

static bool refuse(struct err *err, enum err_code code, const char *param, const char *what)
{
    return err_set_param(err, code, param, "'%s' %s", param, what);
}

/* ---- names ---- */

static bool cut_start(struct str *text, struct str start)
{
    if (!str_starts(*text, start))
        return false;
    *text = (struct str){text->p + start.n, text->n - start.n};
    return true;
}

static bool cut_end(struct str *text, struct str end)
{
    if (text->n <= end.n || !str_ieq((struct str){text->p + text->n - end.n, end.n}, end))
        return false;
    text->n -= end.n;
    return true;
}

struct str ollama_model_name(struct str name, struct arena *arena)
{
    struct str rest = name;
    cut_end(&rest, STR(":latest"));
    if (!cut_start(&rest, STR("hf.co/")) && !cut_start(&rest, STR("huggingface.co/")))
        return rest;
    struct str tag = rest, repository = str_cut(&tag, ':'), model = repository, organisation = str_cut(&model, '/');
    if (!model.n || !organisation.n)
        return rest;
    cut_end(&model, STR("-GGUF"));
    if (!tag.n)
        return model;
    return str_from(arena_printf(arena, STR_FMT ":" STR_FMT, STR_ARG(model), STR_ARG(tag)));
}

/* ---- keep_alive ---- */

static const struct unit {
    struct str name;
    double seconds;
} units[] = {{STR("ns"), 1e-9}, {STR("us"), 1e-6}, {STR("ms"), 1e-3}, {STR("s"), 1}, {STR("m"), 60}, {STR("h"), 3600}};

static double take_digits(struct str *text)
{
    double number = 0, place = 1;
    bool behind_point = false;
    for (; text->n && ((*text->p >= '0' && *text->p <= '9') || (*text->p == '.' && !behind_point));
         text->p++, text->n--) {
        if (*text->p == '.') {
            behind_point = true;
            continue;
        }
        number = number * 10 + (*text->p - '0');
        place *= behind_point ? 10 : 1;
    }
    return number / place;
}

/* Go's durations: "5m", "1h30m", "-1s"; a bare number is seconds. */
static bool read_duration(struct str text, double *ret_seconds)
{
    double sign = cut_start(&text, STR("-")) ? -1 : 1, sum = 0;
    bool any = false;
    if (sign > 0)
        cut_start(&text, STR("+"));
    while (text.n) {
        size_t before = text.n, i = 0;
        double number = take_digits(&text);
        if (text.n == before)
            return false;
        while (i < sizeof units / sizeof *units && !cut_start(&text, units[i].name))
            i++;
        if (i == sizeof units / sizeof *units && (any || text.n))
            return false;
        sum += i < sizeof units / sizeof *units ? number * units[i].seconds : number;
        any = true;
    }
    *ret_seconds = sign * sum;
    return any;
}

static bool read_keep(const json_t *value, struct ollama_keep *keep, struct err *err)
{
    double seconds = 0;
    if (!value || json_is_null(value))
        return true;
    if (json_is_number(value))
        seconds = json_number_value(value);
    else if (!json_is_string(value) || !read_duration(json_str(value), &seconds))
        return refuse(err, ERR_INVALID_PARAMETERS, "keep_alive",
                      "must be a number of seconds or a duration such as \"5m\"");
    /* Years are for ever: the largest ttl that the configuration takes is one year. */
    keep->given = true;
    keep->seconds = seconds < 0 || seconds > 31536000 ? -1 : (int64_t)ceil(seconds);
    return true;
}

/* ---- options ---- */

struct options {
    double temperature, top_p, min_p, typical_p, repeat_penalty, presence, frequency, tau, eta;
    int64_t mirostat, top_k, predict, repeat_last, seed;
    const json_t *stop;
};

static const struct {
    const char *name, *meaning;
    bool whole;
    size_t offset;
} passed_on[] = {
    {"temperature", "temperature", false, offsetof(struct options, temperature)},
    {"top_p", "top_p", false, offsetof(struct options, top_p)},
    {"min_p", "min_p", false, offsetof(struct options, min_p)},
    {"typical_p", "typical_p", false, offsetof(struct options, typical_p)},
    {"repeat_penalty", "repeat_penalty", false, offsetof(struct options, repeat_penalty)},
    {"presence_penalty", "presence_penalty", false, offsetof(struct options, presence)},
    {"frequency_penalty", "frequency_penalty", false, offsetof(struct options, frequency)},
    {"mirostat_tau", "mirostat_tau", false, offsetof(struct options, tau)},
    {"mirostat_eta", "mirostat_eta", false, offsetof(struct options, eta)},
    {"mirostat", "mirostat", true, offsetof(struct options, mirostat)},
    {"top_k", "top_k", true, offsetof(struct options, top_k)},
    {"num_predict", "max_tokens", true, offsetof(struct options, predict)},
    {"repeat_last_n", "repeat_last_n", true, offsetof(struct options, repeat_last)},
    {"seed", "seed", true, offsetof(struct options, seed)},
};

/* What belongs to the process (num_ctx, num_gpu, num_thread...) is not a request's to choose here; Ollama passes over
 * options that it does not know, and so are these. */
static bool read_options(const json_t *object, struct options *o, struct err *err)
{
    static const struct json_field fields[] = {
        JSON_FIELD(struct options, temperature, "temperature", JSON_KIND_NUMBER, 0, 2),
        JSON_FIELD(struct options, top_p, "top_p", JSON_KIND_NUMBER, 0, 1),
        JSON_FIELD(struct options, min_p, "min_p", JSON_KIND_NUMBER, 0, 1),
        JSON_FIELD(struct options, typical_p, "typical_p", JSON_KIND_NUMBER, 0, 1),
        JSON_FIELD(struct options, repeat_penalty, "repeat_penalty", JSON_KIND_NUMBER, 0.1, 2),
        JSON_FIELD(struct options, presence, "presence_penalty", JSON_KIND_NUMBER, -2, 2),
        JSON_FIELD(struct options, frequency, "frequency_penalty", JSON_KIND_NUMBER, -2, 2),
        JSON_FIELD(struct options, mirostat, "mirostat", JSON_KIND_INT, 0, 2),
        JSON_FIELD(struct options, tau, "mirostat_tau", JSON_KIND_NUMBER, 0, 100),
        JSON_FIELD(struct options, eta, "mirostat_eta", JSON_KIND_NUMBER, 0, 1),
        JSON_FIELD(struct options, top_k, "top_k", JSON_KIND_INT, 0, INT32_MAX),
        JSON_FIELD(struct options, predict, "num_predict", JSON_KIND_INT, -2, INT32_MAX),
        JSON_FIELD(struct options, repeat_last, "repeat_last_n", JSON_KIND_INT, -1, INT32_MAX),
        JSON_FIELD(struct options, seed, "seed", JSON_KIND_INT, 0, 0),
        JSON_FIELD(struct options, stop, "stop", JSON_KIND_ANY, 0, 0),
    };
    if (!json_fields(object, fields, sizeof fields / sizeof *fields, o, "options", err))
        return false;
    if (o->predict <= 0)
        o->predict = WITHOUT_END;
    if (o->repeat_last < 0)
        o->repeat_last = WITHOUT_END;
    return true;
}

static bool put_stops(const json_t *stop, struct json *out, struct err *err)
{
    size_t count = json_is_array(stop) ? json_array_size(stop) : 1;
    if (!stop || count == 0)
        return true;
    if (count > LIMIT_STOPS)
        return refuse(err, ERR_INVALID_PARAMETERS, "options.stop", "has too many strings");
    json_open_array(out, "stop");
    for (size_t i = 0; i < count; i++) {
        struct str text = json_str(json_is_array(stop) ? json_array_get(stop, i) : stop);
        if (text.n < 1 || text.n > LIMIT_STOP_BYTES)
            return refuse(err, ERR_INVALID_PARAMETERS, "options.stop",
                          "must be a string of 1 to 256 bytes, or an array of such");
        json_put_text(out, NULL, text);
    }
    json_close(out);
    return true;
}

bool ollama_options_write(const struct ollama_fields *fields, bool stream, struct json *out, struct err *err)
{
    struct options o = {0};
    if (fields->options && !read_options(fields->options, &o, err))
        return false;
    for (size_t i = 0; i < sizeof passed_on / sizeof *passed_on; i++) {
        const json_t *value = json_object_get(fields->options, passed_on[i].name);
        const char *member = (const char *)&o + passed_on[i].offset;
        if (!value || json_is_null(value))
            continue;
        if (passed_on[i].whole)
            json_put_int(out, passed_on[i].meaning, *(const int64_t *)(const void *)member);
        else
            json_put_number(out, passed_on[i].meaning, *(const double *)(const void *)member);
    }
    if (!put_stops(o.stop, out, err))
        return false;
    json_put_bool(out, "stream", stream);
    if (stream) {
        json_open_object(out, "stream_options");
        json_put_bool(out, "include_usage", true);
        json_close(out);
    }
    return true;
}

/* ---- the form of the answer, and thinking ---- */

bool ollama_format_write(const struct ollama_fields *fields, struct json *out, struct err *err)
{
    struct str word = json_str(fields->format);
    bool schema = json_is_object(fields->format);
    if (!fields->format || json_is_null(fields->format) || (word.p && word.n == 0))
        return true;
    if (!schema && !(word.p && str_eq(word, STR("json"))))
        return refuse(err, ERR_INVALID_PARAMETERS, "format", "must be \"json\" or a JSON schema");
    json_open_object(out, "response_format");
    json_put_string(out, "type", schema ? "json_schema" : "json_object");
    if (schema) {
        json_open_object(out, "json_schema");
        json_put_string(out, "name", "format");
        json_put_value(out, "schema", fields->format);
        json_close(out);
    }
    json_close(out);
    return true;
}

bool ollama_think_write(const struct ollama_fields *fields, struct json *out, struct err *err)
{
    struct str effort = json_str(fields->think);
    if (!fields->think || json_is_null(fields->think))
        return true;
    if (json_is_boolean(fields->think)) {
        json_open_object(out, "chat_template_kwargs");
        json_put_bool(out, "enable_thinking", json_is_true(fields->think));
        json_close(out);
        return true;
    }
    if (!str_eq(effort, STR("low")) && !str_eq(effort, STR("medium")) && !str_eq(effort, STR("high")))
        return refuse(err, ERR_INVALID_PARAMETERS, "think", "must be true, false, \"low\", \"medium\" or \"high\"");
    json_put_text(out, "reasoning_effort", effort);
    return true;
}

/* ---- requests ---- */

bool ollama_fields_read(const json_t *document, struct ollama_request *request, struct ollama_fields *fields,
                        struct arena *arena, struct err *err)
{
    static const struct json_field rows[] = {
        JSON_FIELD(struct ollama_fields, stream, "stream", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(struct ollama_fields, options, "options", JSON_KIND_OBJECT, 0, 0),
        JSON_FIELD(struct ollama_fields, format, "format", JSON_KIND_ANY, 0, 0),
        JSON_FIELD(struct ollama_fields, think, "think", JSON_KIND_ANY, 0, 0),
        JSON_FIELD(struct ollama_fields, keep_alive, "keep_alive", JSON_KIND_ANY, 0, 0),
    };
    bool answers = request->form == OLLAMA_CHAT || request->form == OLLAMA_GENERATE;
    *fields = (struct ollama_fields){.stream = answers};
    if (!openai_model_read(document, &request->model, err) ||
        !json_fields(document, rows, sizeof rows / sizeof *rows, fields, "", err) ||
        !read_keep(fields->keep_alive, &request->keep, err))
        return false;
    request->stream = fields->stream && answers;
    request->name = ollama_model_name(request->model, arena);
    return true;
}

static bool write_chat(const json_t *document, const struct ollama_fields *fields, struct ollama_request *request,
                       struct json *out, struct err *err)
{
    struct {
        const json_t *messages, *tools;
        bool logprobs;
        int64_t top_logprobs;
    } in = {.top_logprobs = -1};
    static const struct json_field rows[] = {
        JSON_FIELD(__typeof__(in), messages, "messages", JSON_KIND_ARRAY, 0, LIMIT_MESSAGES),
        JSON_FIELD(__typeof__(in), tools, "tools", JSON_KIND_ARRAY, 0, LIMIT_TOOLS),
        JSON_FIELD(__typeof__(in), logprobs, "logprobs", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(__typeof__(in), top_logprobs, "top_logprobs", JSON_KIND_INT, 0, LIMIT_TOP_LOGPROBS),
    };
    if (!json_fields(document, rows, sizeof rows / sizeof *rows, &in, "", err))
        return false;
    request->path = "/v1/chat/completions";
    request->empty = json_array_size(in.messages) == 0;
    if (request->empty)
        return true;
    if (json_array_size(in.tools))
        json_put_value(out, "tools", in.tools);
    if (in.logprobs)
        json_put_bool(out, "logprobs", true);
    if (in.logprobs && in.top_logprobs >= 0)
        json_put_int(out, "top_logprobs", in.top_logprobs);
    return ollama_messages_write(in.messages, out, err) && ollama_format_write(fields, out, err) &&
           ollama_think_write(fields, out, err) && ollama_options_write(fields, request->stream, out, err);
}

static bool write_body(const json_t *document, const struct ollama_fields *fields, struct ollama_request *request,
                       struct json *out, struct err *err)
{
    json_open_object(out, NULL);
    json_put_text(out, "model", request->name);
    bool good = request->form == OLLAMA_CHAT       ? write_chat(document, fields, request, out, err)
                : request->form == OLLAMA_GENERATE ? ollama_generate_write(document, fields, request, out, err)
                                                   : ollama_embed_write(document, request, out, err);
    json_close(out);
    return good;
}

bool ollama_request_read(struct str body, enum ollama_form form, struct arena *arena,
                         struct ollama_request *ret_request, struct err *err)
{
    struct ollama_request request = {.form = form};
    struct ollama_fields fields;
    struct buf text;
    struct json out;
    const json_t *document = openai_document_read(body, arena, err);
    if (!document || !ollama_fields_read(document, &request, &fields, arena, err))
        return false;
    buf_init(&text, LIMIT_JSON_TEXT);
    json_begin(&out, &text);
    if (!write_body(document, &fields, &request, &out, err)) {
        buf_release(&text);
        return false;
    }
    if (!json_finish(&out))
        text.failed = true;
    if (!openai_buf_to_arena(&text, arena, &request.body, err))
        return false;
    *ret_request = request;
    return true;
}
