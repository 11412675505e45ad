/* What the bodies of the OpenAI endpoints share: the document, the sampling fields, texts or tokens as input.
 *
 * A request read here points into its document; the document belongs to the arena, so everything lives as long as the
 * request. Every refusal is a 400 that names the field by its JSON path and the range allowed. An absent field and an
 * explicit null both mean the default, which the caller puts into the struct before. */
#ifndef OPENAI_REQUEST_H
#define OPENAI_REQUEST_H

#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/json_read.h"
#include "base/str.h"

/* What a server's configuration decides. */
struct openai_defaults {
    int64_t max_tokens;
    double temperature, top_p;
};

#define OPENAI_CHAT_DEFAULTS       ((struct openai_defaults){.max_tokens = 2048, .temperature = 0.7, .top_p = 1.0})
#define OPENAI_COMPLETION_DEFAULTS ((struct openai_defaults){.max_tokens = 2048, .temperature = 1.0, .top_p = 1.0})

struct openai_bias {
    int32_t token; /* not negative; whether the vocabulary has it is the model's business */
    float bias;
};

/* Members carry the names of the JSON; those from top_n_sigma on are llama-server's. */
struct openai_sampling {
    int64_t max_tokens, n, top_k, repeat_last_n, seed;
    double temperature, top_p, min_p, typical_p, presence_penalty, frequency_penalty, repeat_penalty;
    double top_n_sigma, xtc_probability, xtc_threshold, dynatemp_range, dynatemp_exponent;
    int64_t mirostat;
    double mirostat_tau, mirostat_eta;
    double dry_multiplier, dry_base;
    int64_t dry_allowed_length, dry_penalty_last_n;
    const struct str *dry_sequence_breakers;
    size_t dry_breaker_count;
    bool has_seed, ignore_eos, stream, include_usage;
    bool continuous_usage; /* and every chunk says what has been used so far */
    const struct openai_bias *bias;
    size_t bias_count;
    const struct str *stops;
    size_t stop_count;
    struct str grammar; /* GBNF, an extension; STR_NONE */
};

/* The body as an object that the arena owns; NULL and *err otherwise. */
const json_t *openai_document_read(struct str body, struct arena *arena, struct err *err);

/* The required "model". */
bool openai_model_read(const json_t *body, struct str *ret_model, struct err *err);

void openai_sampling_init(struct openai_sampling *sampling, const struct openai_defaults *defaults);
bool openai_sampling_read(const json_t *body, struct arena *arena, struct openai_sampling *sampling, struct err *err);

/* One prompt or one text to embed: text, or tokens when text.p is NULL. */
struct openai_input {
    struct str text;
    const int32_t *tokens;
    size_t token_count;
};

/* The four spellings string | [string] | [int] | [[int]] of body's member name, into an array in the arena. */
bool openai_inputs_read(const json_t *body, const char *name, size_t max, struct arena *arena,
                        const struct openai_input **ret_inputs, size_t *ret_count, struct err *err);

/* Copies a finished buffer into the arena and releases it; false (ERR_REQUEST_TOO_LARGE) when it had failed. */
bool openai_buf_to_arena(struct buf *buf, struct arena *arena, struct str *ret_text, struct err *err);

#endif
