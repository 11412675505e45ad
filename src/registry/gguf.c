/* A cursor over the file, filled in pieces, with the number of bytes that remain: every read states how much it wants
 * and fails when the file cannot have it. Keys we do not know are skipped by their type; arrays of strings (a
 * vocabulary of 262 144) are walked, not stored. Tensor descriptions are only summed up. */
#include "registry/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/mem.h"

#define MAGIC             0x46554747u
#define PIECE             65536
#define MAX_DIMENSIONS    4
#define KEY_SIZE          160
#define DEFAULT_ALIGNMENT 32

enum value_type { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64, VALUE_TYPES };

static const unsigned char value_sizes[VALUE_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

struct cursor {
    int fd;              /* -1: memory only */
    const uint8_t *data; /* the piece at hand */
    size_t length, at;   /* of the piece */
    uint64_t offset;     /* of the piece in the file */
    uint64_t size;       /* of the file */
    uint8_t *piece;
    const char *name;
    struct err *err;
};

static bool broken(struct cursor *c, const char *what)
{
    return err_set(c->err, ERR_MODEL_LOAD_FAILED, "%s is not a usable GGUF file: %s (at byte %llu of %llu)", c->name,
                   what, (unsigned long long)(c->offset + c->at), (unsigned long long)c->size);
}

static uint64_t left(const struct cursor *c)
{
    return c->size - c->offset - c->at;
}

static bool skip(struct cursor *c, uint64_t n)
{
    if (n > left(c))
        return broken(c, "it ends in the middle of its header");
    if (n <= c->length - c->at) {
        c->at += (size_t)n;
        return true;
    }
    c->offset += c->at + n;
    c->at = c->length = 0;
    return true;
}

static bool refill(struct cursor *c)
{
    c->offset += c->at;
    c->at = 0;
    if (c->fd < 0) {
        c->length = 0;
        return broken(c, "it ends in the middle of its header");
    }
    ssize_t n;
    do
        n = pread(c->fd, c->piece, PIECE, (off_t)c->offset);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_set(c->err, ERR_IO, "%s cannot be read: %s", c->name, strerror(errno));
    c->data = c->piece;
    c->length = (size_t)n;
    return n > 0 || broken(c, "it ends in the middle of its header");
}

static bool take(struct cursor *c, void *out, size_t n)
{
    uint8_t *to = out;
    if (n > left(c))
        return broken(c, "it ends in the middle of its header");
    while (n) {
        if (c->at == c->length && !refill(c))
            return false;
        size_t part = c->length - c->at < n ? c->length - c->at : n;
        memcpy(to, c->data + c->at, part);
        c->at += part;
        to += part;
        n -= part;
    }
    return true;
}

/* GGUF is little-endian; so are the machines we run on, but do not rely on it. */
static bool take_number(struct cursor *c, unsigned bytes, uint64_t *ret)
{
    uint8_t raw[8] = {0};
    if (!take(c, raw, bytes))
        return false;
    *ret = 0;
    for (unsigned i = bytes; i-- > 0;)
        *ret = *ret << 8 | raw[i];
    return true;
}

/* Reads a string, keeping what fits into out (always terminated). */
static bool take_string(struct cursor *c, char *out, size_t size)
{
    uint64_t length;
    if (!take_number(c, 8, &length))
        return false;
    if (length > LIMIT_GGUF_STRING)
        return broken(c, "a string is longer than 16 MiB");
    size_t kept = length < size - 1 ? (size_t)length : size - 1;
    if (!take(c, out, kept))
        return false;
    out[kept] = '\0';
    return skip(c, length - kept);
}

static bool skip_string(struct cursor *c)
{
    uint64_t length;
    if (!take_number(c, 8, &length))
        return false;
    if (length > LIMIT_GGUF_STRING)
        return broken(c, "a string is longer than 16 MiB");
    return skip(c, length);
}

static bool skip_value(struct cursor *c, uint64_t type);

static bool skip_array(struct cursor *c)
{
    uint64_t type, count;
    if (!take_number(c, 4, &type) || !take_number(c, 8, &count))
        return false;
    if (type >= VALUE_TYPES || type == ARRAY)
        return broken(c, "an array has an unknown element type");
    if (count > LIMIT_GGUF_ARRAY)
        return broken(c, "an array is too long");
    if (type != STRING)
        return skip(c, count * value_sizes[type]);
    for (uint64_t i = 0; i < count; i++)
        if (!skip_string(c))
            return false;
    return true;
}

static bool skip_value(struct cursor *c, uint64_t type)
{
    if (type == STRING)
        return skip_string(c);
    return type == ARRAY ? skip_array(c) : skip(c, value_sizes[type]);
}

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
    {".embedding_length", WANT_NUMBER, offsetof(struct gguf, embedding_length)},
    {".block_count", WANT_NUMBER, offsetof(struct gguf, block_count)},
    {".attention.head_count", WANT_NUMBER, offsetof(struct gguf, head_count)},
    {".attention.head_count_kv", WANT_NUMBER, offsetof(struct gguf, head_count_kv)},
    {".attention.key_length", WANT_NUMBER, offsetof(struct gguf, key_length)},
    {".attention.value_length", WANT_NUMBER, offsetof(struct gguf, value_length)},
};

struct header {
    struct gguf *gguf;
    uint64_t alignment;
    uint64_t file_type; /* UINT64_MAX: not said */
};

static const struct wanted *find_wanted(const struct gguf *g, const char *key)
{
    size_t arch = strlen(g->architecture);
    const char *behind = arch && strncmp(key, g->architecture, arch) == 0 ? key + arch : "";
    for (size_t i = 0; i < sizeof wanted_keys / sizeof *wanted_keys; i++) {
        const struct wanted *w = &wanted_keys[i];
        if (strcmp(*w->key == '.' ? behind : key, w->key) == 0)
            return w;
    }
    return NULL;
}

static bool is_integer(uint64_t type)
{
    return type <= I32 || type == U64 || type == I64 || type == BOOL;
}

static bool read_wanted(struct cursor *c, struct header *h, const struct wanted *w, uint64_t type)
{
    char *field = (char *)h->gguf + w->offset;
    if (w->want == WANT_PRESENCE) {
        *(bool *)field = true;
        return skip_value(c, type);
    }
    if (w->want == WANT_TEXT)
        return type == STRING ? take_string(c, field, GGUF_TEXT) : skip_value(c, type);
    if (!is_integer(type) || type == BOOL)
        return skip_value(c, type); /* head counts per layer come as arrays: no single number */
    uint64_t number;
    if (!take_number(c, value_sizes[type], &number))
        return false;
    *(uint32_t *)field = number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
    return true;
}

static bool read_alignment(struct cursor *c, struct header *h)
{
    if (!take_number(c, 4, &h->alignment))
        return false;
    if (h->alignment == 0 || h->alignment > 1 << 20 || (h->alignment & (h->alignment - 1)))
        return broken(c, "general.alignment is no power of two");
    return true;
}

static bool read_causal(struct cursor *c, struct header *h)
{
    uint64_t value;
    if (!take_number(c, 1, &value))
        return false;
    h->gguf->causal = value != 0;
    return true;
}

static bool read_pair(struct cursor *c, struct header *h)
{
    char key[KEY_SIZE];
    uint64_t type;
    if (!take_string(c, key, sizeof key) || !take_number(c, 4, &type))
        return false;
    if (type >= VALUE_TYPES)
        return broken(c, "a value has an unknown type");
    if (strcmp(key, "general.alignment") == 0 && type == U32)
        return read_alignment(c, h);
    if (strcmp(key, "general.file_type") == 0 && type == U32)
        return take_number(c, 4, &h->file_type);
    if (type == BOOL && str_ends(str_from(key), STR(".attention.causal")))
        return read_causal(c, h);
    const struct wanted *w = find_wanted(h->gguf, key);
    return w ? read_wanted(c, h, w, type) : skip_value(c, type);
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
};
#define TENSOR_TYPES (sizeof tensor_types / sizeof *tensor_types)

struct tensors {
    uint64_t end;                    /* of the data section, relative to its start */
    uint64_t elements[TENSOR_TYPES]; /* a type */
};

static bool take_elements(struct cursor *c, uint64_t *ret_elements)
{
    uint64_t dimensions, size;
    *ret_elements = 1;
    if (!take_number(c, 4, &dimensions))
        return false;
    if (dimensions > MAX_DIMENSIONS)
        return broken(c, "a tensor has more than four dimensions");
    for (uint64_t i = 0; i < dimensions; i++) {
        if (!take_number(c, 8, &size))
            return false;
        if (size == 0 || __builtin_mul_overflow(*ret_elements, size, ret_elements) || *ret_elements > INT64_MAX)
            return broken(c, "a tensor has an impossible shape");
    }
    return true;
}

static bool read_tensor(struct cursor *c, struct header *h, struct tensors *sum)
{
    uint64_t elements, type, offset, bytes, end;
    if (!skip_string(c) || !take_elements(c, &elements) || !take_number(c, 4, &type) || !take_number(c, 8, &offset))
        return false;
    h->gguf->parameters += elements;
    if (type >= TENSOR_TYPES || tensor_types[type].bytes == 0)
        return true; /* a type newer than this table: the engine will judge it */
    sum->elements[type] += elements;
    bytes = (elements + tensor_types[type].elements - 1) / tensor_types[type].elements;
    if (__builtin_mul_overflow(bytes, (uint64_t)tensor_types[type].bytes, &bytes) ||
        __builtin_add_overflow(offset, bytes, &end))
        return broken(c, "a tensor lies beyond any file");
    h->gguf->tensor_bytes += bytes;
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

static bool check_data(struct cursor *c, struct header *h, const struct tensors *sum)
{
    uint64_t start = c->offset + c->at;
    start = (start + h->alignment - 1) & ~(h->alignment - 1);
    if (sum->end > c->size || start > c->size - sum->end)
        return err_set(c->err, ERR_MODEL_LOAD_FAILED,
                       "%s is cut off: its tensors need %llu bytes, the file has %llu; fetch it again", c->name,
                       (unsigned long long)(start + sum->end), (unsigned long long)c->size);
    return true;
}

static bool read_counts(struct cursor *c, uint64_t *ret_tensors, uint64_t *ret_pairs)
{
    uint64_t magic, version;
    if (!take_number(c, 4, &magic))
        return false;
    if (magic != MAGIC)
        return broken(c, "it does not begin with 'GGUF'");
    if (!take_number(c, 4, &version))
        return false;
    if (version < 2 || version > 3)
        return broken(c, version >> 16 ? "it is big-endian, which is not supported" : "its version is neither 2 nor 3");
    if (!take_number(c, 8, ret_tensors) || !take_number(c, 8, ret_pairs))
        return false;
    if (*ret_tensors > LIMIT_GGUF_TENSORS || *ret_pairs > LIMIT_GGUF_KV)
        return broken(c, "it claims an impossible number of entries");
    return true;
}

static bool read_header(struct cursor *c, struct gguf *gguf)
{
    struct header h = {.gguf = gguf, .alignment = DEFAULT_ALIGNMENT, .file_type = UINT64_MAX};
    struct tensors sum = {0};
    uint64_t tensors = 0, pairs = 0;
    *gguf = (struct gguf){.file_bytes = c->size, .causal = true};
    if (!read_counts(c, &tensors, &pairs))
        return false;
    for (uint64_t i = 0; i < pairs; i++)
        if (!read_pair(c, &h))
            return false;
    for (uint64_t i = 0; i < tensors; i++)
        if (!read_tensor(c, &h, &sum))
            return false;
    if (!*gguf->architecture && gguf->split_number == 0)
        return broken(c, "it names no general.architecture");
    gguf->tensor_count = (uint32_t)tensors;
    gguf->is_projector = strcmp(gguf->architecture, "clip") == 0;
    name_quantization(&h, &sum);
    return check_data(c, &h, &sum);
}

/* ---- all pairs ---- */

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
    unsigned unused = 64 - 8u * value_sizes[type];
    bool is_signed = type == I8 || type == I16 || type == I32 || type == I64;
    pair->kind = type == BOOL ? GGUF_BOOL : is_integer(type) ? GGUF_INTEGER : GGUF_NUMBER;
    pair->boolean = bits != 0;
    pair->integer = is_signed ? (int64_t)(bits << unused) >> unused : (int64_t)bits;
    pair->number = pair->kind == GGUF_NUMBER ? as_double(bits, type) : 0;
    if (type == U64 && bits > INT64_MAX) {
        pair->kind = GGUF_NUMBER;
        pair->number = (double)bits;
    }
}

static bool walk_text(struct cursor *c, const struct walk *walk, struct gguf_pair *pair)
{
    uint64_t length;
    if (!take_number(c, 8, &length))
        return false;
    if (length > left(c) || length > LIMIT_GGUF_STRING)
        return broken(c, "a string is longer than the file, or than 16 MiB");
    if (length > LIMIT_GGUF_SHOWN) {
        walk->on_pair(walk->arg, pair);
        return skip(c, length);
    }
    char *text = mem_alloc((size_t)length + 1);
    bool good = take(c, text, (size_t)length);
    pair->kind = GGUF_STRING;
    pair->text = (struct str){text, (size_t)length};
    if (good)
        walk->on_pair(walk->arg, pair);
    mem_free(text);
    return good;
}

static bool walk_pair(struct cursor *c, const struct walk *walk)
{
    char key[KEY_SIZE];
    uint64_t type, bits;
    struct gguf_pair pair = {.key = key, .kind = GGUF_LEFT_OUT};
    if (!take_string(c, key, sizeof key) || !take_number(c, 4, &type))
        return false;
    if (type >= VALUE_TYPES)
        return broken(c, "a value has an unknown type");
    if (type == STRING)
        return walk_text(c, walk, &pair);
    if (type == ARRAY) {
        walk->on_pair(walk->arg, &pair);
        return skip_array(c);
    }
    if (!take_number(c, value_sizes[type], &bits))
        return false;
    set_scalar(&pair, bits, type);
    walk->on_pair(walk->arg, &pair);
    return true;
}

static bool walk_header(struct cursor *c, void *arg)
{
    const struct walk *walk = arg;
    uint64_t tensors = 0, pairs = 0;
    bool good = read_counts(c, &tensors, &pairs);
    for (uint64_t i = 0; i < pairs && good; i++)
        good = walk_pair(c, walk);
    return good;
}

/* ---- where it lies ---- */

static bool read_gguf(struct cursor *c, void *arg)
{
    return read_header(c, arg);
}

static bool with_memory(const void *bytes, size_t n, const char *name, bool (*read)(struct cursor *c, void *arg),
                        void *arg, struct err *err)
{
    struct cursor c = {.fd = -1, .data = bytes, .length = n, .size = n, .name = name, .err = err};
    return read(&c, arg);
}

static bool with_file(const char *path, bool (*read)(struct cursor *c, void *arg), void *arg, struct err *err)
{
    uint8_t piece[PIECE];
    struct stat info;
    bool good = false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, ERR_IO, "%s cannot be opened: %s", path, strerror(errno));
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        err_set(err, ERR_IO, "%s is not a plain file", path);
    } else {
        struct cursor c = {.fd = fd, .piece = piece, .size = (uint64_t)info.st_size, .name = path, .err = err};
        good = read(&c, arg);
    }
    close(fd);
    return good;
}

bool gguf_read_memory(const void *bytes, size_t n, const char *name, struct gguf *ret_gguf, struct err *err)
{
    return with_memory(bytes, n, name, read_gguf, ret_gguf, err);
}

bool gguf_read(const char *path, struct gguf *ret_gguf, struct err *err)
{
    return with_file(path, read_gguf, ret_gguf, err);
}

bool gguf_walk_memory(const void *bytes, size_t n, const char *name,
                      void (*on_pair)(void *arg, const struct gguf_pair *pair), void *arg, struct err *err)
{
    struct walk walk = {on_pair, arg};
    return with_memory(bytes, n, name, walk_header, &walk, err);
}

bool gguf_walk(const char *path, void (*on_pair)(void *arg, const struct gguf_pair *pair), void *arg, struct err *err)
{
    struct walk walk = {on_pair, arg};
    return with_file(path, walk_header, &walk, err);
}

uint64_t gguf_kv_bytes_per_token(const struct gguf *g)
{
    if (!g->head_count || !g->block_count)
        return 0;
    uint64_t head = g->embedding_length / g->head_count;
    uint64_t kv_heads = g->head_count_kv ? g->head_count_kv : g->head_count;
    uint64_t key = g->key_length ? g->key_length : head, value = g->value_length ? g->value_length : head;
    return (uint64_t)g->block_count * kv_heads * (key + value) * 2;
}
