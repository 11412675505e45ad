#include "openai/reply.h"

#include <stdio.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/rand.h"

/* What stands for a probability of nothing: JSON knows no infinity, and this is the number OpenAI uses. */
#define LOGPROB_LOWEST (-9999.0f)

char *openai_id(char out[OPENAI_ID_SIZE], const char *prefix)
{
    char random[30];
    snprintf(out, OPENAI_ID_SIZE, "%s%s", prefix, rand_text(random, sizeof random - 1));
    return out;
}

char *openai_fingerprint(char out[OPENAI_FINGERPRINT_SIZE], const char *build, const char *model)
{
    unsigned char digest[HASH_SHA256_SIZE];
    char hex[11];
    struct buf text;
    buf_init(&text, LIMIT_JSON_TEXT);
    buf_printf(&text, "%s\n%s", build, model);
    hash_sha256(text.data, text.len, digest);
    buf_release(&text);
    snprintf(out, OPENAI_FINGERPRINT_SIZE, "fp_%s", hash_hex(digest, 5, hex));
    return out;
}

void openai_put_identity(struct json *j, const char *object, const struct openai_identity *identity)
{
    json_put_string(j, "id", identity->id);
    json_put_string(j, "object", object);
    json_put_int(j, "created", identity->created);
    json_put_text(j, "model", identity->model);
    json_put_string(j, "system_fingerprint", identity->fingerprint);
}

void openai_put_usage(struct json *j, const struct openai_usage *usage)
{
    json_open_object(j, "usage");
    json_put_int(j, "prompt_tokens", usage->prompt_tokens);
    json_put_int(j, "completion_tokens", usage->completion_tokens);
    json_put_int(j, "total_tokens", (int64_t)usage->prompt_tokens + usage->completion_tokens);
    json_open_object(j, "prompt_tokens_details");
    json_put_int(j, "cached_tokens", usage->cached_tokens);
    json_close(j);
    json_open_object(j, "completion_tokens_details");
    json_put_int(j, "reasoning_tokens", usage->reasoning_tokens);
    json_close(j);
    json_close(j);
}

/* While it runs: the counts alone, what they are made of is known at the end. */
static void put_usage_so_far(struct json *j, const struct openai_usage *usage)
{
    json_open_object(j, "usage");
    json_put_int(j, "prompt_tokens", usage->prompt_tokens);
    json_put_int(j, "completion_tokens", usage->completion_tokens);
    json_put_int(j, "total_tokens", (int64_t)usage->prompt_tokens + usage->completion_tokens);
    json_close(j);
}

/* Rounded to a thousandth: more would be noise. Nothing done is nothing measured: null. */
static void put_ratio(struct json *j, const char *key, double amount, double by)
{
    if (by > 0)
        json_put_number(j, key, (double)(int64_t)(amount / by * 1000 + 0.5) / 1000);
    else
        json_put_null(j, key);
}

void openai_put_timings(struct json *j, const struct openai_timings *t)
{
    unsigned read = t->prompt_tokens - t->cached_tokens;
    json_open_object(j, "timings");
    json_put_int(j, "cache_n", t->cached_tokens);
    json_put_int(j, "prompt_n", read);
    put_ratio(j, "prompt_ms", t->prompt_ms, 1);
    put_ratio(j, "prompt_per_token_ms", t->prompt_ms, read);
    put_ratio(j, "prompt_per_second", read * 1000.0, t->prompt_ms);
    json_put_int(j, "predicted_n", t->generated_tokens);
    put_ratio(j, "predicted_ms", t->generated_ms, 1);
    put_ratio(j, "predicted_per_token_ms", t->generated_ms, t->generated_tokens);
    put_ratio(j, "predicted_per_second", t->generated_tokens * 1000.0, t->generated_ms);
    if (t->draft_tokens > 0) {
        json_put_int(j, "draft_n", t->draft_tokens);
        json_put_int(j, "draft_n_accepted", t->draft_accepted);
    }
    if (t->queue_position > 0) {
        json_put_int(j, "queue_position", t->queue_position);
        put_ratio(j, "queue_ms", t->queue_ms, 1);
    }
    json_close(j);
}

static void put_logprob(struct json *j, const char *key, const struct openai_token *token)
{
    if (token->unknown)
        json_put_null(j, key);
    else
        json_put_float(j, key, token->logprob > LOGPROB_LOWEST ? token->logprob : LOGPROB_LOWEST);
}

static void put_token(struct json *j, const struct openai_token *token)
{
    json_put_text(j, "token", token->text);
    put_logprob(j, "logprob", token);
    json_open_array(j, "bytes");
    for (size_t i = 0; i < token->text.n; i++)
        json_put_int(j, NULL, (unsigned char)token->text.p[i]);
    json_close(j);
}

void openai_put_chat_logprobs(struct json *j, const struct openai_token *tokens, size_t count, bool wanted)
{
    if (!wanted) {
        json_put_null(j, "logprobs");
        return;
    }
    json_open_object(j, "logprobs");
    json_open_array(j, "content");
    for (size_t i = 0; i < count; i++) {
        json_open_object(j, NULL);
        put_token(j, &tokens[i]);
        json_open_array(j, "top_logprobs");
        for (size_t k = 0; k < tokens[i].top_count; k++) {
            json_open_object(j, NULL);
            put_token(j, &tokens[i].top[k]);
            json_close(j);
        }
        json_close(j);
        json_close(j);
    }
    json_close(j);
    json_put_null(j, "refusal");
    json_close(j);
}

/* Characters that begin in text: bytes that continue one do not count. */
static size_t characters(struct str text)
{
    size_t count = 0;
    for (size_t i = 0; i < text.n; i++)
        count += ((unsigned char)text.p[i] & 0xC0) != 0x80;
    return count;
}

/* {"token": logprob, ...}; tokens of equal text would be one member twice, so the more probable stays. */
static void put_top_map(struct json *j, const struct openai_token *token)
{
    if (token->unknown) {
        json_put_null(j, NULL);
        return;
    }
    json_open_object(j, NULL);
    for (size_t k = 0; k < token->top_count; k++) {
        char key[LIMIT_TOKEN_TEXT];
        bool seen = false;
        for (size_t i = 0; i < k; i++)
            seen = seen || str_eq(token->top[i].text, token->top[k].text);
        snprintf(key, sizeof key, STR_FMT, STR_ARG(token->top[k].text));
        if (!seen)
            put_logprob(j, key, &token->top[k]);
    }
    json_close(j);
}

size_t openai_put_text_logprobs(struct json *j, const struct openai_token *tokens, size_t count, size_t offset,
                                bool wanted)
{
    if (!wanted) {
        json_put_null(j, "logprobs");
        return offset;
    }
    json_open_object(j, "logprobs");
    json_open_array(j, "tokens");
    for (size_t i = 0; i < count; i++)
        json_put_text(j, NULL, tokens[i].text);
    json_close(j);
    json_open_array(j, "token_logprobs");
    for (size_t i = 0; i < count; i++)
        put_logprob(j, NULL, &tokens[i]);
    json_close(j);
    json_open_array(j, "top_logprobs");
    for (size_t i = 0; i < count; i++)
        put_top_map(j, &tokens[i]);
    json_close(j);
    json_open_array(j, "text_offset");
    for (size_t i = 0; i < count; i++) {
        json_put_int(j, NULL, (int64_t)offset);
        offset += characters(tokens[i].text);
    }
    json_close(j);
    json_close(j);
    return offset;
}

void openai_stream_init(struct openai_stream *stream, const char *object, const struct openai_identity *identity,
                        bool include_usage)
{
    buf_init(&stream->buf, LIMIT_JSON_TEXT);
    json_begin(&stream->writer, &stream->buf);
    json_open_object(&stream->writer, NULL);
    openai_put_identity(&stream->writer, object, identity);
    json_open_array(&stream->writer, "choices");
    stream->constant = stream->buf.len;
    stream->include_usage = include_usage;
    stream->so_far = NULL;
}

void openai_stream_release(struct openai_stream *stream)
{
    buf_release(&stream->buf);
}

void openai_chunk_begin(struct openai_stream *stream, struct json *j)
{
    buf_truncate(&stream->buf, stream->constant);
    *j = stream->writer;
    json_open_object(j, NULL);
}

struct str openai_chunk_end(struct openai_stream *stream, struct json *j)
{
    json_close(j);
    json_close(j);
    if (stream->include_usage && stream->so_far)
        put_usage_so_far(j, stream->so_far);
    else if (stream->include_usage)
        json_put_null(j, "usage");
    json_close(j);
    json_finish(j);
    return buf_view(&stream->buf);
}

struct str openai_chunk_usage(struct openai_stream *stream, const struct openai_usage *usage,
                              const struct openai_timings *timings)
{
    struct json j = stream->writer;
    buf_truncate(&stream->buf, stream->constant);
    json_close(&j);
    openai_put_usage(&j, usage);
    openai_put_timings(&j, timings);
    json_close(&j);
    json_finish(&j);
    return buf_view(&stream->buf);
}

void openai_put_model(struct json *j, const struct openai_model *model)
{
    json_open_object(j, NULL);
    json_put_string(j, "id", model->id);
    json_put_string(j, "object", "model");
    json_put_int(j, "created", model->created);
    json_put_string(j, "owned_by", model->owned_by);
    json_open_array(j, "permission");
    json_close(j);
    json_put_string(j, "root", model->id);
    json_put_null(j, "parent");
    if (model->extra.p)
        json_put_raw(j, "inferno", model->extra);
    json_close(j);
}
