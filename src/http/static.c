/* Files as replies: by sendfile from the page cache to the socket, a bounded piece at a time, so that a download of
 * gigabytes leaves the streams beside it their turns. A file that is not cached makes sendfile wait for the disk;
 * the kernel is asked to read ahead.
 *
 * Nothing of a file waits in the wire, so its watch over stalled clients sees none of this; a file has its own. */
#include "http/static.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "http/conn.h"
#include "http/date.h"

struct file {
    struct http_conn *conn;
    struct deadline stall;
    int64_t unread; /* by the client, when the deadline was armed: not sent yet, or on its way */
    off_t at;
    int fd;
};

static void file_release(void *arg)
{
    struct file *file = arg;
    deadline_cancel(file->conn->server->loop, &file->stall);
    close(file->fd);
}

static int64_t file_unread(const struct file *file)
{
    int on_its_way = 0;
    ioctl(wire_fd(&file->conn->wire), SIOCOUTQ, &on_its_way);
    return file->conn->reply_left + on_its_way;
}

static void on_stall(struct deadline *deadline);

static void file_watch(struct file *file)
{
    file->unread = file_unread(file);
    deadline_arm(file->conn->server->loop, &file->stall, file->conn->server->options.stall_ms, on_stall);
}

static void on_stall(struct deadline *deadline)
{
    struct file *file = container_of(deadline, struct file, stall);
    if (file_unread(file) == file->unread)
        http_reply_abort(&file->conn->req);
    else
        file_watch(file);
}

/* From the file straight into the socket; through memory where it is encrypted on the way. */
static ssize_t send_piece(struct file *file, size_t wanted)
{
    char bytes[16 * 1024];
    if (!wire_is_secure(&file->conn->wire))
        return sendfile(wire_fd(&file->conn->wire), file->fd, &file->at, wanted);
    ssize_t n = pread(file->fd, bytes, wanted < sizeof bytes ? wanted : sizeof bytes, file->at);
    if (n > 0) {
        file->at += n;
        wire_write(&file->conn->wire, &(struct str){bytes, (size_t)n}, 1);
    }
    return n;
}

void reply_file_go_on(struct http_conn *conn)
{
    struct file *file = conn->file;
    size_t turn = LIMIT_SENDFILE_TURN;
    if (wire_unsent(&conn->wire)) /* the head first; on_sent comes back here */
        return;
    while (conn->reply_left > 0 && turn > 0 && !wire_unsent(&conn->wire)) {
        size_t wanted = (uint64_t)conn->reply_left < turn ? (size_t)conn->reply_left : turn;
        ssize_t n = send_piece(file, wanted);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) { /* the client is gone, or the file became shorter */
            http_reply_abort(&conn->req);
            return;
        }
        conn->reply_left -= n;
        conn->req.bytes_out += (uint64_t)n;
        turn -= (size_t)n;
    }
    if (conn->reply_left == 0)
        http_reply_end(&conn->req);
    else if (!wire_unsent(&conn->wire))
        wire_want_writable(&conn->wire);
}

void http_reply_file(struct http_req *req, int status, const char *content_type, int fd, uint64_t offset,
                     uint64_t length)
{
    struct http_conn *c = req->conn;
    struct file *file = arena_alloc(&req->arena, sizeof *file);
    *file = (struct file){.conn = c, .fd = fd, .at = (off_t)offset};
    arena_on_dispose(&req->arena, file_release, file);
    http_reply_start(req, status, content_type, (int64_t)length);
    if (c->bodiless || length == 0) {
        http_reply_end(req);
        return;
    }
    posix_fadvise(fd, (off_t)offset, (off_t)length, POSIX_FADV_SEQUENTIAL);
    c->file = file;
    file_watch(file);
    wire_want_writable(&c->wire); /* by then the head is out */
}

/* ---- a folder's files ---- */

/* A relative path without empty, "." or ".." parts, so that it cannot leave its folder by name. */
static bool is_inside(struct str name)
{
    if (name.n == 0 || memchr(name.p, '\0', name.n))
        return false;
    while (name.p) {
        struct str part = str_cut(&name, '/');
        if (part.n == 0 || str_eq(part, STR(".")) || str_eq(part, STR("..")))
            return false;
    }
    return true;
}

/* Opens folder/name part by part, following no symbolic link. -1: no such plain file. */
static int open_inside(const char *folder, struct str name, struct stat *info)
{
    int at = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    while (at >= 0 && name.p) {
        char part[256];
        struct str next = str_cut(&name, '/');
        int flags = name.p ? O_PATH | O_DIRECTORY : O_RDONLY | O_NONBLOCK;
        int n = snprintf(part, sizeof part, STR_FMT, STR_ARG(next));
        int fd = n < (int)sizeof part ? openat(at, part, flags | O_NOFOLLOW | O_CLOEXEC) : -1;
        close(at);
        at = fd;
    }
    if (at >= 0 && (fstat(at, info) != 0 || !S_ISREG(info->st_mode))) {
        close(at);
        at = -1;
    }
    return at;
}

static const char *type_of(struct str name)
{
    static const struct {
        const char *end, *type;
    } types[] = {{".html", "text/html; charset=utf-8"},
                 {".js", "text/javascript; charset=utf-8"},
                 {".css", "text/css; charset=utf-8"},
                 {".json", "application/json"},
                 {".svg", "image/svg+xml"},
                 {".png", "image/png"},
                 {".ico", "image/x-icon"},
                 {".txt", "text/plain; charset=utf-8"},
                 {".md", "text/plain; charset=utf-8"}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (str_ends(name, str_from(types[i].end)))
            return types[i].type;
    return "application/octet-stream";
}

bool http_not_modified(const struct http_head *head, const char *etag, int64_t changed)
{
    struct str match = http_head_find(head, "if-none-match");
    struct str since = http_head_find(head, "if-modified-since");
    char weak[52]; /* what a cache that compresses made of it: means the same here (RFC 9110, 13.1.2) */
    int64_t then;
    snprintf(weak, sizeof weak, "W/%s", etag);
    if (match.p)
        return http_head_has_token(head, "if-none-match", etag) || http_head_has_token(head, "if-none-match", weak) ||
               str_eq(match, STR("*"));
    return since.p && http_date_parse(since, &then) && changed <= then;
}

enum range { RANGE_NONE, RANGE_ONE, RANGE_BAD };

/* "bytes=5-9", "bytes=5-", "bytes=-5". Lists and other units are ignored, as they may be: the whole file is sent. */
static enum range read_range(struct str text, uint64_t size, uint64_t *ret_first, uint64_t *ret_length)
{
    uint64_t first = 0, last = size ? size - 1 : 0;
    if (!text.p || !str_starts(text, STR("bytes=")) || memchr(text.p, ',', text.n))
        return RANGE_NONE;
    struct str to = {text.p + 6, text.n - 6};
    struct str from = str_cut(&to, '-');
    if (!to.p || (from.n == 0 && to.n == 0))
        return RANGE_NONE;
    if (from.n == 0) {
        if (!str_u64(to, UINT64_MAX, &first))
            return RANGE_NONE;
        *ret_length = first < size ? first : size;
        *ret_first = size - *ret_length;
        return *ret_length ? RANGE_ONE : RANGE_BAD;
    }
    if (!str_u64(from, UINT64_MAX, &first) || (to.n && !str_u64(to, UINT64_MAX, &last)) || (to.n && last < first))
        return RANGE_NONE;
    if (first >= size)
        return RANGE_BAD;
    *ret_first = first;
    *ret_length = (last < size ? last + 1 : size) - first;
    return RANGE_ONE;
}

/* A range is honoured only for the very file that If-Range names. */
static struct str wanted_range(const struct http_head *head, const char *etag, const char *changed)
{
    struct str condition = http_head_find(head, "if-range");
    if (head->method != HTTP_GET)
        return STR_NONE;
    if (condition.p && !str_eq(condition, str_from(etag)) && !str_eq(condition, str_from(changed)))
        return STR_NONE;
    return http_head_find(head, "range");
}

static void send_file(struct http_req *req, int fd, const struct stat *info, const char *type)
{
    char etag[48], changed[HTTP_DATE_SIZE], range[80];
    uint64_t size = (uint64_t)info->st_size, first = 0, length = size;
    snprintf(etag, sizeof etag, "\"%llx-%llx\"",
             (unsigned long long)info->st_mtim.tv_sec * 1000000000ull + (unsigned long long)info->st_mtim.tv_nsec,
             (unsigned long long)size);
    http_date(info->st_mtim.tv_sec, changed);
    http_reply_header(req, "ETag", etag);
    http_reply_header(req, "Last-Modified", changed);
    http_reply_header(req, "Accept-Ranges", "bytes");
    if (http_not_modified(&req->head, etag, info->st_mtim.tv_sec)) {
        close(fd);
        http_reply(req, 304, NULL, STR_NONE);
        return;
    }
    enum range kind = read_range(wanted_range(&req->head, etag, changed), size, &first, &length);
    if (kind == RANGE_BAD) {
        struct err err;
        close(fd);
        snprintf(range, sizeof range, "bytes */%llu", (unsigned long long)size);
        http_reply_header(req, "Content-Range", range);
        err_set(&err, ERR_RANGE_NOT_SATISFIABLE, "The range lies behind the end of the file.");
        http_reply_error(req, &err);
        return;
    }
    if (kind == RANGE_ONE) {
        snprintf(range, sizeof range, "bytes %llu-%llu/%llu", (unsigned long long)first,
                 (unsigned long long)(first + length - 1), (unsigned long long)size);
        http_reply_header(req, "Content-Range", range);
    }
    http_reply_file(req, kind == RANGE_ONE ? 206 : 200, type, fd, first, length);
}

void http_static_reply(struct http_req *req, const char *folder, struct str name)
{
    struct stat info;
    int fd = is_inside(name) ? open_inside(folder, name, &info) : -1;
    if (fd < 0) {
        struct err err;
        err_set(&err, ERR_UNKNOWN_URL, "There is no such file.");
        http_reply_error(req, &err);
        return;
    }
    send_file(req, fd, &info, type_of(name));
}
