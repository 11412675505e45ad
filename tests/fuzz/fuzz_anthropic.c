/* Messages: a line with a request, then lines with the chunks of a chat reply, each also taken for a whole one. What a
 * request becomes is JSON, and so are the messages and every event of the stream. */
#include <stdint.h>

#include "api/anthropic/reply.h"
#include "api/anthropic/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_json(struct str text)
{
    json_t *document = json_read(text, NULL);
    if (!document)
        abort();
    json_decref(document);
}

static void on_event(void *arg, const char *name, struct str data)
{
    (void)arg;
    (void)name;
    check_json(data);
}

static void check_whole(struct str text)
{
    struct buf out;
    struct err err;
    buf_init(&out, 64u << 20);
    if (anthropic_message_write(STR("m"), text, &out, &err))
        check_json(buf_view(&out));
    buf_release(&out);
}

static void check_reply(struct arena *arena, struct str chunks)
{
    struct anthropic_reply *reply = arena_alloc(arena, sizeof *reply);
    struct err err;
    bool good = true;
    anthropic_reply_init(reply, STR("m"), arena, on_event, NULL);
    anthropic_reply_begin(reply);
    while (chunks.p && good) {
        struct str chunk = str_cut(&chunks, '\n');
        check_whole(chunk);
        good = anthropic_reply_feed(reply, chunk, &err);
    }
    if (good)
        anthropic_reply_end(reply);
    else
        anthropic_reply_fail(reply, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data, size}, body = str_cut(&rest, '\n');
    struct anthropic_request request;
    struct arena arena;
    struct err err;
    arena_init(&arena);
    if (anthropic_request_read(body, false, &arena, &request, &err)) {
        check_json(request.chat);
        check_reply(&arena, rest);
    }
    arena_dispose(&arena);
    return 0;
}
