/* A growing byte buffer that is born with its maximum. Failure (maximum reached, or no memory) is sticky: appending
 * goes on doing nothing, and the owner asks once at the end with buf_ok. Up to LIMIT_BUF_SURE bytes only the maximum
 * makes it fail: so small a buffer without memory ends the process. One thread at a time. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

struct buf {
    char *data; /* NUL behind data[len) whenever data is not NULL */
    size_t len, cap, max;
    bool failed;
};

void buf_init(struct buf *b, size_t max); /* allocates nothing yet */
void buf_release(struct buf *b);          /* frees; the buffer may be used again with its maximum */
void buf_clear(struct buf *b);            /* len = 0, failed = false, memory kept */

void buf_append(struct buf *b, const void *bytes, size_t n);
void buf_puts(struct buf *b, const char *text);
void buf_putc(struct buf *b, char c);
void buf_str(struct buf *b, struct str text);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Room for n more bytes behind data[len), or NULL (and sticky failure). Follow with buf_commit(b, m), m <= n. */
char *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);

void buf_consume(struct buf *b, size_t n);  /* drops the first n bytes */
void buf_truncate(struct buf *b, size_t n); /* keeps the first n bytes, n <= len; failed = false */

static inline bool buf_ok(const struct buf *b)
{
    return !b->failed;
}

static inline struct str buf_view(const struct buf *b) /* valid until the next change */
{
    return (struct str){b->data ? b->data : "", b->len};
}

/* Moves the memory to the caller (free with mem_free); the buffer is empty afterwards. "" becomes a real string. */
char *buf_take(struct buf *b, size_t *ret_length);

#endif
