/* Base64 as MIME and data URLs have it, RFC 4648 section 4. Pure. Encoding: base/hash.h. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

/* Bytes that a text of n characters stands for, at most. */
static inline size_t base64_room(size_t n)
{
    return n / 4 * 3 + 3;
}

/* Into out, which has base64_room(text.n) bytes. Blanks and line ends are passed over, padding may be missing. false: a
 * character outside the alphabet, wrong padding, or a length that no bytes have; *ret_n is 0 then. */
bool base64_decode(struct str text, unsigned char *out, size_t *ret_n);

#endif
