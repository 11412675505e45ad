#include "base/json_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"

void json_begin(struct json *j, struct buf *out)
{
    j->out = out;
    j->depth = 0;
    j->failed = false;
    j->empty[0] = true;
    j->object[0] = false;
}

bool json_finish(struct json *j)
{
    return !j->failed && j->depth == 0 && !j->empty[0] && buf_ok(j->out);
}

/* What stands before a value: comma and key. */
static void lead(struct json *j, const char *key)
{
    if (j->object[j->depth] != (key != NULL) || (j->depth == 0 && !j->empty[0]))
        j->failed = true;
    if (!j->empty[j->depth])
        buf_putc(j->out, ',');
    j->empty[j->depth] = false;
    if (key) {
        json_escape(j->out, str_from(key));
        buf_putc(j->out, ':');
    }
}

static void open_level(struct json *j, const char *key, bool object)
{
    lead(j, key);
    if (j->depth == JSON_WRITE_DEPTH) {
        j->failed = true;
        return;
    }
    buf_putc(j->out, object ? '{' : '[');
    j->depth++;
    j->empty[j->depth] = true;
    j->object[j->depth] = object;
}

void json_open_object(struct json *j, const char *key)
{
    open_level(j, key, true);
}

void json_open_array(struct json *j, const char *key)
{
    open_level(j, key, false);
}

void json_close(struct json *j)
{
    if (j->depth == 0) {
        j->failed = true;
        return;
    }
    buf_putc(j->out, j->object[j->depth] ? '}' : ']');
    j->depth--;
}

void json_put_string(struct json *j, const char *key, const char *text)
{
    if (text)
        json_put_text(j, key, str_from(text));
    else
        json_put_null(j, key);
}

void json_put_text(struct json *j, const char *key, struct str text)
{
    lead(j, key);
    json_escape(j->out, text);
}

void json_put_int(struct json *j, const char *key, int64_t value)
{
    lead(j, key);
    buf_printf(j->out, "%lld", (long long)value);
}

static void put_real(struct json *j, const char *key, double value, int fewest, int most)
{
    char text[40];
    lead(j, key);
    if (!isfinite(value)) {
        buf_puts(j->out, "null");
        return;
    }
    for (int digits = fewest; digits <= most; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        double back = strtod(text, NULL);
        if (back == value || (most == 9 && (float)back == (float)value))
            break;
    }
    buf_puts(j->out, text);
}

void json_put_number(struct json *j, const char *key, double value)
{
    put_real(j, key, value, 6, 17);
}

void json_put_float(struct json *j, const char *key, float value)
{
    put_real(j, key, (double)value, 6, 9);
}

void json_put_bool(struct json *j, const char *key, bool value)
{
    lead(j, key);
    buf_puts(j->out, value ? "true" : "false");
}

void json_put_null(struct json *j, const char *key)
{
    lead(j, key);
    buf_puts(j->out, "null");
}

void json_put_raw(struct json *j, const char *key, struct str document)
{
    lead(j, key);
    buf_str(j->out, document);
}

static bool plain(unsigned char c)
{
    return c >= 0x20 && c != '"' && c != '\\' && c < 0x7F;
}

/* One character that cannot stand as it is; returns the bytes it took. */
static size_t escape_one(struct buf *out, const char *p, size_t n)
{
    unsigned char c = (unsigned char)*p;
    switch (c) {
    case '"': buf_puts(out, "\\\""); return 1;
    case '\\': buf_puts(out, "\\\\"); return 1;
    case '\n': buf_puts(out, "\\n"); return 1;
    case '\r': buf_puts(out, "\\r"); return 1;
    case '\t': buf_puts(out, "\\t"); return 1;
    case '\b': buf_puts(out, "\\b"); return 1;
    case '\f': buf_puts(out, "\\f"); return 1;
    default: break;
    }
    if (c < 0x20 || c == 0x7F) {
        buf_printf(out, "\\u%04x", c);
        return 1;
    }
    size_t length = utf8_decode(p, n, NULL);
    if (length) {
        buf_append(out, p, length);
        return length;
    }
    buf_puts(out, "\xEF\xBF\xBD");
    return 1;
}

void json_escape(struct buf *out, struct str text)
{
    buf_putc(out, '"');
    for (size_t i = 0; i < text.n;) {
        size_t run = i;
        while (run < text.n && plain((unsigned char)text.p[run]))
            run++;
        buf_append(out, text.p + i, run - i);
        i = run;
        if (i < text.n)
            i += escape_one(out, text.p + i, text.n - i);
    }
    buf_putc(out, '"');
}
