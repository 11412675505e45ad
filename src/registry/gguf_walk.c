/* A header's pairs one by one, for who wants to see them all. */
#include "base/mem.h"
#include "registry/gguf_cursor.h"

struct walk {
    void (*on_pair)(void *arg, const struct gguf_pair *pair);
    void *arg;
};

static double as_double(uint64_t bits, uint64_t type)
{
    uint32_t half = (uint32_t)bits;
    float small;
    double large;
    memcpy(&small, &half, sizeof small);
    memcpy(&large, &bits, sizeof large);
    return type == F32 ? (double)small : large;
}

static void set_scalar(struct gguf_pair *pair, uint64_t bits, uint64_t type)
{
    unsigned unused = 64 - 8u * gguf_value_sizes[type];
    bool is_signed = type == I8 || type == I16 || type == I32 || type == I64;
    pair->kind = type == BOOL ? GGUF_BOOL : gguf_is_integer(type) ? GGUF_INTEGER : GGUF_NUMBER;
    pair->boolean = bits != 0;
    pair->integer = is_signed ? (int64_t)(bits << unused) >> unused : (int64_t)bits;
    pair->number = pair->kind == GGUF_NUMBER ? as_double(bits, type) : 0;
    if (type == U64 && bits > INT64_MAX) {
        pair->kind = GGUF_NUMBER;
        pair->number = (double)bits;
    }
}

static bool walk_text(struct gguf_cursor *c, const struct walk *walk, struct gguf_pair *pair)
{
    uint64_t length;
    if (!gguf_take_number(c, 8, &length))
        return false;
    if (length > gguf_left(c) || length > LIMIT_GGUF_STRING)
        return gguf_broken(c, "a string is longer than the file, or than 16 MiB");
    if (length > LIMIT_GGUF_SHOWN) {
        walk->on_pair(walk->arg, pair);
        return gguf_skip(c, length);
    }
    char *text = mem_alloc((size_t)length + 1);
    bool good = gguf_take(c, text, (size_t)length);
    pair->kind = GGUF_STRING;
    pair->text = (struct str){text, (size_t)length};
    if (good)
        walk->on_pair(walk->arg, pair);
    mem_free(text);
    return good;
}

static bool walk_pair(struct gguf_cursor *c, const struct walk *walk)
{
    char key[GGUF_KEY_SIZE];
    uint64_t type, bits;
    struct gguf_pair pair = {.key = key, .kind = GGUF_LEFT_OUT};
    if (!gguf_take_string(c, key, sizeof key) || !gguf_take_number(c, 4, &type))
        return false;
    if (type >= VALUE_TYPES)
        return gguf_broken(c, "a value has an unknown type");
    if (type == STRING)
        return walk_text(c, walk, &pair);
    if (type == ARRAY) {
        walk->on_pair(walk->arg, &pair);
        return gguf_skip_value(c, type);
    }
    if (!gguf_take_number(c, gguf_value_sizes[type], &bits))
        return false;
    set_scalar(&pair, bits, type);
    walk->on_pair(walk->arg, &pair);
    return true;
}

static bool walk_header(struct gguf_cursor *c, void *arg)
{
    const struct walk *walk = arg;
    uint64_t tensors = 0, pairs = 0;
    bool good = gguf_take_counts(c, &tensors, &pairs);
    for (uint64_t i = 0; i < pairs && good; i++)
        good = walk_pair(c, walk);
    return good;
}

bool gguf_walk_memory(const void *bytes, size_t n, const char *name,
                      void (*on_pair)(void *arg, const struct gguf_pair *pair), void *arg, struct err *err)
{
    struct walk walk = {on_pair, arg};
    return gguf_with_memory(bytes, n, name, walk_header, &walk, err);
}

bool gguf_walk(const char *path, void (*on_pair)(void *arg, const struct gguf_pair *pair), void *arg, struct err *err)
{
    struct walk walk = {on_pair, arg};
    return gguf_with_file(path, walk_header, &walk, err);
}
