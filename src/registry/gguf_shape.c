/* Which layers keep keys and values, and how many of them, follows llama.cpp's loaders: a layer without heads for keys
 * keeps none, layers at the end may share those of earlier ones, a latent attention (MLA) keeps one compressed row and
 * no values, sliding layers may have heads of another length. They are counted at full length even when their window is
 * short, because the worker's cache keeps all of it: a prefix must be cut anywhere.
 *
 * Recurrent layers keep a state of fixed size a sequence instead. Which layers are recurrent is told by an interval,
 * by zeroes among the heads, or by there being no heads at all. */
#include "registry/gguf_shape.h"

#define MOST_ELEMENTS                                                                                                  \
    (1ull << 30) /* of a token or a sequence: far beyond any model, and products of it do not wrap                     \
                  */
#define MOST_HEADS 65536

static const char *const layer_keys[LAYER_KEYS] = {
    [LAYER_HEADS] = ".attention.head_count",
    [LAYER_KV_HEADS] = ".attention.head_count_kv",
    [LAYER_FEED_FORWARD] = ".feed_forward_length",
    [LAYER_SLIDES] = ".attention.sliding_window_pattern",
};

static const char *const shape_keys[SHAPE_KEYS] = {
    [SHAPE_EMBEDDING] = ".embedding_length",
    [SHAPE_LAYERS] = ".block_count",
    [SHAPE_KEY_LENGTH] = ".attention.key_length",
    [SHAPE_VALUE_LENGTH] = ".attention.value_length",
    [SHAPE_KEY_LENGTH_SLIDING] = ".attention.key_length_swa",
    [SHAPE_VALUE_LENGTH_SLIDING] = ".attention.value_length_swa",
    [SHAPE_KEY_LENGTH_LATENT] = ".attention.key_length_mla",
    [SHAPE_VALUE_LENGTH_LATENT] = ".attention.value_length_mla",
    [SHAPE_WINDOW] = ".attention.sliding_window",
    [SHAPE_SHARED_LAYERS] = ".attention.shared_kv_layers",
    [SHAPE_ATTENTION_INTERVAL] = ".full_attention_interval",
    [SHAPE_EXPERTS] = ".expert_count",
    [SHAPE_EXPERTS_USED] = ".expert_used_count",
    [SHAPE_EXPERT_FEED_FORWARD] = ".expert_feed_forward_length",
    [SHAPE_DENSE_LAYERS] = ".leading_dense_block_count",
    [SHAPE_CONVOLUTION] = ".ssm.conv_kernel",
    [SHAPE_INNER] = ".ssm.inner_size",
    [SHAPE_STATE] = ".ssm.state_size",
    [SHAPE_GROUPS] = ".ssm.group_count",
    [SHAPE_WKV_HEAD] = ".wkv.head_size",
    [SHAPE_TOKEN_SHIFT] = ".token_shift_count",
    [SHAPE_SHORT_CONVOLUTION] = ".shortconv.l_cache",
};

/* Larger ones are no model's, and their products must not overflow. */
static uint32_t bounded(uint64_t number)
{
    return number > LIMIT_GGUF_LENGTH ? LIMIT_GGUF_LENGTH : (uint32_t)number;
}

static bool take_bounded(struct gguf_cursor *c, uint64_t type, uint32_t *ret)
{
    uint64_t number;
    if (!gguf_take_number(c, gguf_value_sizes[type], &number))
        return false;
    *ret = bounded(number);
    return true;
}

static bool take_layers(struct gguf_cursor *c, struct gguf_said *said, unsigned key)
{
    uint64_t type, count, i;
    if (!gguf_take_array(c, &type, &count))
        return false;
    if (!gguf_is_integer(type))
        return gguf_skip_elements(c, type, count);
    for (i = 0; i < count && i < LIMIT_LAYERS; i++)
        if (!take_bounded(c, type, &said->layers[key][i]))
            return false;
    said->has[key] = said->varies[key] = true;
    return gguf_skip_elements(c, type, count - i);
}

static bool take_for_all(struct gguf_cursor *c, struct gguf_said *said, unsigned key, uint64_t type)
{
    uint32_t number;
    if (!take_bounded(c, type, &number))
        return false;
    for (unsigned i = 0; i < LIMIT_LAYERS; i++) /* "every n-th layer does not slide" is written as a number */
        said->layers[key][i] = key == LAYER_SLIDES ? number > 0 && i % number < number - 1 : number;
    said->has[key] = true;
    return true;
}

bool gguf_said_take(struct gguf_cursor *c, struct gguf_said *said, const char *key, uint64_t type, bool *ret_taken)
{
    *ret_taken = true;
    for (unsigned i = 0; i < LAYER_KEYS; i++) {
        if (strcmp(key, layer_keys[i]) != 0)
            continue;
        if (type == ARRAY)
            return take_layers(c, said, i);
        return gguf_is_integer(type) ? take_for_all(c, said, i, type) : gguf_skip_value(c, type);
    }
    for (unsigned i = 0; i < SHAPE_KEYS; i++) {
        if (strcmp(key, shape_keys[i]) != 0)
            continue;
        return gguf_is_integer(type) ? take_bounded(c, type, &said->numbers[i]) : gguf_skip_value(c, type);
    }
    *ret_taken = false;
    return true;
}

/* ---- tensors ---- */

void gguf_shape_tensor(struct gguf_shape *shape, const char *name, const uint64_t *dimensions, uint64_t type,
                       uint64_t bytes)
{
    struct str text = str_from(name);
    bool output = strcmp(name, "output.weight") == 0;
    if (strcmp(name, "token_embd.weight") == 0) {
        shape->vocabulary = bounded(dimensions[1]);
        shape->embedding_type = (unsigned)type;
        shape->embedding_bytes = bytes;
    }
    shape->has_output |= output;
    shape->output_bytes += output ? bytes : 0;
    if (dimensions[1] > 1 && (output || (str_starts(text, STR("blk.")) && str_ends(text, STR(".weight")))))
        shape->matrix_bytes[type] += bytes;
}

/* ---- layers ---- */

static uint64_t or_else(uint64_t number, uint64_t otherwise)
{
    return number ? number : otherwise;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t layer_count(const struct gguf_said *said)
{
    return smaller(said->numbers[SHAPE_LAYERS], LIMIT_LAYERS);
}

/* Elements of the state that a recurrent layer keeps for a sequence. */
static uint64_t state_of_layer(const struct gguf_said *said)
{
    const uint32_t *n = said->numbers;
    uint64_t embedding = n[SHAPE_EMBEDDING];
    if (n[SHAPE_WKV_HEAD])
        return embedding * (or_else(n[SHAPE_TOKEN_SHIFT], 2) + n[SHAPE_WKV_HEAD]);
    if (n[SHAPE_SHORT_CONVOLUTION])
        return embedding * (n[SHAPE_SHORT_CONVOLUTION] - 1);
    uint64_t kept = n[SHAPE_CONVOLUTION] ? n[SHAPE_CONVOLUTION] - 1 : 0;
    uint64_t convolved = n[SHAPE_INNER] + 2ull * n[SHAPE_GROUPS] * n[SHAPE_STATE];
    return smaller(kept * convolved + (uint64_t)n[SHAPE_STATE] * n[SHAPE_INNER], MOST_ELEMENTS);
}

struct layer {
    bool attends, recurrent;
    uint64_t heads, keys, values, queries; /* elements of one token; values as they would be with plain attention */
    uint64_t feed_forward;
};

static uint64_t head_length(const struct gguf_said *said, bool slides, unsigned sliding, unsigned plain, uint64_t heads)
{
    const uint32_t *n = said->numbers;
    uint64_t usual = or_else(n[plain], heads ? n[SHAPE_EMBEDDING] / heads : 0);
    return slides ? or_else(n[sliding], usual) : usual;
}

static bool is_recurrent(const struct gguf_said *said, unsigned i, uint64_t kv_heads)
{
    uint32_t interval = said->numbers[SHAPE_ATTENTION_INTERVAL];
    bool feeds = said->varies[LAYER_FEED_FORWARD] && said->layers[LAYER_FEED_FORWARD][i] > 0;
    if (state_of_layer(said) == 0)
        return false;
    if (interval)
        return (i + 1) % interval != 0;
    return said->varies[LAYER_KV_HEADS] ? kv_heads == 0 && !feeds : true;
}

static struct layer layer_at(const struct gguf_said *said, unsigned i)
{
    struct layer l = {.heads = said->layers[LAYER_HEADS][i], .feed_forward = said->layers[LAYER_FEED_FORWARD][i]};
    uint64_t kv_heads = said->has[LAYER_KV_HEADS] ? said->layers[LAYER_KV_HEADS][i] : l.heads;
    bool slides = said->layers[LAYER_SLIDES][i] != 0, by_interval = said->numbers[SHAPE_ATTENTION_INTERVAL] != 0;
    uint64_t key = head_length(said, slides, SHAPE_KEY_LENGTH_SLIDING, SHAPE_KEY_LENGTH, l.heads);
    uint64_t value = head_length(said, slides, SHAPE_VALUE_LENGTH_SLIDING, SHAPE_VALUE_LENGTH, l.heads);
    bool latent = said->numbers[SHAPE_KEY_LENGTH_LATENT] && said->numbers[SHAPE_VALUE_LENGTH_LATENT];
    l.recurrent = is_recurrent(said, i, kv_heads);
    l.attends = l.heads && kv_heads && !(by_interval && l.recurrent);
    l.keys = l.attends ? kv_heads * key : 0;
    l.values = l.attends && !latent ? kv_heads * value : 0;
    l.queries = l.attends ? l.heads * key : 0;
    return l;
}

static void add_layer(struct gguf_shape *shape, const struct layer *l, bool keeps)
{
    shape->attention_layers += keeps && l->attends;
    shape->key_elements += keeps ? l->keys : 0;
    shape->value_elements += keeps ? l->values : 0;
    shape->heads = larger(shape->heads, l->attends ? l->heads : 0);
    shape->queries = larger(shape->queries, l->queries);
    shape->keys = larger(shape->keys, l->keys);
    shape->values = larger(shape->values, l->values);
    shape->feed_forward = larger(shape->feed_forward, l->feed_forward);
}

void gguf_shape_finish(struct gguf_shape *shape, const struct gguf_said *said)
{
    const uint32_t *n = said->numbers;
    uint64_t layers = layer_count(said), shared = n[SHAPE_SHARED_LAYERS];
    for (unsigned i = 0; i < layers; i++) {
        struct layer l = layer_at(said, i);
        add_layer(shape, &l, i + shared < layers);
        shape->state_elements += l.recurrent ? state_of_layer(said) : 0;
    }
    shape->key_elements = smaller(shape->key_elements, MOST_ELEMENTS);
    shape->value_elements = smaller(shape->value_elements, MOST_ELEMENTS);
    shape->state_elements = smaller(shape->state_elements, MOST_ELEMENTS);
    shape->heads = smaller(shape->heads, MOST_HEADS);
    shape->embedding = n[SHAPE_EMBEDDING];
    shape->inner = n[SHAPE_INNER];
    shape->slides = n[SHAPE_WINDOW] > 0;
    if (n[SHAPE_EXPERTS] == 0)
        return;
    shape->experts_used = or_else(n[SHAPE_EXPERTS_USED], 1);
    shape->expert_feed_forward = or_else(n[SHAPE_EXPERT_FEED_FORWARD], shape->feed_forward);
    if (n[SHAPE_DENSE_LAYERS] == 0)
        shape->feed_forward = 0; /* no layer has it */
}
