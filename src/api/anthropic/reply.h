/* A chat reply as Anthropic's message, or the chunks of its stream as Anthropic's events:
 *
 *     message_start, of each block: content_block_start, content_block_delta..., content_block_stop,
 *     message_delta (why it stopped, and the usage), message_stop
 *
 * with one ping behind the first block's start. Blocks follow one another. A stream keeps no text; a message that is
 * not streamed keeps its blocks. Pure but for ids. */
#ifndef API_ANTHROPIC_REPLY_H
#define API_ANTHROPIC_REPLY_H

#include "openai/chat_read.h"

enum anthropic_block_kind { ANTHROPIC_THINKING, ANTHROPIC_TEXT, ANTHROPIC_TOOL_USE };

struct anthropic_reply {
    struct str model;
    char id[OPENAI_ID_SIZE];
    bool open, called; /* a block is open; a tool was called */
    enum anthropic_block_kind kind;
    size_t call_index;
    int64_t count; /* blocks begun */
    struct str finish_reason, stop;
    struct openai_usage usage;
    struct arena *arena;
    void (*on_event)(void *arg, const char *name, struct str data);
    void *arg;
    struct buf event;
};

/* reply and model live as long as the arena, with which the reply's memory is released. An event's data is valid during
 * the call. */
void anthropic_reply_init(struct anthropic_reply *reply, struct str model, struct arena *arena,
                          void (*on_event)(void *arg, const char *name, struct str data), void *arg);
void anthropic_reply_begin(struct anthropic_reply *reply);
/* One chunk. false and *err: it cannot be used, or is an error; then anthropic_reply_fail. */
bool anthropic_reply_feed(struct anthropic_reply *reply, struct str data, struct err *err);
void anthropic_reply_end(struct anthropic_reply *reply);
void anthropic_reply_fail(struct anthropic_reply *reply, const struct err *err); /* the event "error" */

/* A whole reply as a message; false: it cannot be used, or is an error. */
bool anthropic_message_write(struct str model, struct str chat, struct buf *out, struct err *err);

/* The dialect's errors: {"type":"error","error":{"type","message"}}. */
void anthropic_error_write(struct buf *out, const struct err *err);

#endif
