/* Event streams: whole and byte by byte must give the same events. */
#include <stdint.h>

#include "http/sse_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void note(void *arg, struct str name, struct str data)
{
    buf_printf(arg, "%zu,%zu:", name.n, data.n);
    buf_str(arg, name);
    buf_str(arg, data);
}

static void feed(const char *in, size_t n, size_t step, struct buf *out)
{
    struct http_sse_reader reader;
    http_sse_reader_init(&reader, note, out);
    for (size_t at = 0; at < n; at += step)
        if (!http_sse_reader_feed(&reader, (struct str){in + at, n - at < step ? n - at : step}))
            break;
    http_sse_reader_release(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole, bytewise;
    buf_init(&whole, 64u << 20);
    buf_init(&bytewise, 64u << 20);
    if (size)
        feed((const char *)data, size, size, &whole);
    feed((const char *)data, size, 1, &bytewise);
    if (!str_eq(buf_view(&whole), buf_view(&bytewise)))
        abort();
    buf_release(&whole);
    buf_release(&bytewise);
    return 0;
}
