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
#include <unistd.h>

#include "api/batch/job_private.h"
#include "base/clock.h"
#include "base/mem.h"

void batch_lines_release(struct list *lines)
{
    while (!list_empty(lines)) {
        struct line *line = list_first(lines, struct line, link);
        list_remove(&line->link);
        mem_free(line);
    }
}

void batch_free(struct batch *b)
{
    list_remove(&b->link);
    b->all->count--;
    batch_lines_release(&b->ready);
    batch_lines_release(&b->read);
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

struct store_statement batch_set_state(const struct batch *b)
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
    struct store_statement statement = batch_set_state(b);
    store_transact(b->all->app->store, &statement, 1, NULL, NULL);
}

/* ---- jobs ---- */

void batch_start_job(struct batch *b, void (*work)(struct loop_job *), void (*done)(struct loop_job *))
{
    b->busy = true;
    b->job_err = ERR_INIT;
    loop_work(b->all->app->loop, &b->job, work, done);
}

/* false: the daemon is ending; nothing but the batch itself may be touched. */
bool batch_job_is_done(struct batch *b)
{
    b->busy = false;
    return !b->all->stopping;
}

/* ---- stopping ---- */

static void take_errors(struct batch *b)
{
    b->row.errors = str_from(arena_printf(&b->arena, "[" STR_FMT "]", STR_ARG(buf_view(&b->input.errors))));
}

/* Nothing more is started; what runs is cancelled and forgotten. What was written stays. */
void batch_stop(struct batch *b, enum batch_status end)
{
    if (b->over)
        return;
    b->over = true;
    b->end = end;
    batch_source_close(&b->source);
    batch_lines_release(&b->ready);
    b->ready_count = b->ready_bytes = 0;
}

void batch_fail(struct batch *b, const struct err *err)
{
    if (!b->over) {
        batch_input_add_error(&b->input, err_wire_code(err->code), 0, err->param, err->message);
        take_errors(b);
    }
    batch_stop(b, BATCH_FAILED);
}

size_t batch_pending_bytes(const struct batch *b)
{
    return b->outputs[SUCCEEDED].pending.len + b->outputs[REFUSED].pending.len;
}

bool batch_wants_lines(const struct batch *b)
{
    return !b->over && b->next < b->input.count && b->ready_count < LIMIT_BATCH_AHEAD_LINES / 2 &&
           b->ready_bytes < LIMIT_BATCH_AHEAD / 2;
}

/* ---- lines and outcomes ---- */

struct line *batch_read_line(const struct batch *b, size_t number)
{
    const struct batch_line *at = &b->input.lines[number];
    struct line *line = mem_alloc(sizeof *line + at->length);
    *line = (struct line){.number = number, .length = at->length};
    if (pread(b->input_fd, line->text, at->length, (off_t)at->offset) == (ssize_t)at->length)
        return line;
    mem_free(line);
    return NULL;
}

static void read_ahead(struct loop_job *job)
{
    struct batch *b = batch_of(job);
    size_t bytes = 0;
    for (unsigned n = 0; n < LIMIT_BATCH_AHEAD_LINES && b->next < b->input.count && bytes < LIMIT_BATCH_AHEAD;
         b->next++) {
        if (b->input.lines[b->next].done)
            continue;
        struct line *line = batch_read_line(b, b->next);
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
    if (!batch_job_is_done(b))
        return;
    if (b->job_err.code != ERR_NONE)
        batch_fail(b, &b->job_err);
    while (!b->over && !list_empty(&b->read)) {
        struct line *line = list_first(&b->read, struct line, link);
        list_remove(&line->link);
        list_push(&b->ready, &line->link);
        b->ready_count++;
        b->ready_bytes += line->length;
    }
    batch_lines_release(&b->read);
    if (!b->over)
        batch_source_wake(&b->source);
    batch_advance(b);
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
    if (!batch_job_is_done(b))
        return;
    b->row.completed = (int64_t)b->counts[SUCCEEDED];
    b->row.failed = (int64_t)b->counts[REFUSED];
    if (b->job_err.code != ERR_NONE) {
        batch_fail(b, &b->job_err);
        for (size_t i = 0; i < OUTPUTS; i++) /* what could not be kept will not be by trying again */
            batch_output_hand_over(&b->outputs[i]);
    }
    if (!b->over)
        batch_source_wake(&b->source);
    batch_advance(b);
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
    batch_stop(b, BATCH_EXPIRED);
    batch_advance(b);
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
    if (!batch_job_is_done(b))
        return;
    b->scanned = true;
    b->row.total = (int64_t)b->input.count;
    b->row.completed = (int64_t)b->counts[SUCCEEDED];
    b->row.failed = (int64_t)b->counts[REFUSED];
    if (b->job_err.code != ERR_NONE) {
        batch_fail(b, &b->job_err);
    } else if (b->input.error_count) {
        take_errors(b);
        batch_stop(b, BATCH_FAILED);
    } else if (!b->over) {
        begin(b);
    }
    batch_advance(b);
}

/* ---- what comes next ---- */

static bool is_complete(const struct batch *b)
{
    return b->next >= b->input.count && list_empty(&b->ready) && !batch_source_busy(&b->source);
}

void batch_advance(struct batch *b)
{
    if (b->busy || b->telling || b->all->stopping)
        return;
    if (!b->scanned) {
        batch_start_job(b, scan, on_scanned);
    } else if (batch_pending_bytes(b)) {
        for (size_t i = 0; i < OUTPUTS; i++)
            batch_output_hand_over(&b->outputs[i]);
        batch_start_job(b, write_outcomes, on_outcomes_written);
    } else if (batch_wants_lines(b)) {
        batch_start_job(b, read_ahead, on_read);
    } else if (b->over || is_complete(b)) {
        batch_stop(b, BATCH_COMPLETED);
        batch_begin_end(b);
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
    *b = (struct batch){.all = all, .input_fd = -1, .source = {.next = batch_next_item, .on_done = batch_on_item}};
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
        batch_stop(b, BATCH_CANCELLED);
    batch_advance(b);
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
    batch_stop(b, BATCH_CANCELLED);
    batch_advance(b);
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
