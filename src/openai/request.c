#include "openai/request.h"

#include <assert.h>
#include <limits.h>

static void release_document(void *document)
{
    json_decref(document);
}

const json_t *openai_document_read(struct str body, struct arena *arena, struct err *err)
{
    json_t *document = json_read(body, err);
    if (!document)
        return NULL;
    arena_on_dispose(arena, release_document, document);
    if (json_is_object(document))
        return document;
    err_set(err, ERR_INVALID_PARAMETERS, "the body must be an object, but is %s", json_kind_name(document));
    return NULL;
}

bool openai_model_read(const json_t *body, struct str *ret_model, struct err *err)
{
    static const struct json_field fields[] = {
        {.name = "model", .kind = JSON_KIND_TEXT, .min = 1, .max = LIMIT_MODEL_NAME, .required = true},
    };
    struct str model = STR_NONE;
    if (!json_fields(body, fields, 1, &model, "", err))
        return false;
    for (size_t i = 0; i < model.n; i++)
        if ((unsigned char)model.p[i] < 0x20 || model.p[i] == 0x7F)
            return err_set_param(err, ERR_INVALID_PARAMETERS, "model", "'model' must not contain control characters");
    *ret_model = model;
    return true;
}

void openai_sampling_init(struct openai_sampling *sampling, const struct openai_defaults *defaults)
{
    static const struct str breakers[] = {STR("\n"), STR(":"), STR("\""), STR("*")};
    *sampling = (struct openai_sampling){
        .max_tokens = defaults->max_tokens,
        .temperature = defaults->temperature,
        .top_p = defaults->top_p,
        .n = 1,
        .typical_p = 1,
        .repeat_penalty = 1,
        .repeat_last_n = 64,
        .top_n_sigma = -1,
        .xtc_threshold = 0.1,
        .dynatemp_exponent = 1,
        .mirostat_tau = 5,
        .mirostat_eta = 0.1,
        .dry_base = 1.75,
        .dry_allowed_length = 2,
        .dry_penalty_last_n = 64,
        .dry_sequence_breakers = breakers,
        .dry_breaker_count = sizeof breakers / sizeof *breakers,
    };
}

static bool read_stop(const json_t *stop, const char *path, struct str *ret_stop, struct err *err)
{
    if (!json_is_string(stop))
        return err_set_param(err, ERR_INVALID_PARAMETERS, path, "'%s' must be a string, but is %s", path,
                             json_kind_name(stop));
    if (json_string_length(stop) < 1 || json_string_length(stop) > LIMIT_STOP_BYTES)
        return err_set_param(err, ERR_INVALID_PARAMETERS, path,
                             "'%s' has a wrong length: its bytes must be between 1 and %d", path, LIMIT_STOP_BYTES);
    *ret_stop = json_str(stop);
    return true;
}

/* string | array of strings */
static bool read_stops(const json_t *stop, struct arena *arena, struct openai_sampling *s, struct err *err)
{
    if (!json_is_array(stop) && !json_is_string(stop))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "stop",
                             "'stop' must be a string or an array of strings, but is %s", json_kind_name(stop));
    bool one = json_is_string(stop);
    size_t count = one ? 1 : json_array_size(stop);
    if (count > LIMIT_STOPS)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "stop",
                             "'stop' has a wrong length: its items must be between 0 and %d", LIMIT_STOPS);
    struct str *stops = arena_calloc(arena, (count + 1) * sizeof *stops);
    for (size_t i = 0; i < count; i++) {
        char path[LIMIT_ERR_PARAM];
        json_path_index(path, sizeof path, "stop", i);
        if (!read_stop(one ? stop : json_array_get(stop, i), one ? "stop" : path, &stops[i], err))
            return false;
    }
    s->stops = stops;
    s->stop_count = count;
    return true;
}

/* {"1234": -100, ...} */
static bool read_bias(const json_t *map, struct arena *arena, struct openai_sampling *s, struct err *err)
{
    size_t count = json_object_size(map), at = 0;
    if (count > LIMIT_LOGIT_BIAS)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "logit_bias",
                             "'logit_bias' has a wrong length: its members must be between 0 and %d", LIMIT_LOGIT_BIAS);
    struct openai_bias *bias = arena_calloc(arena, (count + 1) * sizeof *bias);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)map, key, value)
    {
        char path[LIMIT_ERR_PARAM];
        uint64_t token;
        json_path_member(path, sizeof path, "logit_bias", key);
        if (!str_u64(str_from(key), INT32_MAX, &token))
            return err_set_param(err, ERR_INVALID_PARAMETERS, "logit_bias",
                                 "'logit_bias' must map token ids to numbers, but has the key '%s'", key);
        if (!json_is_number(value))
            return err_set_param(err, ERR_INVALID_PARAMETERS, path, "'%s' must be a number, but is %s", path,
                                 json_kind_name(value));
        double amount = json_number_value(value);
        if (amount < -100 || amount > 100)
            return err_set_param(err, ERR_INVALID_PARAMETERS, path,
                                 "'%s' is out of range: it must be between -100 and 100", path);
        bias[at++] = (struct openai_bias){.token = (int32_t)token, .bias = (float)amount};
    }
    s->bias = bias;
    s->bias_count = count;
    return true;
}

/* array of strings */
static bool read_breakers(const json_t *array, struct arena *arena, struct openai_sampling *s, struct err *err)
{
    size_t count = json_array_size(array);
    struct str *breakers = arena_calloc(arena, count * sizeof *breakers);
    for (size_t i = 0; i < count; i++) {
        char path[LIMIT_ERR_PARAM];
        json_path_index(path, sizeof path, "dry_sequence_breakers", i);
        breakers[i] = json_str(json_array_get(array, i));
        if (breakers[i].n < 1 || breakers[i].n > LIMIT_DRY_BREAKER_BYTES)
            return err_set_param(err, ERR_INVALID_PARAMETERS, path, "'%s' must be a string of 1 to %d bytes", path,
                                 LIMIT_DRY_BREAKER_BYTES);
    }
    s->dry_sequence_breakers = breakers;
    s->dry_breaker_count = count;
    return true;
}

static bool read_stream_options(const json_t *options, struct openai_sampling *s, struct err *err)
{
    static const struct json_field fields[] = {
        JSON_FIELD(struct openai_sampling, include_usage, "include_usage", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(struct openai_sampling, continuous_usage, "continuous_usage_stats", JSON_KIND_BOOL, 0, 0),
    };
    if (!s->stream)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "stream_options",
                             "'stream_options' is only allowed together with 'stream': true");
    return json_fields(options, fields, sizeof fields / sizeof *fields, s, "stream_options", err);
}

bool openai_sampling_read(const json_t *body, struct arena *arena, struct openai_sampling *s, struct err *err)
{
    static const struct json_field fields[] = {
        JSON_FIELD(struct openai_sampling, temperature, "temperature", JSON_KIND_NUMBER, 0, 2),
        JSON_FIELD(struct openai_sampling, top_p, "top_p", JSON_KIND_NUMBER, 0, 1),
        JSON_FIELD(struct openai_sampling, min_p, "min_p", JSON_KIND_NUMBER, 0, 1),
        JSON_FIELD(struct openai_sampling, typical_p, "typical_p", JSON_KIND_NUMBER, 0, 1),
        JSON_FIELD(struct openai_sampling, top_k, "top_k", JSON_KIND_INT, 0, INT32_MAX),
        JSON_FIELD(struct openai_sampling, presence_penalty, "presence_penalty", JSON_KIND_NUMBER, -2, 2),
        JSON_FIELD(struct openai_sampling, frequency_penalty, "frequency_penalty", JSON_KIND_NUMBER, -2, 2),
        JSON_FIELD(struct openai_sampling, repeat_penalty, "repeat_penalty", JSON_KIND_NUMBER, 0.1, 2),
        JSON_FIELD(struct openai_sampling, repeat_last_n, "repeat_last_n", JSON_KIND_INT, -1, INT32_MAX),
        JSON_FIELD(struct openai_sampling, top_n_sigma, "top_n_sigma", JSON_KIND_NUMBER, -1, 100),
        JSON_FIELD(struct openai_sampling, xtc_probability, "xtc_probability", JSON_KIND_NUMBER, 0, 1),
        JSON_FIELD(struct openai_sampling, xtc_threshold, "xtc_threshold", JSON_KIND_NUMBER, 0, 1),
        JSON_FIELD(struct openai_sampling, dynatemp_range, "dynatemp_range", JSON_KIND_NUMBER, 0, 10),
        JSON_FIELD(struct openai_sampling, dynatemp_exponent, "dynatemp_exponent", JSON_KIND_NUMBER, 0, 10),
        JSON_FIELD(struct openai_sampling, mirostat, "mirostat", JSON_KIND_INT, 0, 2),
        JSON_FIELD(struct openai_sampling, mirostat_tau, "mirostat_tau", JSON_KIND_NUMBER, 0, 100),
        JSON_FIELD(struct openai_sampling, mirostat_eta, "mirostat_eta", JSON_KIND_NUMBER, 0, 1),
        JSON_FIELD(struct openai_sampling, dry_multiplier, "dry_multiplier", JSON_KIND_NUMBER, 0, 100),
        JSON_FIELD(struct openai_sampling, dry_base, "dry_base", JSON_KIND_NUMBER, 1, 100),
        JSON_FIELD(struct openai_sampling, dry_allowed_length, "dry_allowed_length", JSON_KIND_INT, 0, INT32_MAX),
        JSON_FIELD(struct openai_sampling, dry_penalty_last_n, "dry_penalty_last_n", JSON_KIND_INT, -1, INT32_MAX),
        JSON_FIELD(struct openai_sampling, seed, "seed", JSON_KIND_INT, 0, 0),
        JSON_FIELD(struct openai_sampling, n, "n", JSON_KIND_INT, 1, LIMIT_CHOICES),
        JSON_FIELD(struct openai_sampling, stream, "stream", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(struct openai_sampling, ignore_eos, "ignore_eos", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(struct openai_sampling, grammar, "grammar", JSON_KIND_TEXT, 0, LIMIT_GRAMMAR_BYTES),
    };
    struct {
        const json_t *stop, *bias, *stream_options, *breakers;
    } more = {0};
    static const struct json_field more_fields[] = {
        JSON_FIELD(__typeof__(more), stop, "stop", JSON_KIND_ANY, 0, 0),
        JSON_FIELD(__typeof__(more), bias, "logit_bias", JSON_KIND_OBJECT, 0, 0),
        JSON_FIELD(__typeof__(more), stream_options, "stream_options", JSON_KIND_OBJECT, 0, 0),
        JSON_FIELD(__typeof__(more), breakers, "dry_sequence_breakers", JSON_KIND_ARRAY, 1, LIMIT_DRY_BREAKERS),
    };
    if (!json_fields(body, fields, sizeof fields / sizeof *fields, s, "", err) ||
        !json_fields(body, more_fields, sizeof more_fields / sizeof *more_fields, &more, "", err))
        return false;
    const json_t *seed = json_object_get(body, "seed");
    s->has_seed = seed && !json_is_null(seed);
    return (!more.stop || read_stops(more.stop, arena, s, err)) &&
           (!more.bias || read_bias(more.bias, arena, s, err)) &&
           (!more.breakers || read_breakers(more.breakers, arena, s, err)) &&
           (!more.stream_options || read_stream_options(more.stream_options, s, err));
}

static bool read_tokens(const json_t *array, const char *path, struct arena *arena, struct openai_input *input,
                        struct err *err)
{
    size_t count = json_array_size(array);
    int32_t *tokens = arena_alloc(arena, (count + 1) * sizeof *tokens);
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(array, i);
        char at[LIMIT_ERR_PARAM];
        json_path_index(at, sizeof at, path, i);
        if (!json_is_integer(value))
            return err_set_param(err, ERR_INVALID_PARAMETERS, at, "'%s' must be an integer, but is %s", at,
                                 json_kind_name(value));
        if (json_integer_value(value) < 0 || json_integer_value(value) > INT32_MAX)
            return err_set_param(err, ERR_INVALID_PARAMETERS, at, "'%s' is out of range: it must be a token id", at);
        tokens[i] = (int32_t)json_integer_value(value);
    }
    *input = (struct openai_input){.tokens = tokens, .token_count = count};
    return true;
}

static bool read_input(const json_t *value, const char *path, struct arena *arena, struct openai_input *input,
                       struct err *err)
{
    if (json_is_array(value))
        return read_tokens(value, path, arena, input, err);
    if (!json_is_string(value))
        return err_set_param(err, ERR_INVALID_PARAMETERS, path,
                             "'%s' must be a string or an array of tokens, but is %s", path, json_kind_name(value));
    *input = (struct openai_input){.text = json_str(value)};
    return true;
}

bool openai_inputs_read(const json_t *body, const char *name, size_t max, struct arena *arena,
                        const struct openai_input **ret_inputs, size_t *ret_count, struct err *err)
{
    const json_t *value = json_object_get(body, name);
    if (!value || json_is_null(value))
        return err_set_param(err, ERR_INVALID_PARAMETERS, name, "'%s' is required", name);
    if (!json_is_string(value) && !json_is_array(value))
        return err_set_param(err, ERR_INVALID_PARAMETERS, name, "'%s' must be a string or an array, but is %s", name,
                             json_kind_name(value));
    bool many = json_is_array(value) && !json_is_integer(json_array_get(value, 0));
    size_t count = many ? json_array_size(value) : 1;
    if (count < 1 || count > max)
        return err_set_param(err, ERR_INVALID_PARAMETERS, name,
                             "'%s' has a wrong length: its items must be between 1 and %zu", name, max);
    struct openai_input *inputs = arena_calloc(arena, count * sizeof *inputs);
    for (size_t i = 0; i < count; i++) {
        char path[LIMIT_ERR_PARAM];
        json_path_index(path, sizeof path, name, i);
        if (!read_input(many ? json_array_get(value, i) : value, many ? path : name, arena, &inputs[i], err))
            return false;
    }
    *ret_inputs = inputs;
    *ret_count = count;
    return true;
}

bool openai_buf_to_arena(struct buf *buf, struct arena *arena, struct str *ret_text, struct err *err)
{
    bool good = buf_ok(buf);
    if (good)
        *ret_text = arena_str(arena, buf_view(buf));
    else
        err_set(err, ERR_REQUEST_TOO_LARGE, "the request is too large");
    buf_release(buf);
    return good;
}
