/* The end of a batch: its outputs are finished and become files, in one transaction with its last state. */
#include <errno.h>

#include "api/batch/job_private.h"
#include "base/clock.h"
#include "base/json_scan.h"
#include "base/mem.h"
#include "obs/log.h"

#define RETRY_END_MS 5000 /* until a store that failed is told again that a batch has ended */

static void tell_end(struct batch *b);

static void on_tell_again(struct deadline *timer)
{
    tell_end(container_of(timer, struct batch, timer));
}

static void on_end_told(void *arg, const struct store_result *results, const struct err *err)
{
    struct batch *b = arg;
    struct app *app = b->all->app;
    (void)results;
    if (err) {
        log_warn("the end of a batch could not be stored", "id=" STR_FMT " reason=%s", STR_ARG(b->row.id),
                 err->message);
        b->row.ended_at = 0;
        deadline_arm(app->loop, &b->timer, RETRY_END_MS, on_tell_again);
        return;
    }
    log_info("batch ended", "id=" STR_FMT " status=%s completed=%lld failed=%lld", STR_ARG(b->row.id),
             batch_status_names[b->row.status], (long long)b->row.completed, (long long)b->row.failed);
    batch_free(b);
}

static struct store_statement add_file(struct batch *b, size_t i)
{
    static const char *const names[OUTPUTS] = {"output", "error"};
    int64_t now = clock_unix();
    struct str name = str_from(arena_printf(&b->asks, STR_FMT "_%s.jsonl", STR_ARG(b->row.id), names[i]));
    return (struct store_statement){
        .sql = "INSERT INTO files (id, owner, purpose, filename, bytes, sha256, created_at, expires_at)"
               " VALUES ($1, $2, 'batch_output', $3, $4, $5, $6, $7)",
        .params = {store_text(i == SUCCEEDED ? b->row.output_id : b->row.error_id), store_text(b->row.owner),
                   store_text(name), store_int((int64_t)b->outputs[i].size), store_text(str_from(b->outputs[i].sha256)),
                   store_int(now), store_int(files_expiry(b->all->app, now))}};
}

static void tell_end(struct batch *b)
{
    struct store_statement statements[1 + OUTPUTS];
    size_t count = 0;
    b->row.status = b->end;
    b->row.ended_at = clock_unix();
    b->row.has_output = b->outputs[SUCCEEDED].size > 0;
    b->row.has_errors = b->outputs[REFUSED].size > 0;
    statements[count++] = batch_set_state(b);
    for (size_t i = 0; i < OUTPUTS; i++)
        if (b->outputs[i].size)
            statements[count++] = add_file(b, i);
    batch_ask(b->all->app, &b->asks, statements, count, on_end_told, b);
}

static void write_expired(struct buf *out, const struct line *line)
{
    struct json_scan id = {.key = "custom_id"};
    struct json j;
    json_scan((struct str){line->text, line->length}, &id, 1, NULL);
    json_begin(&j, out);
    json_open_object(&j, NULL);
    json_put_null(&j, "id");
    json_put_raw(&j, "custom_id", id.raw.p ? id.raw : STR("null"));
    json_put_null(&j, "response");
    json_open_object(&j, "error");
    json_put_string(&j, "code", "batch_expired");
    json_put_string(&j, "message", "the batch's completion window ended before this request was answered");
    json_close(&j);
    json_close(&j);
    json_finish(&j);
    buf_putc(out, '\n');
}

static bool write_refused(struct batch *b)
{
    struct batch_output *refused = &b->outputs[REFUSED];
    if (!batch_output_write(refused, &b->job_err))
        return false;
    b->counts[REFUSED] += refused->writing_lines;
    refused->writing_lines = 0;
    buf_clear(&refused->writing);
    return true;
}

/* What was not answered in time is told line by line. */
static bool expire_rest(struct batch *b)
{
    struct batch_output *refused = &b->outputs[REFUSED];
    buf_clear(&refused->writing);
    refused->writing_lines = 0;
    for (size_t i = 0; i < b->input.count; i++) {
        struct line *line = b->input.lines[i].done ? NULL : batch_read_line(b, i);
        if (!line)
            continue;
        write_expired(&refused->writing, line);
        refused->writing_lines++;
        mem_free(line);
        if (refused->writing.len > LIMIT_BATCH_AHEAD && !write_refused(b))
            return false;
    }
    return write_refused(b);
}

static void finish_files(struct loop_job *job)
{
    struct batch *b = batch_of(job);
    if (b->end == BATCH_EXPIRED && !expire_rest(b))
        return;
    for (size_t i = 0; i < OUTPUTS; i++)
        batch_output_finish(&b->outputs[i], b->paths[i], &b->job_err);
    if (!files_sync_folder(b->all->app->conf->batch_files_dir))
        err_set(&b->job_err, ERR_IO, "the folder of files cannot be written: %s", strerror(errno));
}

static void on_files_finished(struct loop_job *job)
{
    struct batch *b = batch_of(job);
    if (!batch_job_is_done(b))
        return;
    b->row.failed = (int64_t)b->counts[REFUSED];
    if (b->job_err.code != ERR_NONE) {
        b->over = false;
        batch_fail(b, &b->job_err);
    }
    tell_end(b);
}

void batch_begin_end(struct batch *b)
{
    deadline_cancel(b->all->app->loop, &b->timer);
    b->telling = true;
    if (b->end != BATCH_CANCELLED) {
        b->row.status = BATCH_FINALIZING;
        b->row.finalizing_at = clock_unix();
    }
    batch_start_job(b, finish_files, on_files_finished);
}
