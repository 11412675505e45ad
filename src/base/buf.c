#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/mem.h"

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_release(struct buf *b)
{
    mem_free(b->data);
    *b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = '\0';
}

char *buf_reserve(struct buf *b, size_t n)
{
    if (b->failed)
        return NULL;
    if (n <= b->cap - b->len && b->data)
        return b->data + b->len;
    if (n > b->max - b->len) {
        b->failed = true;
        return NULL;
    }
    size_t cap = b->cap ? b->cap : b->max < 64 ? b->max : 64;
    while (cap - b->len < n)
        cap = cap > b->max / 2 ? b->max : cap * 2;
    char *data = cap <= LIMIT_BUF_SURE ? mem_realloc(b->data, cap + 1) : mem_try_realloc(b->data, cap + 1);
    if (!data) {
        b->failed = true;
        return NULL;
    }
    b->data = data;
    b->cap = cap;
    b->data[b->len] = '\0';
    return b->data + b->len;
}

void buf_commit(struct buf *b, size_t n)
{
    assert(n <= b->cap - b->len);
    b->len += n;
    b->data[b->len] = '\0';
}

void buf_append(struct buf *b, const void *bytes, size_t n)
{
    if (n == 0)
        return;
    char *room = buf_reserve(b, n);
    if (!room)
        return;
    memcpy(room, bytes, n);
    buf_commit(b, n);
}

void buf_puts(struct buf *b, const char *text)
{
    buf_append(b, text, strlen(text));
}

void buf_putc(struct buf *b, char c)
{
    buf_append(b, &c, 1);
}

void buf_str(struct buf *b, struct str text)
{
    buf_append(b, text.p, text.n);
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *room = n < 0 ? NULL : buf_reserve(b, (size_t)n);
    if (room) {
        vsnprintf(room, (size_t)n + 1, format, again);
        buf_commit(b, (size_t)n);
    } else {
        b->failed = true;
    }
    va_end(again);
}

void buf_consume(struct buf *b, size_t n)
{
    assert(n <= b->len);
    if (n == 0)
        return;
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
    b->data[b->len] = '\0';
}

void buf_truncate(struct buf *b, size_t n)
{
    assert(n <= b->len);
    b->len = n;
    b->failed = false;
    if (b->data)
        b->data[n] = '\0';
}

char *buf_take(struct buf *b, size_t *ret_length)
{
    char *data = b->data ? b->data : mem_strdup("");
    if (ret_length)
        *ret_length = b->len;
    *b = (struct buf){.max = b->max};
    return data;
}
