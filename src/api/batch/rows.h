/* Files and batches as rows of the store and as JSON objects. Loop thread only. */
#ifndef API_BATCH_ROWS_H
#define API_BATCH_ROWS_H

#include "api/app.h"

struct file_row {
    struct str id, purpose, filename, sha256;
    int64_t bytes, created_at, expires_at;
};

#define FILE_COLUMNS      "id, purpose, filename, sha256, bytes, created_at, expires_at"
#define FILE_COLUMN_COUNT 7

enum batch_status {
    BATCH_VALIDATING,
    BATCH_IN_PROGRESS,
    BATCH_FINALIZING,
    BATCH_CANCELLING,
    BATCH_COMPLETED, /* from here on nothing changes */
    BATCH_FAILED,
    BATCH_EXPIRED,
    BATCH_CANCELLED,
    BATCH_STATUS_COUNT
};

extern const char *const batch_status_names[BATCH_STATUS_COUNT];

static inline bool batch_status_is_end(enum batch_status status)
{
    return status >= BATCH_COMPLETED;
}

struct batch_row {
    struct str id, owner, endpoint, input_id, output_id, error_id, window, metadata, errors;
    enum batch_status status;
    int64_t created_at, expires_at;
    int64_t in_progress_at, finalizing_at, cancelling_at, ended_at; /* 0: not yet */
    int64_t total, completed, failed;
    bool has_output, has_errors;
};

#define BATCH_COLUMNS                                                                                                  \
    "id, owner, endpoint, input_id, output_id, error_id, completion_window, metadata, errors, status, created_at,"     \
    " expires_at, in_progress_at, finalizing_at, cancelling_at, ended_at, total, completed, failed, has_output,"       \
    " has_errors"
#define BATCH_COLUMN_COUNT 21

/* values: of one row with these columns; texts point into it. */
void file_row_read(const struct store_value *values, struct file_row *ret_row);
void batch_row_read(const struct store_value *values, struct batch_row *ret_row);

void file_row_put(const struct file_row *row, struct json *j, const char *key);
void batch_row_put(const struct batch_row *row, struct json *j, const char *key);

/* A new id, "<prefix>" and 24 random characters, in arena. */
struct str batch_new_id(struct arena *arena, const char *prefix);

/* A file's path in batch.files_dir, in arena. */
const char *batch_file_path(const struct app *app, struct arena *arena, struct str id);

/* store_transact for as long as the arena lives: on_done comes once, and not when the arena dies first. */
void batch_ask(struct app *app, struct arena *arena, const struct store_statement *statements, size_t count,
               void (*on_done)(void *arg, const struct store_result *results, const struct err *err), void *arg);

/* A page of a list: ?limit (1 to most), ?after, ?order=asc|desc (the newest first). false: answered. */
struct batch_page {
    struct http_req *req;
    uint64_t limit;
    struct str after;
    bool ascending;
};
bool batch_page_read(struct http_req *req, uint64_t standard, uint64_t most, struct batch_page *ret_page);

/* Answers with OpenAI's list object: at most limit rows of what was found (asked for with one more, so that has_more is
 * known), the first column of each an id. put writes one row as an element of the array. */
void batch_list_reply(struct http_req *req, uint64_t limit, const struct store_result *found,
                      void (*put)(void *arg, const struct store_value *row, struct json *j), void *arg);

#endif
