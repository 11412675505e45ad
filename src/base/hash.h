/* SHA-256 and base64 over OpenSSL. Any thread. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>

#include "base/buf.h"

#define HASH_SHA256_SIZE 32

void hash_sha256(const void *bytes, size_t n, unsigned char out[HASH_SHA256_SIZE]);
#define HASH_SHA1_SIZE 20
void hash_sha1(const void *bytes, size_t n, unsigned char out[HASH_SHA1_SIZE]); /* for protocols that ask for it */
char *hash_hex(const unsigned char *bytes, size_t n, char *out);                /* out holds 2n + 1; returns out */
void hash_base64(struct buf *out, const void *bytes, size_t n);                 /* RFC 4648 section 4, padded */

#endif
