/* A database for a test: a file in a new folder, or the PostgreSQL that $INFERD_TEST_PG names (tests/pg.sh), emptied.
 */
#ifndef TESTS_UNIT_STORE_FIXTURE_H
#define TESTS_UNIT_STORE_FIXTURE_H

#include "unit/unit.h"

#include <errno.h>
#include <libpq-fe.h>
#include <sys/stat.h>

#include "store/store.h"

static struct loop loop;
static struct store *store;
static struct arena arena;
static struct err err;
static char folder[64];
static char where[512];
static unsigned called, expected; /* callbacks */

static bool on_postgres(void)
{
    return getenv("INFERD_TEST_PG") != NULL;
}

static void empty_postgres(void)
{
    PGconn *conn = PQconnectdb(where);
    PGresult *result =
        PQexec(conn, "SET client_min_messages = error; DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    assert_int_equal(PQresultStatus(result), PGRES_COMMAND_OK);
    PQclear(result);
    PQfinish(conn);
}

static void open_store(void)
{
    store = store_open(&loop, where, &err);
    if (!store)
        fail_msg("%s", err.message);
}

static void close_store(void)
{
    store_close(store);
    store = NULL;
}

/* No store yet. */
static int setup_place(void **state)
{
    (void)state;
    loop_init(&loop);
    arena_init(&arena);
    err = ERR_INIT;
    called = expected = 0;
    snprintf(folder, sizeof folder, "/tmp/inferd-store-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(where, sizeof where, "%s/inferd.db", folder);
    if (on_postgres()) {
        snprintf(where, sizeof where, "%s", getenv("INFERD_TEST_PG"));
        empty_postgres();
    }
    return 0;
}

static int setup(void **state)
{
    setup_place(state);
    open_store();
    return 0;
}

static int teardown(void **state)
{
    static const char *const names[] = {"inferd.db", "inferd.db-wal", "inferd.db-shm", "inferd.db.lock", "log"};
    char path[128];
    (void)state;
    close_store();
    loop_release(&loop);
    arena_dispose(&arena);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(folder), 0);
    return 0;
}

/* One statement now; its only result. */
static struct store_result now(struct store_statement statement)
{
    struct store_result result = {0};
    if (!store_transact_now(store, &statement, 1, &arena, &result, &err))
        fail_msg("%s", err.message);
    return result;
}

/* A number by a statement with one text. */
static inline int64_t number(const char *sql, const char *text)
{
    struct store_result result =
        now((struct store_statement){.sql = sql, .params = {text ? store_text(str_from(text)) : store_int(0)}});
    assert_int_equal(result.rows, 1);
    return result.values[0].integer;
}

static inline void count_call(void)
{
    if (++called == expected)
        loop_stop(&loop);
}

/* Runs the loop until count callbacks have come since the test began. */
static inline void run_until(unsigned count)
{
    expected = count;
    if (called < expected)
        loop_run(&loop);
}

#endif
