/* POST /v1/files: a form with a purpose and a file, which goes to the disk as it comes. Pool threads write and hash;
 * while one does, the next piece is collected, and when that is large the socket is not read. The file has another name
 * until all of it is on the disk, so a daemon that is killed leaves nothing that looks like one.
 *
 * Invariants: `busy` from loop_work to its done; only then the job's half (fd, digest, writing) belongs to the pool. A
 * request that dies meanwhile only marks the upload `gone`. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include "api/batch/files.h"
#include "api/batch/owner.h"
#include "api/batch/rows.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "http/multipart_read.h"

enum part { PART_OTHER, PART_PURPOSE, PART_FILE };

struct upload {
    struct app *app;
    struct http_req *req; /* NULL: gone */
    struct arena arena;
    struct http_form_reader form;
    enum part part;
    struct buf purpose, pending;
    struct str id, filename;
    bool has_file, ended, busy, finishing;
    uint64_t bytes; /* of the file, so far */
    struct err err; /* the first */
    /* the job's */
    struct loop_job job;
    struct err job_err;
    const char *part_path, *path;
    int fd;
    EVP_MD_CTX *digest;
    struct buf writing;
    char sha256[2 * HASH_SHA256_SIZE + 1];
};

static void upload_free(struct upload *u)
{
    if (u->fd >= 0)
        close(u->fd);
    if (u->part_path)
        unlink(u->part_path); /* gone already when it became a file */
    EVP_MD_CTX_free(u->digest);
    http_form_reader_release(&u->form);
    buf_release(&u->purpose);
    buf_release(&u->pending);
    buf_release(&u->writing);
    arena_dispose(&u->arena);
    mem_free(u);
}

static void on_request_dead(void *arg)
{
    struct upload *u = arg;
    u->req = NULL;
    if (!u->busy)
        upload_free(u);
}

static void set_io_error(struct err *err)
{
    bool full = errno == ENOSPC || errno == EDQUOT;
    err_set(err, full ? ERR_INSUFFICIENT_STORAGE : ERR_IO, "the file cannot be kept: %s", strerror(errno));
}

/* ---- on a pool thread ---- */

static bool write_all(int fd, struct str bytes)
{
    while (bytes.n) {
        ssize_t done = write(fd, bytes.p, bytes.n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return false;
        bytes = (struct str){bytes.p + done, bytes.n - (size_t)done};
    }
    return true;
}

static bool open_part(struct upload *u)
{
    if (u->fd < 0)
        u->fd = open(u->part_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return u->fd >= 0;
}

static void write_pieces(struct loop_job *job)
{
    struct upload *u = container_of(job, struct upload, job);
    struct str bytes = buf_view(&u->writing);
    if (!open_part(u) || !write_all(u->fd, bytes)) {
        set_io_error(&u->job_err);
        return;
    }
    EVP_DigestUpdate(u->digest, bytes.p, bytes.n);
}

static void finish_file(struct loop_job *job)
{
    struct upload *u = container_of(job, struct upload, job);
    unsigned char digest[HASH_SHA256_SIZE];
    EVP_DigestFinal_ex(u->digest, digest, NULL);
    hash_hex(digest, sizeof digest, u->sha256);
    if (!open_part(u) || fsync(u->fd) != 0 || rename(u->part_path, u->path) != 0 ||
        !files_sync_folder(u->app->conf->batch_files_dir))
        set_io_error(&u->job_err);
}

/* ---- on the loop ---- */

static void flush(struct upload *u);

static void on_stored(void *arg, const struct store_result *results, const struct err *store_err)
{
    struct upload *u = arg;
    struct http_req *req = u->req;
    struct err err;
    if (store_err || results[0].changed == 0) {
        err_set(&err, ERR_CONFLICT, "there are %d files already; delete some", LIMIT_FILES);
        files_remove(u->app, u->id);
        http_reply_error(req, store_err ? store_err : &err);
        return;
    }
    int64_t now = clock_unix();
    struct file_row row = {.id = u->id,
                           .purpose = buf_view(&u->purpose),
                           .filename = u->filename,
                           .sha256 = str_from(u->sha256),
                           .bytes = (int64_t)u->bytes,
                           .created_at = now,
                           .expires_at = files_expiry(u->app, now)};
    struct json *j = api_json_begin(req);
    file_row_put(&row, j, NULL);
    api_reply_json(req, 200, j);
}

static void store_row(struct upload *u)
{
    int64_t now = clock_unix();
    const struct store_statement statement = {
        .sql = "INSERT INTO files (id, owner, purpose, filename, bytes, sha256, created_at, expires_at)"
               " SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS BIGINT),"
               " CAST($6 AS TEXT), CAST($7 AS BIGINT), CAST($8 AS BIGINT)"
               " WHERE (SELECT COUNT(*) FROM files WHERE owner = CAST($2 AS TEXT)) < CAST($9 AS BIGINT)",
        .params = {store_text(u->id), store_text(owner_of(u->req)), store_text(buf_view(&u->purpose)),
                   store_text(u->filename), store_int((int64_t)u->bytes), store_text(str_from(u->sha256)),
                   store_int(now), store_int(files_expiry(u->app, now)), store_int(LIMIT_FILES)}};
    batch_ask(u->app, &u->req->arena, &statement, 1, on_stored, u);
}

static void on_written(struct loop_job *job)
{
    struct upload *u = container_of(job, struct upload, job);
    u->busy = false;
    buf_clear(&u->writing);
    if (u->err.code == ERR_NONE)
        u->err = u->job_err;
    if (!u->req)
        upload_free(u);
    else if (u->err.code != ERR_NONE)
        http_reply_error(u->req, &u->err);
    else if (u->finishing)
        store_row(u);
    else
        flush(u);
}

static void on_finished(struct loop_job *job)
{
    struct upload *u = container_of(job, struct upload, job);
    if (!u->req && u->job_err.code == ERR_NONE)
        unlink(u->path);
    on_written(job);
}

static void start_job(struct upload *u, void (*work)(struct loop_job *), void (*done)(struct loop_job *))
{
    u->busy = true;
    loop_work(u->app->loop, &u->job, work, done);
}

static void flush(struct upload *u)
{
    if (u->busy)
        return;
    if (u->pending.len) {
        struct buf swap = u->writing;
        u->writing = u->pending;
        u->pending = swap;
        start_job(u, write_pieces, on_written);
    } else if (u->ended) {
        u->finishing = true;
        start_job(u, finish_file, on_finished);
    }
    if (!u->ended)
        http_req_resume(u->req);
}

static void on_part(void *arg, struct str name, struct str filename)
{
    struct upload *u = arg;
    u->part = str_eq(name, STR("purpose")) ? PART_PURPOSE : str_eq(name, STR("file")) ? PART_FILE : PART_OTHER;
    if (u->part == PART_FILE && u->has_file && u->err.code == ERR_NONE)
        err_set_param(&u->err, ERR_INVALID_PARAMETERS, "file", "the form holds two parts named 'file'");
    if (u->part != PART_FILE || u->has_file)
        return;
    u->has_file = true;
    if (filename.n > LIMIT_FILE_NAME)
        err_set_param(&u->err, ERR_INVALID_PARAMETERS, "file", "the file's name has more than %d bytes",
                      LIMIT_FILE_NAME);
    u->filename = arena_str(&u->arena, filename.n ? filename : STR("file"));
}

static void on_part_data(void *arg, struct str piece)
{
    struct upload *u = arg;
    uint64_t most = (uint64_t)u->app->conf->batch_max_file_mb << 20;
    if (u->err.code != ERR_NONE)
        return;
    if (u->part == PART_PURPOSE)
        buf_str(&u->purpose, piece);
    if (u->part != PART_FILE)
        return;
    u->bytes += piece.n;
    if (u->bytes > most)
        err_set_param(&u->err, ERR_REQUEST_TOO_LARGE, "file", "the file has more than %lld MiB (batch.max_file_mb)",
                      (long long)u->app->conf->batch_max_file_mb);
    else
        buf_str(&u->pending, piece);
    if (!buf_ok(&u->pending) && u->err.code == ERR_NONE)
        err_set(&u->err, ERR_INSUFFICIENT_MEMORY, "there is no memory to take the file");
}

static const struct http_form_events form_events = {on_part, on_part_data};

static void on_data(struct http_req *req, struct str piece)
{
    struct upload *u = req->user;
    struct err err;
    if (u->err.code == ERR_NONE && !http_form_reader_feed(&u->form, piece, &err))
        u->err = err;
    if (u->err.code != ERR_NONE) {
        if (!u->busy)
            http_reply_error(req, &u->err);
        return;
    }
    if (u->pending.len >= LIMIT_UPLOAD_PIECE) {
        if (u->busy)
            http_req_pause(req);
        flush(u);
    }
}

static bool check_form(const struct upload *u, struct err *err)
{
    if (!http_form_reader_end(&u->form, err))
        return false;
    if (!u->has_file)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "file", "the form needs a part named 'file'");
    return (buf_ok(&u->purpose) && str_eq(buf_view(&u->purpose), STR("batch"))) ||
           err_set_param(err, ERR_INVALID_PARAMETERS, "purpose", "'purpose' must be 'batch'");
}

static void on_body_end(struct http_req *req)
{
    struct upload *u = req->user;
    u->ended = true;
    if (u->err.code == ERR_NONE)
        check_form(u, &u->err);
    if (u->err.code == ERR_NONE)
        flush(u);
    else if (!u->busy)
        http_reply_error(req, &u->err);
}

void file_upload(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct upload *u = mem_calloc(1, sizeof *u);
    (void)match;
    *u = (struct upload){.app = app, .req = req, .fd = -1};
    u->err = u->job_err = ERR_INIT;
    arena_init(&u->arena);
    buf_init(&u->purpose, LIMIT_PART_FIELD);
    buf_init(&u->pending, 2 * LIMIT_UPLOAD_PIECE);
    buf_init(&u->writing, 2 * LIMIT_UPLOAD_PIECE);
    u->digest = EVP_MD_CTX_new();
    mem_require(u->digest);
    EVP_DigestInit_ex(u->digest, EVP_sha256(), NULL);
    u->id = batch_new_id(&u->arena, "file-");
    u->path = batch_file_path(app, &u->arena, u->id);
    u->part_path = arena_printf(&u->arena, "%s" FILES_PART, u->path);
    arena_on_dispose(&req->arena, on_request_dead, u);
    req->user = u;
    struct str type = http_head_find(&req->head, "content-type");
    struct err err;
    if (!http_multipart_is(type)) {
        err_set(&err, ERR_UNSUPPORTED_MEDIA_TYPE, "a file is sent as a form (Content-Type: multipart/form-data)");
        http_reply_error(req, &err);
    } else if (!http_form_reader_init(&u->form, type, &form_events, u, &err)) {
        http_reply_error(req, &err);
    } else {
        http_req_stream_body(req, on_data, on_body_end);
    }
}
