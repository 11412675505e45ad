/* What OpenAI's replies share: identity, usage, timings, log probabilities, and chunks whose constant beginning is
 * written once. */
#ifndef OPENAI_REPLY_H
#define OPENAI_REPLY_H

#include <stdint.h>

#include "base/buf.h"
#include "base/json_write.h"
#include "base/str.h"

#define OPENAI_ID_SIZE 48

/* prefix + 29 random characters, e.g. "chatcmpl-7QyqpwdfhqwajicIEznoc6Q47XAyW". Returns out. */
char *openai_id(char out[OPENAI_ID_SIZE], const char *prefix);

/* "fp_" + a hash of what decides the text: the engine's build and the model. Returns out. */
#define OPENAI_FINGERPRINT_SIZE 16
char *openai_fingerprint(char out[OPENAI_FINGERPRINT_SIZE], const char *build, const char *model);

/* The members that every object of one reply begins with. The strings outlive it. */
struct openai_identity {
    const char *id;
    int64_t created;
    struct str model; /* as the client named it */
    const char *fingerprint;
};

struct openai_usage {
    unsigned prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens;
};

/* Measured; an extension, in llama-server's words. */
struct openai_timings {
    unsigned cached_tokens, prompt_tokens, generated_tokens;
    unsigned draft_tokens, draft_accepted; /* guessed and right; not shown when none was guessed */
    unsigned queue_position;               /* requests that waited already when it came; not shown when none did */
    double queue_ms, prompt_ms, generated_ms;
};

/* A token with its log probability; the text is the token's bytes, not necessarily whole characters. */
struct openai_token {
    struct str text;
    float logprob;
    bool unknown; /* no probability exists: the first token of a prompt */
    const struct openai_token *top;
    size_t top_count;
};

void openai_put_identity(struct json *j, const char *object, const struct openai_identity *identity);
void openai_put_usage(struct json *j, const struct openai_usage *usage);
void openai_put_timings(struct json *j, const struct openai_timings *timings);

/* The choice's member "logprobs": chat's shape. NULL writes null. */
void openai_put_chat_logprobs(struct json *j, const struct openai_token *tokens, size_t count, bool wanted);

/* Completions' shape; offset is the first token's place in the choice's text, in characters. Returns the place behind
 * the last token. */
size_t openai_put_text_logprobs(struct json *j, const struct openai_token *tokens, size_t count, size_t offset,
                                bool wanted);

/* The chunks of one stream: each begins with the same bytes, which are written once, so that a chunk costs its own
 * text and a few short copies. A chunk is valid until the next one. */
struct openai_stream {
    struct buf buf;
    struct json writer; /* as it stood behind the constant part */
    size_t constant;
    bool include_usage;                /* every chunk but the last says "usage":null */
    const struct openai_usage *so_far; /* instead of null, this; may be NULL. Set after init */
};

void openai_stream_init(struct openai_stream *stream, const char *object, const struct openai_identity *identity,
                        bool include_usage);
void openai_stream_release(struct openai_stream *stream);

/* For the kinds of chunks: begin leaves *j inside the choice, before its own members; end closes and returns the text.
 */
void openai_chunk_begin(struct openai_stream *stream, struct json *j);
struct str openai_chunk_end(struct openai_stream *stream, struct json *j);

/* The last chunk when include_usage was asked for: no choices, all the usage. */
struct str openai_chunk_usage(struct openai_stream *stream, const struct openai_usage *usage,
                              const struct openai_timings *timings);

/* A model's object, in /v1/models and alone. extra is a JSON object for the member "inferno"; STR_NONE: absent. */
struct openai_model {
    const char *id, *owned_by;
    int64_t created;
    struct str extra;
};
void openai_put_model(struct json *j, const struct openai_model *model);

#endif
