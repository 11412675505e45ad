#include "http/sse_read.h"

#include "base/limits.h"

void http_sse_reader_init(struct http_sse_reader *reader, void (*on_event)(void *arg, struct str name, struct str data),
                          void *arg)
{
    *reader = (struct http_sse_reader){.on_event = on_event, .arg = arg};
    buf_init(&reader->line, LIMIT_SSE_EVENT);
    buf_init(&reader->name, LIMIT_SSE_EVENT);
    buf_init(&reader->data, LIMIT_SSE_EVENT);
}

void http_sse_reader_release(struct http_sse_reader *reader)
{
    buf_release(&reader->line);
    buf_release(&reader->name);
    buf_release(&reader->data);
}

static void end_event(struct http_sse_reader *r)
{
    if (r->has_data)
        r->on_event(r->arg, buf_view(&r->name), buf_view(&r->data));
    buf_clear(&r->name);
    buf_clear(&r->data);
    r->has_data = false;
}

static bool end_line(struct http_sse_reader *r)
{
    struct str value = buf_view(&r->line);
    if (!r->started && str_starts(value, STR("\xEF\xBB\xBF"))) { /* one byte order mark may open the stream */
        value.p += 3;
        value.n -= 3;
    }
    r->started = true;
    if (value.n == 0) {
        end_event(r);
    } else {
        struct str field = str_cut(&value, ':');
        if (value.n && value.p[0] == ' ') {
            value.p++;
            value.n--;
        }
        if (str_eq(field, STR("data"))) {
            if (r->has_data)
                buf_putc(&r->data, '\n');
            r->has_data = true;
            buf_str(&r->data, value);
        } else if (str_eq(field, STR("event"))) {
            buf_clear(&r->name);
            buf_str(&r->name, value);
        }
    }
    buf_clear(&r->line);
    return buf_ok(&r->data) && buf_ok(&r->name);
}

/* Length of the part of bytes that belongs to the current line. */
static size_t line_part(struct str bytes)
{
    const char *lf = memchr(bytes.p, '\n', bytes.n);
    size_t n = lf ? (size_t)(lf - bytes.p) : bytes.n;
    const char *cr = memchr(bytes.p, '\r', n);
    return cr ? (size_t)(cr - bytes.p) : n;
}

bool http_sse_reader_feed(struct http_sse_reader *reader, struct str bytes)
{
    while (bytes.n) {
        if (reader->after_cr && bytes.p[0] == '\n') { /* the second half of a CR LF */
            reader->after_cr = false;
            bytes.p++;
            bytes.n--;
            continue;
        }
        size_t n = line_part(bytes);
        reader->after_cr = n < bytes.n && bytes.p[n] == '\r';
        buf_append(&reader->line, bytes.p, n);
        if (!buf_ok(&reader->line) || (n < bytes.n && !end_line(reader)))
            return false;
        n += n < bytes.n;
        bytes.p += n;
        bytes.n -= n;
    }
    return true;
}
