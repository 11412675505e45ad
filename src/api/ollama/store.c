/* Pull and delete. A pull is a download (registry/fetch.h) that somebody waits for: it is looked at as often as it
 * reports, and cancelled when the last one who waits for it in this way has gone, unless it was begun by other means.
 * What it brought lies in the hub's cache, which no catalogue looks into, so that the model is linked into models_dir.
 * Delete takes away only what lies there. */
#include <errno.h>
#include <sys/stat.h>

#include "api/ollama/ollama.h"
#include "api/ollama/reply.h"
#include "base/mem.h"

/* ---- pull ---- */

struct link_job;

struct pull {
    struct list link; /* of app->pulls */
    struct app *app;
    struct http_req *req;
    struct str name;
    bool stream, ended;
    bool begun_here; /* the download, by this pull or one that waits or waited beside it */
    int64_t job;
    struct deadline look;
    struct link_job *linking;
    struct buf line;
    const char *last_file;
    uint64_t last_done;
};

/* Another pull of the same download, or NULL. */
static const struct pull *beside(struct app *app, int64_t job)
{
    list_each (p, &app->pulls, struct pull, link)
        if (p->job == job)
            return p;
    return NULL;
}

static void tell(struct pull *p, const char *status, const struct fetch_job *job)
{
    struct json j;
    if (!p->stream)
        return;
    buf_clear(&p->line);
    json_begin(&j, &p->line);
    json_open_object(&j, NULL);
    json_put_string(&j, "status", status);
    if (job && *job->current_sha256) {
        char digest[80];
        snprintf(digest, sizeof digest, "sha256:%s", job->current_sha256);
        json_put_string(&j, "digest", digest);
    }
    if (job && job->bytes_total) { /* of all files */
        json_put_int(&j, "total", (int64_t)job->bytes_total);
        json_put_int(&j, "completed", (int64_t)job->bytes_done);
    }
    json_close(&j);
    json_finish(&j);
    buf_putc(&p->line, '\n');
    if (!http_reply_started(p->req))
        http_reply_start(p->req, 200, OLLAMA_LINES, -1);
    http_reply_write(p->req, buf_view(&p->line)); /* may not fit yet: lines are few and small */
}

static void fail(struct pull *p, const struct err *err)
{
    p->ended = true;
    if (!http_reply_started(p->req)) {
        http_reply_error(p->req, err);
        return;
    }
    buf_clear(&p->line);
    ollama_error_write(&p->line, err);
    buf_putc(&p->line, '\n');
    http_reply_write(p->req, buf_view(&p->line));
    http_reply_end(p->req);
}

static void succeed(struct pull *p)
{
    p->ended = true;
    if (p->stream) {
        tell(p, "success", NULL);
        http_reply_end(p->req);
        return;
    }
    struct json *j = api_json_begin(p->req);
    json_open_object(j, NULL);
    json_put_string(j, "status", "success");
    json_close(j);
    api_reply_json(p->req, 200, j);
}

/* ---- into models_dir ---- */

struct link_job {
    struct loop_job job;
    struct pull *pull; /* NULL: the client is gone */
    char *from, *folder;
    struct err err;
    bool good;
};

/* The name of shard i where path names the first of several: false, it stands alone. */
static bool shard_name(const char *path, unsigned i, char out[4096], unsigned *ret_count)
{
    unsigned number = 0, count = 0;
    size_t n = strlen(path);
    int length = 0;
    if (n < 21 || sscanf(path + n - 20, "-%5u-of-%5u.gguf%n", &number, &count, &length) != 2 || length != 20 ||
        count > LIMIT_GGUF_SHARDS)
        return false;
    *ret_count = count;
    return snprintf(out, 4096, "%.*s-%05u-of-%05u.gguf", (int)(n - 20), path, i, count) < 4096;
}

static bool link_one(const char *from, const char *folder, struct err *err)
{
    char to[4096];
    const char *name = strrchr(from, '/');
    struct stat info;
    snprintf(to, sizeof to, "%s/%s", folder, name ? name + 1 : from);
    if (lstat(to, &info) == 0 && !S_ISLNK(info.st_mode))
        return err_set(err, ERR_CONFLICT, "%s lies there already", to);
    unlink(to);
    return symlink(from, to) == 0 || err_set(err, ERR_IO, "%s cannot be made: %s", to, strerror(errno));
}

static void link_files(struct loop_job *job)
{
    struct link_job *l = container_of(job, struct link_job, job);
    char path[4096];
    unsigned count = 1;
    l->good = instance_make_folder(l->folder, &l->err);
    if (l->good && !shard_name(l->from, 1, path, &count)) {
        l->good = link_one(l->from, l->folder, &l->err);
        return;
    }
    for (unsigned i = 1; i <= count && l->good; i++)
        l->good = shard_name(l->from, i, path, &count) && link_one(path, l->folder, &l->err);
}

static void files_linked(struct loop_job *job)
{
    struct link_job *l = container_of(job, struct link_job, job);
    if (l->pull) {
        l->pull->linking = NULL;
        if (l->good)
            succeed(l->pull);
        else
            fail(l->pull, &l->err);
    }
    mem_free(l->from);
    mem_free(l->folder);
    mem_free(l);
}

static void link_model(struct pull *p, const char *path)
{
    struct link_job *l = mem_calloc(1, sizeof *l);
    l->pull = p;
    l->from = mem_strdup(path);
    l->folder = mem_strdup(p->app->conf->models_dir);
    p->linking = l;
    tell(p, "verifying sha256 digest", NULL);
    tell(p, "writing manifest", NULL);
    loop_work(p->app->loop, &l->job, link_files, files_linked);
}

/* ---- waiting ---- */

static void tell_progress(struct pull *p, const struct fetch_job *job)
{
    char status[LIMIT_FETCH_PATH + 16];
    if (!*job->current_file || (job->bytes_done == p->last_done && p->last_file))
        return;
    p->last_file = job->current_file;
    p->last_done = job->bytes_done;
    snprintf(status, sizeof status, "pulling %s", job->current_file);
    tell(p, status, job);
}

static void on_look(struct deadline *deadline)
{
    struct pull *p = container_of(deadline, struct pull, look);
    const struct fetch_job *job = fetch_get(p->app->fetch, p->job);
    struct err err;
    if (http_server_draining(p->app->server)) { /* a drain waits for replies, but not for hours */
        err_set(&err, ERR_DRAINING, "the server is shutting down; what has come so far is kept");
        fail(p, &err);
        return;
    }
    if (job && (job->status == FETCH_QUEUED || job->status == FETCH_DOWNLOADING)) {
        deadline_arm(p->app->loop, &p->look, LIMIT_OLLAMA_PULL_MS, on_look);
        tell_progress(p, job);
        return;
    }
    if (job && job->status == FETCH_COMPLETED) {
        tell_progress(p, job);
        link_model(p, job->model_path);
        return;
    }
    if (job && job->status == FETCH_FAILED)
        err_set(&err, ERR_BAD_GATEWAY, "pull model manifest: %s", job->problem);
    else
        err_set(&err, ERR_CONFLICT, "the download was cancelled");
    fail(p, &err);
}

static void on_gone(void *arg)
{
    struct pull *p = arg;
    list_remove(&p->link);
    deadline_cancel(p->app->loop, &p->look);
    if (p->linking)
        p->linking->pull = NULL;
    if (p->begun_here && !p->ended && !p->linking && !beside(p->app, p->job))
        fetch_cancel(p->app->fetch, p->job);
    buf_release(&p->line);
}

/* "hf.co/ORG/MODEL:TAG" or "ORG/MODEL:TAG". Ollama's own registry is not asked. */
static bool read_repository(struct str name, struct str *ret_repo, struct str *ret_tag, struct err *err)
{
    static const struct str prefixes[] = {STR("https://"), STR("hf.co/"), STR("huggingface.co/")};
    struct str tag = name;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (str_starts(tag, prefixes[i]))
            tag = (struct str){tag.p + prefixes[i].n, tag.n - prefixes[i].n};
    *ret_repo = str_cut(&tag, ':');
    *ret_tag = tag.p && !str_eq(tag, STR("latest")) ? tag : STR("");
    struct str model = *ret_repo, organisation = str_cut(&model, '/');
    if (organisation.n && model.n && !memchr(model.p, '/', model.n))
        return true;
    return err_set_param(err, ERR_NOT_SUPPORTED, "model",
                         "'" STR_FMT "' names no model that can be pulled: only Hugging Face repositories with GGUF "
                         "files are, as hf.co/ORGANISATION/REPOSITORY:QUANTIZATION",
                         STR_ARG(name));
}

static void on_pull_body(struct http_req *req, struct str body)
{
    struct pull *p = req->user;
    const struct fetch_job *job = NULL, *newest = *fetch_list(p->app->fetch, &req->arena);
    int64_t last = newest ? newest->id : 0;
    struct str repo, tag;
    struct err err;
    if (ollama_named_read(body, &req->arena, &p->name, &p->stream, &err) && read_repository(p->name, &repo, &tag, &err))
        job = fetch_start(p->app->fetch, repo, tag, FETCH_GGUF, &err);
    if (!job) {
        http_reply_error(req, &err);
        return;
    }
    p->job = job->id;
    const struct pull *other = beside(p->app, p->job);
    p->begun_here = job->id > last || (other && other->begun_here);
    list_push(&p->app->pulls, &p->link);
    buf_init(&p->line, LIMIT_BUF_SURE);
    arena_on_dispose(&req->arena, on_gone, p);
    deadline_arm(p->app->loop, &p->look, LIMIT_OLLAMA_PULL_MS, on_look);
    tell(p, "pulling manifest", NULL);
}

void ollama_pull(void *arg, struct http_req *req, const struct http_match *match)
{
    struct pull *p = arena_calloc(&req->arena, sizeof *p);
    (void)match;
    p->app = arg;
    p->req = req;
    req->user = p;
    http_req_read_body(req, LIMIT_OPTIONS_BYTES, on_pull_body);
}

/* ---- delete ---- */

struct removal {
    struct loop_job job;
    struct app *app;
    struct http_req *req; /* NULL: the client is gone */
    struct arena_disposer *disposer;
    char *id, *path, *folder;
    struct err err;
    bool good;
};

/* Whether the folder of path, links undone, is folder or lies below it. */
static bool lies_below(const char *path, const char *folder)
{
    char *parent = mem_strdup(path), *cut = strrchr(parent, '/');
    if (cut)
        *cut = '\0';
    char *real = realpath(*parent ? parent : "/", NULL), *root = realpath(folder, NULL);
    size_t n = root ? strlen(root) : 0;
    bool below = real && root && strncmp(real, root, n) == 0 && (real[n] == '/' || real[n] == '\0');
    free(real);
    free(root);
    mem_free(parent);
    return below;
}

static void remove_files(struct loop_job *job)
{
    struct removal *r = container_of(job, struct removal, job);
    char path[4096];
    unsigned count = 1;
    bool sharded = shard_name(r->path, 1, path, &count);
    if (!lies_below(r->path, r->folder)) {
        r->good = err_set_param(&r->err, ERR_NOT_SUPPORTED, "model",
                                "'%s' does not lie below models_dir and is not removed from here", r->id);
        return;
    }
    r->good = true;
    for (unsigned i = 1; i <= count && r->good; i++) {
        if (sharded)
            shard_name(r->path, i, path, &count);
        if (unlink(sharded ? path : r->path) != 0 && errno != ENOENT)
            r->good = err_set(&r->err, ERR_IO, "'%s' cannot be removed: %s", r->id, strerror(errno));
    }
}

static void on_rescanned(void *arg)
{
    struct http_req *req = arg;
    http_reply(req, 200, NULL, STR_NONE);
}

static void files_removed(struct loop_job *job)
{
    struct removal *r = container_of(job, struct removal, job);
    if (r->good)
        instances_unload(r->app->instances, str_from(r->id), (unsigned)r->app->conf->shutdown_grace_seconds * 1000,
                         NULL, NULL);
    if (r->req) {
        arena_forget(r->disposer);
        if (r->good)
            app_refresh_catalogue(r->app, 0, &r->req->arena, on_rescanned, r->req);
        else
            http_reply_error(r->req, &r->err);
    }
    mem_free(r->id);
    mem_free(r->path);
    mem_free(r->folder);
    mem_free(r);
}

static void on_client_gone(void *arg)
{
    struct removal *r = arg;
    r->req = NULL;
}

static void on_model(void *arg, const struct model *model, const struct err *err)
{
    struct http_req *req = arg;
    struct app *app = req->user;
    if (!model) {
        http_reply_error(req, err);
        return;
    }
    struct removal *r = mem_calloc(1, sizeof *r);
    r->app = app;
    r->req = req;
    r->id = mem_strdup(model->id);
    r->path = mem_strdup(model->path);
    r->folder = mem_strdup(app->conf->models_dir);
    r->disposer = arena_on_dispose(&req->arena, on_client_gone, r);
    loop_work(app->loop, &r->job, remove_files, files_removed);
}

static void on_delete_body(struct http_req *req, struct str body)
{
    ollama_find_named(req->user, req, body, on_model);
}

void ollama_delete(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    req->user = arg;
    http_req_read_body(req, LIMIT_OPTIONS_BYTES, on_delete_body);
}
