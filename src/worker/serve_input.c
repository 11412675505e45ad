/* Requests' values into the scheduler's, and the scheduler's tokens into text: what the surfaces share. */
#include <assert.h>

#include "worker/serve.h"

static bool too_long(const struct serve *serve, size_t tokens, const char *name, struct err *err)
{
    unsigned room = serve->info->context_sequence;
    return err_set_param(err, ERR_CONTEXT_LENGTH_EXCEEDED, name,
                         "This model's maximum context length is %u tokens, but the prompt has %zu tokens; shorten it",
                         room, tokens);
}

bool serve_tokenize(const struct serve *serve, struct str text, bool add_special, const char *name, struct arena *arena,
                    struct serve_tokens *ret_tokens, struct err *err)
{
    /* A token takes a byte or more, give or take the special ones around. */
    size_t capacity = text.n + 8 < serve->info->context_sequence ? text.n + 8 : serve->info->context_sequence;
    engine_token *ids = arena_alloc(arena, (capacity + 1) * sizeof *ids);
    int count = serve->options->ops->tokenize(serve->engine, text, add_special, true, ids, (int)capacity);
    if (count < 0)
        return err_set_param(err, ERR_INVALID_PARAMETERS, name, "'%s' cannot be turned into tokens", name);
    if ((size_t)count > capacity)
        return too_long(serve, (size_t)count, name, err);
    *ret_tokens = (struct serve_tokens){.ids = ids, .count = (size_t)count};
    return true;
}

static bool check_tokens(const struct serve *serve, const struct openai_input *input, const char *name, struct err *err)
{
    for (size_t i = 0; i < input->token_count; i++)
        if ((unsigned)input->tokens[i] >= serve->info->vocabulary)
            return err_set_param(err, ERR_INVALID_PARAMETERS, name, "'%s' has the token %d: the vocabulary ends at %u",
                                 name, (int)input->tokens[i], serve->info->vocabulary - 1);
    if (input->token_count > serve->info->context_sequence)
        return too_long(serve, input->token_count, name, err);
    return true;
}

bool serve_input_tokens(const struct serve *serve, const struct openai_input *input, const char *name,
                        struct arena *arena, struct serve_tokens *ret_tokens, struct err *err)
{
    struct serve_tokens tokens = {0};
    if (input->text.p) {
        if (!serve_tokenize(serve, input->text, true, name, arena, &tokens, err))
            return false;
    } else {
        if (!check_tokens(serve, input, name, err))
            return false;
        tokens.count = input->token_count;
        tokens.ids = arena_alloc(arena, (tokens.count + 1) * sizeof *tokens.ids);
        memcpy(tokens.ids, input->tokens, tokens.count * sizeof *tokens.ids);
    }
    assert(tokens.ids && "with room for one more");
    if (tokens.count == 0 && serve->info->bos != ENGINE_TOKEN_NONE) /* the text of a start, not of nothing */
        tokens.ids[tokens.count++] = serve->info->bos;
    if (tokens.count == 0)
        return err_set_param(err, ERR_INVALID_PARAMETERS, name, "'%s' must not be empty for this model", name);
    *ret_tokens = tokens;
    return true;
}

static void append(struct serve_tokens *to, const struct serve_tokens *more)
{
    if (more->count)
        memcpy(to->ids + to->count, more->ids, more->count * sizeof *to->ids);
    to->count += more->count;
}

bool serve_fim_tokens(const struct serve *serve, struct str prefix, struct str suffix, struct str middle,
                      const char *name, struct arena *arena, struct serve_tokens *ret_tokens, struct err *err)
{
    const struct engine_info *info = serve->info;
    struct serve_tokens before = {0}, behind = {0}, filled = {0};
    if (info->fim_prefix == ENGINE_TOKEN_NONE || info->fim_suffix == ENGINE_TOKEN_NONE ||
        info->fim_middle == ENGINE_TOKEN_NONE)
        return err_set_param(err, ERR_NOT_SUPPORTED, name, "'%s' needs a model that fills in the middle; '%s' does not",
                             name, serve->model);
    if (!serve_tokenize(serve, prefix, false, name, arena, &before, err) ||
        !serve_tokenize(serve, suffix, false, name, arena, &behind, err) ||
        !serve_tokenize(serve, middle, false, name, arena, &filled, err))
        return false;
    struct serve_tokens all = {
        .ids = arena_alloc(arena, (before.count + behind.count + filled.count + 4) * sizeof *all.ids)};
    if (info->add_bos && info->bos != ENGINE_TOKEN_NONE)
        all.ids[all.count++] = info->bos;
    all.ids[all.count++] = info->fim_prefix;
    append(&all, &before);
    all.ids[all.count++] = info->fim_suffix;
    append(&all, &behind);
    all.ids[all.count++] = info->fim_middle;
    append(&all, &filled);
    *ret_tokens = all;
    return true;
}

struct str serve_piece(const struct serve *serve, engine_token token, bool special, struct arena *arena)
{
    char small[128];
    const struct engine_ops *ops = serve->options->ops;
    int n = ops->piece(serve->engine, token, special, small, (int)sizeof small);
    if (n <= 0)
        return STR("");
    if (n <= (int)sizeof small)
        return arena_str(arena, (struct str){small, (size_t)n});
    char *large = arena_alloc(arena, (size_t)n + 1);
    ops->piece(serve->engine, token, special, large, n);
    large[n] = '\0';
    return (struct str){large, (size_t)n};
}

static struct openai_token make_token(const struct serve *serve, const struct gen_logprob *from, struct arena *arena)
{
    struct openai_token *top = arena_alloc(arena, (from->top_count + 1) * sizeof *top);
    for (size_t i = 0; i < from->top_count; i++)
        top[i] = (struct openai_token){.text = serve_piece(serve, from->top[i].token, true, arena),
                                       .logprob = from->top[i].logprob};
    return (struct openai_token){.text = serve_piece(serve, from->token, true, arena),
                                 .logprob = from->logprob,
                                 .unknown = from->first,
                                 .top = top,
                                 .top_count = from->top_count};
}

void serve_logprobs(const struct serve *serve, const struct gen_event *event, struct arena *arena,
                    struct openai_token **tokens, size_t *count, size_t *capacity)
{
    if (*count + event->logprob_count > *capacity) {
        size_t wanted = 2 * (*count + event->logprob_count);
        struct openai_token *larger = arena_alloc(arena, wanted * sizeof *larger);
        memcpy(larger, *tokens ? *tokens : larger, *count * sizeof *larger);
        *tokens = larger;
        *capacity = wanted;
    }
    for (size_t i = 0; i < event->logprob_count; i++)
        (*tokens)[(*count)++] = make_token(serve, &event->logprobs[i], arena);
}

/* What a request, the scheduler and the replies call by the same name. */
static const struct sampling_row {
    const char *name;
    bool whole; /* int64_t there, 32 bits here; else double and float */
    size_t from, to;
} sampling_rows[] = {
#define ROW(member, whole)                                                                                             \
    {                                                                                                                  \
#member, whole, offsetof(struct openai_sampling, member), offsetof(struct gen_params, member)                  \
    }
    ROW(temperature, false),
    ROW(dynatemp_range, false),
    ROW(dynatemp_exponent, false),
    ROW(top_k, true),
    ROW(top_p, false),
    ROW(min_p, false),
    ROW(top_n_sigma, false),
    ROW(xtc_probability, false),
    ROW(xtc_threshold, false),
    ROW(typical_p, false),
    ROW(repeat_last_n, true),
    ROW(repeat_penalty, false),
    ROW(presence_penalty, false),
    ROW(frequency_penalty, false),
    ROW(dry_multiplier, false),
    ROW(dry_base, false),
    ROW(dry_allowed_length, true),
    ROW(dry_penalty_last_n, true),
    ROW(mirostat, true),
    ROW(mirostat_tau, false),
    ROW(mirostat_eta, false),
#undef ROW
};

#define ROW_COUNT (sizeof sampling_rows / sizeof *sampling_rows)

static void copy_rows(const struct openai_sampling *from, struct gen_params *to)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const void *source = (const char *)from + sampling_rows[i].from;
        void *target = (char *)to + sampling_rows[i].to;
        if (sampling_rows[i].whole)
            *(int32_t *)target = (int32_t) * (const int64_t *)source;
        else
            *(float *)target = (float)*(const double *)source;
    }
    to->dry_breakers = from->dry_sequence_breakers;
    to->dry_breaker_count = from->dry_breaker_count;
}

void serve_put_sampling(struct json *j, const struct gen_params *params)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const void *value = (const char *)params + sampling_rows[i].to;
        if (sampling_rows[i].whole)
            json_put_int(j, sampling_rows[i].name, *(const int32_t *)value);
        else
            json_put_float(j, sampling_rows[i].name, *(const float *)value);
    }
    json_open_array(j, "dry_sequence_breakers");
    for (size_t i = 0; i < params->dry_breaker_count; i++)
        json_put_text(j, NULL, params->dry_breakers[i]);
    json_close(j);
}

void serve_default_params(const struct openai_defaults *defaults, struct gen_params *ret_params)
{
    struct openai_sampling sampling;
    openai_sampling_init(&sampling, defaults);
    gen_params_default(ret_params);
    ret_params->max_tokens = (unsigned)sampling.max_tokens;
    copy_rows(&sampling, ret_params);
}

bool serve_params(const struct serve *serve, const struct openai_sampling *s, struct arena *arena,
                  struct gen_params *ret_params, struct err *err)
{
    struct gen_bias *bias = arena_alloc(arena, (s->bias_count + 1) * sizeof *bias);
    for (size_t i = 0; i < s->bias_count; i++) {
        if ((unsigned)s->bias[i].token >= serve->info->vocabulary)
            return err_set_param(err, ERR_INVALID_PARAMETERS, "logit_bias",
                                 "'logit_bias' has the token %d: the vocabulary ends at %u", (int)s->bias[i].token,
                                 serve->info->vocabulary - 1);
        bias[i] = (struct gen_bias){.token = s->bias[i].token, .bias = s->bias[i].bias};
    }
    gen_params_default(ret_params);
    ret_params->max_tokens = (unsigned)s->max_tokens;
    copy_rows(s, ret_params);
    ret_params->has_seed = s->has_seed;
    ret_params->seed = (uint64_t)s->seed;
    ret_params->bias = bias;
    ret_params->bias_count = s->bias_count;
    ret_params->ignore_end = s->ignore_eos;
    ret_params->stops = s->stops;
    ret_params->stop_count = s->stop_count;
    ret_params->grammar = s->grammar.p;
    return true;
}
