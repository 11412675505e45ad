/* What a GGUF file says about itself, read without loading it (the format is ggml's docs/gguf.md, versions 2 and 3).
 * Files come from anywhere: every length is checked against the file before it is believed, nothing is allocated from
 * an unchecked number. Blocking; any thread. */
#ifndef REGISTRY_GGUF_H
#define REGISTRY_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define GGUF_TEXT 128

struct gguf {
    char architecture[GGUF_TEXT];
    char name[GGUF_TEXT];         /* general.name or "" */
    char organization[GGUF_TEXT]; /* general.organization or general.author or "" */
    char quantization[16];        /* "Q4_1"; of general.file_type, else of the most common tensor type */
    uint64_t parameters;          /* elements of all tensors of this file */
    uint64_t tensor_bytes;        /* of this file */
    uint64_t file_bytes;
    uint32_t context_length, embedding_length, block_count, head_count, head_count_kv, key_length, value_length;
    uint32_t split_number, split_count; /* split_count 0 or 1: a single file */
    uint32_t tensor_count;
    bool has_chat_template, has_fim, causal; /* causal false: an encoder for embeddings */
    bool is_projector;                       /* general.architecture clip: a part of a vision model, no model itself */
};

/* Reads path's header. false: ERR_MODEL_LOAD_FAILED naming the file and what is wrong with it (also when the file is
 * shorter than its tensors need), or ERR_IO. */
bool gguf_read(const char *path, struct gguf *ret_gguf, struct err *err);

/* The same from memory; file_bytes is what the whole file would measure. */
bool gguf_read_memory(const void *bytes, size_t n, const char *name, struct gguf *ret_gguf, struct err *err);

/* A key and its value. Arrays, and texts of more than LIMIT_GGUF_SHOWN bytes, come without their value. */
enum gguf_kind { GGUF_INTEGER, GGUF_NUMBER, GGUF_BOOL, GGUF_STRING, GGUF_LEFT_OUT };
struct gguf_pair {
    const char *key; /* at most 159 bytes of it, whatever they are */
    enum gguf_kind kind;
    int64_t integer;
    double number;
    bool boolean;
    struct str text;
};

/* Hands out the pairs in the file's order; they are valid during the call. Errors as gguf_read's, perhaps after some
 * pairs were given. */
bool gguf_walk(const char *path, void (*on_pair)(void *arg, const struct gguf_pair *pair), void *arg, struct err *err);
bool gguf_walk_memory(const void *bytes, size_t n, const char *name,
                      void (*on_pair)(void *arg, const struct gguf_pair *pair), void *arg, struct err *err);

/* Bytes of KV cache one token takes with 16-bit keys and values; 0 when the header does not say enough. */
uint64_t gguf_kv_bytes_per_token(const struct gguf *gguf);

#endif
