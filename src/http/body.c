/* The framing of bodies. Chunked (RFC 9112 7.1) is a small machine fed with whatever arrived; it accepts what the
 * grammar has and nothing else, since the end of a body is where the next message begins: sizes are 1 to 16 hex
 * digits, lines end in CR LF, trailers are checked, bounded and dropped. */
#include <assert.h>

#include "base/limits.h"
#include "http/chars.h"
#include "http/head.h"

enum { SIZE_FIRST, SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, LINE_START, NAME, VALUE, VALUE_LF, LAST_LF };

void http_body_init(struct http_body *body, enum http_body_kind kind, uint64_t length)
{
    *body = (struct http_body){.kind = kind, .left = kind == HTTP_BODY_LENGTH ? length : 0, .state = SIZE_FIRST};
    body->done = kind == HTTP_BODY_NONE || (kind == HTTP_BODY_LENGTH && length == 0);
}

static bool is_control(char c)
{
    return ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f;
}

static bool step_size(struct http_body *b, char c)
{
    int digit = http_hex_value(c);
    if (digit >= 0) {
        if (b->left > INT64_MAX >> 4)
            return false;
        b->left = b->left << 4 | (unsigned)digit;
        b->state = SIZE;
        return b->line <= 16;
    }
    if (b->state == SIZE_FIRST)
        return false;
    b->state = c == ';' ? EXTENSION : SIZE_LF;
    return c == ';' || c == '\r';
}

static bool step_trailer(struct http_body *b, char c)
{
    if (++b->trailer > LIMIT_TRAILER_BYTES)
        return false;
    switch (b->state) {
    case LINE_START: b->state = c == '\r' ? LAST_LF : NAME; return c == '\r' || http_is_tchar(c);
    case NAME:
        if (c == ':')
            b->state = VALUE;
        return c == ':' || http_is_tchar(c);
    case VALUE:
        if (c == '\r')
            b->state = VALUE_LF;
        return c == '\r' || !is_control(c);
    case VALUE_LF: b->state = LINE_START; return c == '\n';
    default: /* LAST_LF */ b->done = true; return c == '\n';
    }
}

/* One byte that is not payload. false: not chunked coding. */
static bool step(struct http_body *b, char c)
{
    switch (b->state) {
    case SIZE_FIRST:
    case SIZE: b->line++; return step_size(b, c);
    case EXTENSION:
        if (c == '\r')
            b->state = SIZE_LF;
        return ++b->line <= LIMIT_CHUNK_LINE && (c == '\r' || !is_control(c));
    case SIZE_LF:
        b->state = b->left ? DATA : LINE_START;
        b->line = 0;
        return c == '\n';
    case DATA_CR: b->state = DATA_LF; return c == '\r';
    case DATA_LF: b->state = SIZE_FIRST; return c == '\n';
    default: return step_trailer(b, c);
    }
}

static size_t take(struct http_body *b, const char *in, size_t n, struct str *ret_data)
{
    size_t taken = n < b->left ? n : (size_t)b->left;
    *ret_data = (struct str){in, taken};
    b->left -= taken;
    return taken;
}

static size_t feed_chunked(struct http_body *b, const char *in, size_t n, struct str *ret_data)
{
    size_t i = 0;
    while (i < n && !b->done) {
        if (b->state == DATA) {
            size_t taken = take(b, in + i, n - i, ret_data);
            if (b->left == 0)
                b->state = DATA_CR;
            return i + taken;
        }
        if (!step(b, in[i++]))
            return SIZE_MAX;
    }
    return i;
}

size_t http_body_feed(struct http_body *body, const char *in, size_t n, struct str *ret_data)
{
    *ret_data = (struct str){in, 0};
    if (body->done)
        return 0;
    switch (body->kind) {
    case HTTP_BODY_LENGTH: {
        size_t taken = take(body, in, n, ret_data);
        body->done = body->left == 0;
        return taken;
    }
    case HTTP_BODY_CHUNKED: return feed_chunked(body, in, n, ret_data);
    case HTTP_BODY_UNTIL_CLOSE: *ret_data = (struct str){in, n}; return n;
    case HTTP_BODY_NONE: break;
    }
    assert(!"a body of no kind is done from the start");
    return 0;
}
