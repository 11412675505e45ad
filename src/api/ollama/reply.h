/* Chat's and completions' replies as Ollama's: one object, or a line for each chunk and a last one that says why it
 * ended and what it took. Calls of tools are told whole, so the pieces of one are kept until it ends; no text is kept.
 * Pure but for the clock. */
#ifndef API_OLLAMA_REPLY_H
#define API_OLLAMA_REPLY_H

#include "api/ollama/request.h"
#include "openai/chat_read.h"

struct ollama_reply {
    struct str model;
    enum ollama_form form;
    struct arena *arena;
    void (*on_line)(void *arg, struct str line);
    void *arg;
    uint64_t started_ns; /* clock_ns when the request came in */
    double load_ms;      /* the wait for the model to be loaded; < 0: not known */
    struct str finish_reason;
    bool has_usage, has_timings;
    struct openai_usage usage;
    double prompt_ms, generated_ms;
    bool calling; /* a call is being gathered */
    size_t call_index;
    int64_t calls; /* told */
    struct str call_id, call_name;
    struct buf arguments, line;
};

/* reply and model live as long as the arena, with which the reply's memory is released. A line ends with '\n' and is
 * valid during the call. */
void ollama_reply_init(struct ollama_reply *reply, const struct ollama_request *request, struct arena *arena,
                       void (*on_line)(void *arg, struct str line), void *arg);
/* One chunk. false and *err: it cannot be used, or is an error; then ollama_reply_fail. */
bool ollama_reply_feed(struct ollama_reply *reply, struct str data, struct err *err);
/* The last line. false: as above. */
bool ollama_reply_end(struct ollama_reply *reply, struct err *err);
void ollama_reply_fail(struct ollama_reply *reply, const struct err *err); /* {"error": text} as a line */

/* A whole reply as one object; false: it cannot be used, or is an error. */
bool ollama_reply_write(struct ollama_reply *reply, struct str whole, struct buf *out, struct err *err);

/* The answer to a request that only loads or unloads: done_reason says which. */
bool ollama_reply_empty(struct ollama_reply *reply, const char *done_reason, struct buf *out);

/* An embeddings reply in the form that was asked for. */
bool ollama_embedding_write(struct ollama_reply *reply, struct str whole, struct buf *out, struct err *err);

/* The dialect's errors: {"error": text}. */
void ollama_error_write(struct buf *out, const struct err *err);

#endif
