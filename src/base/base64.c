#include "base/base64.h"

#include <stdint.h>

enum { NONE = 64, BLANK, PAD }; /* beside the values 0..63 */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void make_table(unsigned char table[256])
{
    memset(table, NONE, 256);
    for (unsigned i = 0; i < 64; i++)
        table[(unsigned char)alphabet[i]] = (unsigned char)i;
    for (const char *blank = " \t\r\n"; *blank; blank++)
        table[(unsigned char)*blank] = BLANK;
    table['='] = PAD;
}

bool base64_decode(struct str text, unsigned char *out, size_t *ret_n)
{
    unsigned char table[256];
    size_t n = 0, digits = 0, pads = 0;
    uint32_t bits = 0;
    make_table(table);
    *ret_n = 0;
    for (size_t i = 0; i < text.n; i++) {
        unsigned value = table[(unsigned char)text.p[i]];
        if (value == BLANK)
            continue;
        pads += value == PAD;
        if (value == NONE || (value != PAD && pads > 0))
            return false;
        if (value == PAD)
            continue;
        bits = bits << 6 | value;
        if (++digits % 4 != 0)
            continue;
        out[n++] = (unsigned char)(bits >> 16);
        out[n++] = (unsigned char)(bits >> 8);
        out[n++] = (unsigned char)bits;
    }
    size_t rest = digits % 4;
    if (rest == 1 || (pads > 0 && (rest == 0 || rest + pads != 4)))
        return false;
    if (rest >= 2)
        out[n++] = (unsigned char)(rest == 2 ? bits >> 4 : bits >> 10);
    if (rest == 3)
        out[n++] = (unsigned char)(bits >> 2);
    *ret_n = n;
    return true;
}
