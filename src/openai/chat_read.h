/* Chat's replies read back: the whole object and the chunks of a stream in one form, from any backend. What a backend
 * leaves out, or sends as null or as another type, is absent. Any thread. */
#ifndef OPENAI_CHAT_READ_H
#define OPENAI_CHAT_READ_H

#include "base/json_read.h"
#include "openai/reply.h"

/* What one chunk adds; of a whole reply, everything. It points into its document. */
struct openai_chat_delta {
    json_t *document;
    struct str content, reasoning; /* STR_NONE or not empty */
    const json_t *calls;           /* see openai_call_delta_read */
    size_t call_count;
    struct str finish_reason; /* STR_NONE: it goes on */
    struct str stop;          /* the caller's stop string that ended it; STR_NONE: none, or not told */
    bool has_usage;
    struct openai_usage usage;
};

/* false: it is no JSON object (ERR_BAD_GATEWAY), or an error object, which becomes *err. Release only after true. */
bool openai_chat_delta_read(struct str text, struct openai_chat_delta *ret_delta, struct err *err);
void openai_chat_delta_release(struct openai_chat_delta *delta);

struct openai_call_delta {
    size_t index;
    struct str id, name, arguments; /* STR_NONE where this delta has none */
};

/* The i-th call of the delta, i < call_count. false: its index is none (ERR_BAD_GATEWAY). */
bool openai_call_delta_read(const struct openai_chat_delta *delta, size_t i, struct openai_call_delta *ret_call,
                            struct err *err);

#endif
