/* Model downloads, and what lies in the cache (specs/llamactl.md 1.9). A ?node= other than this machine is forwarded
 * whole. */
#include "api/docs/doc.h"
#include "api/instances/instances.h"
#include "base/json_read.h"
#include "base/mem.h"
#include "http/proxy.h"
#include "http/query.h"
#include "instance/node.h"

void download_put(struct json *j, const char *key, const struct fetch_job *job)
{
    json_open_object(j, key);
    json_put_int(j, "id", job->id);
    json_put_string(j, "repo", job->repo);
    json_put_string(j, "tag", job->tag);
    json_put_string(j, "status", fetch_status_name(job->status));
    json_open_object(j, "progress");
    json_put_int(j, "bytes_downloaded", (int64_t)job->bytes_done);
    json_put_int(j, "total_bytes", (int64_t)job->bytes_total);
    json_put_string(j, "current_file", job->current_file);
    json_close(j);
    if (*job->problem)
        json_put_string(j, "error", job->problem);
    json_put_int(j, "created_at", job->created_at);
    if (job->completed_at)
        json_put_int(j, "completed_at", job->completed_at);
    if (*job->model_path)
        json_put_string(j, "model_path", job->model_path);
    json_close(j);
}

/* ---- other nodes ---- */

/* true: the request belongs to another node, or to none, and is being answered. */
static bool elsewhere(struct app *app, struct http_req *req)
{
    struct err err;
    struct http_target target;
    struct str lines;
    struct str node = query_text(req, "node");
    if (node.n == 0 || str_eq(node, str_from(app->conf->local_node)))
        return false;
    if (!node_target(app->instances, arena_strndup(&req->arena, node.p, node.n), &target, &lines)) {
        err_set_param(&err, ERR_NOT_FOUND, "node", "there is no node '" STR_FMT "'", STR_ARG(node));
        http_reply_error(req, &err);
        return true;
    }
    struct http_proxy_options options = {.target = target,
                                         .path_and_query = http_query_without(api_target(req), "node", &req->arena),
                                         .extra_head_lines = lines,
                                         .drop_authorization = true};
    http_proxy(req, instances_client(app->instances), &options);
    return true;
}

/* ---- starting ---- */

struct order {
    struct str repo, format;
};

static void reply_started(struct http_req *req, const struct fetch_job *job)
{
    struct json *j = api_json_begin(req);
    json_open_object(j, NULL);
    json_put_int(j, "job_id", job->id);
    json_put_string(j, "repo", job->repo);
    json_put_string(j, "tag", job->tag);
    json_close(j);
    api_reply_json(req, 202, j);
}

static bool read_order(const json_t *document, struct order *order, struct err *err)
{
    static const struct json_field fields[] = {
        {.name = "repo", .kind = JSON_KIND_TEXT, .offset = offsetof(struct order, repo), .required = true},
        {.name = "format", .kind = JSON_KIND_TEXT, .offset = offsetof(struct order, format)}};
    *order = (struct order){.format = STR("gguf")};
    if (!json_is_object(document))
        return err_set(err, ERR_INVALID_PARAMETERS, "the body must be a JSON object");
    if (!json_fields(document, fields, 2, order, "", err))
        return false;
    if (str_eq(order->format, STR("gguf")) || str_eq(order->format, STR("safetensors")))
        return true;
    return err_set_param(err, ERR_INVALID_PARAMETERS, "format", "'format' must be gguf or safetensors");
}

static void on_order(struct http_req *req, struct str body)
{
    struct app *app = req->user;
    struct order order;
    struct err err;
    json_t *document = json_read(body, &err);
    const struct fetch_job *job = NULL;
    if (document && read_order(document, &order, &err)) {
        struct str tag = order.repo, repo = str_cut(&tag, ':');
        enum fetch_format format = str_eq(order.format, STR("gguf")) ? FETCH_GGUF : FETCH_SAFETENSORS;
        job = fetch_start(app->fetch, repo, tag.p ? tag : STR(""), format, &err);
    }
    if (job)
        reply_started(req, job);
    else
        http_reply_error(req, &err);
    json_decref(document);
}

static void download(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    if (elsewhere(arg, req))
        return;
    req->user = arg;
    http_req_read_body(req, LIMIT_OPTIONS_BYTES, on_order);
}

/* ---- jobs ---- */

static void jobs(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    (void)match;
    if (elsewhere(app, req))
        return;
    struct json *j = api_json_begin(req);
    json_open_object(j, NULL);
    json_open_array(j, "jobs");
    for (const struct fetch_job *const *job = fetch_list(app->fetch, &req->arena); *job; job++)
        download_put(j, NULL, *job);
    json_close(j);
    json_close(j);
    api_reply_json(req, 200, j);
}

/* The job's number; false: answered. */
static bool job_id(struct http_req *req, const struct http_match *match, int64_t *ret_id)
{
    struct err err;
    uint64_t id;
    if (str_u64(match->captures[0], INT64_MAX, &id)) {
        *ret_id = (int64_t)id;
        return true;
    }
    err_set_param(&err, ERR_INVALID_PARAMETERS, "id", "a job's id is a whole number");
    http_reply_error(req, &err);
    return false;
}

static void no_job(struct http_req *req, int64_t id)
{
    struct err err;
    err_set(&err, ERR_NOT_FOUND, "there is no download %lld", (long long)id);
    http_reply_error(req, &err);
}

static void job(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    int64_t id = 0;
    if (elsewhere(app, req) || !job_id(req, match, &id))
        return;
    const struct fetch_job *found = fetch_get(app->fetch, id);
    if (!found) {
        no_job(req, id);
        return;
    }
    struct json *j = api_json_begin(req);
    download_put(j, NULL, found);
    api_reply_json(req, 200, j);
}

static void cancel(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    int64_t id = 0;
    if (elsewhere(app, req) || !job_id(req, match, &id))
        return;
    if (fetch_cancel(app->fetch, id))
        http_reply(req, 204, NULL, STR_NONE);
    else
        no_job(req, id);
}

/* ---- files ---- */

struct files_job {
    struct loop_job job;
    struct http_req *req; /* NULL: the client is gone */
    struct app *app;
    struct arena_disposer *disposer;
    struct arena arena;
    const char *cache;
    struct cached_model *models;
    size_t count;
    struct str repo, tag; /* of a removal */
    struct err err;
    bool good;
};

static void on_client_gone(void *arg)
{
    struct files_job *f = arg;
    f->req = NULL;
}

static struct files_job *files_job_new(struct app *app, struct http_req *req)
{
    struct files_job *f = mem_calloc(1, sizeof *f);
    arena_init(&f->arena);
    f->req = req;
    f->app = app;
    f->cache = arena_strdup(&f->arena, fetch_cache(app->fetch));
    f->disposer = arena_on_dispose(&req->arena, on_client_gone, f);
    return f;
}

static void files_job_end(struct files_job *f)
{
    arena_dispose(&f->arena);
    mem_free(f);
}

static void put_cached(struct json *j, struct app *app, const struct cached_model *m)
{
    json_open_object(j, NULL);
    json_put_string(j, "node", app->conf->local_node);
    json_put_string(j, "repo", m->repo);
    if (*m->tag)
        json_put_string(j, "tag", m->tag);
    json_open_array(j, "files");
    for (size_t n = 0; n < m->file_count; n++) {
        json_open_object(j, NULL);
        json_put_string(j, "name", m->files[n].name);
        json_put_string(j, "path", m->files[n].path);
        json_put_int(j, "size_bytes", (int64_t)m->files[n].bytes);
        json_put_string(j, "type", m->files[n].kind);
        json_close(j);
    }
    json_close(j);
    json_put_int(j, "size_bytes", (int64_t)m->bytes);
    json_close(j);
}

static void look_at_files(struct loop_job *job)
{
    struct files_job *f = container_of(job, struct files_job, job);
    f->count = fetch_cached(f->cache, &f->arena, &f->models);
}

static void files_seen(struct loop_job *job)
{
    struct files_job *f = container_of(job, struct files_job, job);
    if (f->req) {
        arena_forget(f->disposer);
        struct json *j = api_json_begin(f->req);
        json_open_array(j, NULL);
        for (size_t n = 0; n < f->count; n++)
            put_cached(j, f->app, &f->models[n]);
        json_close(j);
        api_reply_json(f->req, 200, j);
    }
    files_job_end(f);
}

static void files(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    (void)match;
    if (elsewhere(app, req))
        return;
    struct files_job *f = files_job_new(app, req);
    loop_work(app->loop, &f->job, look_at_files, files_seen);
}

static void remove_files(struct loop_job *job)
{
    struct files_job *f = container_of(job, struct files_job, job);
    f->good = fetch_remove(f->cache, f->repo, f->tag, &f->err);
}

static void files_removed(struct loop_job *job)
{
    struct files_job *f = container_of(job, struct files_job, job);
    if (f->req) {
        arena_forget(f->disposer);
        if (f->good)
            http_reply(f->req, 204, NULL, STR_NONE);
        else
            http_reply_error(f->req, &f->err);
    }
    files_job_end(f);
}

static void remove_model(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct err err;
    (void)match;
    if (elsewhere(app, req))
        return;
    struct str repo = query_text(req, "repo");
    struct str tag = query_text(req, "tag");
    if (repo.n == 0) {
        err_set_param(&err, ERR_INVALID_PARAMETERS, "repo", "'repo' is required: ?repo=ORG/MODEL");
        http_reply_error(req, &err);
        return;
    }
    struct files_job *f = files_job_new(app, req);
    f->repo = arena_str(&f->arena, repo);
    f->tag = tag.p ? arena_str(&f->arena, tag) : STR("");
    loop_work(app->loop, &f->job, remove_files, files_removed);
}

#define MANAGER (void *)&manager_dialect

const struct http_route download_routes[] = {
    {"POST", "/api/v1/models/download", download, MANAGER, "Download a model: {\"repo\": \"org/model[:tag]\"}",
     AUTH_MANAGEMENT, &doc_download},
    {"GET", "/api/v1/models/files", files, MANAGER, "Downloaded models and their files", AUTH_MANAGEMENT, &doc_files},
    {"DELETE", "/api/v1/models/files", remove_model, MANAGER, "Remove a downloaded model: ?repo=&tag=", AUTH_MANAGEMENT,
     &doc_files_remove},
    {"DELETE", "/api/v1/models", remove_model, MANAGER, "Remove a downloaded model: ?repo=&tag=", AUTH_MANAGEMENT,
     &doc_files_remove},
    {"GET", "/api/v1/models/jobs", jobs, MANAGER, "Downloads", AUTH_MANAGEMENT, &doc_job_list},
    {"GET", "/api/v1/models/jobs/{id}", job, MANAGER, "One download", AUTH_MANAGEMENT, &doc_job},
    {"DELETE", "/api/v1/models/jobs/{id}", cancel, MANAGER, "Cancel a download, or forget one that has ended",
     AUTH_MANAGEMENT, &doc_job_cancel},
    {0},
};
