#include "registry/gguf_cursor.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define MAGIC 0x46554747u
#define PIECE 65536

const unsigned char gguf_value_sizes[VALUE_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

bool gguf_broken(struct gguf_cursor *c, const char *what)
{
    return err_set(c->err, ERR_MODEL_LOAD_FAILED, "%s is not a usable GGUF file: %s (at byte %llu of %llu)", c->name,
                   what, (unsigned long long)(c->offset + c->at), (unsigned long long)c->size);
}

uint64_t gguf_left(const struct gguf_cursor *c)
{
    return c->size - c->offset - c->at;
}

bool gguf_skip(struct gguf_cursor *c, uint64_t n)
{
    if (n > gguf_left(c))
        return gguf_broken(c, "it ends in the middle of its header");
    if (n <= c->length - c->at) {
        c->at += (size_t)n;
        return true;
    }
    c->offset += c->at + n;
    c->at = c->length = 0;
    return true;
}

static bool refill(struct gguf_cursor *c)
{
    c->offset += c->at;
    c->at = 0;
    if (c->fd < 0) {
        c->length = 0;
        return gguf_broken(c, "it ends in the middle of its header");
    }
    ssize_t n;
    do
        n = pread(c->fd, c->piece, PIECE, (off_t)c->offset);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_set(c->err, ERR_IO, "%s cannot be read: %s", c->name, strerror(errno));
    c->data = c->piece;
    c->length = (size_t)n;
    return n > 0 || gguf_broken(c, "it ends in the middle of its header");
}

bool gguf_take(struct gguf_cursor *c, void *out, size_t n)
{
    uint8_t *to = out;
    if (n > gguf_left(c))
        return gguf_broken(c, "it ends in the middle of its header");
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
bool gguf_take_number(struct gguf_cursor *c, unsigned bytes, uint64_t *ret)
{
    uint8_t raw[8] = {0};
    if (!gguf_take(c, raw, bytes))
        return false;
    *ret = 0;
    for (unsigned i = bytes; i-- > 0;)
        *ret = *ret << 8 | raw[i];
    return true;
}

/* Reads a string, keeping what fits into out (always terminated). */
bool gguf_take_string(struct gguf_cursor *c, char *out, size_t size)
{
    uint64_t length;
    if (!gguf_take_number(c, 8, &length))
        return false;
    if (length > LIMIT_GGUF_STRING)
        return gguf_broken(c, "a string is longer than 16 MiB");
    size_t kept = length < size - 1 ? (size_t)length : size - 1;
    if (!gguf_take(c, out, kept))
        return false;
    out[kept] = '\0';
    return gguf_skip(c, length - kept);
}

bool gguf_skip_string(struct gguf_cursor *c)
{
    uint64_t length;
    if (!gguf_take_number(c, 8, &length))
        return false;
    if (length > LIMIT_GGUF_STRING)
        return gguf_broken(c, "a string is longer than 16 MiB");
    return gguf_skip(c, length);
}

bool gguf_take_array(struct gguf_cursor *c, uint64_t *ret_type, uint64_t *ret_count)
{
    if (!gguf_take_number(c, 4, ret_type) || !gguf_take_number(c, 8, ret_count))
        return false;
    if (*ret_type >= VALUE_TYPES || *ret_type == ARRAY)
        return gguf_broken(c, "an array has an unknown element type");
    if (*ret_count > LIMIT_GGUF_ARRAY)
        return gguf_broken(c, "an array is too long");
    return true;
}

bool gguf_skip_elements(struct gguf_cursor *c, uint64_t type, uint64_t count)
{
    if (type != STRING)
        return gguf_skip(c, count * gguf_value_sizes[type]);
    for (uint64_t i = 0; i < count; i++)
        if (!gguf_skip_string(c))
            return false;
    return true;
}

bool gguf_skip_value(struct gguf_cursor *c, uint64_t type)
{
    uint64_t element, count;
    if (type == ARRAY)
        return gguf_take_array(c, &element, &count) && gguf_skip_elements(c, element, count);
    return gguf_skip_elements(c, type, 1);
}

bool gguf_is_integer(uint64_t type)
{
    return type <= I32 || type == U64 || type == I64 || type == BOOL;
}

bool gguf_take_counts(struct gguf_cursor *c, uint64_t *ret_tensors, uint64_t *ret_pairs)
{
    uint64_t magic, version;
    if (!gguf_take_number(c, 4, &magic))
        return false;
    if (magic != MAGIC)
        return gguf_broken(c, "it does not begin with 'GGUF'");
    if (!gguf_take_number(c, 4, &version))
        return false;
    if (version < 2 || version > 3)
        return gguf_broken(c, version >> 16 ? "it is big-endian, which is not supported"
                                            : "its version is neither 2 nor 3");
    if (!gguf_take_number(c, 8, ret_tensors) || !gguf_take_number(c, 8, ret_pairs))
        return false;
    if (*ret_tensors > LIMIT_GGUF_TENSORS || *ret_pairs > LIMIT_GGUF_KV)
        return gguf_broken(c, "it claims an impossible number of entries");
    return true;
}

bool gguf_with_memory(const void *bytes, size_t n, const char *name, gguf_reader *read, void *arg, struct err *err)
{
    struct gguf_cursor c = {.fd = -1, .data = bytes, .length = n, .size = n, .name = name, .err = err};
    return read(&c, arg);
}

bool gguf_with_file(const char *path, gguf_reader *read, void *arg, struct err *err)
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
        struct gguf_cursor c = {.fd = fd, .piece = piece, .size = (uint64_t)info.st_size, .name = path, .err = err};
        good = read(&c, arg);
    }
    close(fd);
    return good;
}
