/* PostgreSQL over libpq: one connection, text parameters and results, made again by `begin` when it broke.
 *
 * A transaction is BEGIN, its statements, COMMIT, each a round trip. Whatever breaks before COMMIT is sent leaves
 * nothing behind, and store.c runs it again; a COMMIT without an answer may or may not have happened, and is reported
 * as just that. Messages carry what the server says in its primary message only: its details quote values. */
#include "store/engine.h"

#include <libpq-fe.h>

#include "base/mem.h"

/* Nobody else takes an advisory lock of this number: the text "inferd" read as a number. */
#define MIGRATION_LOCK "115922885243492"

/* Types by number, as in the server's catalogue pg_type: they never change. */
enum { PG_BOOL = 16, PG_BYTEA = 17, PG_INT8 = 20, PG_INT2 = 21, PG_INT4 = 23, PG_FLOAT4 = 700, PG_FLOAT8 = 701 };

struct pg_db {
    struct store_db db;
    PGconn *conn;
};

static struct pg_db *from_db(struct store_db *db)
{
    return container_of(db, struct pg_db, db);
}

static bool fail_connection(struct pg_db *pg, struct err *err)
{
    char why[256];
    const char *host = PQhost(pg->conn);
    snprintf(why, sizeof why, "%s", PQerrorMessage(pg->conn));
    for (char *p = why; *p; p++)
        *p = *p == '\n' ? ' ' : *p;
    struct str text = str_trim(str_from(why));
    return err_set(err, ERR_IO, "PostgreSQL at %s does not answer: " STR_FMT,
                   host && *host ? host : "its usual address", STR_ARG(text));
}

/* Class 22 (bad data) quotes the value even in the primary message. */
static bool fail(struct pg_db *pg, const PGresult *result, struct err *err)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *why = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (!state || PQstatus(pg->conn) != CONNECTION_OK)
        return fail_connection(pg, err);
    if (strcmp(state, "23505") == 0 || strcmp(state, "23503") == 0)
        return err_set(err, ERR_CONFLICT, "The database refuses the change: %s.", why);
    if (strcmp(state, "53100") == 0)
        return err_set(err, ERR_INSUFFICIENT_STORAGE, "PostgreSQL has no room for the change: make room on its disk.");
    return err_set(err, ERR_IO, "PostgreSQL refuses with %s: %s.", state,
                   strncmp(state, "22", 2) == 0 ? "bad data" : why);
}

static bool succeeded(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

static bool execute(struct pg_db *pg, const char *sql, struct err *err)
{
    PGresult *result = PQexec(pg->conn, sql);
    bool ok = succeeded(result) || fail(pg, result, err);
    PQclear(result);
    return ok;
}

/* ---- opening ---- */

/* Acknowledged means on disk, whatever the server's default says; stronger settings stay. */
static bool setup(struct pg_db *pg, struct err *err)
{
    return execute(pg,
                   "SELECT set_config('synchronous_commit', 'on', false)"
                   " WHERE current_setting('synchronous_commit') = 'off'",
                   err);
}

static void ignore_notice(void *arg, const char *text)
{
    (void)arg;
    (void)text;
}

/* libpq's words for a URL that it cannot read may hold the password. */
static bool check_url(const char *url, struct err *err)
{
    PQconninfoOption *parts = PQconninfoParse(url, NULL);
    PQconninfoFree(parts);
    return parts || err_set(err, ERR_CONFIG,
                            "database.path is no PostgreSQL URL: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, "
                            "other characters of a part as %%XX.");
}

static bool open_connection(struct pg_db *pg, const char *url, struct err *err)
{
    const char *const keys[] = {"connect_timeout", "tcp_user_timeout", "application_name",
                                "dbname",          "client_encoding",  0};
    const char *const values[] = {"5", "30000", "inferd", url, "UTF8", 0};
    pg->conn = PQconnectdbParams(keys, values, 1); /* 1: dbname may be a URL, whose own values come first */
    if (PQstatus(pg->conn) != CONNECTION_OK)
        return fail_connection(pg, err);
    PQsetNoticeProcessor(pg->conn, ignore_notice, NULL);
    return setup(pg, err);
}

/* ---- the engine ---- */

static bool pg_begin(struct store_db *db, struct err *err)
{
    struct pg_db *pg = from_db(db);
    if (PQstatus(pg->conn) != CONNECTION_OK) {
        PQreset(pg->conn);
        if (PQstatus(pg->conn) != CONNECTION_OK)
            return fail_connection(pg, err);
        if (!setup(pg, err))
            return false;
    }
    return execute(pg, "BEGIN", err);
}

static bool pg_begin_migration(struct store_db *db, struct err *err)
{
    return pg_begin(db, err) && execute(from_db(db), "SELECT pg_advisory_xact_lock(" MIGRATION_LOCK ")", err);
}

static bool pg_script(struct store_db *db, const char *sql, struct err *err)
{
    return execute(from_db(db), sql, err);
}

static bool pg_lost(struct store_db *db)
{
    return PQstatus(from_db(db)->conn) != CONNECTION_OK;
}

static bool pg_commit(struct store_db *db, struct err *err)
{
    struct pg_db *pg = from_db(db);
    if (execute(pg, "COMMIT", err))
        return true;
    if (pg_lost(db))
        err_set(err, ERR_IO,
                "The connection to PostgreSQL broke during a commit: whether the change was stored is unknown.");
    return false;
}

static void pg_rollback(struct store_db *db)
{
    struct pg_db *pg = from_db(db);
    if (PQtransactionStatus(pg->conn) == PQTRANS_INTRANS || PQtransactionStatus(pg->conn) == PQTRANS_INERROR)
        PQclear(PQexec(pg->conn, "ROLLBACK"));
}

static const char *write_blob(struct arena *arena, struct str bytes)
{
    char *text = arena_alloc(arena, bytes.n * 2 + 3);
    static const char digits[] = "0123456789abcdef";
    text[0] = '\\';
    text[1] = 'x';
    for (size_t i = 0; i < bytes.n; i++) {
        unsigned char byte = (unsigned char)bytes.p[i];
        text[2 + 2 * i] = digits[byte >> 4];
        text[3 + 2 * i] = digits[byte & 15];
    }
    text[2 + 2 * bytes.n] = '\0';
    return text;
}

/* The parameter as text ended by NUL; NULL for NULL. */
static const char *write_value(struct arena *arena, const struct store_value *v)
{
    switch (v->type) {
    case STORE_NULL: return NULL;
    case STORE_INT: return arena_printf(arena, "%lld", (long long)v->integer);
    case STORE_REAL: return arena_printf(arena, "%.17g", v->real);
    case STORE_TEXT: return arena_strndup(arena, v->text.n ? v->text.p : "", v->text.n);
    case STORE_BLOB: return write_blob(arena, v->text);
    }
    return NULL;
}

static bool add_blob(struct store_rows *rows, const char *text, struct err *err)
{
    size_t n = 0;
    unsigned char *bytes = PQunescapeBytea((const unsigned char *)text, &n);
    bool ok = bytes ? store_rows_add(rows, store_blob((struct str){(char *)bytes, n}), err)
                    : err_set(err, ERR_IO, "There is no memory for the database's answer.");
    PQfreemem(bytes);
    return ok;
}

static bool add_value(struct store_rows *rows, const PGresult *result, int row, int column, struct err *err)
{
    const char *text = PQgetvalue(result, row, column);
    if (PQgetisnull(result, row, column))
        return store_rows_add(rows, (struct store_value){.type = STORE_NULL}, err);
    switch (PQftype(result, column)) {
    case PG_BOOL: return store_rows_add(rows, store_int(text[0] == 't'), err);
    case PG_INT2:
    case PG_INT4:
    case PG_INT8: return store_rows_add(rows, store_int(strtoll(text, NULL, 10)), err);
    case PG_FLOAT4:
    case PG_FLOAT8:
        return store_rows_add(rows, (struct store_value){.type = STORE_REAL, .real = strtod(text, NULL)}, err);
    case PG_BYTEA: return add_blob(rows, text, err);
    }
    return store_rows_add(rows, store_text((struct str){text, (size_t)PQgetlength(result, row, column)}), err);
}

static bool read_result(const PGresult *result, struct arena *arena, struct store_result *ret_result, struct err *err)
{
    struct store_rows rows;
    int columns = PQnfields(result), count = PQntuples(result);
    bool ok = true;
    store_rows_init(&rows, arena);
    for (int row = 0; row < count && ok; row++)
        for (int column = 0; column < columns && ok; column++)
            ok = add_value(&rows, result, row, column, err);
    bool read_only = strncmp(PQcmdStatus((PGresult *)result), "SELECT", 6) == 0; /* its count is of rows read */
    store_rows_end(&rows, (size_t)columns, read_only ? 0 : strtoll(PQcmdTuples((PGresult *)result), NULL, 10),
                   ret_result);
    return ok;
}

static bool pg_run(struct store_db *db, const struct store_statement *statement, struct arena *arena,
                   struct store_result *ret_result, struct err *err)
{
    struct pg_db *pg = from_db(db);
    struct arena texts;
    const char *params[STORE_PARAMS];
    unsigned count = store_param_count(statement->sql);
    arena_init(&texts);
    for (unsigned i = 0; i < count; i++)
        params[i] = write_value(&texts, &statement->params[i]);
    PGresult *result = PQexecParams(pg->conn, statement->sql, (int)count, NULL, params, NULL, NULL, 0);
    bool ok = succeeded(result) ? read_result(result, arena, ret_result, err) : fail(pg, result, err);
    PQclear(result);
    arena_dispose(&texts);
    return ok;
}

static void pg_close(struct store_db *db)
{
    struct pg_db *pg = from_db(db);
    PQfinish(pg->conn);
    mem_free(pg);
}

static const struct store_engine pg_engine = {.blob_type = "BYTEA",
                                              .begin_migration = pg_begin_migration,
                                              .begin = pg_begin,
                                              .run = pg_run,
                                              .script = pg_script,
                                              .commit = pg_commit,
                                              .rollback = pg_rollback,
                                              .lost = pg_lost,
                                              .close = pg_close};

struct store_db *store_pg_open(const char *url, struct err *err)
{
    struct pg_db *pg = mem_calloc(1, sizeof *pg);
    pg->db.engine = &pg_engine;
    if (check_url(url, err) && open_connection(pg, url, err))
        return &pg->db;
    pg_close(&pg->db);
    return NULL;
}
