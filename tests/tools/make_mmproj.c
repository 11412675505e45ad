/* Writes a GGUF projector with random weights, the eye of a model for tests: it sees differences and no sense.
 *
 *   make_mmproj OUT.gguf causal|acausal|grid WIDTH [seed]
 *
 * WIDTH: embedding length of the model it is for. Images of 64 x 64 pixels, two layers. causal (janus_pro): 64 cells,
 * decoded as tokens are; acausal (gemma3): 16 cells that see each other; grid (qwen2vl_merger): of any size, a cell for
 * 16 x 16 pixels that has a place in two dimensions. */
#include <ggml.h>
#include <gguf.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "noise.h"

enum { SIDE = 64, PATCH = 8, PATCHES = (SIDE / PATCH) * (SIDE / PATCH), EMBED = 32, INNER = 96, LAYERS = 2, HEADS = 4 };

enum kind { CAUSAL, ACAUSAL, GRID, KINDS };
static const char *const kinds[KINDS] = {"causal", "acausal", "grid"};
static const char *const types[KINDS] = {"janus_pro", "gemma3", "qwen2vl_merger"};

struct out {
    struct gguf_context *gguf;
    struct ggml_context *ggml;
};

static void add(struct out *out, const char *name, int dims, const int64_t *sizes, float scale)
{
    struct ggml_tensor *tensor = ggml_new_tensor(out->ggml, GGML_TYPE_F32, dims, sizes);
    float *data = tensor->data;
    ggml_set_name(tensor, name);
    for (int64_t i = 0; i < ggml_nelements(tensor); i++)
        data[i] = scale > 0 ? normal() * scale : 1; /* 1: a norm */
    gguf_add_tensor(out->gguf, tensor);
}

static void add_matrix(struct out *out, const char *name, int64_t columns, int64_t rows)
{
    add(out, name, 2, (const int64_t[]){columns, rows}, 1 / sqrtf((float)columns));
}

static void add_norm(struct out *out, const char *name, int64_t size)
{
    add(out, name, 1, &size, 0);
}

static void add_layer(struct out *out, int layer)
{
    static const struct {
        const char *name;
        int64_t columns, rows; /* rows 0: a norm */
    } tensors[] = {{"ln1", EMBED, 0},        {"attn_q", EMBED, EMBED},   {"attn_k", EMBED, EMBED},
                   {"attn_v", EMBED, EMBED}, {"attn_out", EMBED, EMBED}, {"ln2", EMBED, 0},
                   {"ffn_up", EMBED, INNER}, {"ffn_down", INNER, EMBED}};
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        char name[64];
        int64_t size = tensors[i].rows ? tensors[i].rows : tensors[i].columns;
        snprintf(name, sizeof name, "v.blk.%d.%s.bias", layer, tensors[i].name);
        add(out, name, 1, &size, 0.01f);
        snprintf(name, sizeof name, "v.blk.%d.%s.weight", layer, tensors[i].name);
        if (tensors[i].rows)
            add_matrix(out, name, tensors[i].columns, tensors[i].rows);
        else
            add_norm(out, name, tensors[i].columns);
    }
}

static void put_numbers(struct gguf_context *gguf, enum kind kind, uint32_t width)
{
    const float half[] = {0.5f, 0.5f, 0.5f};
    gguf_set_val_str(gguf, "general.architecture", "clip");
    gguf_set_val_str(gguf, "general.name", "tiny projector");
    gguf_set_val_u32(gguf, "general.file_type", 0);
    gguf_set_val_bool(gguf, "clip.has_vision_encoder", true);
    gguf_set_val_str(gguf, "clip.projector_type", types[kind]);
    gguf_set_val_bool(gguf, "clip.use_gelu", true);
    gguf_set_val_u32(gguf, "clip.vision.image_size", SIDE);
    gguf_set_val_u32(gguf, "clip.vision.patch_size", PATCH);
    gguf_set_val_u32(gguf, "clip.vision.embedding_length", EMBED);
    gguf_set_val_u32(gguf, "clip.vision.feed_forward_length", INNER);
    gguf_set_val_u32(gguf, "clip.vision.block_count", LAYERS);
    gguf_set_val_u32(gguf, "clip.vision.projection_dim", width);
    gguf_set_val_u32(gguf, "clip.vision.attention.head_count", HEADS);
    gguf_set_val_f32(gguf, "clip.vision.attention.layer_norm_epsilon", 1e-6f);
    gguf_set_val_u32(gguf, "clip.vision.projector.scale_factor", 2);
    gguf_set_arr_data(gguf, "clip.vision.image_mean", GGUF_TYPE_FLOAT32, half, 3);
    gguf_set_arr_data(gguf, "clip.vision.image_std", GGUF_TYPE_FLOAT32, half, 3);
}

static void add_projection(struct out *out, enum kind kind, int64_t width)
{
    int64_t from = kind == GRID ? 4 * EMBED : EMBED, middle = kind == GRID ? from : width;
    if (kind == ACAUSAL) {
        add(out, "mm.input_projection.weight", 2, (const int64_t[]){width, EMBED}, 1 / sqrtf(EMBED));
        add_norm(out, "mm.soft_emb_norm.weight", EMBED);
        return;
    }
    add_matrix(out, "mm.0.weight", from, middle);
    add(out, "mm.0.bias", 1, &middle, 0.01f);
    add_matrix(out, kind == GRID ? "mm.2.weight" : "mm.1.weight", middle, width);
    add(out, kind == GRID ? "mm.2.bias" : "mm.1.bias", 1, &width, 0.01f);
}

static int make(const char *path, enum kind kind, int64_t width)
{
    struct ggml_init_params params = {.mem_size = 64u << 20};
    struct out out = {gguf_init_empty(), ggml_init(params)};
    put_numbers(out.gguf, kind, (uint32_t)width);
    add(&out, "v.patch_embd.weight", 4, (const int64_t[]){PATCH, PATCH, 3, EMBED}, 0.1f);
    if (kind == GRID)
        add(&out, "v.patch_embd.weight.1", 4, (const int64_t[]){PATCH, PATCH, 3, EMBED}, 0.1f);
    else
        add(&out, "v.position_embd.weight", 2, (const int64_t[]){EMBED, PATCHES}, 0.1f);
    for (int layer = 0; layer < LAYERS; layer++)
        add_layer(&out, layer);
    add_norm(&out, "v.post_ln.weight", EMBED);
    add_projection(&out, kind, width);
    int written = gguf_write_to_file(out.gguf, path, false);
    gguf_free(out.gguf);
    ggml_free(out.ggml);
    return written ? 0 : 1;
}

int main(int argc, char **argv)
{
    long width = argc > 3 ? strtol(argv[3], NULL, 10) : 0;
    state = argc > 4 ? strtoull(argv[4], NULL, 10) : 1;
    for (int kind = 0; kind < KINDS && width > 0 && width <= 8192; kind++)
        if (strcmp(argv[2], kinds[kind]) == 0) {
            if (make(argv[1], (enum kind)kind, width) == 0)
                return 0;
            fprintf(stderr, "make_mmproj: %s cannot be written\n", argv[1]);
            return 1;
        }
    fprintf(stderr, "usage: make_mmproj OUT.gguf causal|acausal|grid WIDTH [seed]\n");
    return 2;
}
