/* /v1/completions' replies: the whole object, and the chunks of a stream (of the same object name). */
#ifndef OPENAI_COMPLETION_REPLY_H
#define OPENAI_COMPLETION_REPLY_H

#include "openai/reply.h"

#define OPENAI_COMPLETION_OBJECT "text_completion"

struct openai_text_choice {
    struct str text; /* the echoed prompt included */
    const struct openai_token *tokens;
    size_t token_count;
    bool logprobs;
    const char *finish_reason; /* NULL while a stream goes on */
};

bool openai_completion_write(struct buf *out, const struct openai_identity *identity,
                             const struct openai_text_choice *choices, size_t count, const struct openai_usage *usage,
                             const struct openai_timings *timings);

/* *offset: where the choice's text stands, in characters; goes on from chunk to chunk. */
struct str openai_completion_chunk(struct openai_stream *stream, unsigned index,
                                   const struct openai_text_choice *choice, size_t *offset);

#endif
