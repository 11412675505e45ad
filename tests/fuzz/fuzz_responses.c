/* Responses: a line with a request, then lines with the chunks of a chat reply. What a request becomes is JSON, its
 * items read again as themselves, and every event of the stream is JSON. */
#include <stdint.h>

#include "api/responses/reply.h"

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

static void check_items(const struct response_request *request)
{
    json_t *again;
    struct err err;
    if (!response_items_read(request->input, &again, &err) || !json_equal(again, request->input))
        abort();
    json_decref(again);
}

static void check_reply(const struct response_request *request, struct arena *arena, struct str chunks)
{
    struct response_reply *reply = arena_alloc(arena, sizeof *reply);
    struct err err;
    bool good = true;
    response_reply_init(reply, request, arena, on_event, NULL);
    response_reply_begin(reply);
    while (chunks.p && good)
        good = response_reply_feed(reply, str_cut(&chunks, '\n'), &err);
    if (good)
        response_reply_end(reply);
    else
        response_reply_fail(reply, &err);
    response_reply_finish(reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data, size}, body = str_cut(&rest, '\n'), chat;
    struct response_request request;
    struct arena arena;
    struct err err;
    arena_init(&arena);
    if (response_request_read(body, &arena, &request, &err)) {
        check_items(&request);
        const json_t *earlier[] = {request.input};
        if (!response_chat_write(&request, earlier, 1, &arena, &chat, &err))
            abort();
        check_json(chat);
        check_reply(&request, &arena, rest);
    }
    arena_dispose(&arena);
    return 0;
}
