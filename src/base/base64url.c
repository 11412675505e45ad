#include "base/base64url.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int value_of(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '-'             ? 62
           : c == '_'             ? 63
                                  : -1;
}

void base64url_encode(struct buf *out, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    unsigned bits = 0, held = 0;
    for (size_t i = 0; i < n; i++) {
        bits = bits << 8 | p[i];
        for (held += 8; held >= 6; held -= 6)
            buf_putc(out, alphabet[bits >> (held - 6) & 63]);
    }
    if (held)
        buf_putc(out, alphabet[bits << (6 - held) & 63]);
}

bool base64url_decode(struct buf *out, struct str text)
{
    unsigned bits = 0, held = 0;
    for (size_t i = 0; i < text.n; i++) {
        int value = value_of(text.p[i]);
        if (value < 0)
            return false;
        bits = bits << 6 | (unsigned)value;
        held += 6;
        if (held >= 8) {
            held -= 8;
            buf_putc(out, (char)(bits >> held));
        }
    }
    return held < 6 && (bits & ((1u << held) - 1)) == 0;
}

bool base64url_plausible(struct str text)
{
    for (size_t i = 0; i < text.n; i++)
        if (value_of(text.p[i]) < 0)
            return false;
    return text.n > 0;
}
