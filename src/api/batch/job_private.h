/* The inside of a batch in the background, shared by its files: job.c (its life, and all of them), job_item.c (its
 * lines as items), job_end.c (its end). Design and invariants stand at the head of job.c. */
#ifndef API_BATCH_JOB_PRIVATE_H
#define API_BATCH_JOB_PRIVATE_H

#include "api/batch/batches.h"
#include "api/batch/files.h"
#include "api/batch/input.h"
#include "api/batch/output.h"
#include "api/batch/pool.h"

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

/* job.c */
void batch_advance(struct batch *b); /* starts what comes next, if anything */
/* Nothing more is started; what runs is cancelled and forgotten. What was written stays. Advance after it. */
void batch_stop(struct batch *b, enum batch_status end);
void batch_fail(struct batch *b, const struct err *err); /* stops it as failed, and says why */
void batch_free(struct batch *b);
void batch_lines_release(struct list *lines);
struct store_statement batch_set_state(const struct batch *b); /* stores its row */
void batch_start_job(struct batch *b, void (*work)(struct loop_job *), void (*done)(struct loop_job *));
bool batch_job_is_done(struct batch *b); /* false: the daemon is ending; nothing but the batch may be touched */
struct line *batch_read_line(const struct batch *b, size_t number); /* blocking; NULL: it cannot be read */
size_t batch_pending_bytes(const struct batch *b);
bool batch_wants_lines(const struct batch *b);

/* job_item.c: for its struct batch_source */
struct batch_item *batch_next_item(struct batch_source *source);
void batch_on_item(struct batch_source *source, const struct batch_item *item, struct str reply, const struct err *err);

/* job_end.c: once it is over and everything pending is written */
void batch_begin_end(struct batch *b);

static inline struct batch *batch_of(struct loop_job *job)
{
    return container_of(job, struct batch, job);
}

#endif
