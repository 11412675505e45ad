/* Chat's replies: the whole object, and the chunks of a stream. */
#ifndef OPENAI_CHAT_REPLY_H
#define OPENAI_CHAT_REPLY_H

#include "openai/reply.h"

struct openai_call {
    struct str id, name, arguments;
};

struct openai_chat_choice {
    struct str content, reasoning;
    const struct openai_call *calls;
    size_t call_count;
    bool legacy; /* the first call goes out as function_call */
    const struct openai_token *tokens;
    size_t token_count;
    bool logprobs;
    const char *finish_reason;
    struct str
        stop; /* the caller's stop string that was met: "stop_reason", an extension in vLLM's words; or STR_NONE */
};

/* The reply without streaming; false when it would not fit. */
bool openai_chat_write(struct buf *out, const struct openai_identity *identity,
                       const struct openai_chat_choice *choices, size_t count, const struct openai_usage *usage,
                       const struct openai_timings *timings);

#define OPENAI_CHAT_CHUNK "chat.completion.chunk"

/* {"role":"assistant","content":""}: a choice's first. */
struct str openai_chat_chunk_role(struct openai_stream *stream, unsigned choice);
struct str openai_chat_chunk_content(struct openai_stream *stream, unsigned choice, struct str text,
                                     const struct openai_token *tokens, size_t token_count, bool logprobs);
struct str openai_chat_chunk_reasoning(struct openai_stream *stream, unsigned choice, struct str text);
/* A call's first delta, with its id and name, and those that follow, with more of its arguments. */
struct str openai_chat_chunk_call(struct openai_stream *stream, unsigned choice, unsigned index, struct str id,
                                  struct str name);
struct str openai_chat_chunk_arguments(struct openai_stream *stream, unsigned choice, unsigned index,
                                       struct str fragment);
/* The legacy spelling: name in the first delta, STR_NONE afterwards. */
struct str openai_chat_chunk_function(struct openai_stream *stream, unsigned choice, struct str name,
                                      struct str fragment);
struct str openai_chat_chunk_finish(struct openai_stream *stream, unsigned choice, const char *finish_reason,
                                    struct str stop);

#endif
