/* Messages of the WebSocket API and models' chunks: whatever is read stays inside the text; what goes on to a model is
 * valid JSON when what came was. */
#include <stdint.h>

#include "api/ws/frame.h"
#include "base/json_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_json(struct str text)
{
    json_t *document = json_read(text, NULL);
    json_decref(document);
    return document != NULL;
}

static void as_message(struct str text, struct arena *arena)
{
    struct ws_envelope envelope;
    struct ws_chat_wish wish;
    struct str body;
    struct err err;
    struct buf out;
    if (!ws_envelope_read(text, arena, &envelope, &err)) {
        buf_init(&out, 65536);
        ws_error_write(&out, envelope.raw_id, &err);
        if (!is_json(buf_view(&out)))
            abort();
        buf_release(&out);
    } else if (ws_chat_body(envelope.data, STR("{}"), arena, &body, &wish, &err) && is_json(text) && !is_json(body)) {
        abort();
    }
}

static void as_chunk(struct str text)
{
    struct ws_chunk chunk;
    struct ws_choice choice;
    size_t seen = 0;
    if (!ws_chunk_read(text, &chunk))
        return;
    while (ws_choice_next(&chunk.choices, &choice)) {
        seen += choice.delta.n + choice.logprobs.n + choice.finish_reason.n + choice.message.n;
        ws_delta_is_empty(choice.delta);
    }
    if (seen > 4 * text.n)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    struct arena arena;
    arena_init(&arena);
    as_message(text, &arena);
    as_chunk(text);
    arena_dispose(&arena);
    return 0;
}
