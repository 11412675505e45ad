#include "api/batch/rows.h"

#include "base/rand.h"

#define ID_RANDOM 24

const char *const batch_status_names[BATCH_STATUS_COUNT] = {"validating", "in_progress", "finalizing", "cancelling",
                                                            "completed",  "failed",      "expired",    "cancelled"};

void file_row_read(const struct store_value *v, struct file_row *row)
{
    *row = (struct file_row){.id = v[0].text,
                             .purpose = v[1].text,
                             .filename = v[2].text,
                             .sha256 = v[3].text,
                             .bytes = v[4].integer,
                             .created_at = v[5].integer,
                             .expires_at = v[6].integer};
}

static enum batch_status status_parse(struct str name)
{
    enum batch_status status = BATCH_VALIDATING;
    while (status + 1 < BATCH_STATUS_COUNT && !str_eq(name, str_from(batch_status_names[status])))
        status++;
    return status;
}

void batch_row_read(const struct store_value *v, struct batch_row *row)
{
    *row = (struct batch_row){.id = v[0].text,
                              .owner = v[1].text,
                              .endpoint = v[2].text,
                              .input_id = v[3].text,
                              .output_id = v[4].text,
                              .error_id = v[5].text,
                              .window = v[6].text,
                              .metadata = v[7].text,
                              .errors = v[8].text,
                              .status = status_parse(v[9].text),
                              .created_at = v[10].integer,
                              .expires_at = v[11].integer,
                              .in_progress_at = v[12].integer,
                              .finalizing_at = v[13].integer,
                              .cancelling_at = v[14].integer,
                              .ended_at = v[15].integer,
                              .total = v[16].integer,
                              .completed = v[17].integer,
                              .failed = v[18].integer,
                              .has_output = v[19].integer != 0,
                              .has_errors = v[20].integer != 0};
}

void file_row_put(const struct file_row *row, struct json *j, const char *key)
{
    json_open_object(j, key);
    json_put_text(j, "id", row->id);
    json_put_string(j, "object", "file");
    json_put_int(j, "bytes", row->bytes);
    json_put_int(j, "created_at", row->created_at);
    json_put_int(j, "expires_at", row->expires_at);
    json_put_text(j, "filename", row->filename);
    json_put_text(j, "purpose", row->purpose);
    json_put_string(j, "status", "processed");
    json_put_text(j, "sha256", row->sha256);
    json_close(j);
}

static void put_time(struct json *j, const char *key, int64_t at)
{
    if (at)
        json_put_int(j, key, at);
    else
        json_put_null(j, key);
}

static void put_end(struct json *j, const char *key, const struct batch_row *row, enum batch_status status)
{
    put_time(j, key, row->status == status ? row->ended_at : 0);
}

static void put_file(struct json *j, const char *key, struct str id, bool there)
{
    if (there)
        json_put_text(j, key, id);
    else
        json_put_null(j, key);
}

static void put_errors(const struct batch_row *row, struct json *j)
{
    if (str_eq(row->errors, STR("[]"))) {
        json_put_null(j, "errors");
        return;
    }
    json_open_object(j, "errors");
    json_put_string(j, "object", "list");
    json_put_raw(j, "data", row->errors);
    json_close(j);
}

void batch_row_put(const struct batch_row *row, struct json *j, const char *key)
{
    json_open_object(j, key);
    json_put_text(j, "id", row->id);
    json_put_string(j, "object", "batch");
    json_put_text(j, "endpoint", row->endpoint);
    put_errors(row, j);
    json_put_text(j, "input_file_id", row->input_id);
    json_put_text(j, "completion_window", row->window);
    json_put_string(j, "status", batch_status_names[row->status]);
    put_file(j, "output_file_id", row->output_id, row->has_output);
    put_file(j, "error_file_id", row->error_id, row->has_errors);
    json_put_int(j, "created_at", row->created_at);
    put_time(j, "in_progress_at", row->in_progress_at);
    json_put_int(j, "expires_at", row->expires_at);
    put_time(j, "finalizing_at", row->finalizing_at);
    put_end(j, "completed_at", row, BATCH_COMPLETED);
    put_end(j, "failed_at", row, BATCH_FAILED);
    put_end(j, "expired_at", row, BATCH_EXPIRED);
    put_time(j, "cancelling_at", row->cancelling_at);
    put_end(j, "cancelled_at", row, BATCH_CANCELLED);
    json_open_object(j, "request_counts");
    json_put_int(j, "total", row->total);
    json_put_int(j, "completed", row->completed);
    json_put_int(j, "failed", row->failed);
    json_close(j);
    json_put_raw(j, "metadata", row->metadata);
    json_close(j);
}

struct str batch_new_id(struct arena *arena, const char *prefix)
{
    char text[ID_RANDOM + 1];
    return str_from(arena_printf(arena, "%s%s", prefix, rand_text(text, ID_RANDOM)));
}

const char *batch_file_path(const struct app *app, struct arena *arena, struct str id)
{
    return arena_printf(arena, "%s/" STR_FMT, app->conf->batch_files_dir, STR_ARG(id));
}

/* ---- the store ---- */

struct ask {
    struct store_call *call;
    struct arena_disposer *disposer;
    void (*on_done)(void *arg, const struct store_result *results, const struct err *err);
    void *arg;
};

static void forget(void *arg)
{
    struct ask *ask = arg;
    store_call_forget(ask->call);
}

static void on_answer(void *arg, const struct store_result *results, const struct err *err)
{
    struct ask *ask = arg;
    arena_forget(ask->disposer);
    ask->on_done(ask->arg, results, err);
}

void batch_ask(struct app *app, struct arena *arena, const struct store_statement *statements, size_t count,
               void (*on_done)(void *arg, const struct store_result *results, const struct err *err), void *arg)
{
    struct ask *ask = arena_alloc(arena, sizeof *ask);
    *ask = (struct ask){.on_done = on_done, .arg = arg};
    ask->call = store_transact(app->store, statements, count, on_answer, ask);
    ask->disposer = arena_on_dispose(arena, forget, ask);
}

/* ---- pages ---- */

static bool read_page(struct batch_page *page, uint64_t most, struct err *err)
{
    struct http_req *req = page->req;
    struct str limit, order;
    http_query_find(&req->arena, req->head.query, "after", &page->after);
    if (http_query_find(&req->arena, req->head.query, "limit", &limit) &&
        (!str_u64(limit, most, &page->limit) || page->limit == 0))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "limit", "'limit' must be between 1 and %llu",
                             (unsigned long long)most);
    if (!http_query_find(&req->arena, req->head.query, "order", &order))
        return true;
    page->ascending = str_eq(order, STR("asc"));
    return page->ascending || str_eq(order, STR("desc")) ||
           err_set_param(err, ERR_INVALID_PARAMETERS, "order", "'order' must be 'asc' or 'desc'");
}

bool batch_page_read(struct http_req *req, uint64_t standard, uint64_t most, struct batch_page *page)
{
    struct err err;
    *page = (struct batch_page){.req = req, .limit = standard, .after = STR("")};
    if (read_page(page, most, &err))
        return true;
    http_reply_error(req, &err);
    return false;
}

void batch_list_reply(struct http_req *req, uint64_t limit, const struct store_result *found,
                      void (*put)(void *arg, const struct store_value *row, struct json *j), void *arg)
{
    size_t count = found->rows > limit ? limit : found->rows;
    struct json *j = api_json_begin(req);
    json_open_object(j, NULL);
    json_put_string(j, "object", "list");
    json_open_array(j, "data");
    for (size_t i = 0; i < count; i++)
        put(arg, &found->values[i * found->columns], j);
    json_close(j);
    json_put_text(j, "first_id", count ? found->values[0].text : STR(""));
    json_put_text(j, "last_id", count ? found->values[(count - 1) * found->columns].text : STR(""));
    json_put_bool(j, "has_more", found->rows > count);
    json_close(j);
    api_reply_json(req, 200, j);
}
