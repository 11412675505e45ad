#include "base/hash.h"

#include <openssl/evp.h>
#include <pthread.h>

/* Looked up once: OpenSSL 3 would search its providers for every digest, which costs more than a short digest itself.
 */
static EVP_MD *sha256;

static void fetch(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

void hash_sha256(const void *bytes, size_t n, unsigned char out[HASH_SHA256_SIZE])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    unsigned length = 0;
    pthread_once(&once, fetch);
    EVP_Digest(bytes, n, out, &length, sha256, NULL);
}

char *hash_hex(const unsigned char *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = '\0';
    return out;
}

void hash_sha1(const void *bytes, size_t n, unsigned char out[HASH_SHA1_SIZE])
{
    unsigned length = HASH_SHA1_SIZE;
    EVP_Digest(bytes, n, out, &length, EVP_sha1(), NULL);
}

void hash_base64(struct buf *out, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    const size_t step = 3 << 20; /* a multiple of 3, so that only the last piece is padded */
    while (n) {
        size_t piece = n < step ? n : step;
        char *room = buf_reserve(out, (piece + 2) / 3 * 4 + 1);
        if (!room)
            return;
        buf_commit(out, (size_t)EVP_EncodeBlock((unsigned char *)room, p, (int)piece));
        p += piece;
        n -= piece;
    }
}
