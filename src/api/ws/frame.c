#include "api/ws/frame.h"

#include "base/json_scan.h"
#include "base/json_write.h"
#include "openai/error.h"

static bool is_null(struct str raw)
{
    return !raw.p || str_eq(raw, STR("null"));
}

static struct str or_none(struct str raw)
{
    return is_null(raw) ? STR_NONE : raw;
}

/* ---- what clients send ---- */

static bool read_id(struct str raw, struct arena *arena, struct ws_envelope *envelope, struct err *err)
{
    struct str id;
    envelope->raw_id = STR("null");
    envelope->id = STR_NONE;
    if (is_null(raw))
        return true;
    if (!json_scan_text(raw, arena, &id) || id.n == 0 || id.n > LIMIT_WS_ID)
        return err_set_param(err, ERR_INVALID_MESSAGE, "id", "'id' must be a string of 1 to %d bytes", LIMIT_WS_ID);
    envelope->id = id;
    envelope->raw_id = arena_str(arena, raw);
    return true;
}

bool ws_envelope_read(struct str message, struct arena *arena, struct ws_envelope *ret_envelope, struct err *err)
{
    struct json_scan wanted[] = {{.key = "type"}, {.key = "id"}, {.key = "data"}};
    *ret_envelope = (struct ws_envelope){.raw_id = STR("null"), .data = STR("{}")};
    if (!json_scan(message, wanted, 3, err)) {
        err->code = ERR_INVALID_MESSAGE; /* the reader's words stay */
        return false;
    }
    if (!read_id(wanted[1].raw, arena, ret_envelope, err))
        return false;
    if (is_null(wanted[0].raw) || !json_scan_text(wanted[0].raw, arena, &ret_envelope->type))
        return err_set_param(err, ERR_INVALID_MESSAGE, "type", "'type' is required and must be a string");
    if (is_null(wanted[2].raw))
        return true;
    if (*wanted[2].raw.p != '{')
        return err_set_param(err, ERR_INVALID_MESSAGE, "data", "'data' must be an object");
    ret_envelope->data = wanted[2].raw;
    return true;
}

static void put_slice(struct buf *out, const char *from, const char *to)
{
    buf_append(out, from, (size_t)(to - from));
}

struct member {
    const char *name;
    struct str old, value; /* old: the value's slice of the data; STR_NONE: the member is added */
};

static bool is_blank(const char *from, const char *to)
{
    while (from < to && memchr(" \t\r\n", *from, 4))
        from++;
    return from == to;
}

/* data with these members set; those with an old value must stand in its order. */
static struct str set_members(struct str data, const struct member *members, size_t count, struct arena *arena)
{
    const char *at = data.p, *end = data.p + data.n - 1;
    bool first = is_blank(data.p + 1, end);
    struct buf out;
    buf_init(&out, LIMIT_WS_MESSAGE_MAX + 1024);
    for (size_t i = 0; i < count; i++) {
        if (!members[i].old.p)
            continue;
        put_slice(&out, at, members[i].old.p);
        buf_str(&out, members[i].value);
        at = members[i].old.p + members[i].old.n;
    }
    put_slice(&out, at, end);
    for (size_t i = 0; i < count; i++) {
        if (members[i].old.p)
            continue;
        buf_printf(&out, "%s\"%s\":", first ? "" : ",", members[i].name);
        buf_str(&out, members[i].value);
        first = false;
    }
    buf_putc(&out, '}');
    struct str result = arena_str(arena, buf_view(&out));
    buf_release(&out);
    return result;
}

static struct str streamed_body(struct str data, struct str stream, struct str options, struct str wanted_options,
                                struct arena *arena)
{
    struct member members[2] = {{"stream", stream, STR("true")}, {"stream_options", options, wanted_options}};
    if (stream.p && options.p && options.p < stream.p) {
        struct member later = members[0];
        members[0] = members[1];
        members[1] = later;
    }
    if (wanted_options.p)
        return set_members(data, members, 2, arena);
    members[0] = (struct member){"stream", stream, STR("true")};
    return set_members(data, members, 1, arena);
}

bool ws_chat_body(struct str data, struct str stream_options, struct arena *arena, struct str *ret_body,
                  struct ws_chat_wish *ret_wish, struct err *err)
{
    struct json_scan wanted[] = {{.key = "stream"}, {.key = "stream_options"}, {.key = "n"}};
    uint64_t choices = 1;
    if (!json_scan(data, wanted, 3, err))
        return false;
    struct str stream = wanted[0].raw;
    if (!is_null(stream) && !str_eq(stream, STR("true")) && !str_eq(stream, STR("false")))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "stream", "'stream' must be true or false");
    if (!wanted[2].raw.p || !str_u64(wanted[2].raw, LIMIT_CHOICES, &choices) || choices == 0)
        choices = 1;
    *ret_wish = (struct ws_chat_wish){.stream = !str_eq(stream, STR("false")), .choices = (unsigned)choices};
    if (ret_wish->stream)
        *ret_body = streamed_body(data, stream, wanted[1].raw, stream_options, arena);
    else
        *ret_body = arena_str(arena, data);
    return true;
}

/* ---- what models answer ---- */

bool ws_chunk_read(struct str chunk, struct ws_chunk *ret_chunk)
{
    struct json_scan wanted[] = {
        {.key = "id"}, {.key = "model"}, {.key = "choices"}, {.key = "usage"}, {.key = "timings"}};
    if (!json_scan(chunk, wanted, 5, NULL))
        return false;
    *ret_chunk = (struct ws_chunk){or_none(wanted[0].raw), or_none(wanted[1].raw), or_none(wanted[2].raw),
                                   or_none(wanted[3].raw), or_none(wanted[4].raw)};
    return true;
}

bool ws_choice_next(struct str *choices, struct ws_choice *ret_choice)
{
    struct json_scan wanted[] = {
        {.key = "index"}, {.key = "delta"}, {.key = "logprobs"}, {.key = "finish_reason"}, {.key = "message"}};
    struct str item;
    uint64_t index = 0;
    if (!choices->p || !json_scan_item(choices, &item) || !json_scan(item, wanted, 5, NULL))
        return false;
    if (!wanted[0].raw.p || !str_u64(wanted[0].raw, LIMIT_CHOICES, &index))
        wanted[0].raw = STR("0");
    *ret_choice = (struct ws_choice){(unsigned)index,        wanted[0].raw,          or_none(wanted[1].raw),
                                     or_none(wanted[2].raw), or_none(wanted[3].raw), or_none(wanted[4].raw)};
    return true;
}

bool ws_delta_is_empty(struct str delta)
{
    struct json_scan wanted[] = {{.key = "role"},          {.key = "content"},           {.key = "tool_calls"},
                                 {.key = "function_call"}, {.key = "reasoning_content"}, {.key = "reasoning"},
                                 {.key = "refusal"}};
    if (!delta.p || str_eq(delta, STR("{}")))
        return true;
    if (!memmem(delta.p, delta.n, "\"role\"", 6) || !json_scan(delta, wanted, 7, NULL))
        return false;
    for (size_t i = 1; i < 7; i++)
        if (!is_null(wanted[i].raw) && !str_eq(wanted[i].raw, STR("\"\"")))
            return false;
    return true;
}

/* ---- errors ---- */

void ws_error_write(struct buf *out, struct str raw_id, const struct err *err)
{
    buf_puts(out, "{\"type\":\"error\",\"id\":");
    buf_str(out, raw_id);
    buf_puts(out, ",\"data\":");
    openai_error_write(out, err);
    buf_putc(out, '}');
}
