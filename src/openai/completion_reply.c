#include "openai/completion_reply.h"

static size_t put_members(struct json *j, size_t index, const struct openai_text_choice *c, size_t offset)
{
    json_put_text(j, "text", c->text);
    json_put_int(j, "index", (int64_t)index);
    offset = openai_put_text_logprobs(j, c->tokens, c->token_count, offset, c->logprobs);
    json_put_string(j, "finish_reason", c->finish_reason);
    return offset;
}

bool openai_completion_write(struct buf *out, const struct openai_identity *identity,
                             const struct openai_text_choice *choices, size_t count, const struct openai_usage *usage,
                             const struct openai_timings *timings)
{
    struct json j;
    json_begin(&j, out);
    json_open_object(&j, NULL);
    openai_put_identity(&j, OPENAI_COMPLETION_OBJECT, identity);
    json_open_array(&j, "choices");
    for (size_t i = 0; i < count; i++) {
        json_open_object(&j, NULL);
        put_members(&j, i, &choices[i], 0);
        json_close(&j);
    }
    json_close(&j);
    openai_put_usage(&j, usage);
    openai_put_timings(&j, timings);
    json_close(&j);
    return json_finish(&j);
}

struct str openai_completion_chunk(struct openai_stream *stream, unsigned index,
                                   const struct openai_text_choice *choice, size_t *offset)
{
    struct json j;
    openai_chunk_begin(stream, &j);
    *offset = put_members(&j, index, choice, *offset);
    return openai_chunk_end(stream, &j);
}
