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

#define GGUF_TEXT  128
#define GGUF_TYPES 43 /* tensor types there are numbers for */

/* What memory is computed from; elements are of one token unless said otherwise. Zero: there is none, or the header
 * does not say. */
struct gguf_shape {
    uint64_t vocabulary, embedding;        /* tokens; elements between layers */
    uint64_t key_elements, value_elements; /* kept in the cache, all layers together */
    uint64_t attention_layers;             /* that keep keys */
    uint64_t state_elements;               /* of one sequence, all recurrent layers together; 32 bits each */
    uint64_t heads, queries, keys, values; /* of the widest layer */
    uint64_t feed_forward;                 /* of the widest layer without experts */
    uint64_t experts_used, expert_feed_forward;
    uint64_t inner;                    /* of recurrent layers */
    bool slides;                       /* some layers attend to a window only */
    bool has_output;                   /* false: the embedding's matrix serves as the output, too */
    unsigned embedding_type;           /* tensor type */
    uint64_t embedding_bytes;          /* of all tokens */
    uint64_t output_bytes;             /* of the output's own matrix */
    uint64_t matrix_bytes[GGUF_TYPES]; /* by tensor type: what every token is multiplied with */
};

struct gguf {
    char architecture[GGUF_TEXT];
    char name[GGUF_TEXT];         /* general.name or "" */
    char organization[GGUF_TEXT]; /* general.organization or general.author or "" */
    char quantization[16];        /* "Q4_1"; of general.file_type, else of the most common tensor type */
    uint64_t parameters;          /* elements of all tensors of this file */
    uint64_t tensor_bytes;        /* of this file */
    uint64_t file_bytes;
    uint32_t context_length, embedding_length, block_count;
    uint32_t split_number, split_count; /* split_count 0 or 1: a single file */
    uint32_t tensor_count;
    bool has_chat_template, has_fim, causal; /* causal false: an encoder for embeddings */
    bool is_projector;                       /* general.architecture clip: a part of a vision model, no model itself */
    struct gguf_shape shape;
};

/* "Q4_1"; "" for a number without a name. type is below GGUF_TYPES. */
const char *gguf_tensor_type(unsigned type);

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
