/* What store.c and migrate.c need of a database. One thread at a time uses a store_db; it may change hands. */
#ifndef STORE_ENGINE_H
#define STORE_ENGINE_H

#include "base/buf.h"
#include "store/store.h"

/* An engine's own struct begins with this. */
struct store_db {
    const struct store_engine *engine;
};

struct store_engine {
    const char *blob_type; /* what {{BLOB}} in the schema stands for */
    /* Begins a transaction during which no other process migrates. */
    bool (*begin_migration)(struct store_db *db, struct err *err);
    bool (*begin)(struct store_db *db, struct err *err);
    /* One statement of the transaction; the result lies in arena. */
    bool (*run)(struct store_db *db, const struct store_statement *statement, struct arena *arena,
                struct store_result *ret_result, struct err *err);
    /* Any number of statements without parameters and results, as part of the transaction. */
    bool (*script)(struct store_db *db, const char *sql, struct err *err);
    bool (*commit)(struct store_db *db, struct err *err);
    void (*rollback)(struct store_db *db); /* after a failure, whatever is left of the transaction */
    /* Whether the last failure was a lost connection. Then nothing was committed unless commit was called, and begin
     * connects again. */
    bool (*lost)(struct store_db *db);
    void (*close)(struct store_db *db);
};

struct store_db *store_sqlite_open(const char *path, struct err *err);
struct store_db *store_pg_open(const char *url, struct err *err);

/* The highest n of $n in sql, which must not hold a '$' otherwise. At most STORE_PARAMS. */
unsigned store_param_count(const char *sql);

/* Brings the schema to this program's version, one transaction a step; refuses a newer one (ERR_CONFIG). */
bool store_migrate(struct store_db *db, struct err *err);

/* A result while its rows arrive: strings go to arena, and more than LIMIT_STORE_RESULT bytes is an error. */
struct store_rows {
    struct arena *arena;
    struct buf values; /* struct store_value */
    size_t bytes;
};

void store_rows_init(struct store_rows *rows, struct arena *arena);
bool store_rows_add(struct store_rows *rows, struct store_value value, struct err *err);
/* Releases rows. columns: of one row; 0: no rows. */
void store_rows_end(struct store_rows *rows, size_t columns, int64_t changed, struct store_result *ret_result);

#endif
