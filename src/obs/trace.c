#include "obs/trace.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/rand.h"

#define FLAG_SAMPLED 1

/* ---- traceparent ---- */

/* Lower case only, as the header's grammar has it. */
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(struct str text, unsigned char *out, size_t n)
{
    if (text.n != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        int high = hex_digit(text.p[2 * i]), low = hex_digit(text.p[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

static bool is_zero(const unsigned char *bytes, size_t n)
{
    unsigned char any = 0;
    for (size_t i = 0; i < n; i++)
        any |= bytes[i];
    return any == 0;
}

/* "00-TRACE-SPAN-FLAGS". A later version may have more fields behind these, version ff is none. */
bool trace_parse(struct str text, struct trace_context *ret_remote)
{
    struct trace_context c = {0};
    unsigned char version, flags;
    struct str rest = str_trim(text);
    if (!rest.p || !read_hex(str_cut(&rest, '-'), &version, 1) || version == 0xff || !rest.p ||
        !read_hex(str_cut(&rest, '-'), c.trace, sizeof c.trace) || !rest.p ||
        !read_hex(str_cut(&rest, '-'), c.span, sizeof c.span) || !rest.p || !read_hex(str_cut(&rest, '-'), &flags, 1))
        return false;
    if ((version == 0 && rest.p) || is_zero(c.trace, sizeof c.trace) || is_zero(c.span, sizeof c.span))
        return false;
    c.sampled = flags & FLAG_SAMPLED;
    *ret_remote = c;
    return true;
}

char *trace_parent(const struct trace_context *c, char out[TRACE_PARENT_TEXT])
{
    char trace[2 * TRACE_ID_SIZE + 1], span[2 * TRACE_SPAN_SIZE + 1];
    snprintf(out, TRACE_PARENT_TEXT, "00-%s-%s-%02x", hash_hex(c->trace, sizeof c->trace, trace),
             hash_hex(c->span, sizeof c->span, span), c->sampled ? FLAG_SAMPLED : 0);
    return out;
}

/* ---- ids ---- */

/* All zeros is no id. */
static void fill_id(unsigned char *id, size_t n)
{
    do
        rand_bytes(id, n);
    while (is_zero(id, n));
}

/* By the id's random end, so that everybody who samples the same share keeps the same traces. */
static bool is_sampled(const unsigned char trace[TRACE_ID_SIZE], double sampling)
{
    uint64_t value = 0;
    for (size_t i = TRACE_ID_SIZE - 7; i < TRACE_ID_SIZE; i++)
        value = value << 8 | trace[i];
    return (double)value < sampling * (double)(UINT64_C(1) << 56);
}

struct trace_context trace_begin(const struct trace_context *parent, double sampling)
{
    struct trace_context c = {.has_parent = parent != NULL};
    if (parent) {
        memcpy(c.trace, parent->trace, sizeof c.trace);
        memcpy(c.parent, parent->span, sizeof c.parent);
        c.sampled = parent->sampled;
    } else {
        fill_id(c.trace, sizeof c.trace);
        c.sampled = is_sampled(c.trace, sampling);
    }
    fill_id(c.span, sizeof c.span);
    return c;
}

/* ---- OTLP ---- */

static void put_id(struct json *j, const char *key, const unsigned char *id, size_t n)
{
    char text[2 * TRACE_ID_SIZE + 1];
    json_put_string(j, key, hash_hex(id, n, text));
}

/* 64 bit numbers are strings in protobuf's JSON. */
static void put_u64(struct json *j, const char *key, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    json_put_string(j, key, text);
}

static void put_attribute(struct json *j, const struct trace_attribute *a)
{
    char number[24];
    json_open_object(j, NULL);
    json_put_string(j, "key", a->key);
    json_open_object(j, "value");
    snprintf(number, sizeof number, "%" PRId64, a->number);
    if (a->text.p)
        json_put_text(j, "stringValue", a->text);
    else
        json_put_string(j, "intValue", number);
    json_close(j);
    json_close(j);
}

void trace_write(struct json *j, const struct trace_context *c, const struct trace_span *span)
{
    json_open_object(j, NULL);
    put_id(j, "traceId", c->trace, sizeof c->trace);
    put_id(j, "spanId", c->span, sizeof c->span);
    if (c->has_parent)
        put_id(j, "parentSpanId", c->parent, sizeof c->parent);
    json_put_string(j, "name", span->name);
    json_put_int(j, "kind", span->kind);
    put_u64(j, "startTimeUnixNano", span->start_ns);
    put_u64(j, "endTimeUnixNano", span->end_ns);
    json_open_array(j, "attributes");
    for (size_t i = 0; i < span->count; i++)
        put_attribute(j, &span->attributes[i]);
    json_close(j);
    if (span->failed) {
        json_open_object(j, "status");
        json_put_int(j, "code", 2);
        json_close(j);
    }
    json_close(j);
}
