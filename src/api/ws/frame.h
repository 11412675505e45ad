/* Messages of the WebSocket protocol as text: reading the envelope, and what is written around slices of JSON that pass
 * through as they are. Pure. */
#ifndef API_WS_FRAME_H
#define API_WS_FRAME_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

/* {"type": ..., "id": ..., "data": {...}}; data is a slice of the message, "{}" when absent or null. */
struct ws_envelope {
    struct str type;
    struct str id;     /* text; STR_NONE: none */
    struct str raw_id; /* as JSON, quotes included; "null": none */
    struct str data;
};

/* false: *err says why (ERR_INVALID_MESSAGE); the id is set all the same when there was a good one. */
bool ws_envelope_read(struct str message, struct arena *arena, struct ws_envelope *ret_envelope, struct err *err);

/* What a chat's data says to the gateway; the rest is the model's business. */
struct ws_chat_wish {
    bool stream;
    unsigned choices; /* n, 1..LIMIT_CHOICES; 1 when it is anything else, which the model will refuse */
};

/* The body of the chat: data, streamed unless it says false, and then with stream_options in place of its own
 * (STR_NONE: its own stay). In the arena. ERR_INVALID_PARAMETERS when "stream" is no boolean; ERR_INVALID_MESSAGE. */
bool ws_chat_body(struct str data, struct str stream_options, struct arena *arena, struct str *ret_body,
                  struct ws_chat_wish *ret_wish, struct err *err);

/* What a chunk of a stream holds; slices, STR_NONE when absent or null. */
struct ws_chunk {
    struct str id, model, choices, usage, timings;
};
bool ws_chunk_read(struct str chunk, struct ws_chunk *ret_chunk);

struct ws_choice {
    unsigned index;
    struct str raw_index, delta, logprobs, finish_reason, message; /* STR_NONE when absent or null */
};

/* The next choice of a chunk's choices (as json_scan_item walks). */
bool ws_choice_next(struct str *choices, struct ws_choice *ret_choice);

/* A delta that says nothing: {} or the role alone. */
bool ws_delta_is_empty(struct str delta);

/* {"type":"error",...} with the very object that HTTP answers with. */
void ws_error_write(struct buf *out, struct str raw_id, const struct err *err);

#endif
