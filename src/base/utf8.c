#include "base/utf8.h"

static unsigned length_of(unsigned char lead)
{
    return lead < 0x80                   ? 1
           : lead >= 0xC2 && lead < 0xE0 ? 2
           : (lead & 0xF0) == 0xE0       ? 3
           : lead >= 0xF0 && lead < 0xF5 ? 4
                                         : 0;
}

size_t utf8_decode(const char *text, size_t n, unsigned *ret_codepoint)
{
    static const unsigned smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *p = (const unsigned char *)text;
    unsigned length = length_of(p[0]);
    if (length == 0 || length > n)
        return 0;
    unsigned codepoint = length == 1 ? p[0] : p[0] & (0x7Fu >> length);
    for (unsigned i = 1; i < length; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        codepoint = codepoint << 6 | (p[i] & 0x3F);
    }
    if (codepoint < smallest[length] || codepoint > 0x10FFFF || (codepoint >= 0xD800 && codepoint < 0xE000))
        return 0;
    if (ret_codepoint)
        *ret_codepoint = codepoint;
    return length;
}

bool utf8_valid(const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        if ((unsigned char)text[i] < 0x80) {
            i++;
            continue;
        }
        size_t length = utf8_decode(text + i, n - i, NULL);
        if (!length)
            return false;
        i += length;
    }
    return true;
}

size_t utf8_cut(const char *text, size_t n)
{
    size_t back = 0;
    while (back < 3 && back < n && ((unsigned char)text[n - 1 - back] & 0xC0) == 0x80)
        back++;
    if (back == n)
        return n;
    unsigned length = length_of((unsigned char)text[n - 1 - back]);
    return length > back + 1 ? n - back - 1 : n;
}

size_t utf8_complete(const char *text, size_t n)
{
    return utf8_cut(text, n);
}

size_t utf8_encode(unsigned c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

/* What the second byte must lie between, so that a wrong character shows at its first wrong byte. */
static void expect_second(struct utf8_check *check, unsigned char lead)
{
    check->low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    check->high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
}

bool utf8_check_feed(struct utf8_check *check, const char *bytes, size_t n)
{
    const unsigned char *p = (const unsigned char *)bytes, *end = p + n;
    for (; p < end; p++) {
        if (check->wanted) {
            if (*p < check->low || *p > check->high)
                return false;
            check->low = 0x80;
            check->high = 0xBF;
            check->wanted--;
        } else if (*p >= 0x80) {
            unsigned length = length_of(*p);
            if (length == 0)
                return false;
            check->wanted = (unsigned char)(length - 1);
            expect_second(check, *p);
        }
    }
    return true;
}
