/* Keys we do not know are skipped by their type; arrays of strings (a vocabulary of 262 144) are walked, not stored.
 * Tensor descriptions are only summed up. */
#include "registry/gguf_shape.h"

#define MAX_DIMENSIONS    4
#define DEFAULT_ALIGNMENT 32

/* ---- key/value pairs ---- */

enum want { WANT_NUMBER, WANT_TEXT, WANT_PRESENCE };

/* Keys that matter; a '.' in front means "behind the architecture's name". */
static const struct wanted {
    const char *key;
    enum want want;
    size_t offset;
} wanted_keys[] = {
    {"general.architecture", WANT_TEXT, offsetof(struct gguf, architecture)},
    {"general.name", WANT_TEXT, offsetof(struct gguf, name)},
    {"general.author", WANT_TEXT, offsetof(struct gguf, organization)},
    {"general.organization", WANT_TEXT, offsetof(struct gguf, organization)},
    {"tokenizer.chat_template", WANT_PRESENCE, offsetof(struct gguf, has_chat_template)},
    {"tokenizer.ggml.fim_pre_token_id", WANT_PRESENCE, offsetof(struct gguf, has_fim)},
    {"tokenizer.ggml.prefix_token_id", WANT_PRESENCE, offsetof(struct gguf, has_fim)},
    {"split.no", WANT_NUMBER, offsetof(struct gguf, split_number)},
    {"split.count", WANT_NUMBER, offsetof(struct gguf, split_count)},
    {".context_length", WANT_NUMBER, offsetof(struct gguf, context_length)},
};

struct header {
    struct gguf *gguf;
    struct gguf_said said;
    uint64_t alignment;
    uint64_t file_type; /* UINT64_MAX: not said */
};

/* What follows the architecture's name, with its dot; "" when key does not begin with it. */
static const char *behind_architecture(const struct gguf *g, const char *key)
{
    size_t arch = strlen(g->architecture);
    return arch && strncmp(key, g->architecture, arch) == 0 ? key + arch : "";
}

static const struct wanted *find_wanted(const struct gguf *g, const char *key)
{
    const char *behind = behind_architecture(g, key);
    for (size_t i = 0; i < sizeof wanted_keys / sizeof *wanted_keys; i++) {
        const struct wanted *w = &wanted_keys[i];
        if (strcmp(*w->key == '.' ? behind : key, w->key) == 0)
            return w;
    }
    return NULL;
}

static bool read_wanted(struct gguf_cursor *c, struct header *h, const struct wanted *w, uint64_t type)
{
    char *field = (char *)h->gguf + w->offset;
    if (w->want == WANT_PRESENCE) {
        *(bool *)field = true;
        return gguf_skip_value(c, type);
    }
    if (w->want == WANT_TEXT)
        return type == STRING ? gguf_take_string(c, field, GGUF_TEXT) : gguf_skip_value(c, type);
    if (!gguf_is_integer(type) || type == BOOL)
        return gguf_skip_value(c, type); /* head counts per layer come as arrays: no single number */
    uint64_t number;
    if (!gguf_take_number(c, gguf_value_sizes[type], &number))
        return false;
    *(uint32_t *)field = number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
    return true;
}

static bool read_alignment(struct gguf_cursor *c, struct header *h)
{
    if (!gguf_take_number(c, 4, &h->alignment))
        return false;
    if (h->alignment == 0 || h->alignment > 1 << 20 || (h->alignment & (h->alignment - 1)))
        return gguf_broken(c, "general.alignment is no power of two");
    return true;
}

static bool read_causal(struct gguf_cursor *c, struct header *h)
{
    uint64_t value;
    if (!gguf_take_number(c, 1, &value))
        return false;
    h->gguf->causal = value != 0;
    return true;
}

static bool read_pair(struct gguf_cursor *c, struct header *h)
{
    char key[GGUF_KEY_SIZE];
    uint64_t type;
    if (!gguf_take_string(c, key, sizeof key) || !gguf_take_number(c, 4, &type))
        return false;
    if (type >= VALUE_TYPES)
        return gguf_broken(c, "a value has an unknown type");
    if (strcmp(key, "general.alignment") == 0 && type == U32)
        return read_alignment(c, h);
    if (strcmp(key, "general.file_type") == 0 && type == U32)
        return gguf_take_number(c, 4, &h->file_type);
    if (type == BOOL && str_ends(str_from(key), STR(".attention.causal")))
        return read_causal(c, h);
    bool taken;
    if (!gguf_said_take(c, &h->said, behind_architecture(h->gguf, key), type, &taken) || taken)
        return taken;
    const struct wanted *w = find_wanted(h->gguf, key);
    return w ? read_wanted(c, h, w, type) : gguf_skip_value(c, type);
}

/* ---- tensors ---- */

/* Block shape of ggml's tensor types (ggml.h, enum ggml_type); bytes 0: a number that was retired. */
static const struct tensor_type {
    const char *name;
    unsigned elements, bytes;
} tensor_types[] = {
    {"F32", 1, 4},      {"F16", 1, 2},        {"Q4_0", 32, 18},    {"Q4_1", 32, 20},     {"", 0, 0},
    {"", 0, 0},         {"Q5_0", 32, 22},     {"Q5_1", 32, 24},    {"Q8_0", 32, 34},     {"Q8_1", 32, 36},
    {"Q2_K", 256, 84},  {"Q3_K", 256, 110},   {"Q4_K", 256, 144},  {"Q5_K", 256, 176},   {"Q6_K", 256, 210},
    {"Q8_K", 256, 292}, {"IQ2_XXS", 256, 66}, {"IQ2_XS", 256, 74}, {"IQ3_XXS", 256, 98}, {"IQ1_S", 256, 50},
    {"IQ4_NL", 32, 18}, {"IQ3_S", 256, 110},  {"IQ2_S", 256, 82},  {"IQ4_XS", 256, 136}, {"I8", 1, 1},
    {"I16", 1, 2},      {"I32", 1, 4},        {"I64", 1, 8},       {"F64", 1, 8},        {"IQ1_M", 256, 56},
    {"BF16", 1, 2},     {"", 0, 0},           {"", 0, 0},          {"", 0, 0},           {"TQ1_0", 256, 54},
    {"TQ2_0", 256, 66}, {"", 0, 0},           {"", 0, 0},          {"", 0, 0},           {"MXFP4", 32, 17},
    {"NVFP4", 64, 36},  {"Q1_0", 128, 18},    {"Q2_0", 64, 18},
};
#define TENSOR_TYPES (sizeof tensor_types / sizeof *tensor_types)
_Static_assert(TENSOR_TYPES == GGUF_TYPES, "one row a type");

const char *gguf_tensor_type(unsigned type)
{
    return tensor_types[type].name;
}

struct tensors {
    uint64_t end;                    /* of the data section, relative to its start */
    uint64_t elements[TENSOR_TYPES]; /* a type */
};

static bool take_elements(struct gguf_cursor *c, uint64_t *ret_sizes, uint64_t *ret_elements)
{
    uint64_t dimensions;
    *ret_elements = 1;
    if (!gguf_take_number(c, 4, &dimensions))
        return false;
    if (dimensions > MAX_DIMENSIONS)
        return gguf_broken(c, "a tensor has more than four dimensions");
    for (uint64_t i = 0; i < dimensions; i++) {
        if (!gguf_take_number(c, 8, &ret_sizes[i]))
            return false;
        if (ret_sizes[i] == 0 || __builtin_mul_overflow(*ret_elements, ret_sizes[i], ret_elements) ||
            *ret_elements > INT64_MAX)
            return gguf_broken(c, "a tensor has an impossible shape");
    }
    return true;
}

static bool read_tensor(struct gguf_cursor *c, struct header *h, struct tensors *sum)
{
    char name[GGUF_KEY_SIZE];
    uint64_t sizes[MAX_DIMENSIONS] = {1, 1, 1, 1}, elements, type, offset, bytes, end;
    if (!gguf_take_string(c, name, sizeof name) || !take_elements(c, sizes, &elements) ||
        !gguf_take_number(c, 4, &type) || !gguf_take_number(c, 8, &offset))
        return false;
    h->gguf->parameters += elements;
    if (type >= TENSOR_TYPES || tensor_types[type].bytes == 0)
        return true; /* a type newer than this table: the engine will judge it */
    sum->elements[type] += elements;
    bytes = (elements + tensor_types[type].elements - 1) / tensor_types[type].elements;
    if (__builtin_mul_overflow(bytes, (uint64_t)tensor_types[type].bytes, &bytes) ||
        __builtin_add_overflow(offset, bytes, &end))
        return gguf_broken(c, "a tensor lies beyond any file");
    h->gguf->tensor_bytes += bytes;
    gguf_shape_tensor(&h->gguf->shape, name, sizes, type, bytes);
    if (end > sum->end)
        sum->end = end;
    return true;
}

/* ---- the header ---- */

/* llama.cpp's file types (llama.h, enum llama_ftype), by number. */
static const char *file_type_name(uint64_t type)
{
    static const char *const names[] = {
        "F32",    "F16",    "Q4_0",   "Q4_1",    NULL,     NULL,     NULL,     "Q8_0",   "Q5_0",     "Q5_1",
        "Q2_K",   "Q3_K_S", "Q3_K_M", "Q3_K_L",  "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K",     "IQ2_XXS",
        "IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS", "IQ1_S",  "IQ4_NL", "IQ3_S",  "IQ3_M",  "IQ2_S",    "IQ2_M",
        "IQ4_XS", "IQ1_M",  "BF16",   NULL,      NULL,     NULL,     "TQ1_0",  "TQ2_0",  "MXFP4_MOE"};
    return type < sizeof names / sizeof *names ? names[type] : NULL;
}

static void name_quantization(struct header *h, const struct tensors *sum)
{
    const char *name = file_type_name(h->file_type);
    size_t most = 0;
    for (size_t type = 1; type < TENSOR_TYPES; type++)
        if (sum->elements[type] > sum->elements[most])
            most = type;
    snprintf(h->gguf->quantization, sizeof h->gguf->quantization, "%s", name ? name : tensor_types[most].name);
}

static bool check_data(struct gguf_cursor *c, struct header *h, const struct tensors *sum)
{
    uint64_t start = c->offset + c->at;
    start = (start + h->alignment - 1) & ~(h->alignment - 1);
    if (sum->end > c->size || start > c->size - sum->end)
        return err_set(c->err, ERR_MODEL_LOAD_FAILED,
                       "%s is cut off: its tensors need %llu bytes, the file has %llu; fetch it again", c->name,
                       (unsigned long long)(start + sum->end), (unsigned long long)c->size);
    return true;
}

static bool read_header(struct gguf_cursor *c, struct gguf *gguf)
{
    struct header h = {.gguf = gguf, .alignment = DEFAULT_ALIGNMENT, .file_type = UINT64_MAX};
    struct tensors sum = {0};
    uint64_t tensors = 0, pairs = 0;
    *gguf = (struct gguf){.file_bytes = c->size, .causal = true};
    if (!gguf_take_counts(c, &tensors, &pairs))
        return false;
    for (uint64_t i = 0; i < pairs; i++)
        if (!read_pair(c, &h))
            return false;
    for (uint64_t i = 0; i < tensors; i++)
        if (!read_tensor(c, &h, &sum))
            return false;
    if (!*gguf->architecture && gguf->split_number == 0)
        return gguf_broken(c, "it names no general.architecture");
    gguf->tensor_count = (uint32_t)tensors;
    gguf->is_projector = strcmp(gguf->architecture, "clip") == 0;
    name_quantization(&h, &sum);
    gguf->embedding_length = h.said.numbers[SHAPE_EMBEDDING];
    gguf->block_count = h.said.numbers[SHAPE_LAYERS];
    gguf_shape_finish(&gguf->shape, &h.said);
    return check_data(c, &h, &sum);
}

static bool read_gguf(struct gguf_cursor *c, void *arg)
{
    return read_header(c, arg);
}

bool gguf_read_memory(const void *bytes, size_t n, const char *name, struct gguf *ret_gguf, struct err *err)
{
    return gguf_with_memory(bytes, n, name, read_gguf, ret_gguf, err);
}

bool gguf_read(const char *path, struct gguf *ret_gguf, struct err *err)
{
    return gguf_with_file(path, read_gguf, ret_gguf, err);
}

uint64_t gguf_kv_bytes_per_token(const struct gguf *g)
{
    return (g->shape.key_elements + g->shape.value_elements) * 2;
}
