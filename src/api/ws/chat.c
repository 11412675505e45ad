/* Chats of a WebSocket. A chat's memory is an arena of its own: the call to the model lies in it and ends with it. What
 * ends a chat may come from inside that very call, so the memory of a chat that has ended goes a turn later; its id is
 * free at once.
 *
 * Chunks are never parsed: slices of what the model said go out between constant text. */
#include "api/traced.h"
#include "api/upstream.h"
#include "api/ws/session.h"
#include "base/mem.h"

/* Counts come with every chunk, so that a chat that is cancelled can say what it used. */
#define STREAM_OPTIONS "{\"include_usage\":true,\"continuous_usage_stats\":true}"

struct ws_chat {
    struct list link;
    struct ws_session *session;
    struct arena arena;
    struct upstream *upstream; /* NULL: not begun, or ended */
    struct str id, raw_id;
    struct str chunk_head; /* {"type":"chat_chunk","id":...,"data": */
    struct ws_chat_wish wish;
    struct str reply_id, model; /* raw, of the first chunk */
    struct str *finish;         /* raw, one a choice */
    struct buf usage, timings;  /* raw, the newest */
    bool paused;
};

/* ---- the end ---- */

static void free_chat(struct ws_chat *chat)
{
    struct arena arena = chat->arena;
    list_remove(&chat->link);
    buf_release(&chat->usage);
    buf_release(&chat->timings);
    arena_dispose(&arena);
}

static void bury(struct loop_soon *soon)
{
    struct ws_session *s = container_of(soon, struct ws_session, bury);
    list_each (chat, &s->ended, struct ws_chat, link)
        free_chat(chat);
}

static void retire(struct ws_chat *chat)
{
    struct ws_session *s = chat->session;
    chat->upstream = NULL;
    list_remove(&chat->link);
    list_push(&s->ended, &chat->link);
    s->chat_count--;
    loop_soon(s->app->loop, &s->bury, bury);
    ws_session_chat_ended(s);
}

void ws_chats_dispose(struct ws_session *s)
{
    loop_soon_cancel(&s->bury);
    list_each (chat, &s->chats, struct ws_chat, link)
        free_chat(chat);
    list_each (chat, &s->ended, struct ws_chat, link)
        free_chat(chat);
}

static struct str or_null(struct str raw)
{
    return raw.n ? raw : STR("null");
}

static void put_choices(struct json *j, const struct ws_chat *chat, struct str finish_reason)
{
    json_open_array(j, "choices");
    for (unsigned i = 0; i < chat->wish.choices; i++) {
        json_open_object(j, NULL);
        json_put_int(j, "index", i);
        json_put_raw(j, "finish_reason", or_null(chat->finish[i].n ? chat->finish[i] : finish_reason));
        json_close(j);
    }
    json_close(j);
}

/* Once a chat; its chunks, which come by the thousand, are slices of what the model said. */
static void send_done(struct ws_chat *chat, struct str finish_reason, struct str choices, struct str message)
{
    struct buf out;
    struct json j;
    buf_init(&out, LIMIT_JSON_TEXT);
    json_begin(&j, &out);
    json_open_object(&j, NULL);
    json_put_string(&j, "type", "chat_done");
    json_put_raw(&j, "id", or_null(chat->raw_id));
    json_open_object(&j, "data");
    json_put_raw(&j, "id", or_null(chat->reply_id));
    json_put_raw(&j, "model", or_null(chat->model));
    json_put_raw(&j, "finish_reason", or_null(chat->finish[0].n ? chat->finish[0] : finish_reason));
    if (choices.p)
        json_put_raw(&j, "choices", or_null(choices));
    else if (chat->wish.choices > 1)
        put_choices(&j, chat, finish_reason);
    if (message.p)
        json_put_raw(&j, "message", or_null(message));
    json_put_raw(&j, "usage", or_null(buf_view(&chat->usage)));
    json_put_raw(&j, "timings", or_null(buf_view(&chat->timings)));
    json_close(&j);
    json_close(&j);
    json_finish(&j);
    http_ws_send(chat->session->ws, buf_view(&out));
    buf_release(&out);
}

/* ---- what the model says ---- */

static void keep(struct buf *kept, struct str raw)
{
    if (!raw.p)
        return;
    buf_clear(kept);
    buf_str(kept, raw);
}

static void pause_all(struct ws_session *s)
{
    list_each (chat, &s->chats, struct ws_chat, link) {
        if (chat->upstream && !chat->paused)
            upstream_pause(chat->upstream);
        chat->paused = true;
    }
}

static void sent(struct ws_session *s, bool more)
{
    if (!more)
        pause_all(s);
}

static void note_reply(struct ws_chat *chat, const struct ws_chunk *chunk)
{
    if (!chat->reply_id.p && chunk->id.p)
        chat->reply_id = arena_str(&chat->arena, chunk->id);
    if (!chat->model.p && chunk->model.p)
        chat->model = arena_str(&chat->arena, chunk->model);
    keep(&chat->usage, chunk->usage);
    keep(&chat->timings, chunk->timings);
}

static void note_finish(struct ws_chat *chat, const struct ws_choice *choice)
{
    if (choice->finish_reason.p && choice->index < chat->wish.choices && !chat->finish[choice->index].p)
        chat->finish[choice->index] = arena_str(&chat->arena, choice->finish_reason);
}

static void send_delta(struct ws_chat *chat, const struct ws_choice *choice)
{
    const struct str pieces[] = {
        chat->chunk_head,
        STR("{\"index\":"),
        choice->raw_index,
        STR(",\"delta\":"),
        choice->delta,
        choice->logprobs.p ? STR(",\"finish_reason\":null,\"logprobs\":") : STR(",\"finish_reason\":null"),
        choice->logprobs,
        STR("}}")};
    sent(chat->session, http_ws_sendv(chat->session->ws, pieces, sizeof pieces / sizeof *pieces));
}

static void on_event(void *arg, struct str data)
{
    struct ws_chat *chat = arg;
    struct ws_chunk chunk;
    struct ws_choice choice;
    if (chat->session->dialect->whole_chunks) {
        const struct str pieces[] = {chat->chunk_head, data, STR("}")};
        sent(chat->session, http_ws_sendv(chat->session->ws, pieces, 3));
        return;
    }
    if (!ws_chunk_read(data, &chunk))
        return; /* no object: nothing that could be passed on */
    note_reply(chat, &chunk);
    while (ws_choice_next(&chunk.choices, &choice)) {
        note_finish(chat, &choice);
        if (!ws_delta_is_empty(choice.delta))
            send_delta(chat, &choice);
    }
}

static void on_reply(void *arg, struct str body)
{
    struct ws_chat *chat = arg;
    struct ws_chunk reply;
    struct ws_choice choice;
    struct str message = STR_NONE;
    if (chat->session->dialect->whole_chunks) {
        const struct str pieces[] = {chat->chunk_head, body, STR("}")};
        http_ws_sendv(chat->session->ws, pieces, 3);
        return;
    }
    if (!ws_chunk_read(body, &reply))
        return;
    struct str choices = reply.choices;
    note_reply(chat, &reply);
    while (ws_choice_next(&choices, &choice)) {
        note_finish(chat, &choice);
        if (!message.p)
            message = choice.message;
    }
    send_done(chat, STR_NONE, chat->wish.choices > 1 ? reply.choices : STR_NONE, message);
}

static void on_end(void *arg, const struct err *err)
{
    struct ws_chat *chat = arg;
    struct ws_session *s = chat->session;
    if (err)
        ws_session_error(s, chat->raw_id, err);
    else if (chat->wish.stream && !s->dialect->whole_chunks)
        send_done(chat, STR_NONE, STR_NONE, STR_NONE);
    retire(chat);
}

/* ---- what the client asks for ---- */

static struct ws_chat *find(struct ws_session *s, struct str id)
{
    list_each (chat, &s->chats, struct ws_chat, link)
        if (str_eq(chat->id, id))
            return chat;
    return NULL;
}

bool ws_chat_is_running(struct ws_session *s, struct str id)
{
    return find(s, id) != NULL;
}

bool ws_chat_cancel(struct ws_session *s, struct str id)
{
    struct ws_chat *chat = find(s, id);
    if (!chat)
        return false;
    if (chat->upstream)
        upstream_cancel(chat->upstream);
    send_done(chat, STR("\"cancelled\""), STR_NONE, STR_NONE);
    retire(chat);
    return true;
}

void ws_chats_resume(struct ws_session *s)
{
    list_each (chat, &s->chats, struct ws_chat, link) {
        bool paused = chat->paused;
        if (http_ws_is_blocked(s->ws)) /* the first ones filled it up again */
            return;
        chat->paused = false;
        if (chat->upstream && paused)
            upstream_resume(chat->upstream);
    }
}

static bool may_start(struct ws_session *s, const struct ws_envelope *envelope, struct err *err)
{
    if (s->leaving)
        return err_set(err, ERR_DRAINING, "the server is shutting down");
    if (s->chat_count >= (unsigned)s->app->conf->ws_max_streams)
        return err_set(err, ERR_TOO_MANY_STREAMS, "%u chats run on this socket already; wait for one to end",
                       s->chat_count);
    if (ws_subscription_find(s, envelope->id))
        return err_set_param(err, ERR_DUPLICATE_ID, "id", "A subscription has this id");
    return ws_session_id_free(s, envelope, err);
}

static struct ws_chat *new_chat(struct ws_session *s, const struct ws_envelope *envelope)
{
    struct arena arena;
    arena_init(&arena);
    struct ws_chat *chat = arena_calloc(&arena, sizeof *chat);
    chat->session = s;
    chat->id = arena_str(&arena, envelope->id);
    chat->raw_id = arena_str(&arena, envelope->raw_id);
    chat->chunk_head = str_from(
        arena_printf(&arena, "{\"type\":\"chat_chunk\",\"id\":" STR_FMT ",\"data\":", STR_ARG(envelope->raw_id)));
    chat->arena = arena;
    buf_init(&chat->usage, LIMIT_SSE_EVENT);
    buf_init(&chat->timings, LIMIT_SSE_EVENT);
    list_push(&s->chats, &chat->link);
    s->chat_count++;
    return chat;
}

static void call_model(struct ws_chat *chat, struct str body)
{
    static const struct upstream_events events = {.on_event = on_event, .on_reply = on_reply, .on_end = on_end};
    struct ws_session *s = chat->session;
    struct upstream_request request = {.path = STR("/v1/chat/completions"),
                                       .body = body,
                                       .caller = s->caller,
                                       .address = s->address,
                                       .request_id = s->req->id,
                                       .trace = traced_remote(s->app, s->req, &chat->arena),
                                       .charge = true};
    struct upstream *upstream = upstream_start(s->app, &chat->arena, &request, &events, chat);
    if (!upstream) /* ended already: the chat is retired */
        return;
    chat->upstream = upstream;
    chat->paused = http_ws_is_blocked(s->ws);
    if (chat->paused)
        upstream_pause(upstream);
}

void ws_chat_start(struct ws_session *s, const struct ws_envelope *envelope)
{
    struct err err = ERR_INIT;
    struct str body;
    if (!ws_session_may(s, AUTH_INFERENCE, envelope->raw_id))
        return;
    if (!may_start(s, envelope, &err)) {
        ws_session_error(s, envelope->raw_id, &err);
        return;
    }
    struct ws_chat *chat = new_chat(s, envelope);
    struct str options = s->dialect->whole_chunks ? STR_NONE : STR(STREAM_OPTIONS);
    if (!ws_chat_body(envelope->data, options, &chat->arena, &body, &chat->wish, &err)) {
        on_end(chat, &err);
        return;
    }
    chat->finish = arena_calloc(&chat->arena, chat->wish.choices * sizeof *chat->finish);
    call_model(chat, body);
}
