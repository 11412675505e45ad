/* Durable state: SQL in SQLite (WAL; one thread owns the only connection) or PostgreSQL (libpq; one thread, one
 * connection, made again when it breaks). One schema and one SQL text for both: statements use $1, $2... and only what
 * both engines understand; what differs is named in schema/ by words that migrate.c replaces.
 *
 * An acknowledged transaction is on disk (SQLite: synchronous=FULL). Calls belong to the loop thread; callbacks come
 * there, in the order of the calls. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "loop/loop.h"

struct store;
struct store_call;

#define STORE_PARAMS 16 /* $1 to $16 */

enum store_type { STORE_NULL, STORE_INT, STORE_REAL, STORE_TEXT, STORE_BLOB };

struct store_value {
    enum store_type type;
    int64_t integer;
    double real;
    struct str text; /* of STORE_TEXT and STORE_BLOB */
};

static inline struct store_value store_int(int64_t value)
{
    return (struct store_value){.type = STORE_INT, .integer = value};
}

static inline struct store_value store_text(struct str value)
{
    return (struct store_value){.type = STORE_TEXT, .text = value};
}

static inline struct store_value store_blob(struct str value)
{
    return (struct store_value){.type = STORE_BLOB, .text = value};
}

/* A parameter left out is NULL. sql must be a string that lives as long as the store (a literal); text and blobs are
 * copied. */
struct store_statement {
    const char *sql;
    struct store_value params[STORE_PARAMS];
};

/* Types are the columns' own; an expression that is no column is CAST to one in both engines. */
struct store_result {
    size_t rows, columns;
    int64_t changed;                  /* rows inserted, updated or deleted */
    const struct store_value *values; /* rows * columns, row after row */
};

/* Opens and migrates, blocking: for the start of the program. where: a file's path, or a postgresql:// URL. A file that
 * is no database, is damaged, or was written by a newer version is refused with what to do (ERR_CONFIG); it is never
 * replaced. A second daemon on the same SQLite file is refused too. NULL and *err on failure. */
struct store *store_open(struct loop *loop, const char *where, struct err *err);

/* Finishes all calls that were made, then closes; blocking; callbacks that have not come yet never come. The loop must
 * still run a turn (loop_release does). NULL is fine. */
void store_close(struct store *store);

/* Runs the statements as one transaction: all or none. on_done (may be NULL: failures are logged) comes exactly once,
 * in a later turn: with count results, valid during the call, or NULL and the error: ERR_CONFLICT for a violated
 * uniqueness or reference, ERR_INSUFFICIENT_STORAGE for a full disk, ERR_INVALID_PARAMETERS for a text that is not
 * UTF-8 or holds a NUL, ERR_IO otherwise (for PostgreSQL also: the connection broke during the commit, and the outcome
 * is unknown). More than LIMIT_STORE_CALLS unfinished calls: ERR_SERVER_OVERLOADED, through on_done too, out of turn.
 */
struct store_call *store_transact(struct store *store, const struct store_statement *statements, size_t count,
                                  void (*on_done)(void *arg, const struct store_result *results, const struct err *err),
                                  void *arg);

/* clock_ms() when the database itself failed last (ERR_IO, ERR_INSUFFICIENT_STORAGE); 0: it never did. */
uint64_t store_failed_ms(const struct store *store);

/* The caller is gone: on_done will not be called. The transaction goes on. Not after on_done. */
void store_call_forget(struct store_call *call);

/* The same, blocking, with results in arena: for the start of the program and for commands. */
bool store_transact_now(struct store *store, const struct store_statement *statements, size_t count,
                        struct arena *arena, struct store_result *ret_results, struct err *err);

#endif
