/* Problem: tens of gigabytes over a line that breaks, into a name that promises a hash.
 *
 * Design: bytes go to the part only, hashed as they are written; the hash of what an earlier attempt left is made up
 * by reading it. A try asks for the bytes from the part's end on. Only a 206 that begins exactly there goes on; a 200
 * is the whole file, so the part is emptied first; any other range empties the part and tries again.
 *
 * Invariants: part's bytes [0, at) have gone through the hash. target appears by rename, after hash and fsync. A
 * failed hash removes the part; if some of it came from an earlier attempt, the whole is fetched once more.
 *
 * Tries: those in a row that do not carry the part LIMIT_FETCH_ADVANCE past its furthest point are counted, so a bad
 * line gets through a large file, and a server that always restarts does not keep us for ever. */
#include "registry/fetch_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/hash.h"
#include "base/mem.h"

#define PIECE        (256 * 1024)
#define LOCK_LOOK_MS 100 /* between two looks at a lock that another thread or process holds: flock has no deadline */

struct state {
    const struct fetch_net *net;
    const struct fetch_transfer *t;
    struct err *err;
    int fd;
    uint64_t at;
    bool old_bytes;  /* some of [0, at) were there before this call */
    bool body_began; /* of this try */
    EVP_MD_CTX *hash;
};

static bool disk_problem(const struct state *s, const char *what)
{
    enum err_code code = errno == ENOSPC || errno == EDQUOT ? ERR_INSUFFICIENT_STORAGE : ERR_IO;
    return err_set(s->err, code, "%s: %s cannot be %s: %s", s->t->name, s->t->part, what, strerror(errno));
}

static void move_to(struct state *s, uint64_t at)
{
    uint64_t before = s->at;
    s->at = at;
    if (at != before)
        s->t->on_bytes(s->t->arg, before, at);
}

static bool hash_begin(struct state *s)
{
    const EVP_MD *kind = s->t->hash_kind == FETCH_SHA256 ? EVP_sha256() : EVP_sha1();
    bool good = EVP_DigestInit_ex(s->hash, kind, NULL) == 1;
    if (good && s->t->hash_kind == FETCH_GIT_BLOB) {
        char head[40];
        int n = snprintf(head, sizeof head, "blob %" PRIu64, s->t->bytes);
        good = EVP_DigestUpdate(s->hash, head, (size_t)n + 1) == 1;
    }
    return good || err_set(s->err, ERR_INTERNAL, "OpenSSL cannot compute the hash of %s", s->t->name);
}

static bool start_over(struct state *s)
{
    if (ftruncate(s->fd, 0) != 0)
        return disk_problem(s, "emptied");
    s->old_bytes = false;
    move_to(s, 0);
    return hash_begin(s);
}

/* ---- what is there already ---- */

static bool hash_old_part(struct state *s, uint64_t size)
{
    unsigned char *piece = mem_alloc(PIECE);
    bool good = true;
    while (good && s->at < size) {
        ssize_t n = pread(s->fd, piece, PIECE, (off_t)s->at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = EIO; /* it has become shorter */
        if (n <= 0)
            good = disk_problem(s, "read");
        else if (fetch_stopped(s->net->stop))
            good = err_set(s->err, ERR_CLIENT_CLOSED, "cancelled");
        else {
            EVP_DigestUpdate(s->hash, piece, (size_t)n);
            move_to(s, s->at + (uint64_t)n);
        }
    }
    mem_free(piece);
    s->old_bytes = size > 0;
    return good;
}

static bool open_part(struct state *s)
{
    struct stat info;
    s->fd = open(s->t->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (s->fd < 0 || fstat(s->fd, &info) != 0)
        return disk_problem(s, "opened");
    if (!S_ISREG(info.st_mode))
        return err_set(s->err, ERR_IO, "%s: %s is not a regular file: remove it", s->t->name, s->t->part);
    if (!hash_begin(s))
        return false;
    return (uint64_t)info.st_size > s->t->bytes ? start_over(s) : hash_old_part(s, (uint64_t)info.st_size);
}

static bool target_is_there(const struct state *s)
{
    struct stat info;
    return stat(s->t->target, &info) == 0 && S_ISREG(info.st_mode) && (uint64_t)info.st_size == s->t->bytes;
}

/* ---- one try ---- */

static enum fetch_net_result begin_body(struct state *s, const struct fetch_net_reply *reply)
{
    s->body_began = true;
    if (reply->status == 200)
        return s->at == 0 || start_over(s) ? FETCH_NET_DONE : FETCH_NET_FAILED;
    if (s->at && reply->has_range && reply->range_first == s->at &&
        (reply->range_total == UINT64_MAX || reply->range_total == s->t->bytes))
        return FETCH_NET_DONE;
    if (!start_over(s))
        return FETCH_NET_FAILED;
    err_set(s->err, ERR_BAD_GATEWAY, "%s: the server sent another range than the one asked for", s->t->name);
    return FETCH_NET_RETRY;
}

static bool write_piece(struct state *s, struct str piece)
{
    for (size_t done = 0; done < piece.n;) {
        ssize_t n = pwrite(s->fd, piece.p + done, piece.n - done, (off_t)(s->at + done));
        if (n < 0 && errno != EINTR)
            return disk_problem(s, "written");
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static enum fetch_net_result on_body(void *arg, const struct fetch_net_reply *reply, struct str piece, struct err *err)
{
    struct state *s = arg;
    enum fetch_net_result begun = s->body_began ? FETCH_NET_DONE : begin_body(s, reply);
    if (begun != FETCH_NET_DONE)
        return begun;
    if (piece.n > s->t->bytes - s->at) {
        if (start_over(s))
            err_set(err, ERR_BAD_GATEWAY, "%s is longer than the %" PRIu64 " bytes announced", s->t->name, s->t->bytes);
        return FETCH_NET_FAILED;
    }
    if (!write_piece(s, piece))
        return FETCH_NET_FAILED;
    EVP_DigestUpdate(s->hash, piece.p, piece.n);
    move_to(s, s->at + piece.n);
    return FETCH_NET_DONE;
}

static enum fetch_net_result try_once(struct state *s, struct fetch_net_reply *reply)
{
    struct fetch_net_get get = {.url = s->t->url, .name = s->t->name, .from = s->at, .on_body = on_body, .arg = s};
    s->body_began = false;
    enum fetch_net_result result = fetch_net_get(s->net, &get, reply, s->err);
    if (result == FETCH_NET_FAILED && reply->status == 416 && s->at)
        return start_over(s) ? FETCH_NET_RETRY : FETCH_NET_FAILED;
    if (result == FETCH_NET_DONE && s->at < s->t->bytes) {
        err_set(s->err, ERR_BAD_GATEWAY, "%s ended after %" PRIu64 " of %" PRIu64 " bytes", s->t->name, s->at,
                s->t->bytes);
        return FETCH_NET_RETRY;
    }
    return result;
}

static bool receive(struct state *s)
{
    struct fetch_net_reply reply;
    uint64_t furthest = s->at;
    unsigned failed = 0;
    while (s->at < s->t->bytes) {
        enum fetch_net_result result = try_once(s, &reply);
        if (result == FETCH_NET_DONE)
            return true;
        if (result != FETCH_NET_RETRY)
            return false;
        if (s->at >= furthest + LIMIT_FETCH_ADVANCE) {
            furthest = s->at;
            failed = 0;
        }
        if (++failed >= LIMIT_FETCH_TRIES)
            return false;
        if (!fetch_net_pause(s->net, failed, &reply))
            return err_set(s->err, ERR_CLIENT_CLOSED, "cancelled");
    }
    return true;
}

/* ---- the end ---- */

static bool hash_fits(struct state *s)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    char text[2 * EVP_MAX_MD_SIZE + 1];
    unsigned n = 0;
    EVP_DigestFinal_ex(s->hash, digest, &n);
    return strcmp(hash_hex(digest, n, text), s->t->hash) == 0;
}

static bool receive_checked(struct state *s)
{
    if (!receive(s))
        return false;
    if (hash_fits(s))
        return true;
    if (s->old_bytes)
        return start_over(s) && receive_checked(s);
    unlink(s->t->part);
    move_to(s, 0);
    return err_set(s->err, ERR_BAD_GATEWAY,
                   "%s: the bytes received do not have the announced hash %.12s...; they were thrown away: try again, "
                   "and if it stays, the file on the server is damaged",
                   s->t->name, s->t->hash);
}

static bool sync_folder(const char *file)
{
    char *copy = mem_strdup(file);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    mem_free(copy);
    return good;
}

static bool land(struct state *s)
{
    if (fsync(s->fd) != 0)
        return disk_problem(s, "written");
    if (rename(s->t->part, s->t->target) != 0 || !sync_folder(s->t->target))
        return disk_problem(s, "renamed");
    return true;
}

static bool fetch_locked(struct state *s)
{
    if (target_is_there(s)) {
        move_to(s, s->t->bytes);
        return true;
    }
    s->fd = -1;
    s->hash = EVP_MD_CTX_new();
    bool good = open_part(s) && receive_checked(s) && land(s);
    EVP_MD_CTX_free(s->hash);
    if (s->fd >= 0)
        close(s->fd);
    return good;
}

bool fetch_file(const struct fetch_net *net, const struct fetch_transfer *transfer, struct err *err)
{
    struct state s = {.net = net, .t = transfer, .err = err};
    int lock = open(transfer->lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (lock < 0)
        return err_set(err, ERR_IO, "%s: %s cannot be opened: %s", transfer->name, transfer->lock, strerror(errno));
    bool good = true;
    while (good && flock(lock, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            good = err_set(err, ERR_IO, "%s cannot be locked: %s", transfer->lock, strerror(errno));
        else if (!fetch_stop_wait(net->stop, LOCK_LOOK_MS))
            good = err_set(err, ERR_CLIENT_CLOSED, "cancelled");
    }
    good = good && fetch_locked(&s);
    close(lock);
    return good;
}

bool fetch_room(const char *folder, uint64_t bytes, struct err *err)
{
    struct statvfs info;
    if (statvfs(folder, &info) != 0)
        return err_set(err, ERR_IO, "the free space of %s cannot be found out: %s", folder, strerror(errno));
    uint64_t room = (uint64_t)info.f_bavail * info.f_frsize;
    if (bytes <= room)
        return true;
    const double mib = 1024 * 1024;
    return err_set(err, ERR_INSUFFICIENT_STORAGE,
                   "%.1f MiB more are needed in %s and %.1f MiB are free: make room, or choose another cache folder",
                   (double)bytes / mib, folder, (double)room / mib);
}
