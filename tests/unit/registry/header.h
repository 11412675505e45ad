/* Builds GGUF headers byte by byte: pairs first, then tensors, then header_finish. */
#ifndef TESTS_UNIT_REGISTRY_HEADER_H
#define TESTS_UNIT_REGISTRY_HEADER_H

#include "base/buf.h"
#include "registry/gguf.h"

struct header {
    struct buf bytes;
    uint64_t tensors, pairs, data; /* data: bytes of the tensors so far */
};

static inline void put(struct buf *b, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        buf_putc(b, i < 8 ? (char)(value >> (8 * i)) : 0);
}

static inline void put_text(struct buf *b, const char *text)
{
    put(b, strlen(text), 8);
    buf_puts(b, text);
}

static inline void header_begin(struct header *h, const char *architecture)
{
    *h = (struct header){0};
    buf_init(&h->bytes, 1 << 20);
    buf_puts(&h->bytes, "GGUF");
    put(&h->bytes, 3, 4);
    put(&h->bytes, 0, 16);
    h->pairs++;
    put_text(&h->bytes, "general.architecture");
    put(&h->bytes, 8, 4);
    put_text(&h->bytes, architecture);
}

static inline void header_number(struct header *h, const char *key, uint32_t value)
{
    h->pairs++;
    put_text(&h->bytes, key);
    put(&h->bytes, 4, 4);
    put(&h->bytes, value, 4);
}

/* kind: GGUF's number of the elements' type, width their size. */
static inline void header_array(struct header *h, const char *key, int kind, int width, const uint32_t *values,
                                size_t count)
{
    h->pairs++;
    put_text(&h->bytes, key);
    put(&h->bytes, 9, 4);
    put(&h->bytes, (uint64_t)kind, 4);
    put(&h->bytes, count, 8);
    for (size_t i = 0; i < count; i++)
        put(&h->bytes, values[i], width);
}

/* bytes: what the tensor takes, a multiple of 32. */
static inline void header_tensor(struct header *h, const char *name, uint64_t columns, uint64_t rows, unsigned type,
                                 uint64_t bytes)
{
    h->tensors++;
    put_text(&h->bytes, name);
    put(&h->bytes, 2, 4);
    put(&h->bytes, columns, 8);
    put(&h->bytes, rows, 8);
    put(&h->bytes, type, 4);
    put(&h->bytes, h->data, 8);
    h->data += bytes;
}

static inline bool header_read(struct header *h, struct gguf *ret_gguf, struct err *err)
{
    for (int i = 0; i < 8; i++) {
        h->bytes.data[8 + i] = (char)(h->tensors >> (8 * i));
        h->bytes.data[16 + i] = (char)(h->pairs >> (8 * i));
    }
    while (h->bytes.len % 32)
        buf_putc(&h->bytes, 0);
    for (uint64_t i = 0; i < h->data; i++)
        buf_putc(&h->bytes, 0);
    return gguf_read_memory(h->bytes.data, h->bytes.len, "made", ret_gguf, err);
}

#endif
