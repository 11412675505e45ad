/* Rows first, contents after: a content without a row is only lost room, a row without its content would be a lie. */
#include "api/batch/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/batch/owner.h"
#include "api/batch/rows.h"
#include "base/clock.h"
#include "base/mem.h"

int64_t files_expiry(const struct app *app, int64_t now)
{
    return now + app->conf->batch_retention_hours * 3600;
}

bool files_sync_folder(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return good;
}

bool files_prepare(const struct app *app, struct err *err)
{
    const char *folder = app->conf->batch_files_dir;
    if (!instance_make_folder(folder, err))
        return false;
    DIR *dir = opendir(folder);
    if (!dir)
        return err_set(err, ERR_CONFIG, "batch.files_dir: '%s' cannot be read: %s", folder, strerror(errno));
    for (const struct dirent *entry; (entry = readdir(dir));)
        if (str_ends(str_from(entry->d_name), STR(FILES_PART)))
            unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    return true;
}

/* ---- removal ---- */

struct removal {
    struct loop_job job;
    char *path;
};

static void remove_now(struct loop_job *job)
{
    struct removal *removal = container_of(job, struct removal, job);
    unlink(removal->path);
}

static void removed(struct loop_job *job)
{
    struct removal *removal = container_of(job, struct removal, job);
    mem_free(removal->path);
    mem_free(removal);
}

void files_remove(struct app *app, struct str id)
{
    struct removal *removal = mem_calloc(1, sizeof *removal);
    struct arena arena;
    arena_init(&arena);
    removal->path = mem_strdup(batch_file_path(app, &arena, id));
    arena_dispose(&arena);
    loop_work(app->loop, &removal->job, remove_now, removed);
}

/* ---- what is over ---- */

struct files_sweep {
    struct app *app;
    struct deadline deadline;
    struct arena arena; /* of the running look */
};

static void sweep(struct deadline *deadline);

static void on_swept(void *arg, const struct store_result *results, const struct err *err)
{
    struct files_sweep *s = arg;
    for (size_t i = 0; !err && i < results[1].rows; i++)
        files_remove(s->app, results[1].values[i].text);
    arena_dispose(&s->arena);
    deadline_arm(s->app->loop, &s->deadline, LIMIT_BATCH_SWEEP_MS, sweep);
}

#define EXPIRED_FILES                                                                                                  \
    " FROM files WHERE expires_at <= $1 AND id NOT IN (SELECT input_id FROM batches WHERE ended_at IS NULL)"

static void sweep(struct deadline *deadline)
{
    struct files_sweep *s = container_of(deadline, struct files_sweep, deadline);
    struct store_value now = store_int(clock_unix());
    const struct store_statement statements[] = {
        {.sql = "DELETE FROM batches WHERE delete_at <= $1", .params = {now}},
        {.sql = "SELECT id" EXPIRED_FILES, .params = {now}},
        {.sql = "DELETE" EXPIRED_FILES, .params = {now}},
    };
    batch_ask(s->app, &s->arena, statements, 3, on_swept, s);
}

struct files_sweep *files_sweep_start(struct app *app)
{
    struct files_sweep *s = mem_calloc(1, sizeof *s);
    s->app = app;
    arena_init(&s->arena);
    sweep(&s->deadline);
    return s;
}

void files_sweep_stop(struct files_sweep *s)
{
    if (!s)
        return;
    deadline_cancel(s->app->loop, &s->deadline);
    arena_dispose(&s->arena);
    mem_free(s);
}

/* ---- handlers ---- */

struct file_call {
    struct app *app;
    struct http_req *req;
    struct str id;
    struct batch_page page;
};

static struct file_call *call_new(struct app *app, struct http_req *req, struct str id)
{
    struct file_call *call = arena_calloc(&req->arena, sizeof *call);
    *call = (struct file_call){.app = app, .req = req, .id = id};
    return call;
}

static void refuse_unknown(const struct file_call *call)
{
    struct err err;
    err_set(&err, ERR_NOT_FOUND, "No such file: '%.*s'", call->id.n > 64 ? 64 : (int)call->id.n, call->id.p);
    http_reply_error(call->req, &err);
}

static void find(struct file_call *call,
                 void (*on_found)(void *arg, const struct store_result *results, const struct err *err))
{
    const struct store_statement statement = {
        .sql = "SELECT " FILE_COLUMNS " FROM files WHERE id = $1 AND owner = $2"
               " AND expires_at > $3",
        .params = {store_text(call->id), store_text(owner_of(call->req)), store_int(clock_unix())}};
    batch_ask(call->app, &call->req->arena, &statement, 1, on_found, call);
}

static void on_look(void *arg, const struct store_result *results, const struct err *err)
{
    const struct file_call *call = arg;
    struct file_row row;
    if (err) {
        http_reply_error(call->req, err);
    } else if (results[0].rows == 0) {
        refuse_unknown(call);
    } else {
        struct json *j = api_json_begin(call->req);
        file_row_read(results[0].values, &row);
        file_row_put(&row, j, NULL);
        api_reply_json(call->req, 200, j);
    }
}

void file_look(void *arg, struct http_req *req, const struct http_match *match)
{
    find(call_new(arg, req, match->captures[0]), on_look);
}

static void on_deleted(void *arg, const struct store_result *results, const struct err *err)
{
    const struct file_call *call = arg;
    struct err used;
    if (!err && results[1].changed == 0 && results[0].rows > 0) {
        err_set(&used, ERR_CONFLICT, "a batch that has not ended reads this file; cancel it first");
        err = &used;
    }
    if (err) {
        http_reply_error(call->req, err);
    } else if (results[1].changed == 0) {
        refuse_unknown(call);
    } else {
        files_remove(call->app, call->id);
        struct json *j = api_json_begin(call->req);
        json_open_object(j, NULL);
        json_put_text(j, "id", call->id);
        json_put_string(j, "object", "file");
        json_put_bool(j, "deleted", true);
        json_close(j);
        api_reply_json(call->req, 200, j);
    }
}

void file_delete(void *arg, struct http_req *req, const struct http_match *match)
{
    struct file_call *call = call_new(arg, req, match->captures[0]);
    struct store_value id = store_text(call->id), owner = store_text(owner_of(req));
    const struct store_statement statements[] = {
        {.sql = "SELECT id FROM files WHERE id = $1 AND owner = $2", .params = {id, owner}},
        {.sql = "DELETE FROM files WHERE id = $1 AND owner = $2"
                " AND id NOT IN (SELECT input_id FROM batches WHERE ended_at IS NULL)",
         .params = {id, owner}},
    };
    batch_ask(call->app, &req->arena, statements, 2, on_deleted, call);
}

static void put_file(void *arg, const struct store_value *values, struct json *j)
{
    struct file_row row = {.id = STR_NONE};
    (void)arg;
    file_row_read(values, &row);
    file_row_put(&row, j, NULL);
}

static void on_list(void *arg, const struct store_result *results, const struct err *err)
{
    const struct file_call *call = arg;
    if (err)
        http_reply_error(call->req, err);
    else
        batch_list_reply(call->req, call->page.limit, &results[0], put_file, NULL);
}

#define LIST_FILES(than, order)                                                                                        \
    "SELECT " FILE_COLUMNS " FROM files WHERE owner = $1 AND expires_at > $2 AND ($3 = '' OR purpose = $3)"            \
    " AND ($4 = '' OR (created_at, id) " than " (SELECT created_at, id FROM files WHERE id = $4 AND owner = $1))"      \
    " ORDER BY created_at " order ", id " order " LIMIT $5"

void file_list(void *arg, struct http_req *req, const struct http_match *match)
{
    struct file_call *call = call_new(arg, req, STR(""));
    struct str purpose = STR("");
    (void)match;
    if (!batch_page_read(req, LIMIT_FILE_PAGE, LIMIT_FILE_PAGE, &call->page))
        return;
    http_query_find(&req->arena, req->head.query, "purpose", &purpose);
    const struct store_statement statement = {
        .sql = call->page.ascending ? LIST_FILES(">", "ASC") : LIST_FILES("<", "DESC"),
        .params = {store_text(owner_of(req)), store_int(clock_unix()), store_text(purpose.p ? purpose : STR("")),
                   store_text(call->page.after.p ? call->page.after : STR("")),
                   store_int((int64_t)call->page.limit + 1)}};
    batch_ask(call->app, &req->arena, &statement, 1, on_list, call);
}

static void on_content(void *arg, const struct store_result *results, const struct err *err)
{
    const struct file_call *call = arg;
    struct stat about;
    if (err || results[0].rows == 0) {
        if (err)
            http_reply_error(call->req, err);
        else
            refuse_unknown(call);
        return;
    }
    int fd = open(batch_file_path(call->app, &call->req->arena, call->id), O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &about) == 0) {
        http_reply_file(call->req, 200, "application/octet-stream", fd, 0, (uint64_t)about.st_size);
        return;
    }
    struct err lost;
    err_set(&lost, ERR_IO, "the file's content cannot be read: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    http_reply_error(call->req, &lost);
}

void file_content(void *arg, struct http_req *req, const struct http_match *match)
{
    find(call_new(arg, req, match->captures[0]), on_content);
}
