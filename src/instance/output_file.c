/* Files are rotated between lines: when the next line would make one larger than rotate_bytes, and it is not empty.
 * Only what has no line ends for LIMIT_LOG_LINE bytes beyond that is cut. A rotated file is PATH.N or PATH.N.gz; both
 * are moved, so that compression may be switched on and off, or fail. */
#include "instance/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <zlib.h>

#include "base/mem.h"

#define BLOCK_BYTES (64 * 1024)
#define PATH_BYTES  4096

void output_file_init(struct output_file *file, const struct output_options *options)
{
    *file = (struct output_file){.path = mem_strdup(options->path),
                                 .rotate_bytes = options->rotate_bytes,
                                 .rotated_files = options->rotated_files,
                                 .fd = -1};
    if (uv_mutex_init(&file->renames) != 0)
        abort();
}

static void close_file(struct output_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

void output_file_release(struct output_file *file)
{
    close_file(file);
    uv_mutex_destroy(&file->renames);
    mem_free((char *)file->path);
}

/* ---- appending ---- */

static bool last_byte_ends_line(const char *path, uint64_t size)
{
    char last = '\n';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && size > 0 && pread(fd, &last, 1, (off_t)size - 1) != 1)
        last = '\n';
    if (fd >= 0)
        close(fd);
    return last == '\n';
}

/* Somebody may have removed the file since. */
static bool is_open(struct output_file *file)
{
    struct stat info;
    if (file->fd >= 0 && fstat(file->fd, &info) == 0 && info.st_nlink > 0)
        return true;
    close_file(file);
    return false;
}

static bool open_file(struct output_file *file)
{
    struct stat info;
    if (is_open(file))
        return true;
    file->fd = open(file->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file->fd < 0 || fstat(file->fd, &info) != 0) {
        file->error = errno;
        close_file(file);
        return false;
    }
    file->size = (uint64_t)info.st_size;
    file->mid_line = !last_byte_ends_line(file->path, file->size);
    return true;
}

/* Bytes written; fewer than given: file->error says why. */
static size_t write_all(struct output_file *file, struct str bytes)
{
    size_t done = 0;
    while (done < bytes.n) {
        ssize_t n = write(file->fd, bytes.p + done, bytes.n - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            file->error = n < 0 ? errno : EIO;
            break;
        }
        done += (size_t)n;
    }
    file->size += done;
    if (done)
        file->mid_line = bytes.p[done - 1] != '\n';
    return done;
}

static size_t first_line(struct str bytes)
{
    const char *end = memchr(bytes.p, '\n', bytes.n);
    return end ? (size_t)(end - bytes.p) + 1 : bytes.n;
}

static bool is_full(const struct output_file *file, struct str next)
{
    if (file->rotate_bytes == 0 || file->size == 0)
        return false;
    if (file->mid_line)
        return file->size >= file->rotate_bytes + LIMIT_LOG_LINE;
    return file->size + first_line(next) > file->rotate_bytes;
}

/* As many lines as fit; at least one, or the part of it that is there. */
static size_t piece(const struct output_file *file, struct str bytes)
{
    if (file->rotate_bytes == 0)
        return bytes.n;
    uint64_t room = file->size < file->rotate_bytes ? file->rotate_bytes - file->size : 0;
    size_t n = bytes.n;
    if (room < n) {
        const char *end = room ? memrchr(bytes.p, '\n', (size_t)room) : NULL;
        n = end ? (size_t)(end - bytes.p) + 1 : first_line(bytes);
    }
    uint64_t most = file->rotate_bytes + LIMIT_LOG_LINE - file->size;
    return n > most ? (size_t)most : n;
}

/* A line whose rest was lost is ended, so that what follows does not look like its rest. */
static void mend(struct output_file *file)
{
    if (file->torn && file->mid_line && write_all(file, STR("\n")) == 0)
        return;
    file->torn = false;
}

static size_t append_piece(struct output_file *file, struct str bytes, uint64_t *ret_lost)
{
    size_t n = piece(file, bytes);
    mend(file);
    size_t written = file->torn ? 0 : write_all(file, (struct str){bytes.p, n});
    if (written == n)
        return n;
    file->torn = true;
    *ret_lost += bytes.n - written;
    return bytes.n;
}

size_t output_file_append(struct output_file *file, struct str bytes, uint64_t *ret_lost, bool *ret_full)
{
    size_t used = 0;
    *ret_lost = 0;
    *ret_full = false;
    file->error = 0;
    if (!open_file(file)) {
        *ret_lost = bytes.n;
        return bytes.n;
    }
    while (used < bytes.n) {
        struct str left = {bytes.p + used, bytes.n - used};
        *ret_full = is_full(file, left);
        if (*ret_full)
            break;
        used += append_piece(file, left, ret_lost);
    }
    return used;
}

/* ---- rotating ---- */

static const char *numbered(char out[PATH_BYTES], const char *path, unsigned number, const char *suffix)
{
    snprintf(out, PATH_BYTES, "%s.%u%s", path, number, suffix);
    return out;
}

static void shift(const struct output_file *file, unsigned number, const char *suffix)
{
    char from[PATH_BYTES], to[PATH_BYTES];
    numbered(from, file->path, number, suffix);
    if (number >= file->rotated_files)
        unlink(from);
    else
        rename(from, numbered(to, file->path, number + 1, suffix));
}

static bool move_away(const struct output_file *file)
{
    char first[PATH_BYTES];
    for (unsigned number = file->rotated_files; number > 0; number--) {
        shift(file, number, "");
        shift(file, number, ".gz");
    }
    if (file->rotated_files == 0)
        return unlink(file->path) == 0 || errno == ENOENT;
    return rename(file->path, numbered(first, file->path, 1, "")) == 0 || errno == ENOENT;
}

bool output_file_rotate(struct output_file *file, int *ret_error)
{
    uv_mutex_lock(&file->renames);
    bool moved = move_away(file);
    *ret_error = errno;
    close_file(file);
    if (open_file(file) && !moved)
        file->size = 0; /* it goes on in the same file; the next try comes after as many bytes again */
    uv_mutex_unlock(&file->renames);
    return moved;
}

/* ---- compressing ---- */

static bool copy_compressed(int from, gzFile to)
{
    char *block = mem_alloc(BLOCK_BYTES);
    ssize_t n;
    while ((n = read(from, block, BLOCK_BYTES)) > 0)
        if (gzwrite(to, block, (unsigned)n) != n)
            break;
    mem_free(block);
    return n == 0;
}

static bool compress_to(int from, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    gzFile to = fd < 0 ? NULL : gzdopen(fd, "wb");
    if (!to) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool good = copy_compressed(from, to);
    return gzclose(to) == Z_OK && good;
}

bool output_file_compress(const char *path, int *ret_error)
{
    char plain[PATH_BYTES], packed[PATH_BYTES], unfinished[PATH_BYTES];
    numbered(plain, path, 1, "");
    numbered(packed, path, 1, ".gz");
    numbered(unfinished, path, 1, ".gz.part");
    int from = open(plain, O_RDONLY | O_CLOEXEC);
    errno = from < 0 ? errno : 0;
    bool good = from >= 0 && compress_to(from, unfinished) && rename(unfinished, packed) == 0 && unlink(plain) == 0;
    *ret_error = errno ? errno : EIO;
    if (from >= 0)
        close(from);
    if (!good)
        unlink(unfinished);
    return good;
}

/* ---- the last lines ---- */

int output_file_open(struct output_file *file, uint64_t *ret_size, int *ret_error)
{
    struct stat info;
    *ret_size = 0;
    uv_mutex_lock(&file->renames);
    int fd = open(file->path, O_RDONLY | O_CLOEXEC);
    uv_mutex_unlock(&file->renames);
    if (fd < 0 && errno == ENOENT)
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    *ret_error = errno;
    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode))
        *ret_size = (uint64_t)info.st_size;
    return fd;
}

/* Where the line of block that is the lines-th from its end begins: behind a line end. -1: there are fewer; *lines is
 * what is missing still. */
static ssize_t lines_back(const char *block, size_t n, int64_t *lines)
{
    const char *end;
    while (n > 0 && (end = memrchr(block, '\n', n))) {
        if (--*lines < 0)
            return end - block + 1;
        n = (size_t)(end - block);
    }
    return -1;
}

/* Line ends are counted from the end of the file; one at the very end closes the last line and is not counted. */
uint64_t output_file_last_lines(int fd, uint64_t size, int64_t lines)
{
    char *block = mem_alloc(BLOCK_BYTES);
    uint64_t end = size, found = 0;
    char last = '\0';
    if (size > 0 && pread(fd, &last, 1, (off_t)size - 1) == 1 && last == '\n')
        end--;
    lines--;
    while (end > 0 && lines >= 0) {
        size_t n = end < BLOCK_BYTES ? (size_t)end : BLOCK_BYTES;
        ssize_t got = pread(fd, block, n, (off_t)(end - n));
        if (got != (ssize_t)n)
            break;
        ssize_t at = lines_back(block, n, &lines);
        end -= n;
        if (at >= 0) {
            found = end + (uint64_t)at;
            break;
        }
    }
    mem_free(block);
    return found;
}
