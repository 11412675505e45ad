#include "openai/completion_request.h"

static bool check_best_of(const struct openai_completion *r, struct err *err)
{
    const struct openai_sampling *s = &r->sampling;
    if (r->best_of < s->n)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "best_of", "'best_of' (%d) must be at least 'n' (%d)",
                             (int)r->best_of, (int)s->n);
    if (r->best_of > s->n && s->stream)
        return err_set_param(
            err, ERR_INVALID_PARAMETERS, "best_of",
            "'best_of' above 'n' cannot be combined with 'stream': the best are known at the end only");
    if ((size_t)r->best_of * r->prompt_count > LIMIT_CHOICES)
        return err_set_param(err, ERR_INVALID_PARAMETERS, r->best_of > s->n ? "best_of" : "n",
                             "the prompts times their completions must be at most %d, but are %zu", LIMIT_CHOICES,
                             (size_t)r->best_of * r->prompt_count);
    return true;
}

bool openai_completion_read(struct str body, const struct openai_defaults *defaults, struct arena *arena,
                            struct openai_completion *ret_request, struct err *err)
{
    static const struct json_field fields[] = {
        JSON_FIELD(struct openai_completion, sampling.max_tokens, "max_tokens", JSON_KIND_INT, 0, INT32_MAX),
        JSON_FIELD(struct openai_completion, best_of, "best_of", JSON_KIND_INT, 1, LIMIT_BEST_OF),
        JSON_FIELD(struct openai_completion, logprobs, "logprobs", JSON_KIND_INT, 0, LIMIT_COMPLETION_LOGPROBS),
        JSON_FIELD(struct openai_completion, echo, "echo", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(struct openai_completion, suffix, "suffix", JSON_KIND_TEXT, 0, 0),
    };
    struct openai_completion r = {.logprobs = -1};
    const json_t *document = openai_document_read(body, arena, err);
    openai_sampling_init(&r.sampling, defaults);
    if (!document || !openai_model_read(document, &r.model, err) ||
        !openai_sampling_read(document, arena, &r.sampling, err))
        return false;
    r.best_of = 0;
    if (!json_fields(document, fields, sizeof fields / sizeof *fields, &r, "", err) ||
        !openai_inputs_read(document, "prompt", LIMIT_PROMPTS, arena, &r.prompts, &r.prompt_count, err))
        return false;
    if (r.best_of == 0)
        r.best_of = r.sampling.n;
    if (r.suffix.n == 0)
        r.suffix = STR_NONE;
    if (!check_best_of(&r, err))
        return false;
    *ret_request = r;
    return true;
}
