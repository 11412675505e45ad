/* What a header says about the model's shape, gathered while it is read: what memory is computed from. Only gguf.c. */
#ifndef REGISTRY_GGUF_SHAPE_H
#define REGISTRY_GGUF_SHAPE_H

#include "registry/gguf_cursor.h"

/* Numbers that may differ from layer to layer: one number for all, or an array with one a layer. */
enum gguf_layer_key { LAYER_HEADS, LAYER_KV_HEADS, LAYER_FEED_FORWARD, LAYER_SLIDES, LAYER_KEYS };

/* Numbers of the whole model. */
enum gguf_shape_key {
    SHAPE_EMBEDDING,
    SHAPE_LAYERS,
    SHAPE_KEY_LENGTH,
    SHAPE_VALUE_LENGTH,
    SHAPE_KEY_LENGTH_SLIDING,
    SHAPE_VALUE_LENGTH_SLIDING,
    SHAPE_KEY_LENGTH_LATENT,
    SHAPE_VALUE_LENGTH_LATENT,
    SHAPE_WINDOW,
    SHAPE_SHARED_LAYERS,
    SHAPE_ATTENTION_INTERVAL,
    SHAPE_EXPERTS,
    SHAPE_EXPERTS_USED,
    SHAPE_EXPERT_FEED_FORWARD,
    SHAPE_DENSE_LAYERS,
    SHAPE_CONVOLUTION,
    SHAPE_INNER,
    SHAPE_STATE,
    SHAPE_GROUPS,
    SHAPE_WKV_HEAD,
    SHAPE_TOKEN_SHIFT,
    SHAPE_SHORT_CONVOLUTION,
    SHAPE_KEYS
};

struct gguf_said {
    uint32_t numbers[SHAPE_KEYS]; /* 0: not said */
    uint32_t layers[LAYER_KEYS][LIMIT_LAYERS];
    bool has[LAYER_KEYS], varies[LAYER_KEYS]; /* was said; as an array */
};

/* Takes the pair's value when key (behind the architecture's name, with its dot) is one of ours: *ret_taken. */
bool gguf_said_take(struct gguf_cursor *c, struct gguf_said *said, const char *key, uint64_t type, bool *ret_taken);

/* One tensor; dimensions holds four numbers, absent ones are 1. type is below GGUF_TYPES. */
void gguf_shape_tensor(struct gguf_shape *shape, const char *name, const uint64_t *dimensions, uint64_t type,
                       uint64_t bytes);

/* All pairs have been read. */
void gguf_shape_finish(struct gguf_shape *shape, const struct gguf_said *said);

#endif
