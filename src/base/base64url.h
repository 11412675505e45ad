/* Base64 for URLs and tokens, RFC 4648 section 5, without padding. Pure. */
#ifndef BASE_BASE64URL_H
#define BASE_BASE64URL_H

#include "base/buf.h"

void base64url_encode(struct buf *out, const void *bytes, size_t n);

/* Appends what text stands for. false: a character outside the alphabet, padding, a length that no bytes have, or bits
 * behind the last byte that are not zero (a second spelling of the same bytes); out then holds part of it. */
bool base64url_decode(struct buf *out, struct str text);

/* Whether all of a text that is not empty is of the alphabet. */
bool base64url_plausible(struct str text);

#endif
