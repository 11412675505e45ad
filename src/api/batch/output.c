#include "api/batch/output.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define STRIDE (64 * 1024)

void batch_output_init(struct batch_output *output)
{
    *output = (struct batch_output){.fd = -1};
    buf_init(&output->pending, 4 * (size_t)LIMIT_BATCH_RUNNING * LIMIT_BATCH_LINE);
    buf_init(&output->writing, 4 * (size_t)LIMIT_BATCH_RUNNING * LIMIT_BATCH_LINE);
}

void batch_output_release(struct batch_output *output)
{
    if (output->fd >= 0)
        close(output->fd);
    buf_release(&output->pending);
    buf_release(&output->writing);
}

void batch_output_hand_over(struct batch_output *output)
{
    struct buf written = output->writing;
    buf_clear(&written);
    output->writing = output->pending;
    output->writing_lines = output->pending_lines;
    output->pending = written;
    output->pending_lines = 0;
}

static bool fail(struct err *err, const char *what)
{
    bool full = errno == ENOSPC || errno == EDQUOT;
    return err_set(err, full ? ERR_INSUFFICIENT_STORAGE : ERR_IO, "the batch's output cannot be %s: %s", what,
                   strerror(errno));
}

bool batch_output_open(struct batch_output *output, const char *path, struct err *err)
{
    output->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return output->fd >= 0 || fail(err, "opened");
}

static bool write_at(int fd, struct str bytes, uint64_t offset)
{
    while (bytes.n) {
        ssize_t done = pwrite(fd, bytes.p, bytes.n, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return false;
        bytes = (struct str){bytes.p + done, bytes.n - (size_t)done};
        offset += (uint64_t)done;
    }
    return true;
}

bool batch_output_write(struct batch_output *output, struct err *err)
{
    if (!buf_ok(&output->writing))
        return err_set(err, ERR_INSUFFICIENT_MEMORY, "there is no memory to keep the batch's output");
    if (!output->writing.len)
        return true;
    if (write_at(output->fd, buf_view(&output->writing), output->size) && fdatasync(output->fd) == 0) {
        output->size += output->writing.len;
        return true;
    }
    fail(err, "written");
    if (ftruncate(output->fd, (off_t)output->size) != 0)
        err_set(err, ERR_IO, "the batch's output is broken: %s", strerror(errno));
    return false;
}

static bool hash_file(struct batch_output *output)
{
    unsigned char digest[HASH_SHA256_SIZE];
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    char *piece = mem_alloc(STRIDE);
    uint64_t at = 0;
    ssize_t count = 1;
    mem_require(context);
    EVP_DigestInit_ex(context, EVP_sha256(), NULL);
    while (at < output->size && count > 0) {
        count = pread(output->fd, piece, STRIDE, (off_t)at);
        if (count > 0)
            EVP_DigestUpdate(context, piece, (size_t)count);
        at += count > 0 ? (uint64_t)count : 0;
    }
    EVP_DigestFinal_ex(context, digest, NULL);
    hash_hex(digest, sizeof digest, output->sha256);
    EVP_MD_CTX_free(context);
    mem_free(piece);
    return at == output->size;
}

bool batch_output_finish(struct batch_output *output, const char *path, struct err *err)
{
    if (output->fd < 0)
        return true;
    if (!output->size)
        unlink(path);
    else if (!hash_file(output))
        return fail(err, "read");
    return true;
}
