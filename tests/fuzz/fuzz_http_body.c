/* Chunked coding: whole and byte by byte must take the same bytes and give the same payload. */
#include <stdint.h>

#include "base/buf.h"
#include "http/head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Feeds in steps; returns the bytes taken, SIZE_MAX on error. */
static size_t feed(const char *in, size_t n, size_t step, struct buf *payload)
{
    struct http_body body;
    size_t at = 0;
    http_body_init(&body, HTTP_BODY_CHUNKED, 0);
    while (at < n && !body.done) {
        struct str piece;
        size_t part = n - at < step ? n - at : step;
        size_t taken = http_body_feed(&body, in + at, part, &piece);
        if (taken == SIZE_MAX)
            return SIZE_MAX;
        if (taken == 0 || taken > part || piece.n > taken)
            abort();
        buf_append(payload, piece.p, piece.n);
        at += taken;
    }
    return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole, bytewise;
    buf_init(&whole, size + 1);
    buf_init(&bytewise, size + 1);
    size_t a = feed((const char *)data, size, size, &whole);
    size_t b = feed((const char *)data, size, 1, &bytewise);
    if (a != b || !str_eq(buf_view(&whole), buf_view(&bytewise)))
        abort();
    buf_release(&whole);
    buf_release(&bytewise);
    return 0;
}
