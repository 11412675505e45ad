/* The store on SQLite, and on PostgreSQL when tests/pg.sh runs this: the same cases, and what only one of them has. */
#include "unit/store_fixture.h"

#include "store/schema.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "obs/log.h"
#include "store/schema.h"

#define ADD "INSERT INTO counters (name, value) VALUES ($1, $2)"
#define HAS "SELECT COUNT(*) FROM counters WHERE name = $1"

static struct store_statement add(const char *name, int64_t value)
{
    return (struct store_statement){.sql = ADD, .params = {store_text(str_from(name)), store_int(value)}};
}

/* ---- values ---- */

static void test_values_round_trip(void **state)
{
    char bytes[256];
    struct str text = STR("d\xc3\xbcr \xe2\x82\xac \xf0\x9f\x90\x98 'quoted' \\ $1 \x01\n");
    (void)state;
    for (int i = 0; i < 256; i++)
        bytes[i] = (char)i;
    now((struct store_statement){.sql = "CREATE TABLE v (n BIGINT, i BIGINT, r DOUBLE PRECISION, x TEXT, b BYTEA)"});
    static const char insert[] = "INSERT INTO v (n, i, r, x, b) VALUES ($1, $2, $3, $4, $5)";
    now((struct store_statement){.sql = insert,
                                 .params = {store_int(1),
                                            store_int(INT64_MAX),
                                            {.type = STORE_REAL, .real = 0.1},
                                            store_text(text),
                                            store_blob((struct str){bytes, sizeof bytes})}});
    now((struct store_statement){.sql = insert,
                                 .params = {store_int(2),
                                            store_int(INT64_MIN),
                                            {.type = STORE_REAL, .real = -1.7976931348623157e308},
                                            store_text(STR("")),
                                            store_blob(STR_NONE)}});
    struct store_result r = now((struct store_statement){.sql = insert, .params = {store_int(3)}});
    assert_int_equal(r.changed, 1);
    r = now((struct store_statement){.sql = "SELECT i, r, x, b FROM v ORDER BY n"});
    assert_int_equal(r.rows, 3);
    assert_int_equal(r.columns, 4);
    assert_int_equal(r.changed, 0);
    const struct store_value *v = r.values;
    assert_int_equal(v[0].type, STORE_INT);
    assert_true(v[0].integer == INT64_MAX && v[4].integer == INT64_MIN);
    assert_int_equal(v[1].type, STORE_REAL);
    assert_true(v[1].real == 0.1 && v[5].real == -1.7976931348623157e308);
    assert_int_equal(v[2].type, STORE_TEXT);
    assert_true(str_eq(v[2].text, text));
    assert_int_equal(v[3].type, STORE_BLOB);
    assert_true(str_eq(v[3].text, (struct str){bytes, sizeof bytes}));
    assert_int_equal(v[6].type, STORE_TEXT);
    assert_int_equal(v[6].text.n, 0);
    assert_int_equal(v[7].type, STORE_BLOB);
    assert_int_equal(v[7].text.n, 0);
    for (int i = 8; i < 12; i++)
        assert_int_equal(v[i].type, STORE_NULL);
}

static void refused_text(struct str text)
{
    struct store_statement s = {.sql = ADD, .params = {store_text(text), store_int(1)}};
    assert_false(store_transact_now(store, &s, 1, &arena, NULL, &err));
    assert_int_equal(err.code, ERR_INVALID_PARAMETERS);
}

static void test_texts_are_texts(void **state)
{
    (void)state;
    refused_text((struct str){"a\0b", 3});
    refused_text(STR("\xff"));
}

static void test_changes_are_counted(void **state)
{
    (void)state;
    now(add("one", 1));
    now(add("two", 1));
    assert_int_equal(now((struct store_statement){.sql = "UPDATE counters SET value = 2 WHERE value = 1"}).changed, 2);
    assert_int_equal(now((struct store_statement){.sql = "DELETE FROM counters WHERE value = 77"}).changed, 0);
    struct store_result r = now((struct store_statement){.sql = "DELETE FROM counters WHERE value = 2 RETURNING name"});
    assert_int_equal(r.changed, 2);
    assert_int_equal(r.rows, 2);
}

static void test_results_are_bounded(void **state)
{
    (void)state;
    struct store_statement s = {.sql =
                                    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000)"
                                    " SELECT i FROM n"};
    assert_false(store_transact_now(store, &s, 1, &arena, NULL, &err));
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.message, "longer"));
}

/* ---- transactions ---- */

static void test_all_or_none(void **state)
{
    (void)state;
    struct store_statement both[] = {add("new", 1), add("instances", 1)};
    assert_false(store_transact_now(store, both, 2, &arena, NULL, &err));
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(number(HAS, "new"), 0);
    both[1] = add("newer", 1);
    assert_true(store_transact_now(store, both, 2, &arena, NULL, &err));
    assert_int_equal(number(HAS, "new"), 1);
    assert_int_equal(number(HAS, "newer"), 1);
}

static void test_references_are_kept(void **state)
{
    (void)state;
    struct store_statement s = {.sql = "INSERT INTO key_permissions (key_id, instance_id) VALUES ($1, $2)",
                                .params = {store_int(1), store_int(1)}};
    assert_false(store_transact_now(store, &s, 1, &arena, NULL, &err));
    assert_int_equal(err.code, ERR_CONFLICT);
}

static void test_wrong_statement_is_an_error(void **state)
{
    (void)state;
    struct store_statement s = {.sql = "SELECT nothing FROM nowhere"};
    assert_false(store_transact_now(store, &s, 1, &arena, NULL, &err));
    assert_int_equal(err.code, ERR_IO);
    s = (struct store_statement){.sql = "INSERT INTO counters (name) VALUES ('no value')"};
    assert_false(store_transact_now(store, &s, 1, &arena, NULL, &err));
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(number(HAS, "instances"), 1);
}

static unsigned codes[512];

static void on_in_order(void *arg, const struct store_result *results, const struct err *problem)
{
    assert_ptr_equal(arg, &codes[called]);
    assert_true(!results == (problem != NULL));
    codes[called] = problem ? problem->code : ERR_NONE;
    count_call();
}

static void test_callbacks_come_in_order(void **state)
{
    char name[16];
    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "n%u", i % 90); /* the last ten are there already */
        struct store_statement s = add(name, i);
        store_transact(store, &s, 1, on_in_order, &codes[i]);
    }
    assert_int_equal(called, 0);
    run_until(100);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(codes[i], i < 90 ? ERR_NONE : ERR_CONFLICT);
}

static void never(void *arg, const struct store_result *results, const struct err *problem)
{
    (void)arg;
    (void)results;
    (void)problem;
    fail_msg("a forgotten call called back");
}

static void test_a_forgotten_call_is_done_all_the_same(void **state)
{
    (void)state;
    struct store_statement first = add("forgotten", 1), second = add("second", 1);
    store_call_forget(store_transact(store, &first, 1, never, NULL));
    store_transact(store, &second, 1, on_in_order, &codes[0]);
    run_until(1);
    assert_int_equal(number(HAS, "forgotten"), 1);
}

static void test_closing_finishes_calls(void **state)
{
    char name[16];
    (void)state;
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "n%d", i);
        struct store_statement s = add(name, i);
        store_transact(store, &s, 1, never, NULL);
    }
    close_store();
    open_store();
    assert_int_equal(number("SELECT COUNT(*) FROM counters WHERE name LIKE $1", "n%"), 20);
}

static void close_at_first(void *arg, const struct store_result *results, const struct err *problem)
{
    (void)arg;
    assert_non_null(results);
    assert_null(problem);
    close_store();
    loop_stop(&loop);
}

static void test_a_callback_may_close_the_store(void **state)
{
    (void)state;
    struct store_statement s = {.sql = "SELECT 1"};
    store_transact(store, &s, 1, close_at_first, NULL);
    store_transact(store, &s, 1, never, NULL);
    loop_run(&loop);
    assert_null(store);
}

static unsigned overloaded, fine;

static void on_counted(void *arg, const struct store_result *results, const struct err *problem)
{
    (void)arg;
    (void)results;
    if (!problem)
        fine++;
    else if (problem->code == ERR_SERVER_OVERLOADED)
        overloaded++;
    count_call();
}

static void test_too_many_calls_are_refused(void **state)
{
    (void)state;
    struct store_statement s = {.sql = "SELECT 1"};
    fine = overloaded = 0;
    for (int i = 0; i < LIMIT_STORE_CALLS + 3; i++)
        store_transact(store, &s, 1, on_counted, NULL);
    run_until(LIMIT_STORE_CALLS + 3);
    assert_int_equal(fine, LIMIT_STORE_CALLS);
    assert_int_equal(overloaded, 3);
}

static void test_log_has_no_values(void **state)
{
    char path[128], text[8192] = "";
    (void)state;
    snprintf(path, sizeof path, "%s/log", folder);
    assert_true(log_to_file(path, &err));
    struct store_statement twice[] = {add("hunter2secret", 1), add("hunter2secret", 1)};
    struct store_statement no_number = {.sql = "UPDATE counters SET value = CAST(CAST($1 AS TEXT) AS BIGINT)",
                                        .params = {store_text(STR("hunter2secret"))}};
    struct store_statement last = {.sql = "SELECT 1"};
    store_transact(store, twice, 2, NULL, NULL);
    store_transact(store, &no_number, 1, NULL, NULL);
    store_transact(store, &last, 1, on_in_order, &codes[0]);
    run_until(1);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    assert_true(n > 0);
    assert_non_null(strstr(text, "a change was not stored"));
    assert_null(strstr(text, "hunter2"));
    assert_true(log_to_file("/dev/stderr", &err));
}

/* ---- crashes ---- */

static int ack_fd;

static void on_acked(void *arg, const struct store_result *results, const struct err *problem)
{
    int32_t i = (int32_t)(intptr_t)arg;
    if (!results || problem || write(ack_fd, &i, sizeof i) != sizeof i)
        _exit(1);
}

/* Writes rows until it is killed, each acknowledged over the pipe. */
static void write_for_ever(void)
{
    loop_init(&loop);
    if (!(store = store_open(&loop, where, &err)))
        _exit(2);
    for (int i = 0;; i++) {
        char name[16];
        snprintf(name, sizeof name, "row%d", i);
        struct store_statement s = add(name, i);
        store_transact(store, &s, 1, on_acked, (void *)(intptr_t)i);
        while (i % 8 == 7 && uv_run(&loop.uv, UV_RUN_ONCE) == 0) /* some are always on their way */
            _exit(3);
    }
}

static void test_killed_daemon_loses_nothing_acknowledged(void **state)
{
    int ends[2], status;
    int32_t last = -1, i;
    (void)state;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        ack_fd = ends[1];
        close(ends[0]);
        write_for_ever();
    }
    close(ends[1]);
    while (last < 150 && read(ends[0], &i, sizeof i) == sizeof i)
        last = i;
    assert_true(last >= 150);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    while (read(ends[0], &i, sizeof i) == sizeof i)
        last = i;
    close(ends[0]);
    open_store();
    struct store_result r = now((struct store_statement){
        .sql = "SELECT COUNT(*) FROM counters WHERE name LIKE 'row%' AND value <= $1", .params = {store_int(last)}});
    assert_int_equal(r.values[0].integer, last + 1);
}

static void refused(const char *with)
{
    err = ERR_INIT;
    assert_null(store_open(&loop, where, &err));
    assert_int_equal(err.code, ERR_CONFIG);
    if (!strstr(err.message, with))
        fail_msg("%s", err.message);
}

static void test_newer_schema_is_refused(void **state)
{
    (void)state;
    now((struct store_statement){.sql = "INSERT INTO schema_version (version) VALUES (999)"});
    close_store();
    refused("newer inferd (schema 999");
}

static void test_opened_again_nothing_changes(void **state)
{
    (void)state;
    now(add("kept", 5));
    for (int i = 0; i < 3; i++) {
        close_store();
        open_store();
    }
    assert_int_equal(number("SELECT value FROM counters WHERE name = $1", "kept"), 5);
    assert_int_equal(number("SELECT COUNT(*) FROM schema_version WHERE version > $1", NULL), store_schema_count);
}

/* ---- SQLite only ---- */

static char *read_all(const char *path, size_t *ret_size)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    char *bytes = mem_alloc((size_t)st.st_size + 1);
    assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
    close(fd);
    *ret_size = (size_t)st.st_size;
    return bytes;
}

static void write_at(const char *path, const void *bytes, size_t n, off_t at)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, n, at), n);
    close(fd);
}

static void refused_and_left_alone(const char *with)
{
    size_t before_size, after_size;
    char *before = read_all(where, &before_size);
    refused(with);
    char *after = read_all(where, &after_size);
    assert_int_equal(before_size, after_size);
    assert_memory_equal(before, after, before_size);
    mem_free(before);
    mem_free(after);
}

static void fill(int rows)
{
    char name[32];
    struct store_statement *all = mem_calloc((size_t)rows, sizeof *all);
    for (int i = 0; i < rows; i++) {
        int n = snprintf(name, sizeof name, "a rather long name %d", i);
        all[i] = add("", i);
        all[i].params[0] = store_text(arena_str(&arena, (struct str){name, (size_t)n}));
    }
    assert_true(store_transact_now(store, all, (size_t)rows, &arena, NULL, &err));
    mem_free(all);
}

static void test_damaged_file_is_refused(void **state)
{
    static const char rubbish[4096] = {1, 2, 3, 4, 5, 6};
    (void)state;
    fill(2000);
    close_store();
    write_at(where, rubbish, sizeof rubbish, 2 * 4096);
    refused_and_left_alone("damaged");
}

static void test_cut_file_is_refused(void **state)
{
    (void)state;
    fill(2000);
    close_store();
    assert_int_equal(truncate(where, 5 * 4096 + 100), 0);
    refused_and_left_alone("damaged");
    assert_int_equal(truncate(where, 0), 0);
    refused_and_left_alone("is empty");
}

static void test_log_without_its_file_is_refused(void **state)
{
    char log[600];
    (void)state;
    close_store();
    assert_int_equal(unlink(where), 0);
    snprintf(log, sizeof log, "%s-wal", where);
    write_at(log, "frames", 6, 0);
    refused("is gone");
    assert_int_equal(access(where, F_OK), -1);
}

static void test_text_file_is_refused(void **state)
{
    static const char text[] = "Dear diary, this is not a database, and it is longer than a database's header of a "
                               "hundred bytes, which is what decides.\n";
    (void)state;
    write_at(where, text, sizeof text - 1, 0);
    refused_and_left_alone("not an SQLite database");
}

static void test_foreign_database_is_refused(void **state)
{
    sqlite3 *other;
    (void)state;
    assert_int_equal(sqlite3_open(where, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "CREATE TABLE theirs (x)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    refused_and_left_alone("another program");
}

static void test_second_daemon_is_refused(void **state)
{
    char link[128], direct[sizeof where];
    (void)state;
    refused("Another inferd uses");
    snprintf(link, sizeof link, "%s/link", folder); /* the same file by another name */
    assert_int_equal(symlink(where, link), 0);
    memcpy(direct, where, sizeof direct);
    memcpy(where, link, sizeof link);
    refused("Another inferd uses");
    memcpy(where, direct, sizeof direct);
    unlink(link);
    now(add("still works", 1));
}

static void test_file_is_the_owners_alone(void **state)
{
    static const char *const ends[] = {"", "-wal", "-shm", ".lock"};
    char path[600];
    struct stat st;
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s%s", where, ends[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
}

static void test_missing_folder_is_named(void **state)
{
    (void)state;
    snprintf(where, sizeof where, "%s/none/inferd.db", folder);
    refused("none/inferd.db");
}

static void test_backup_while_running(void **state)
{
    sqlite3 *other;
    (void)state;
    now(add("seen", 1));
    assert_int_equal(sqlite3_open_v2(where, &other, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "SELECT * FROM counters", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
}

static void test_full_disk(void **state)
{
    int i = 0;
    (void)state;
    if (mount("tmpfs", folder, "tmpfs", 0, "size=512k") != 0) {
        print_message("skipped: a full disk needs the right to mount a tmpfs: %s\n", strerror(errno));
        skip();
    }
    open_store();
    bool ok = true;
    for (; ok && i < 10000; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%04000d", i);
        struct store_statement s = add(name, i);
        ok = store_transact_now(store, &s, 1, &arena, NULL, &err);
    }
    bool answers = number("SELECT COUNT(*) FROM counters WHERE LENGTH(name) = 4000 AND value >= $1", NULL) == i - 1;
    close_store();
    umount(folder);
    assert_false(ok);
    assert_int_equal(err.code, ERR_INSUFFICIENT_STORAGE);
    assert_true(i > 10 && answers);
}

/* ---- PostgreSQL only ---- */

static void run_sql(const char *sql)
{
    PGconn *conn = PQconnectdb(where);
    PGresult *result = PQexec(conn, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s", PQerrorMessage(conn));
    PQclear(result);
    PQfinish(conn);
}

#define END_OTHERS "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'inferd'"

static void test_connection_is_made_again(void **state)
{
    (void)state;
    run_sql(END_OTHERS);
    now(add("after", 1));
    assert_int_equal(number(HAS, "after"), 1);
}

static void test_broken_transaction_runs_once_more(void **state)
{
    (void)state;
    run_sql("CREATE SEQUENCE tries");
    struct store_statement s[] = {
        add("once", 1),
        {.sql = "SELECT CASE WHEN nextval('tries') = 1 THEN pg_terminate_backend(pg_backend_pid()) END"}};
    assert_true(store_transact_now(store, s, 2, &arena, NULL, &err));
    assert_int_equal(number(HAS, "once"), 1);
    assert_int_equal(number("SELECT last_value FROM tries WHERE $1 = 0", NULL), 2);
}

static void test_broken_twice_is_an_error(void **state)
{
    (void)state;
    struct store_statement s[] = {add("never", 1), {.sql = "SELECT pg_terminate_backend(pg_backend_pid())"}};
    assert_false(store_transact_now(store, s, 2, &arena, NULL, &err));
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(number(HAS, "never"), 0);
}

static void test_commit_without_answer_is_unknown(void **state)
{
    (void)state;
    run_sql("CREATE SEQUENCE tries;"
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM nextval('tries'); PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;"
            "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON counters DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION die()");
    struct store_statement s = add("perhaps", 1);
    assert_false(store_transact_now(store, &s, 1, &arena, NULL, &err));
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.message, "unknown"));
    assert_int_equal(number("SELECT last_value FROM tries WHERE $1 = 0", NULL), 1); /* not tried again */
}

/* Several daemons that meet an empty database: one migrates, all open it. */
static void test_migration_at_the_same_time(void **state)
{
    int status, ends[2];
    char go;
    (void)state;
    assert_int_equal(pipe(ends), 0);
    for (int i = 0; i < 4; i++) {
        if (fork() == 0) {
            close(ends[1]);
            (void)!read(ends[0], &go, 1); /* until the parent closes its end */
            loop_init(&loop);
            _exit(store_open(&loop, where, &err) ? 0 : 1);
        }
    }
    close(ends[0]);
    close(ends[1]);
    for (int i = 0; i < 4; i++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
}

static void test_unreachable_server_is_named(void **state)
{
    (void)state;
    snprintf(where, sizeof where, "postgresql://user:hunter2@/db?host=%s", folder);
    assert_null(store_open(&loop, where, &err));
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.message, folder));
    assert_null(strstr(err.message, "hunter2"));
}

#define WITH_STORE(test)    cmocka_unit_test_setup_teardown(test, setup, teardown)
#define WITHOUT_STORE(test) cmocka_unit_test_setup_teardown(test, setup_place, teardown)

int main(void)
{
    const struct CMUnitTest both[] = {WITH_STORE(test_values_round_trip),
                                      WITH_STORE(test_texts_are_texts),
                                      WITH_STORE(test_changes_are_counted),
                                      WITH_STORE(test_results_are_bounded),
                                      WITH_STORE(test_all_or_none),
                                      WITH_STORE(test_references_are_kept),
                                      WITH_STORE(test_wrong_statement_is_an_error),
                                      WITH_STORE(test_callbacks_come_in_order),
                                      WITH_STORE(test_a_forgotten_call_is_done_all_the_same),
                                      WITH_STORE(test_closing_finishes_calls),
                                      WITH_STORE(test_a_callback_may_close_the_store),
                                      WITH_STORE(test_too_many_calls_are_refused),
                                      WITH_STORE(test_log_has_no_values),
                                      WITHOUT_STORE(test_killed_daemon_loses_nothing_acknowledged),
                                      WITH_STORE(test_newer_schema_is_refused),
                                      WITH_STORE(test_opened_again_nothing_changes)};
    const struct CMUnitTest sqlite[] = {WITH_STORE(test_damaged_file_is_refused),
                                        WITH_STORE(test_cut_file_is_refused),
                                        WITH_STORE(test_log_without_its_file_is_refused),
                                        WITHOUT_STORE(test_text_file_is_refused),
                                        WITHOUT_STORE(test_foreign_database_is_refused),
                                        WITH_STORE(test_second_daemon_is_refused),
                                        WITH_STORE(test_file_is_the_owners_alone),
                                        WITHOUT_STORE(test_missing_folder_is_named),
                                        WITH_STORE(test_backup_while_running),
                                        WITHOUT_STORE(test_full_disk)};
    const struct CMUnitTest postgres[] = {
        WITH_STORE(test_connection_is_made_again),      WITH_STORE(test_broken_transaction_runs_once_more),
        WITH_STORE(test_broken_twice_is_an_error),      WITH_STORE(test_commit_without_answer_is_unknown),
        WITHOUT_STORE(test_migration_at_the_same_time), WITHOUT_STORE(test_unreachable_server_is_named)};
    int failed = cmocka_run_group_tests(both, NULL, NULL);
    return failed +
           (on_postgres() ? cmocka_run_group_tests(postgres, NULL, NULL) : cmocka_run_group_tests(sqlite, NULL, NULL));
}
