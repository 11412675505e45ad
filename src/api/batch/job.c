/* The life of one batch: its input is checked, its lines run as items of the pool, their outcomes are written, and in
 * the end its files become files that can be asked for.
 *
 * The truth about which lines are done is in the output files alone: a line is there, whole and on the disk, or it runs
 * again. So a daemon that is killed loses what ran and nothing else, and the store hears of the beginning and the end
 * only. Everything that blocks is one job at a time (`busy`); advance() looks what comes next.
 *
 * Invariants: `input`, the outputs' second halves and `read` belong to the job while one is busy, but for the `done` of
 * lines below `next`, which the loop sets and no job looks at before the end. Lines with a number below `next` are
 * done, ready, running, or pending. Once `over`, nothing is started. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/batch/batches.h"
#include "api/batch/files.h"
#include "api/batch/input.h"
#include "api/batch/output.h"
#include "api/batch/owner.h"
#include "api/batch/pool.h"
#include "base/clock.h"
#include "base/json_copy.h"
#include "base/json_scan.h"
#include "base/mem.h"
#include "obs/log.h"
#include "openai/error.h"

#define RETRY_END_MS 5000 /* until a store that failed is told again that a batch has ended */

enum { SUCCEEDED, REFUSED, OUTPUTS };

struct line {
    struct list link;
    size_t number, length;
    char text[];
};

struct batch {
    struct list link;
    struct batches *all;
    struct arena arena, asks; /* asks: of statements in flight */
    struct batch_row row;
    struct batch_source source;
    struct deadline timer; /* the expiry; later until the store is told again of the end */
    const char *input_path, *paths[OUTPUTS];
    bool scanned, over, telling; /* telling: its end is being stored */
    enum batch_status end;       /* what it ends as, once over */
    struct list ready;
    size_t ready_count, ready_bytes, next;
    struct batch_output outputs[OUTPUTS];
    struct batch_input input;
    /* the job's */
    bool busy;
    struct loop_job job;
    struct err job_err;
    int input_fd;
    struct list read;
    size_t counts[OUTPUTS];
};

struct batches {
    struct app *app;
    struct list list;
    size_t count;
    bool stopping;
    struct files_sweep *sweep;
};

static void advance(struct batch *b);

static void lines_release(struct list *lines)
{
    while (!list_empty(lines)) {
        struct line *line = list_first(lines, struct line, link);
        list_remove(&line->link);
        mem_free(line);
    }
}

static void batch_free(struct batch *b)
{
    list_remove(&b->link);
    b->all->count--;
    lines_release(&b->ready);
    lines_release(&b->read);
    for (size_t i = 0; i < OUTPUTS; i++)
        batch_output_release(&b->outputs[i]);
    batch_input_release(&b->input);
    if (b->input_fd >= 0)
        close(b->input_fd);
    arena_dispose(&b->asks);
    arena_dispose(&b->arena);
    mem_free(b);
}

/* ---- the store ---- */

#define SET_STATE                                                                                                      \
    "UPDATE batches SET status = $2, in_progress_at = $3, finalizing_at = $4, cancelling_at = $5, total = $6,"         \
    " completed = $7, failed = $8, errors = $9, has_output = $10, has_errors = $11, ended_at = $12, delete_at = $13"   \
    " WHERE id = $1"

static struct store_value time_value(int64_t at)
{
    return at ? store_int(at) : (struct store_value){.type = STORE_NULL};
}

static struct store_statement set_state(const struct batch *b)
{
    const struct batch_row *r = &b->row;
    return (struct store_statement){
        .sql = SET_STATE,
        .params = {store_text(r->id), store_text(str_from(batch_status_names[r->status])),
                   time_value(r->in_progress_at), time_value(r->finalizing_at), time_value(r->cancelling_at),
                   store_int(r->total), store_int(r->completed), store_int(r->failed), store_text(r->errors),
                   store_int(r->has_output), store_int(r->has_errors), time_value(r->ended_at),
                   time_value(r->ended_at ? files_expiry(b->all->app, r->ended_at) : 0)}};
}

static void tell_store(const struct batch *b)
{
    struct store_statement statement = set_state(b);
    store_transact(b->all->app->store, &statement, 1, NULL, NULL);
}

/* ---- jobs ---- */

static void start_job(struct batch *b, void (*work)(struct loop_job *), void (*done)(struct loop_job *))
{
    b->busy = true;
    b->job_err = ERR_INIT;
    loop_work(b->all->app->loop, &b->job, work, done);
}

static struct batch *batch_of(struct loop_job *job)
{
    return container_of(job, struct batch, job);
}

/* false: the daemon is ending; nothing but the batch itself may be touched. */
static bool job_is_done(struct batch *b)
{
    b->busy = false;
    return !b->all->stopping;
}

/* ---- the end ---- */

static void take_errors(struct batch *b)
{
    b->row.errors = str_from(arena_printf(&b->arena, "[" STR_FMT "]", STR_ARG(buf_view(&b->input.errors))));
}

/* Nothing more is started; what runs is cancelled and forgotten. What was written stays. */
static void stop(struct batch *b, enum batch_status end)
{
    if (b->over)
        return;
    b->over = true;
    b->end = end;
    batch_source_close(&b->source);
    lines_release(&b->ready);
    b->ready_count = b->ready_bytes = 0;
}

static void fail(struct batch *b, const struct err *err)
{
    if (!b->over) {
        batch_input_add_error(&b->input, err_wire_code(err->code), 0, err->param, err->message);
        take_errors(b);
    }
    stop(b, BATCH_FAILED);
}

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
    statements[count++] = set_state(b);
    for (size_t i = 0; i < OUTPUTS; i++)
        if (b->outputs[i].size)
            statements[count++] = add_file(b, i);
    batch_ask(b->all->app, &b->asks, statements, count, on_end_told, b);
}

static struct line *read_line(const struct batch *b, size_t number)
{
    const struct batch_line *at = &b->input.lines[number];
    struct line *line = mem_alloc(sizeof *line + at->length);
    *line = (struct line){.number = number, .length = at->length};
    if (pread(b->input_fd, line->text, at->length, (off_t)at->offset) == (ssize_t)at->length)
        return line;
    mem_free(line);
    return NULL;
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
        struct line *line = b->input.lines[i].done ? NULL : read_line(b, i);
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
    if (!job_is_done(b))
        return;
    b->row.failed = (int64_t)b->counts[REFUSED];
    if (b->job_err.code != ERR_NONE) {
        b->over = false;
        fail(b, &b->job_err);
    }
    tell_end(b);
}

static void begin_end(struct batch *b)
{
    deadline_cancel(b->all->app->loop, &b->timer);
    b->telling = true;
    if (b->end != BATCH_CANCELLED) {
        b->row.status = BATCH_FINALIZING;
        b->row.finalizing_at = clock_unix();
    }
    start_job(b, finish_files, on_files_finished);
}

/* ---- items ---- */

static struct batch *batch_of_source(struct batch_source *source)
{
    return container_of(source, struct batch, source);
}

static struct line *pop_ready(struct batch *b)
{
    struct line *line = list_first(&b->ready, struct line, link);
    list_remove(&line->link);
    b->ready_count--;
    b->ready_bytes -= line->length;
    return line;
}

/* A line that was good when the input was checked. */
static bool fill(struct batch *b, struct batch_item *item, const struct line *line, struct err *err)
{
    struct batch_request request;
    if (!owner_caller(b->all->app, &item->arena, b->row.owner, &item->caller, err) ||
        !batch_line_read((struct str){line->text, line->length}, b->row.endpoint, &item->arena, &request, err))
        return false;
    item->path = b->row.endpoint;
    item->body = request.body;
    item->label = request.custom_id;
    item->number = line->number;
    item->address = STR("");
    item->request_id = batch_new_id(&item->arena, "batch_req_").p;
    return true;
}

static size_t pending_bytes(const struct batch *b)
{
    return b->outputs[SUCCEEDED].pending.len + b->outputs[REFUSED].pending.len;
}

static bool wants_lines(const struct batch *b)
{
    return !b->over && b->next < b->input.count && b->ready_count < LIMIT_BATCH_AHEAD_LINES / 2 &&
           b->ready_bytes < LIMIT_BATCH_AHEAD / 2;
}

static struct batch_item *next(struct batch_source *source)
{
    struct batch *b = batch_of_source(source);
    struct err err;
    if (list_empty(&b->ready) || pending_bytes(b) > LIMIT_BATCH_AHEAD) {
        advance(b);
        return NULL;
    }
    struct batch_item *item = batch_item_new(source);
    struct line *line = pop_ready(b);
    bool good = fill(b, item, line, &err);
    mem_free(line);
    if (!good) {
        batch_item_drop(item);
        fail(b, &err);
        advance(b);
        return NULL;
    }
    if (!b->busy && wants_lines(b)) /* the item does not run yet: without it the batch may look complete */
        advance(b);
    return item;
}

/* A reply as one line. STR_NONE: it cannot be one. */
static struct str one_line(struct str reply, struct arena *arena, struct err *err)
{
    if (reply.n > LIMIT_BATCH_LINE / 2) {
        err_set(err, ERR_BAD_GATEWAY, "the reply has more than %u bytes", LIMIT_BATCH_LINE / 2);
        return STR_NONE;
    }
    if (!memchr(reply.p, '\n', reply.n))
        return reply;
    json_t *document = json_read(reply, NULL);
    struct str text = json_text(document, arena);
    json_decref(document);
    if (!text.p)
        err_set(err, ERR_BAD_GATEWAY, "the backend's reply is no JSON");
    return text;
}

static void write_outcome(struct buf *out, const struct batch_item *item, struct str reply, const struct err *err)
{
    struct json j;
    json_begin(&j, out);
    json_open_object(&j, NULL);
    json_put_string(&j, "id", item->request_id);
    json_put_text(&j, "custom_id", item->label);
    json_open_object(&j, "response");
    json_put_int(&j, "status_code", err ? err_status(err->code) : 200);
    json_put_string(&j, "request_id", item->request_id);
    if (err) {
        json_open_object(&j, "body");
        openai_error_put(&j, "error", err);
        json_close(&j);
    } else {
        json_put_raw(&j, "body", reply);
    }
    json_close(&j);
    json_put_null(&j, "error");
    json_close(&j);
    json_finish(&j);
    buf_putc(out, '\n');
}

/* Whether the item failed because its owner's right ended: then the whole batch does. */
static bool owner_is_lost(struct batch *b, const struct err *err, struct err *ret_why)
{
    const struct caller *caller;
    struct arena arena;
    if (!err || err->code != ERR_AUTHENTICATION_FAILED)
        return false;
    arena_init(&arena);
    bool lost = !owner_caller(b->all->app, &arena, b->row.owner, &caller, ret_why);
    arena_dispose(&arena);
    return lost;
}

static void on_done(struct batch_source *source, const struct batch_item *item, struct str reply, const struct err *err)
{
    struct batch *b = batch_of_source(source);
    struct arena arena;
    struct err why;
    arena_init(&arena);
    if (owner_is_lost(b, err, &why)) {
        fail(b, &why);
    } else {
        struct str line = err ? STR_NONE : one_line(reply, &arena, &why);
        if (!err && !line.p)
            err = &why;
        struct batch_output *output = &b->outputs[err ? REFUSED : SUCCEEDED];
        write_outcome(&output->pending, item, line, err);
        output->pending_lines++;
        b->input.lines[item->number].done = true;
    }
    arena_dispose(&arena);
    advance(b);
}

/* ---- lines and outcomes ---- */

static void read_ahead(struct loop_job *job)
{
    struct batch *b = batch_of(job);
    size_t bytes = 0;
    for (unsigned n = 0; n < LIMIT_BATCH_AHEAD_LINES && b->next < b->input.count && bytes < LIMIT_BATCH_AHEAD;
         b->next++) {
        if (b->input.lines[b->next].done)
            continue;
        struct line *line = read_line(b, b->next);
        if (!line) {
            err_set(&b->job_err, ERR_IO, "the batch's input cannot be read any more");
            return;
        }
        list_push(&b->read, &line->link);
        bytes += line->length;
        n++;
    }
}

static void on_read(struct loop_job *job)
{
    struct batch *b = batch_of(job);
    if (!job_is_done(b))
        return;
    if (b->job_err.code != ERR_NONE)
        fail(b, &b->job_err);
    while (!b->over && !list_empty(&b->read)) {
        struct line *line = list_first(&b->read, struct line, link);
        list_remove(&line->link);
        list_push(&b->ready, &line->link);
        b->ready_count++;
        b->ready_bytes += line->length;
    }
    lines_release(&b->read);
    if (!b->over)
        batch_source_wake(&b->source);
    advance(b);
}

static void write_outcomes(struct loop_job *job)
{
    struct batch *b = batch_of(job);
    for (size_t i = 0; i < OUTPUTS; i++)
        if (batch_output_write(&b->outputs[i], &b->job_err))
            b->counts[i] += b->outputs[i].writing_lines;
        else
            return;
}

static void on_outcomes_written(struct loop_job *job)
{
    struct batch *b = batch_of(job);
    if (!job_is_done(b))
        return;
    b->row.completed = (int64_t)b->counts[SUCCEEDED];
    b->row.failed = (int64_t)b->counts[REFUSED];
    if (b->job_err.code != ERR_NONE) {
        fail(b, &b->job_err);
        for (size_t i = 0; i < OUTPUTS; i++) /* what could not be kept will not be by trying again */
            batch_output_hand_over(&b->outputs[i]);
    }
    if (!b->over)
        batch_source_wake(&b->source);
    advance(b);
}

/* ---- the beginning ---- */

static bool open_input(struct batch *b, struct err *err)
{
    b->input_fd = open(b->input_path, O_RDONLY | O_CLOEXEC);
    return b->input_fd >= 0 || err_set(err, ERR_IO, "the input file cannot be read: %s", strerror(errno));
}

static void scan(struct loop_job *job)
{
    struct batch *b = batch_of(job);
    struct err *err = &b->job_err;
    if (!open_input(b, err) ||
        !batch_input_scan(&b->input, b->input_fd, b->row.endpoint, (size_t)b->all->app->conf->batch_max_lines, err))
        return;
    for (size_t i = 0; i < OUTPUTS && b->input.error_count == 0; i++)
        if (!batch_output_open(&b->outputs[i], b->paths[i], err) ||
            !batch_input_resume(&b->input, b->outputs[i].fd, &b->counts[i], &b->outputs[i].size, err))
            return;
    batch_input_forget_ids(&b->input);
}

static void on_expired(struct deadline *timer)
{
    struct batch *b = container_of(timer, struct batch, timer);
    stop(b, BATCH_EXPIRED);
    advance(b);
}

static void begin(struct batch *b)
{
    int64_t left = b->row.expires_at - clock_unix();
    b->row.status = BATCH_IN_PROGRESS;
    if (!b->row.in_progress_at)
        b->row.in_progress_at = clock_unix();
    tell_store(b);
    deadline_arm(b->all->app->loop, &b->timer, left > 0 ? (uint64_t)left * 1000 : 1, on_expired);
    batch_source_open(&b->source, b->all->app->batch_pool);
}

static void on_scanned(struct loop_job *job)
{
    struct batch *b = batch_of(job);
    if (!job_is_done(b))
        return;
    b->scanned = true;
    b->row.total = (int64_t)b->input.count;
    b->row.completed = (int64_t)b->counts[SUCCEEDED];
    b->row.failed = (int64_t)b->counts[REFUSED];
    if (b->job_err.code != ERR_NONE) {
        fail(b, &b->job_err);
    } else if (b->input.error_count) {
        take_errors(b);
        stop(b, BATCH_FAILED);
    } else if (!b->over) {
        begin(b);
    }
    advance(b);
}

/* ---- what comes next ---- */

static bool is_complete(const struct batch *b)
{
    return b->next >= b->input.count && list_empty(&b->ready) && !batch_source_busy(&b->source);
}

static void advance(struct batch *b)
{
    if (b->busy || b->telling || b->all->stopping)
        return;
    if (!b->scanned) {
        start_job(b, scan, on_scanned);
    } else if (pending_bytes(b)) {
        for (size_t i = 0; i < OUTPUTS; i++)
            batch_output_hand_over(&b->outputs[i]);
        start_job(b, write_outcomes, on_outcomes_written);
    } else if (wants_lines(b)) {
        start_job(b, read_ahead, on_read);
    } else if (b->over || is_complete(b)) {
        stop(b, BATCH_COMPLETED);
        begin_end(b);
    }
}

/* ---- all of them ---- */

static struct str keep(struct batch *b, struct str text)
{
    return arena_str(&b->arena, text);
}

static void copy_row(struct batch *b, const struct batch_row *row)
{
    struct batch_row *r = &b->row;
    struct str *const texts[] = {&r->id,       &r->owner,  &r->endpoint, &r->input_id, &r->output_id,
                                 &r->error_id, &r->window, &r->metadata, &r->errors};
    *r = *row;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        *texts[i] = keep(b, *texts[i]);
}

void batches_add(struct batches *all, const struct batch_row *row)
{
    struct batch *b = mem_calloc(1, sizeof *b);
    *b = (struct batch){.all = all, .input_fd = -1, .source = {.next = next, .on_done = on_done}};
    arena_init(&b->arena);
    arena_init(&b->asks);
    copy_row(b, row);
    list_init(&b->ready);
    list_init(&b->read);
    list_init(&b->source.running);
    list_init(&b->source.refused);
    batch_input_init(&b->input);
    for (size_t i = 0; i < OUTPUTS; i++)
        batch_output_init(&b->outputs[i]);
    b->input_path = batch_file_path(all->app, &b->arena, b->row.input_id);
    b->paths[SUCCEEDED] = batch_file_path(all->app, &b->arena, b->row.output_id);
    b->paths[REFUSED] = batch_file_path(all->app, &b->arena, b->row.error_id);
    list_push(&all->list, &b->link);
    all->count++;
    if (b->row.cancelling_at)
        stop(b, BATCH_CANCELLED);
    advance(b);
}

bool batches_full(const struct batches *all)
{
    return all->count >= LIMIT_BATCHES || all->stopping;
}

static struct batch *find(const struct batches *all, struct str id)
{
    list_each (b, &all->list, struct batch, link)
        if (str_eq(b->row.id, id))
            return b;
    return NULL;
}

const struct batch_row *batches_find(const struct batches *all, struct str id)
{
    const struct batch *b = find(all, id);
    return b ? &b->row : NULL;
}

void batches_cancel(struct batches *all, struct str id)
{
    struct batch *b = find(all, id);
    if (b->over)
        return;
    b->row.status = BATCH_CANCELLING;
    b->row.cancelling_at = clock_unix();
    tell_store(b);
    stop(b, BATCH_CANCELLED);
    advance(b);
}

static bool load(struct batches *all, struct err *err)
{
    static const struct store_statement statement = {.sql =
                                                         "SELECT " BATCH_COLUMNS " FROM batches WHERE ended_at IS NULL"
                                                         " ORDER BY created_at, id"};
    struct store_result found;
    struct batch_row row;
    struct arena arena;
    arena_init(&arena);
    bool good = store_transact_now(all->app->store, &statement, 1, &arena, &found, err);
    for (size_t i = 0; good && i < found.rows; i++) {
        batch_row_read(&found.values[i * found.columns], &row);
        batches_add(all, &row);
    }
    arena_dispose(&arena);
    return good;
}

struct batches *batches_new(struct app *app, struct err *err)
{
    struct batches *all = mem_calloc(1, sizeof *all);
    all->app = app;
    list_init(&all->list);
    if (files_prepare(app, err) && load(all, err)) {
        all->sweep = files_sweep_start(app);
        return all;
    }
    batches_stop(all);
    mem_free(all);
    return NULL;
}

void batches_stop(struct batches *all)
{
    if (!all || all->stopping)
        return;
    all->stopping = true;
    files_sweep_stop(all->sweep);
    list_each (b, &all->list, struct batch, link) {
        batch_source_close(&b->source);
        deadline_cancel(all->app->loop, &b->timer);
        arena_dispose(&b->asks);
    }
}

void batches_free(struct batches *all)
{
    if (!all)
        return;
    while (!list_empty(&all->list))
        batch_free(list_first(&all->list, struct batch, link));
    mem_free(all);
}
