#include "api/responses/reply.h"

#include "api/responses/object.h"
#include "base/clock.h"
#include "base/mem.h"

/* ---- events ---- */

/* NULL: nobody listens. */
static struct json *event_begin(struct response_reply *r, struct json *j, const char *name)
{
    if (!r->on_event)
        return NULL;
    buf_clear(&r->event);
    json_begin(j, &r->event);
    json_open_object(j, NULL);
    json_put_string(j, "type", name);
    json_put_int(j, "sequence_number", r->sequence++);
    return j;
}

static void event_end(struct response_reply *r, struct json *j, const char *name)
{
    json_close(j);
    json_finish(j);
    r->on_event(r->arg, name, buf_view(&r->event));
}

static void tell_response(struct response_reply *r, const char *name)
{
    struct json j;
    if (!event_begin(r, &j, name))
        return;
    response_reply_put(r, &j, "response");
    event_end(r, &j, name);
}

static struct response_item *last(const struct response_reply *r)
{
    return &r->items[r->count - 1];
}

static void put_place(const struct response_reply *r, struct json *j, bool part)
{
    json_put_string(j, "item_id", last(r)->id);
    json_put_int(j, "output_index", (int64_t)r->count - 1);
    if (part)
        json_put_int(j, "content_index", 0);
}

static void tell_item(struct response_reply *r, const char *name, bool empty)
{
    struct json j;
    if (!event_begin(r, &j, name))
        return;
    json_put_int(&j, "output_index", (int64_t)r->count - 1);
    response_item_put(last(r), &j, "item", empty);
    event_end(r, &j, name);
}

static void tell_part(struct response_reply *r, const char *name, struct str text)
{
    struct json j;
    if (!event_begin(r, &j, name))
        return;
    put_place(r, &j, true);
    response_part_put(last(r), &j, "part", text);
    event_end(r, &j, name);
}

static const char *const delta_events[] = {"response.reasoning_text.delta", "response.output_text.delta",
                                           "response.function_call_arguments.delta"};
static const char *const done_events[] = {"response.reasoning_text.done", "response.output_text.done",
                                          "response.function_call_arguments.done"};

static void tell_text(struct response_reply *r, const char *name, const char *member, struct str text)
{
    struct json j;
    enum response_item_kind kind = last(r)->kind;
    if (!event_begin(r, &j, name))
        return;
    put_place(r, &j, kind != RESPONSE_CALL);
    json_put_text(&j, member, text);
    if (kind == RESPONSE_MESSAGE) {
        json_open_array(&j, "logprobs");
        json_close(&j);
    }
    if (kind == RESPONSE_CALL && strcmp(member, "arguments") == 0)
        json_put_text(&j, "name", last(r)->name);
    event_end(r, &j, name);
}

/* ---- items ---- */

static void close_item(struct response_reply *r, const char *status)
{
    if (!r->open)
        return;
    struct response_item *item = last(r);
    struct str text = buf_view(&item->text);
    r->open = false;
    item->status = status;
    tell_text(r, done_events[item->kind], item->kind == RESPONSE_CALL ? "arguments" : "text", text);
    if (item->kind != RESPONSE_CALL)
        tell_part(r, "response.content_part.done", text);
    tell_item(r, "response.output_item.done", false);
}

static struct response_item *open_item(struct response_reply *r, enum response_item_kind kind, struct err *err)
{
    static const char *const prefixes[] = {"rs_", "msg_", "fc_"};
    close_item(r, "completed");
    if (r->count == LIMIT_RESPONSE_OUTPUTS) {
        err_set(err, ERR_BAD_GATEWAY, "the reply has more than %d items", LIMIT_RESPONSE_OUTPUTS);
        return NULL;
    }
    if (r->count == r->capacity) {
        r->capacity = r->capacity ? 2 * r->capacity : 4;
        r->items = mem_realloc(r->items, r->capacity * sizeof *r->items);
    }
    struct response_item *item = &r->items[r->count++];
    *item = (struct response_item){.kind = kind, .status = "in_progress"};
    openai_id(item->id, prefixes[kind]);
    buf_init(&item->text, LIMIT_RESPONSE_BYTES);
    r->open = true;
    return item;
}

static bool append(struct response_reply *r, struct str text, struct err *err)
{
    struct response_item *item = last(r);
    buf_str(&item->text, text);
    if (!buf_ok(&item->text))
        return err_set(err, ERR_BAD_GATEWAY, "the reply has a text of more than %u bytes", LIMIT_RESPONSE_BYTES);
    tell_text(r, delta_events[item->kind], "delta", text);
    return true;
}

static bool add_text(struct response_reply *r, enum response_item_kind kind, struct str text, struct err *err)
{
    if (!r->open || last(r)->kind != kind) {
        if (!open_item(r, kind, err))
            return false;
        tell_item(r, "response.output_item.added", true);
        tell_part(r, "response.content_part.added", STR(""));
    }
    return append(r, text, err);
}

static bool add_call(struct response_reply *r, const struct openai_call_delta *call, struct err *err)
{
    bool same = r->open && last(r)->kind == RESPONSE_CALL && last(r)->call_index == call->index;
    if (!same) {
        char fresh[OPENAI_ID_SIZE];
        if (!call->name.p)
            return err_set(err, ERR_BAD_GATEWAY, "the backend's reply goes back to a tool call that had ended");
        struct response_item *item = open_item(r, RESPONSE_CALL, err);
        if (!item)
            return false;
        item->call_index = call->index;
        item->call_id = arena_str(r->arena, call->id.p ? call->id : str_from(openai_id(fresh, "call_")));
        item->name = arena_str(r->arena, call->name);
        tell_item(r, "response.output_item.added", true);
    }
    return !call->arguments.p || append(r, call->arguments, err);
}

/* ---- the whole ---- */

static void release(void *arg)
{
    struct response_reply *r = arg;
    for (size_t i = 0; i < r->count; i++)
        buf_release(&r->items[i].text);
    mem_free(r->items);
    buf_release(&r->event);
}

void response_reply_init(struct response_reply *reply, const struct response_request *request, struct arena *arena,
                         void (*on_event)(void *arg, const char *name, struct str data), void *arg)
{
    *reply = (struct response_reply){.request = request,
                                     .arena = arena,
                                     .created_at = clock_unix(),
                                     .status = "in_progress",
                                     .on_event = on_event,
                                     .arg = arg};
    openai_id(reply->id, "resp_");
    buf_init(&reply->event, LIMIT_JSON_TEXT);
    arena_on_dispose(arena, release, reply);
}

void response_reply_begin(struct response_reply *reply)
{
    tell_response(reply, "response.created");
    tell_response(reply, "response.in_progress");
}

static bool add_delta(struct response_reply *r, const struct openai_chat_delta *delta, struct err *err)
{
    if (delta->reasoning.p && !add_text(r, RESPONSE_REASONING, delta->reasoning, err))
        return false;
    if (delta->content.p && !add_text(r, RESPONSE_MESSAGE, delta->content, err))
        return false;
    for (size_t i = 0; i < delta->call_count; i++) {
        struct openai_call_delta call;
        if (!openai_call_delta_read(delta, i, &call, err) || !add_call(r, &call, err))
            return false;
    }
    if (delta->finish_reason.p)
        r->finish_reason = arena_str(r->arena, delta->finish_reason);
    if (delta->has_usage) {
        r->has_usage = true;
        r->usage = delta->usage;
    }
    return true;
}

bool response_reply_feed(struct response_reply *reply, struct str data, struct err *err)
{
    struct openai_chat_delta delta;
    if (!openai_chat_delta_read(data, &delta, err))
        return false;
    bool good = add_delta(reply, &delta, err);
    openai_chat_delta_release(&delta);
    return good;
}

void response_reply_end(struct response_reply *reply)
{
    bool cut = str_eq(reply->finish_reason, STR("length")) || str_eq(reply->finish_reason, STR("content_filter"));
    close_item(reply, cut ? "incomplete" : "completed");
    reply->status = cut ? "incomplete" : "completed";
    reply->completed_at = cut ? 0 : clock_unix();
}

void response_reply_fail(struct response_reply *reply, const struct err *err)
{
    if (reply->open)
        last(reply)->status = "incomplete";
    reply->open = false;
    reply->status = "failed";
    reply->completed_at = 0;
    reply->error = *err;
}

void response_reply_finish(struct response_reply *reply)
{
    if (strcmp(reply->status, "completed") == 0)
        tell_response(reply, "response.completed");
    else if (strcmp(reply->status, "incomplete") == 0)
        tell_response(reply, "response.incomplete");
    else
        tell_response(reply, "response.failed");
}
