/* An instance's output, loop side: what waits, who is told to stop, who follows.
 *
 * Bytes pass three places: `waiting` grows while a write job owns `writing`; when the job is done the two change
 * places. So there is one write job at a time, the bytes are in order, and everything that comes during one job is
 * written by the next. Together they hold LIMIT_LOG_WAITING bytes; then the caller is told to stop reading the pipe.
 *
 * Rotation: a write job ends early when the file is full; the next one rotates first. With compression a job of its
 * own packs PATH.1 meanwhile, and only when the next file is full before that is done, writing waits for it.
 *
 * Tails wait until everything that came before them is written, and then read through a descriptor of their own.
 *
 * Invariants:
 * 1. `file` and `writing` belong to the write job while `busy`, else to the loop thread.
 * 2. settled <= accepted, both only grow; they are equal when nothing waits.
 * 3. The output is released when it is freed, nothing waits, and no job of any kind runs. */
#include "instance/output.h"

#include <errno.h>
#include <fcntl.h>

#include "base/buf.h"
#include "base/mem.h"
#include "instance/output_file.h"
#include "obs/log.h"

#define COMPLAIN_MS 60000

struct output {
    struct loop *loop;
    struct output_options options;
    struct output_file file;
    struct buf waiting, writing, ring;
    struct buf line; /* the beginning of a line whose end has not come */
    struct loop_job write_job, compress_job;
    struct loop_soon release;
    struct list followers, tails;
    uint64_t accepted, settled, lost; /* bytes */
    uint64_t complained_ms, line_number;
    unsigned tail_jobs;
    bool busy, compressing, full, stopped, mid_line, freed;
    /* results of jobs */
    size_t used;
    uint64_t lost_now;
    bool rotated, full_now, compressed;
    int rotate_error, compress_error;
};

struct follower {
    struct list link;
    void (*on_line)(void *arg, struct str line);
    void *arg;
    uint64_t seen; /* line_number it was last called for */
    struct arena_disposer *disposer;
};

struct tail {
    struct list link; /* of output->tails until its job runs */
    struct output *output;
    struct loop_job job;
    int64_t lines;
    uint64_t after;                  /* accepted when it was asked for */
    struct arena_disposer *disposer; /* NULL: the arena is gone */
    void (*on_found)(void *arg, int fd, uint64_t offset, uint64_t length, const struct err *err);
    void *arg;
    int fd, error;
    uint64_t size, offset;
};

static void go_on(struct output *o);

/* ---- life ---- */

struct output *output_new(struct loop *loop, const struct output_options *options)
{
    struct output *o = mem_calloc(1, sizeof *o);
    o->loop = loop;
    o->options = *options;
    o->options.path = NULL; /* file.path is ours */
    output_file_init(&o->file, options);
    buf_init(&o->waiting, 2 * LIMIT_LOG_WAITING);
    buf_init(&o->writing, 2 * LIMIT_LOG_WAITING);
    buf_init(&o->ring, LIMIT_LOG_RING);
    buf_init(&o->line, LIMIT_LOG_LINE);
    list_init(&o->followers);
    list_init(&o->tails);
    return o;
}

static void release_when_idle(struct output *o)
{
    if (!o->freed || o->busy || o->compressing || o->tail_jobs || o->settled != o->accepted || !list_empty(&o->tails))
        return;
    loop_soon_cancel(&o->release);
    output_file_release(&o->file);
    buf_release(&o->waiting);
    buf_release(&o->writing);
    buf_release(&o->ring);
    buf_release(&o->line);
    mem_free(o);
}

static void on_release(struct loop_soon *soon)
{
    release_when_idle(container_of(soon, struct output, release));
}

static void forget_follower(struct follower *f)
{
    list_remove(&f->link);
    mem_free(f);
}

void output_free(struct output *o)
{
    if (!o || o->freed)
        return;
    o->freed = true;
    list_each (f, &o->followers, struct follower, link) {
        arena_forget(f->disposer);
        forget_follower(f);
    }
    loop_soon(o->loop, &o->release, on_release);
}

/* ---- writing ---- */

static void complain(struct output *o, const char *what, int error)
{
    uint64_t now = loop_now_ms(o->loop);
    if (o->complained_ms && now - o->complained_ms < COMPLAIN_MS)
        return;
    o->complained_ms = now ? now : 1;
    log_warn(what, "lost_bytes=%llu path=%s reason=%s", (unsigned long long)o->lost, o->file.path, strerror(error));
}

static size_t held(const struct output *o)
{
    return o->waiting.len + o->writing.len;
}

static void do_compress(struct loop_job *job)
{
    struct output *o = container_of(job, struct output, compress_job);
    o->compressed = output_file_compress(o->file.path, &o->compress_error);
}

static void on_compressed(struct loop_job *job)
{
    struct output *o = container_of(job, struct output, compress_job);
    o->compressing = false;
    if (!o->compressed)
        complain(o, "rotated output stays uncompressed", o->compress_error);
    go_on(o);
    release_when_idle(o);
}

static void do_write(struct loop_job *job)
{
    struct output *o = container_of(job, struct output, write_job);
    o->rotated = o->full && output_file_rotate(&o->file, &o->rotate_error);
    o->used = output_file_append(&o->file, buf_view(&o->writing), &o->lost_now, &o->full_now);
}

static void proceed(struct output *o)
{
    if (!o->stopped || held(o) > LIMIT_LOG_WAITING / 2 || o->freed)
        return;
    o->stopped = false;
    o->options.on_proceed(o->options.arg);
}

static void compress_rotated(struct output *o)
{
    if (!o->options.compress || o->options.rotated_files == 0)
        return;
    o->compressing = true;
    loop_work(o->loop, &o->compress_job, do_compress, on_compressed);
}

static void on_written(struct loop_job *job)
{
    struct output *o = container_of(job, struct output, write_job);
    if (o->full && !o->rotated)
        complain(o, "output cannot be rotated", o->rotate_error);
    o->busy = false;
    o->full = o->full_now;
    o->settled += o->used;
    o->lost += o->lost_now;
    buf_consume(&o->writing, o->used);
    if (o->writing.len == 0 && o->writing.cap > LIMIT_BUF_SURE)
        buf_release(&o->writing); /* a flood is over sometime */
    if (o->lost_now)
        complain(o, "output cannot be written", o->file.error);
    if (o->rotated)
        compress_rotated(o);
    go_on(o);
    proceed(o);
    release_when_idle(o);
}

static void write_more(struct output *o)
{
    if (o->busy || (o->full && o->compressing))
        return;
    if (o->writing.len == 0) {
        struct buf empty = o->writing;
        o->writing = o->waiting;
        o->waiting = empty;
    }
    if (o->writing.len == 0)
        return;
    o->busy = true;
    loop_work(o->loop, &o->write_job, do_write, on_written);
}

static void start_tails(struct output *o);

static void go_on(struct output *o)
{
    write_more(o);
    start_tails(o);
}

/* ---- taking bytes ---- */

static void keep_in_ring(struct output *o, struct str bytes)
{
    if (bytes.n > LIMIT_LOG_RING)
        bytes = (struct str){bytes.p + bytes.n - LIMIT_LOG_RING, LIMIT_LOG_RING};
    if (o->ring.len + bytes.n > LIMIT_LOG_RING)
        buf_consume(&o->ring, o->ring.len + bytes.n - LIMIT_LOG_RING);
    buf_str(&o->ring, bytes);
}

/* A callback may end its own following, or another's. */
static void tell_followers(struct output *o, struct str line)
{
    o->line_number++;
    for (bool told = true; told;) {
        told = false;
        list_each (f, &o->followers, struct follower, link) {
            if (f->seen == o->line_number)
                continue;
            f->seen = o->line_number;
            told = true;
            f->on_line(f->arg, line);
            break;
        }
    }
}

static void tell_pending_line(struct output *o)
{
    struct buf line = o->line; /* a callback may write more */
    buf_init(&o->line, LIMIT_LOG_LINE);
    tell_followers(o, buf_view(&line));
    buf_release(&line);
}

static void keep_beginning(struct output *o, struct str bytes)
{
    while (bytes.n) {
        size_t room = LIMIT_LOG_LINE - o->line.len, n = bytes.n < room ? bytes.n : room;
        buf_append(&o->line, bytes.p, n);
        bytes = (struct str){bytes.p + n, bytes.n - n};
        if (o->line.len == LIMIT_LOG_LINE && bytes.n)
            tell_pending_line(o);
    }
}

static void follow_bytes(struct output *o, struct str bytes)
{
    while (bytes.n) {
        struct str rest = bytes, line = str_cut(&rest, '\n');
        if (!rest.p) {
            keep_beginning(o, line);
            return;
        }
        if (o->line.len == 0 && line.n <= LIMIT_LOG_LINE) {
            tell_followers(o, line);
        } else {
            keep_beginning(o, line);
            tell_pending_line(o);
        }
        bytes = rest;
    }
}

static void take(struct output *o, struct str bytes)
{
    buf_str(&o->waiting, bytes);
    if (buf_ok(&o->waiting)) {
        o->accepted += bytes.n;
    } else { /* the caller did not stop when told to */
        o->waiting.failed = false;
        o->lost += bytes.n;
        complain(o, "output cannot be kept", ENOBUFS);
    }
    if (bytes.n)
        o->mid_line = bytes.p[bytes.n - 1] != '\n';
    keep_in_ring(o, bytes);
    write_more(o);
    follow_bytes(o, bytes);
}

bool output_write(struct output *o, struct str bytes)
{
    take(o, bytes);
    if (held(o) > LIMIT_LOG_WAITING)
        o->stopped = true;
    return !o->stopped;
}

void output_mark(struct output *o, struct str line)
{
    if (o->mid_line)
        take(o, STR("\n"));
    take(o, line);
    if (o->mid_line)
        take(o, STR("\n"));
}

struct str output_ring(const struct output *o)
{
    struct str text = buf_view(&o->ring), rest = text;
    if (o->ring.len < LIMIT_LOG_RING)
        return text;
    str_cut(&rest, '\n');
    return rest.p ? rest : text;
}

uint64_t output_lost(const struct output *o)
{
    return o->lost;
}

/* ---- reading back ---- */

static void find_tail(struct loop_job *job)
{
    struct tail *t = container_of(job, struct tail, job);
    t->fd = output_file_open(&t->output->file, &t->size, &t->error);
    if (t->fd >= 0 && t->lines > 0)
        t->offset = output_file_last_lines(t->fd, t->size, t->lines);
}

static void report_tail(struct tail *t)
{
    struct err err = ERR_INIT;
    if (t->fd < 0)
        err_set(&err, ERR_IO, "the log cannot be read: %s: %s", t->output->file.path, strerror(t->error));
    t->on_found(t->arg, t->fd, t->offset, t->size - t->offset, t->fd < 0 ? &err : NULL);
}

static void on_tail(struct loop_job *job)
{
    struct tail *t = container_of(job, struct tail, job);
    struct output *o = t->output;
    o->tail_jobs--;
    if (t->disposer) {
        arena_forget(t->disposer);
        report_tail(t);
    } else if (t->fd >= 0) {
        close(t->fd);
    }
    mem_free(t);
    release_when_idle(o);
}

static void start_tails(struct output *o)
{
    list_each (t, &o->tails, struct tail, link) {
        if (t->after > o->settled)
            return;
        list_remove(&t->link);
        o->tail_jobs++;
        loop_work(o->loop, &t->job, find_tail, on_tail);
    }
}

static void on_tail_arena_dead(void *arg)
{
    struct tail *t = arg;
    t->disposer = NULL;
}

void output_tail(struct output *o, int64_t lines, struct arena *arena,
                 void (*on_found)(void *arg, int fd, uint64_t offset, uint64_t length, const struct err *err),
                 void *arg)
{
    struct tail *t = mem_calloc(1, sizeof *t);
    *t = (struct tail){.output = o, .lines = lines, .after = o->accepted, .on_found = on_found, .arg = arg, .fd = -1};
    t->disposer = arena_on_dispose(arena, on_tail_arena_dead, t);
    list_push(&o->tails, &t->link);
    start_tails(o);
}

static void on_follower_arena_dead(void *arg)
{
    forget_follower(arg);
}

void output_follow(struct output *o, struct arena *arena, void (*on_line)(void *arg, struct str line), void *arg)
{
    struct follower *f = mem_calloc(1, sizeof *f);
    *f = (struct follower){.on_line = on_line, .arg = arg, .seen = o->line_number};
    f->disposer = arena_on_dispose(arena, on_follower_arena_dead, f);
    list_push(&o->followers, &f->link);
}
