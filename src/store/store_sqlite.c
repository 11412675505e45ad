/* SQLite: the file and its guards.
 *
 * A database file is precious: this opens it, or says what is wrong with it, and changes nothing of a file it does not
 * understand. In order: find the real path (so that two names of one file meet at one lock), lock PATH.lock, make the
 * file if there is none, read all of it (quick_check), look for our mark (application_id); only then may anything be
 * written. An empty file and a log without its file are remains of something: they are not taken for a new beginning.
 *
 * The lock file stays when the daemon ends, the lock does not: nothing has to be cleaned up after a crash. SQLite's own
 * locks stay shared, so that `sqlite3 PATH .backup` works while the daemon runs. */
#include "store/engine.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/mem.h"

#define APPLICATION_ID 0x696e6664 /* "infd", in the file's header */
#define BUSY_MS        5000       /* for others who read or write the file */

struct sqlite_db {
    struct store_db db;
    sqlite3 *handle;
    int lock_fd;
    char path[PATH_MAX];
};

static struct sqlite_db *from_db(struct store_db *db)
{
    return container_of(db, struct sqlite_db, db);
}

static bool is_conflict(int extended)
{
    return extended == SQLITE_CONSTRAINT_UNIQUE || extended == SQLITE_CONSTRAINT_PRIMARYKEY ||
           extended == SQLITE_CONSTRAINT_FOREIGNKEY;
}

/* SQLite's messages name tables and columns, never values. */
static bool fail(struct sqlite_db *s, struct err *err)
{
    int code = sqlite3_errcode(s->handle) & 0xff, system = sqlite3_system_errno(s->handle);
    const char *why = sqlite3_errmsg(s->handle);
    bool io = code == SQLITE_IOERR || code == SQLITE_CANTOPEN;
    if (is_conflict(sqlite3_extended_errcode(s->handle)))
        return err_set(err, ERR_CONFLICT, "The database refuses the change: %s.", why);
    if (code == SQLITE_FULL || (io && (system == ENOSPC || system == EDQUOT)))
        return err_set(err, ERR_INSUFFICIENT_STORAGE, "No room for the change to %s: make room on its disk.", s->path);
    if (code == SQLITE_NOTADB)
        return err_set(err, ERR_CONFIG,
                       "%s is not an SQLite database; it was left as it is: set database.path to another file.",
                       s->path);
    if (code == SQLITE_CORRUPT)
        return err_set(
            err, ERR_CONFIG,
            "The database %s is damaged (%s); it was left as it is: restore a backup, or move it away to begin "
            "anew.",
            s->path, why);
    return err_set(err, ERR_IO, "The database %s: %s.", s->path, why);
}

static bool execute(struct sqlite_db *s, const char *sql, struct err *err)
{
    return sqlite3_exec(s->handle, sql, NULL, NULL, NULL) == SQLITE_OK || fail(s, err);
}

/* ---- opening ---- */

/* The real path of a file that may not exist yet, in a folder that does. */
static bool find_path(const char *path, char *out, struct err *err)
{
    char folder[PATH_MAX], real[PATH_MAX];
    if (realpath(path, out))
        return true;
    const char *slash = strrchr(path, '/');
    int n = !slash ? snprintf(folder, sizeof folder, ".")
                   : snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
    if (errno == ENOENT && n < (int)sizeof folder && realpath(folder, real) &&
        snprintf(out, PATH_MAX, "%s/%s", real, slash ? slash + 1 : path) < PATH_MAX)
        return true;
    return err_set(err, ERR_CONFIG, "The database %s cannot be opened: %s.", path, strerror(errno));
}

static bool take_lock(struct sqlite_db *s, struct err *err)
{
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s.lock", s->path);
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock_fd < 0)
        return err_set(err, ERR_CONFIG, "%s cannot be opened: %s.", path, strerror(errno));
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno == EWOULDBLOCK)
        return err_set(err, ERR_CONFIG,
                       "Another inferd uses the database %s: stop it, or give this one a database.path of its own.",
                       s->path);
    return err_set(err, ERR_CONFIG, "%s cannot be locked: %s.", path, strerror(errno));
}

static bool sync_folder(const char *path)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path) + 1, path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static void remove_draft(const char *draft)
{
    char journal[PATH_MAX + 24];
    snprintf(journal, sizeof journal, "%s-journal", draft);
    unlink(journal);
    unlink(draft);
}

/* A database of ours without tables, for its owner alone. */
static bool write_draft(struct sqlite_db *s, const char *draft, struct err *err)
{
    char mark[64];
    snprintf(mark, sizeof mark, "PRAGMA application_id = %d", APPLICATION_ID);
    int fd = open(draft, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(err, ERR_CONFIG, "The database %s cannot be made: %s.", s->path, strerror(errno));
    close(fd);
    bool ok = (sqlite3_open_v2(draft, &s->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK &&
               sqlite3_exec(s->handle, mark, NULL, NULL, NULL) == SQLITE_OK) ||
              fail(s, err);
    sqlite3_close(s->handle);
    s->handle = NULL;
    return ok;
}

/* Written under another name, so that whatever ends us on the way leaves no half a file to stumble over. */
static bool make_new(struct sqlite_db *s, struct err *err)
{
    char draft[PATH_MAX + 8];
    snprintf(draft, sizeof draft, "%s.new", s->path);
    remove_draft(draft); /* an earlier one's; the lock is ours */
    if (!write_draft(s, draft, err)) {
        remove_draft(draft);
        return false;
    }
    return (rename(draft, s->path) == 0 && sync_folder(s->path)) ||
           err_set(err, ERR_IO, "The folder of %s cannot be written: %s.", s->path, strerror(errno));
}

/* Makes the file if there is none. An existing one is not opened here: closing it again would drop the locks that
 * SQLite holds for this process. */
static bool make_file(struct sqlite_db *s, struct err *err)
{
    char log[PATH_MAX + 8];
    struct stat st;
    snprintf(log, sizeof log, "%s-wal", s->path);
    bool has_file = stat(s->path, &st) == 0;
    if (has_file && st.st_size > 0)
        return true;
    if (has_file)
        return err_set(err, ERR_CONFIG, "The database %s is empty: restore a backup, or remove it to begin anew.",
                       s->path);
    if (stat(log, &st) == 0 && st.st_size > 0)
        return err_set(
            err, ERR_CONFIG,
            "The database %s is gone, but its log %s is there: bring it back, or remove the log to begin anew.",
            s->path, log);
    return make_new(s, err);
}

static int note_problem(void *arg, int count, char **values, char **names)
{
    struct buf *problems = arg;
    (void)names;
    if (count == 1 && values[0] && strcmp(values[0], "ok") != 0 && problems->len == 0)
        buf_puts(problems, values[0]);
    return 0;
}

static bool check_whole(struct sqlite_db *s, struct err *err)
{
    struct buf problems;
    buf_init(&problems, LIMIT_ERR_MESSAGE);
    bool ok =
        sqlite3_exec(s->handle, "PRAGMA quick_check(1)", note_problem, &problems, NULL) == SQLITE_OK || fail(s, err);
    if (ok && problems.len)
        ok = err_set(
            err, ERR_CONFIG,
            "The database %s is damaged; it was left as it is: restore a backup, or move it away to begin anew. %s",
            s->path, problems.data);
    buf_release(&problems);
    return ok;
}

static int note_number(void *arg, int count, char **values, char **names)
{
    (void)count;
    (void)names;
    *(long *)arg = values[0] ? strtol(values[0], NULL, 10) : 0;
    return 0;
}

static bool check_mark(struct sqlite_db *s, struct err *err)
{
    long mark = 0;
    if (sqlite3_exec(s->handle, "PRAGMA application_id", note_number, &mark, NULL) != SQLITE_OK)
        return fail(s, err);
    return mark == APPLICATION_ID ||
           err_set(err, ERR_CONFIG,
                   "%s is the database of another program: set database.path to a file of inferd's own.", s->path);
}

static bool setup(struct sqlite_db *s, struct err *err)
{
    sqlite3_busy_timeout(s->handle, BUSY_MS);
    /* Until the file is known to be whole, closing must not copy the log into it. */
    sqlite3_db_config(s->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    if (!check_whole(s, err) || !check_mark(s, err))
        return false;
    sqlite3_db_config(s->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    return execute(s,
                   "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
                   "PRAGMA cell_size_check = ON;",
                   err);
}

/* ---- the engine ---- */

static bool sqlite_begin(struct store_db *db, struct err *err)
{
    return execute(from_db(db), "BEGIN IMMEDIATE", err);
}

static bool sqlite_script(struct store_db *db, const char *sql, struct err *err)
{
    return execute(from_db(db), sql, err);
}

static bool sqlite_commit(struct store_db *db, struct err *err)
{
    return execute(from_db(db), "COMMIT", err);
}

static void sqlite_rollback(struct store_db *db)
{
    struct sqlite_db *s = from_db(db);
    if (!sqlite3_get_autocommit(s->handle)) /* some failures roll back by themselves */
        sqlite3_exec(s->handle, "ROLLBACK", NULL, NULL, NULL);
}

static bool sqlite_lost(struct store_db *db)
{
    (void)db;
    return false;
}

static int bind_value(sqlite3_stmt *stmt, int at, const struct store_value *v)
{
    switch (v->type) {
    case STORE_NULL: return sqlite3_bind_null(stmt, at);
    case STORE_INT: return sqlite3_bind_int64(stmt, at, v->integer);
    case STORE_REAL: return sqlite3_bind_double(stmt, at, v->real);
    case STORE_TEXT: return sqlite3_bind_text64(stmt, at, v->text.p, v->text.n, SQLITE_STATIC, SQLITE_UTF8);
    case STORE_BLOB: return sqlite3_bind_blob64(stmt, at, v->text.p, v->text.n, SQLITE_STATIC);
    }
    return SQLITE_MISUSE;
}

static bool bind_all(struct sqlite_db *s, sqlite3_stmt *stmt, const struct store_statement *statement, struct err *err)
{
    unsigned count = store_param_count(statement->sql);
    for (unsigned i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof name, "$%u", i + 1);
        int at = sqlite3_bind_parameter_index(stmt, name);
        if (at && bind_value(stmt, at, &statement->params[i]) != SQLITE_OK)
            return fail(s, err);
    }
    return true;
}

static struct store_value read_value(sqlite3_stmt *stmt, int column)
{
    struct str bytes;
    switch (sqlite3_column_type(stmt, column)) {
    case SQLITE_INTEGER: return store_int(sqlite3_column_int64(stmt, column));
    case SQLITE_FLOAT: return (struct store_value){.type = STORE_REAL, .real = sqlite3_column_double(stmt, column)};
    case SQLITE_TEXT:
        bytes.p = (const char *)sqlite3_column_text(stmt, column);
        bytes.n = (size_t)sqlite3_column_bytes(stmt, column);
        return store_text(bytes);
    case SQLITE_BLOB:
        bytes.p = sqlite3_column_blob(stmt, column);
        bytes.n = (size_t)sqlite3_column_bytes(stmt, column);
        return store_blob(bytes);
    }
    return (struct store_value){.type = STORE_NULL};
}

static bool read_rows(struct sqlite_db *s, sqlite3_stmt *stmt, struct store_rows *rows, struct err *err)
{
    int columns = sqlite3_column_count(stmt), rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
        for (int i = 0; i < columns; i++)
            if (!store_rows_add(rows, read_value(stmt, i), err))
                return false;
    return rc == SQLITE_DONE || fail(s, err);
}

static bool run_prepared(struct sqlite_db *s, sqlite3_stmt *stmt, const struct store_statement *statement,
                         struct arena *arena, struct store_result *ret_result, struct err *err)
{
    struct store_rows rows;
    sqlite3_int64 before = sqlite3_total_changes64(s->handle);
    store_rows_init(&rows, arena);
    bool ok = bind_all(s, stmt, statement, err) && read_rows(s, stmt, &rows, err);
    /* The count of the last change stays where it was when a statement changes nothing. */
    bool changed = ok && sqlite3_total_changes64(s->handle) != before;
    store_rows_end(&rows, (size_t)sqlite3_column_count(stmt), changed ? sqlite3_changes64(s->handle) : 0, ret_result);
    return ok;
}

static bool sqlite_run(struct store_db *db, const struct store_statement *statement, struct arena *arena,
                       struct store_result *ret_result, struct err *err)
{
    struct sqlite_db *s = from_db(db);
    sqlite3_stmt *stmt;
    if (sqlite3_prepare_v2(s->handle, statement->sql, -1, &stmt, NULL) != SQLITE_OK)
        return fail(s, err);
    bool ok = run_prepared(s, stmt, statement, arena, ret_result, err);
    sqlite3_finalize(stmt);
    return ok;
}

static void sqlite_close(struct store_db *db)
{
    struct sqlite_db *s = from_db(db);
    int rc = sqlite3_close(s->handle); /* NULL is fine */
    assert(rc == SQLITE_OK && "a statement was left open");
    (void)rc;
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    mem_free(s);
}

static const struct store_engine sqlite_engine = {.blob_type = "BLOB",
                                                  .begin_migration = sqlite_begin,
                                                  .begin = sqlite_begin,
                                                  .run = sqlite_run,
                                                  .script = sqlite_script,
                                                  .commit = sqlite_commit,
                                                  .rollback = sqlite_rollback,
                                                  .lost = sqlite_lost,
                                                  .close = sqlite_close};

static bool open_handle(struct sqlite_db *s, struct err *err)
{
    int rc = sqlite3_open_v2(s->path, &s->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    return rc == SQLITE_OK || fail(s, err);
}

struct store_db *store_sqlite_open(const char *path, struct err *err)
{
    struct sqlite_db *s = mem_calloc(1, sizeof *s);
    s->db.engine = &sqlite_engine;
    s->lock_fd = -1;
    if (find_path(path, s->path, err) && take_lock(s, err) && make_file(s, err) && open_handle(s, err) && setup(s, err))
        return &s->db;
    sqlite_close(&s->db);
    return NULL;
}
