/* A cursor over a GGUF file, filled in pieces, with the number of bytes that remain: every read states how much it
 * wants and fails when the file cannot have it, saying so in *err. What the files gguf*.c share. */
#ifndef REGISTRY_GGUF_CURSOR_H
#define REGISTRY_GGUF_CURSOR_H

#include "registry/gguf.h"

#define GGUF_KEY_SIZE 160

enum value_type { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64, VALUE_TYPES };

extern const unsigned char gguf_value_sizes[VALUE_TYPES]; /* 0: told by the value itself */

struct gguf_cursor {
    int fd;              /* -1: memory only */
    const uint8_t *data; /* the piece at hand */
    size_t length, at;   /* of the piece */
    uint64_t offset;     /* of the piece in the file */
    uint64_t size;       /* of the file */
    uint8_t *piece;
    const char *name;
    struct err *err;
};

bool gguf_broken(struct gguf_cursor *c, const char *what); /* false, with *err */
uint64_t gguf_left(const struct gguf_cursor *c);
bool gguf_skip(struct gguf_cursor *c, uint64_t n);
bool gguf_take(struct gguf_cursor *c, void *out, size_t n);
bool gguf_take_number(struct gguf_cursor *c, unsigned bytes, uint64_t *ret);
/* Keeps what fits into out (always terminated). */
bool gguf_take_string(struct gguf_cursor *c, char *out, size_t size);
bool gguf_skip_string(struct gguf_cursor *c);
bool gguf_skip_value(struct gguf_cursor *c, uint64_t type); /* type < VALUE_TYPES */
/* What an array begins with; its elements follow. */
bool gguf_take_array(struct gguf_cursor *c, uint64_t *ret_type, uint64_t *ret_count);
bool gguf_skip_elements(struct gguf_cursor *c, uint64_t type, uint64_t count); /* type < VALUE_TYPES, no ARRAY */
bool gguf_is_integer(uint64_t type);
/* What the file begins with. */
bool gguf_take_counts(struct gguf_cursor *c, uint64_t *ret_tensors, uint64_t *ret_pairs);

/* Calls read with a cursor at the beginning. */
typedef bool gguf_reader(struct gguf_cursor *c, void *arg);
bool gguf_with_memory(const void *bytes, size_t n, const char *name, gguf_reader *read, void *arg, struct err *err);
bool gguf_with_file(const char *path, gguf_reader *read, void *arg, struct err *err);

#endif
