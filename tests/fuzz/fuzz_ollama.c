/* Ollama: a line with a request in one of its forms (the first byte says which), then lines with the chunks of a reply,
 * each also taken for a whole one. What a request becomes is JSON, and so is all that is answered. */
#include <stdint.h>

#include "api/ollama/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_json(struct str text)
{
    json_t *document = json_read(text, NULL);
    if (!document)
        abort();
    json_decref(document);
}

static void on_line(void *arg, struct str line)
{
    (void)arg;
    if (line.n == 0 || line.p[line.n - 1] != '\n')
        abort();
    check_json((struct str){line.p, line.n - 1});
}

static void check_whole(const struct ollama_request *request, struct arena *arena, struct str text)
{
    struct ollama_reply *reply = arena_alloc(arena, sizeof *reply);
    bool embeds = request->form == OLLAMA_EMBED || request->form == OLLAMA_EMBEDDINGS;
    struct buf out;
    struct err err;
    ollama_reply_init(reply, request, arena, on_line, NULL);
    buf_init(&out, 64u << 20);
    if ((embeds ? ollama_embedding_write : ollama_reply_write)(reply, text, &out, &err))
        check_json(buf_view(&out));
    buf_release(&out);
}

static void check_reply(const struct ollama_request *request, struct arena *arena, struct str chunks)
{
    struct ollama_reply *reply = arena_alloc(arena, sizeof *reply);
    struct err err;
    bool good = true;
    ollama_reply_init(reply, request, arena, on_line, NULL);
    while (chunks.p && good) {
        struct str chunk = str_cut(&chunks, '\n');
        check_whole(request, arena, chunk);
        good = ollama_reply_feed(reply, chunk, &err);
    }
    if (!good || !ollama_reply_end(reply, &err))
        ollama_reply_fail(reply, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data + (size > 0), size - (size > 0)}, body = str_cut(&rest, '\n');
    struct ollama_request request;
    struct arena arena;
    struct err err;
    arena_init(&arena);
    if (size && ollama_request_read(body, (enum ollama_form)(data[0] % 4), &arena, &request, &err)) {
        check_json(request.body);
        check_reply(&request, &arena, rest);
    }
    arena_dispose(&arena);
    return 0;
}
