/* The handlers of batches. What has not ended is asked of job.c, the rest of the store. */
#include "api/batch/batches.h"

#include "api/batch/files.h"
#include "api/batch/owner.h"
#include "base/clock.h"
#include "base/json_copy.h"
#include "base/json_read.h"

#define PAGE_STANDARD 20

struct batch_call {
    struct app *app;
    struct http_req *req;
    struct str id;
    struct batch_page page;
    struct batch_row row; /* to be created */
};

static struct batch_call *call_new(struct app *app, struct http_req *req, struct str id)
{
    struct batch_call *call = arena_calloc(&req->arena, sizeof *call);
    *call = (struct batch_call){.app = app, .req = req, .id = id};
    return call;
}

static void reply_row(struct http_req *req, const struct batch_row *row)
{
    struct json *j = api_json_begin(req);
    batch_row_put(row, j, NULL);
    api_reply_json(req, 200, j);
}

/* As it is now, when it has not ended. */
static const struct batch_row *newest(struct app *app, const struct batch_row *stored)
{
    const struct batch_row *live = batches_find(app->batches, stored->id);
    return live ? live : stored;
}

/* ---- create ---- */

static const char *const endpoints[] = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"};

static bool check_endpoint(struct str endpoint, struct err *err)
{
    for (size_t i = 0; i < sizeof endpoints / sizeof *endpoints; i++)
        if (str_eq(endpoint, str_from(endpoints[i])))
            return true;
    return err_set_param(err, ERR_INVALID_PARAMETERS, "endpoint",
                         "'endpoint' must be /v1/chat/completions, /v1/completions or /v1/embeddings");
}

/* "24h": a number and a unit. Seconds, or 0. */
static int64_t read_window(struct str window)
{
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    uint64_t number = 0;
    for (size_t i = 0; window.n && i < sizeof units / sizeof *units; i++)
        if (window.p[window.n - 1] == units[i].unit &&
            str_u64((struct str){window.p, window.n - 1}, LIMIT_BATCH_WINDOW_S / (uint64_t)units[i].seconds, &number))
            return (int64_t)number * units[i].seconds;
    return 0;
}

static bool check_metadata(const json_t *metadata, struct err *err)
{
    const char *key;
    json_t *value;
    if (json_object_size(metadata) > LIMIT_METADATA)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "metadata", "'metadata' has more than %d members",
                             LIMIT_METADATA);
    json_object_foreach(
        (json_t *)metadata, key,
        value) if (!json_is_string(value) ||
                   json_string_length(value) >
                       LIMIT_METADATA_TEXT) return err_set_param(err, ERR_INVALID_PARAMETERS, "metadata",
                                                                 "'metadata' must hold strings of at most %d bytes",
                                                                 LIMIT_METADATA_TEXT);
    return true;
}

struct create_fields {
    struct str input_id, endpoint, window;
    const json_t *metadata;
};

static bool read_fields(const json_t *body, struct create_fields *in, struct err *err)
{
    static const struct json_field fields[] = {
        {"input_file_id", JSON_KIND_TEXT, offsetof(struct create_fields, input_id), 1, LIMIT_BATCH_ID, true},
        {"endpoint", JSON_KIND_TEXT, offsetof(struct create_fields, endpoint), 0, 0, true},
        {"completion_window", JSON_KIND_TEXT, offsetof(struct create_fields, window), 0, 0, false},
        {"metadata", JSON_KIND_OBJECT, offsetof(struct create_fields, metadata), 0, 0, false},
    };
    *in = (struct create_fields){.window = STR("24h")};
    if (!json_fields(body, fields, sizeof fields / sizeof *fields, in, "", err) || !check_endpoint(in->endpoint, err) ||
        !check_metadata(in->metadata, err))
        return false;
    return read_window(in->window) > 0 ||
           err_set_param(err, ERR_INVALID_PARAMETERS, "completion_window",
                         "'completion_window' must be a time such as \"24h\": s, m, h or d, 7 days at most");
}

static bool read_create(struct batch_call *call, struct str text, struct err *err)
{
    struct arena *arena = &call->req->arena;
    struct create_fields in;
    json_t *body = json_read(text, err);
    bool good = body && read_fields(body, &in, err);
    int64_t now = clock_unix();
    if (good)
        call->row = (struct batch_row){.id = batch_new_id(arena, "batch_"),
                                       .owner = owner_of(call->req),
                                       .endpoint = arena_str(arena, in.endpoint),
                                       .input_id = arena_str(arena, in.input_id),
                                       .output_id = batch_new_id(arena, "file-"),
                                       .error_id = batch_new_id(arena, "file-"),
                                       .window = arena_str(arena, in.window),
                                       .metadata = in.metadata ? json_text(in.metadata, arena) : STR("null"),
                                       .errors = STR("[]"),
                                       .created_at = now,
                                       .expires_at = now + read_window(in.window)};
    json_decref(body);
    return good;
}

static void on_created(void *arg, const struct store_result *results, const struct err *store_err)
{
    struct batch_call *call = arg;
    struct err err;
    if (store_err || results[0].changed == 0) {
        err_set_param(&err, ERR_NOT_FOUND, "input_file_id", "No such file: '%.*s'",
                      call->row.input_id.n > 64 ? 64 : (int)call->row.input_id.n, call->row.input_id.p);
        http_reply_error(call->req, store_err ? store_err : &err);
        return;
    }
    batches_add(call->app->batches, &call->row);
    reply_row(call->req, &call->row);
}

static void store_new(struct batch_call *call)
{
    const struct batch_row *r = &call->row;
    const struct store_statement statement = {
        .sql = "INSERT INTO batches (id, owner, endpoint, input_id, output_id, error_id, completion_window, metadata,"
               " status, created_at, expires_at, total, completed, failed, has_output, has_errors, errors)"
               " SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT),"
               " CAST($6 AS TEXT), CAST($7 AS TEXT), CAST($8 AS TEXT), 'validating', CAST($9 AS BIGINT),"
               " CAST($10 AS BIGINT), 0, 0, 0, 0, 0, '[]' FROM files WHERE id = CAST($4 AS TEXT)"
               " AND owner = CAST($2 AS TEXT) AND purpose = 'batch' AND expires_at > CAST($9 AS BIGINT)",
        .params = {store_text(r->id), store_text(r->owner), store_text(r->endpoint), store_text(r->input_id),
                   store_text(r->output_id), store_text(r->error_id), store_text(r->window), store_text(r->metadata),
                   store_int(r->created_at), store_int(r->expires_at)}};
    batch_ask(call->app, &call->req->arena, &statement, 1, on_created, call);
}

static void on_body(struct http_req *req, struct str body)
{
    struct batch_call *call = req->user;
    struct err err;
    bool good = owner_may_leave(call->app, req, &err) && read_create(call, body, &err);
    if (good && batches_full(call->app->batches)) {
        good = err_set(&err, ERR_SERVER_OVERLOADED, "%d batches have not ended yet, or the server is shutting down",
                       LIMIT_BATCHES);
        err.retry_after_ms = LIMIT_BATCH_HOLD_MS;
    }
    if (good)
        store_new(call);
    else
        http_reply_error(req, &err);
}

void batch_create(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    req->user = call_new(arg, req, STR(""));
    http_req_read_body(req, 0, on_body);
}

/* ---- look, cancel ---- */

static void find(struct batch_call *call,
                 void (*on_found)(void *arg, const struct store_result *results, const struct err *err))
{
    const struct store_statement statement = {.sql =
                                                  "SELECT " BATCH_COLUMNS " FROM batches WHERE id = $1 AND owner = $2",
                                              .params = {store_text(call->id), store_text(owner_of(call->req))}};
    batch_ask(call->app, &call->req->arena, &statement, 1, on_found, call);
}

/* false: answered. */
static bool read_found(const struct batch_call *call, const struct store_result *results, const struct err *store_err,
                       struct batch_row *ret_row)
{
    struct err err;
    if (!store_err && results[0].rows) {
        batch_row_read(results[0].values, ret_row);
        return true;
    }
    err_set(&err, ERR_NOT_FOUND, "No such batch: '%.*s'", call->id.n > 64 ? 64 : (int)call->id.n, call->id.p);
    http_reply_error(call->req, store_err ? store_err : &err);
    return false;
}

static void on_look(void *arg, const struct store_result *results, const struct err *err)
{
    const struct batch_call *call = arg;
    struct batch_row row;
    if (read_found(call, results, err, &row))
        reply_row(call->req, newest(call->app, &row));
}

void batch_look(void *arg, struct http_req *req, const struct http_match *match)
{
    find(call_new(arg, req, match->captures[0]), on_look);
}

static void on_cancel(void *arg, const struct store_result *results, const struct err *store_err)
{
    const struct batch_call *call = arg;
    struct batch_row row;
    struct err err;
    if (!read_found(call, results, store_err, &row))
        return;
    const struct batch_row *live = batches_find(call->app->batches, row.id);
    if (live) {
        batches_cancel(call->app->batches, row.id);
        reply_row(call->req, live);
        return;
    }
    err_set(&err, ERR_CONFLICT, "the batch has ended already: it is %s", batch_status_names[row.status]);
    http_reply_error(call->req, &err);
}

void batch_cancel(void *arg, struct http_req *req, const struct http_match *match)
{
    find(call_new(arg, req, match->captures[0]), on_cancel);
}

/* ---- list ---- */

static void put_batch(void *arg, const struct store_value *values, struct json *j)
{
    const struct batch_call *call = arg;
    struct batch_row row = {.id = STR_NONE};
    batch_row_read(values, &row);
    batch_row_put(newest(call->app, &row), j, NULL);
}

static void on_list(void *arg, const struct store_result *results, const struct err *err)
{
    const struct batch_call *call = arg;
    if (err)
        http_reply_error(call->req, err);
    else
        batch_list_reply(call->req, call->page.limit, &results[0], put_batch, arg);
}

#define LIST_BATCHES(than, order)                                                                                      \
    "SELECT " BATCH_COLUMNS " FROM batches WHERE owner = $1"                                                           \
    " AND ($2 = '' OR (created_at, id) " than " (SELECT created_at, id FROM batches WHERE id = $2 AND owner = $1))"    \
    " ORDER BY created_at " order ", id " order " LIMIT $3"

void batch_list(void *arg, struct http_req *req, const struct http_match *match)
{
    struct batch_call *call = call_new(arg, req, STR(""));
    (void)match;
    if (!batch_page_read(req, PAGE_STANDARD, LIMIT_BATCH_PAGE, &call->page))
        return;
    const struct store_statement statement = {
        .sql = call->page.ascending ? LIST_BATCHES(">", "ASC") : LIST_BATCHES("<", "DESC"),
        .params = {store_text(owner_of(req)), store_text(call->page.after.p ? call->page.after : STR("")),
                   store_int((int64_t)call->page.limit + 1)}};
    batch_ask(call->app, &req->arena, &statement, 1, on_list, call);
}
