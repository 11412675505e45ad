/* The queue between the loop and the database.
 *
 * One thread owns the database and runs one transaction after the other; so they come to it, and come back, in the
 * order of the calls. Two lists under one lock: calls that wait for the thread, and calls that wait for their callback.
 * The thread wakes the loop by a handle of the store's own, so that closing the store leaves no message behind that
 * could arrive later.
 *
 * A call belongs to the thread from store_transact until it is in `ended`, except for on_done and arg, which only the
 * loop thread touches: this is how a caller can be forgotten without waiting for the database. */
#include "store/store.h"

#include <assert.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "obs/log.h"
#include "store/engine.h"

struct store {
    struct loop *loop;
    struct store_db *db; /* the thread's, once it runs */
    uv_thread_t thread;
    uv_mutex_t lock;
    uv_cond_t more;      /* `waiting` or `closing` changed */
    uv_cond_t answered;  /* a call of store_transact_now has ended */
    struct list waiting; /* guarded; struct store_call */
    struct list ended;   /* guarded */
    bool closing;        /* guarded */
    uv_async_t wake;     /* `ended` has calls */
    size_t unfinished;   /* calls whose on_done has not come */
    uint64_t failed_ms;  /* when the database failed last */
};

struct store_call {
    struct list link;
    struct arena arena; /* the statements, and the results of an ordinary call */
    struct store_statement *statements;
    size_t count;
    struct arena *result_arena;
    struct store_result *results;
    bool ok, blocking;
    bool answered; /* guarded: of a blocking call */
    struct err err;
    void (*on_done)(void *arg, const struct store_result *results, const struct err *err);
    void *arg;
};

unsigned store_param_count(const char *sql)
{
    unsigned most = 0;
    while ((sql = strchr(sql, '$'))) {
        unsigned n = (unsigned)strtoul(++sql, NULL, 10);
        most = n > most ? n : most;
    }
    assert(most <= STORE_PARAMS);
    return most;
}

void store_rows_init(struct store_rows *rows, struct arena *arena)
{
    *rows = (struct store_rows){.arena = arena};
    buf_init(&rows->values, LIMIT_STORE_RESULT);
}

bool store_rows_add(struct store_rows *rows, struct store_value value, struct err *err)
{
    rows->bytes += sizeof value + value.text.n;
    if (rows->bytes > LIMIT_STORE_RESULT)
        return err_set(err, ERR_IO, "The database's answer is longer than %u bytes.", LIMIT_STORE_RESULT);
    if (value.type == STORE_TEXT || value.type == STORE_BLOB)
        value.text = arena_str(rows->arena, value.text);
    buf_append(&rows->values, &value, sizeof value);
    return buf_ok(&rows->values) || err_set(err, ERR_IO, "There is no memory for the database's answer.");
}

void store_rows_end(struct store_rows *rows, size_t columns, int64_t changed, struct store_result *ret_result)
{
    struct store_value *values = arena_alloc(rows->arena, rows->values.len);
    if (rows->values.len)
        memcpy(values, rows->values.data, rows->values.len);
    *ret_result = (struct store_result){.rows = columns ? rows->values.len / sizeof *values / columns : 0,
                                        .columns = columns,
                                        .changed = changed,
                                        .values = values};
    buf_release(&rows->values);
}

/* ---- the thread ---- */

static bool attempt(struct store_db *db, struct store_call *call, bool *ret_committing)
{
    *ret_committing = false;
    if (!db->engine->begin(db, &call->err))
        return false;
    for (size_t i = 0; i < call->count; i++)
        if (!db->engine->run(db, &call->statements[i], call->result_arena, &call->results[i], &call->err))
            return false;
    *ret_committing = true;
    return db->engine->commit(db, &call->err);
}

/* A connection that broke before the commit was sent took nothing with it: once more over a new one. */
static void run_call(struct store_db *db, struct store_call *call)
{
    bool committing;
    call->results = arena_calloc(call->result_arena, call->count * sizeof *call->results);
    call->ok = attempt(db, call, &committing);
    if (!call->ok && !committing && db->engine->lost(db))
        call->ok = attempt(db, call, &committing);
    if (!call->ok)
        db->engine->rollback(db);
}

/* Under the lock. NULL: the store is closing and nothing waits. */
static struct store_call *next_call(struct store *s)
{
    while (list_empty(&s->waiting) && !s->closing)
        uv_cond_wait(&s->more, &s->lock);
    if (list_empty(&s->waiting))
        return NULL;
    struct store_call *call = list_first(&s->waiting, struct store_call, link);
    list_remove(&call->link);
    return call;
}

/* Under the lock. */
static void end_call(struct store *s, struct store_call *call)
{
    if (list_empty(&s->ended))
        uv_async_send(&s->wake);
    list_push(&s->ended, &call->link);
}

static void serve(void *arg)
{
    struct store *s = arg;
    struct store_call *call;
    uv_mutex_lock(&s->lock);
    while ((call = next_call(s))) {
        uv_mutex_unlock(&s->lock);
        if (call->err.code == ERR_NONE) /* else it was refused before it came here */
            run_call(s->db, call);
        uv_mutex_lock(&s->lock);
        if (call->blocking) {
            call->answered = true;
            uv_cond_signal(&s->answered);
            continue;
        }
        end_call(s, call);
    }
    uv_mutex_unlock(&s->lock);
}

/* ---- the loop ---- */

static void call_free(struct store_call *call)
{
    arena_dispose(&call->arena);
    mem_free(call);
}

uint64_t store_failed_ms(const struct store *s)
{
    return s->failed_ms;
}

static void finish(struct store *s, struct store_call *call)
{
    s->unfinished--;
    if (!call->ok && (call->err.code == ERR_IO || call->err.code == ERR_INSUFFICIENT_STORAGE))
        s->failed_ms = clock_ms();
    if (call->on_done)
        call->on_done(call->arg, call->ok ? call->results : NULL, call->ok ? NULL : &call->err);
    else if (!call->ok)
        log_error("a change was not stored", "error=%s", call->err.message);
    call_free(call);
}

static struct store_call *take_ended(struct store *s)
{
    struct store_call *call = NULL;
    uv_mutex_lock(&s->lock);
    if (!list_empty(&s->ended)) {
        call = list_first(&s->ended, struct store_call, link);
        list_remove(&call->link);
    }
    uv_mutex_unlock(&s->lock);
    return call;
}

/* A callback may close the store; its memory stays until the handle is closed, in a later turn. */
static void on_wake(uv_async_t *handle)
{
    struct store *s = container_of(handle, struct store, wake);
    struct store_call *call;
    while (!s->closing && (call = take_ended(s)))
        finish(s, call);
}

struct store *store_open(struct loop *loop, const char *where, struct err *err)
{
    struct str place = str_from(where);
    bool pg = str_starts(place, STR("postgresql://")) || str_starts(place, STR("postgres://"));
    struct store_db *db = pg ? store_pg_open(where, err) : store_sqlite_open(where, err);
    if (!db)
        return NULL;
    if (!store_migrate(db, err)) {
        db->engine->close(db);
        return NULL;
    }
    struct store *s = mem_calloc(1, sizeof *s);
    s->loop = loop;
    s->db = db;
    list_init(&s->waiting);
    list_init(&s->ended);
    if (uv_mutex_init(&s->lock) || uv_cond_init(&s->more) || uv_cond_init(&s->answered) ||
        uv_async_init(&loop->uv, &s->wake, on_wake) || uv_thread_create(&s->thread, serve, s)) {
        fprintf(stderr, "inferd: the system has no thread for the database\n");
        exit(MEM_EXIT);
    }
    return s;
}

static void on_closed(uv_handle_t *handle)
{
    mem_free(container_of((uv_async_t *)handle, struct store, wake));
}

void store_close(struct store *s)
{
    struct store_call *call;
    if (!s)
        return;
    uv_mutex_lock(&s->lock);
    s->closing = true;
    uv_cond_signal(&s->more);
    uv_mutex_unlock(&s->lock);
    uv_thread_join(&s->thread);
    s->db->engine->close(s->db);
    while ((call = take_ended(s))) {
        call->on_done = NULL;
        finish(s, call);
    }
    uv_mutex_destroy(&s->lock);
    uv_cond_destroy(&s->more);
    uv_cond_destroy(&s->answered);
    uv_close((uv_handle_t *)&s->wake, on_closed);
}

static void check_texts(struct store_call *call, const struct store_statement *statement)
{
    for (size_t i = 0; i < STORE_PARAMS; i++) {
        const struct store_value *v = &statement->params[i];
        if (v->type == STORE_TEXT &&
            (!utf8_valid(v->text.p, v->text.n) || (v->text.n && memchr(v->text.p, 0, v->text.n))))
            err_set(&call->err, ERR_INVALID_PARAMETERS, "A text to be stored is not valid UTF-8, or holds a NUL.");
    }
}

static void copy_statement(struct store_call *call, struct store_statement *copy)
{
    for (size_t i = 0; i < STORE_PARAMS; i++)
        if (copy->params[i].type == STORE_TEXT || copy->params[i].type == STORE_BLOB)
            copy->params[i].text = arena_str(&call->arena, copy->params[i].text);
}

static struct store_call *call_new(const struct store_statement *statements, size_t count)
{
    struct store_call *call = mem_calloc(1, sizeof *call);
    arena_init(&call->arena);
    call->result_arena = &call->arena;
    call->count = count;
    call->statements = arena_alloc(&call->arena, count * sizeof *statements);
    memcpy(call->statements, statements, count * sizeof *statements);
    for (size_t i = 0; i < count; i++) {
        check_texts(call, &statements[i]);
        copy_statement(call, &call->statements[i]);
    }
    return call;
}

static void enqueue(struct store *s, struct store_call *call)
{
    uv_mutex_lock(&s->lock);
    list_push(&s->waiting, &call->link);
    uv_cond_signal(&s->more);
    uv_mutex_unlock(&s->lock);
}

/* Not in order, but at once: a refusal that waits for a slow database would be of no use. */
static void refuse(struct store *s, struct store_call *call)
{
    err_set(&call->err, ERR_SERVER_OVERLOADED, "%d changes wait for the database; try again shortly.",
            LIMIT_STORE_CALLS);
    uv_mutex_lock(&s->lock);
    end_call(s, call);
    uv_mutex_unlock(&s->lock);
}

struct store_call *store_transact(struct store *s, const struct store_statement *statements, size_t count,
                                  void (*on_done)(void *arg, const struct store_result *results, const struct err *err),
                                  void *arg)
{
    bool full = s->unfinished >= LIMIT_STORE_CALLS;
    struct store_call *call = call_new(statements, full ? 0 : count);
    call->on_done = on_done;
    call->arg = arg;
    s->unfinished++;
    if (full)
        refuse(s, call);
    else
        enqueue(s, call);
    return call;
}

void store_call_forget(struct store_call *call)
{
    call->on_done = NULL;
}

bool store_transact_now(struct store *s, const struct store_statement *statements, size_t count, struct arena *arena,
                        struct store_result *ret_results, struct err *err)
{
    struct store_call *call = call_new(statements, count);
    call->blocking = true;
    call->result_arena = arena;
    enqueue(s, call);
    uv_mutex_lock(&s->lock);
    while (!call->answered)
        uv_cond_wait(&s->answered, &s->lock);
    uv_mutex_unlock(&s->lock);
    bool ok = call->ok;
    if (ok && ret_results)
        memcpy(ret_results, call->results, count * sizeof *ret_results);
    if (!ok)
        *err = call->err;
    call_free(call);
    return ok;
}
