/* Writes a GGUF model with random weights: for tests that need an engine and no sense, and for benches that need a
 * size.
 *
 *   make_model OUT.gguf tiny|grid|half [seed]
 *
 * tiny: some 0.4 million f32 parameters, so that what is computed alone and in a batch agrees closely; grid: the same
 * with positions of several dimensions (M-RoPE, architecture qwen2vl); half: 0.5 billion, Q4_0, with grouped heads.
 * Architecture llama otherwise, byte-level BPE, two merges. */
#include <ggml.h>
#include <gguf.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "noise.h"

struct shape {
    const char *name, *architecture;
    unsigned vocabulary, width, layers, heads, kv_heads, inner, context;
    enum ggml_type type; /* of the matrices */
};

static const struct shape shapes[] = {{"tiny", "llama", 320, 64, 4, 4, 2, 192, 4096, GGML_TYPE_F32},
                                      {"grid", "qwen2vl", 320, 64, 4, 4, 2, 192, 4096, GGML_TYPE_F32},
                                      {"half", "llama", 32000, 1024, 28, 16, 4, 4096, 8192, GGML_TYPE_Q4_0}};

/* ---- vocabulary: GPT-2's printable names of the bytes, then fillers ---- */

static void put_utf8(unsigned code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        out[1] = '\0';
    } else {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        out[2] = '\0';
    }
}

static void name_bytes(char names[256][4])
{
    unsigned next = 256;
    for (unsigned byte = 0; byte < 256; byte++) {
        int printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
        put_utf8(printable ? byte : next++, names[byte]);
    }
}

static void put_vocabulary(struct gguf_context *gguf, const struct shape *shape)
{
    static char bytes[256][4];
    const char **names = calloc(shape->vocabulary, sizeof *names);
    int32_t *types = calloc(shape->vocabulary, sizeof *types);
    const char *merges[] = {"t h", "h e"};
    name_bytes(bytes);
    for (unsigned i = 0; i < shape->vocabulary; i++) {
        char *name = malloc(24);
        if (i < 256)
            snprintf(name, 24, "%s", bytes[i]);
        else
            snprintf(name, 24, i == 256 ? "th" : i == 257 ? "he" : i == 258 ? "<|end|>" : "tok%u", i);
        names[i] = name;
        types[i] = i == 258 ? 3 : 1; /* control, normal */
    }
    gguf_set_val_str(gguf, "tokenizer.ggml.model", "gpt2");
    gguf_set_val_str(gguf, "tokenizer.ggml.pre", "gpt-2");
    gguf_set_arr_str(gguf, "tokenizer.ggml.tokens", names, shape->vocabulary);
    gguf_set_arr_data(gguf, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, shape->vocabulary);
    gguf_set_arr_str(gguf, "tokenizer.ggml.merges", merges, 2);
    gguf_set_val_u32(gguf, "tokenizer.ggml.bos_token_id", 258);
    gguf_set_val_u32(gguf, "tokenizer.ggml.eos_token_id", 258);
    gguf_set_val_bool(gguf, "tokenizer.ggml.add_bos_token", false);
    for (unsigned i = 0; i < shape->vocabulary; i++)
        free((char *)names[i]);
    free(names);
    free(types);
}

/* ---- weights ---- */

static void add_tensor(struct gguf_context *gguf, struct ggml_context *ggml, const char *name, enum ggml_type type,
                       unsigned columns, unsigned rows)
{
    struct ggml_tensor *tensor = ggml_new_tensor_2d(ggml, type, columns, rows);
    float *row = malloc(columns * sizeof *row), scale = 1 / sqrtf((float)columns);
    if (rows == 1)
        tensor = ggml_new_tensor_1d(ggml, type, columns);
    ggml_set_name(tensor, name);
    for (unsigned r = 0; r < rows; r++) {
        for (unsigned c = 0; c < columns; c++)
            row[c] = rows == 1 ? 1 : normal() * scale;
        ggml_quantize_chunk(type, row, (char *)tensor->data + r * ggml_row_size(type, columns), 0, 1, columns, NULL);
    }
    free(row);
    gguf_add_tensor(gguf, tensor);
}

static void add_layer(struct gguf_context *gguf, struct ggml_context *ggml, const struct shape *s, unsigned layer)
{
    unsigned kv = s->width / s->heads * s->kv_heads;
    const struct {
        const char *name;
        unsigned columns, rows;
    } tensors[] = {
        {"attn_norm", s->width, 1},       {"attn_q", s->width, s->width},      {"attn_k", s->width, kv},
        {"attn_v", s->width, kv},         {"attn_output", s->width, s->width}, {"ffn_norm", s->width, 1},
        {"ffn_gate", s->width, s->inner}, {"ffn_up", s->width, s->inner},      {"ffn_down", s->inner, s->width}};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.%s.weight", layer, tensors[i].name);
        add_tensor(gguf, ggml, name, tensors[i].rows == 1 ? GGML_TYPE_F32 : s->type, tensors[i].columns,
                   tensors[i].rows);
    }
}

static void put_number(struct gguf_context *gguf, const struct shape *s, const char *key, unsigned value)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", s->architecture, key);
    gguf_set_val_u32(gguf, name, value);
}

static void put_numbers(struct gguf_context *gguf, const struct shape *s)
{
    const int32_t sections[] = {2, 3, 3, 0};
    char name[96];
    gguf_set_val_str(gguf, "general.architecture", s->architecture);
    gguf_set_val_str(gguf, "general.name", s->name);
    gguf_set_val_u32(gguf, "general.file_type", s->type == GGML_TYPE_F32 ? 0 : 2);
    put_number(gguf, s, "context_length", s->context);
    put_number(gguf, s, "embedding_length", s->width);
    put_number(gguf, s, "block_count", s->layers);
    put_number(gguf, s, "feed_forward_length", s->inner);
    put_number(gguf, s, "attention.head_count", s->heads);
    put_number(gguf, s, "attention.head_count_kv", s->kv_heads);
    put_number(gguf, s, "rope.dimension_count", s->width / s->heads);
    put_number(gguf, s, "vocab_size", s->vocabulary);
    snprintf(name, sizeof name, "%s.attention.layer_norm_rms_epsilon", s->architecture);
    gguf_set_val_f32(gguf, name, 1e-5f);
    if (strcmp(s->name, "grid") == 0)
        gguf_set_arr_data(gguf, "qwen2vl.rope.dimension_sections", GGUF_TYPE_INT32, sections, 4);
}

static int make(const char *path, const struct shape *s)
{
    struct ggml_init_params params = {.mem_size = (size_t)(s->type == GGML_TYPE_F32 ? 16 : 512) << 20};
    struct ggml_context *ggml = ggml_init(params);
    struct gguf_context *gguf = gguf_init_empty();
    put_numbers(gguf, s);
    put_vocabulary(gguf, s);
    add_tensor(gguf, ggml, "token_embd.weight", s->type, s->width, s->vocabulary);
    for (unsigned layer = 0; layer < s->layers; layer++)
        add_layer(gguf, ggml, s, layer);
    add_tensor(gguf, ggml, "output_norm.weight", GGML_TYPE_F32, s->width, 1);
    add_tensor(gguf, ggml, "output.weight", s->type, s->width, s->vocabulary);
    int written = gguf_write_to_file(gguf, path, false);
    gguf_free(gguf);
    ggml_free(ggml);
    return written ? 0 : 1;
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc >= 3 && i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(argv[2], shapes[i].name) == 0) {
            state = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
            if (make(argv[1], &shapes[i]) == 0)
                return 0;
            fprintf(stderr, "make_model: %s cannot be written\n", argv[1]);
            return 1;
        }
    fprintf(stderr, "usage: make_model OUT.gguf tiny|grid|half [seed]\n");
    return 2;
}
