/* inferd import llamactl PATH: what a llamactl left behind, taken over. A database's instances and keys go into our
 * store (keys keep their Argon2id hashes until they are first presented, then get a fast one); a configuration file
 * becomes an inferd.toml. The old files are only read. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>

#include "base/json_read.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/llamactl_yaml.h"
#include "conf/conf.h"
#include "instance/instance.h"
#include "instance/options.h"
#include "store/store.h"

static const struct cli_option cli_options[] = {
    {"config", 'c', "FILE", "our own configuration: which store to import into"},
    {"output", 'o', "FILE", "for a configuration: write here instead of standard output"},
    {.name = NULL}};

struct flags {
    const char *config, *output;
};

static bool on_option(void *arg, const char *name, const char *value)
{
    struct flags *flags = arg;
    if (strcmp(name, "config") == 0)
        flags->config = value;
    else
        flags->output = value;
    return true;
}

/* ---- the old database ---- */

struct old_row {
    int64_t old_id, new_id;
    bool taken; /* into our store */
};

struct import {
    sqlite3 *db;
    struct store *store;
    const struct conf *conf;
    struct arena arena;
    struct store_statement *statements;
    size_t count, capacity;
    struct old_row *instances, *keys;
    size_t instance_count, key_count;
};

static void add_statement(struct import *im, struct store_statement statement)
{
    if (im->count == im->capacity) {
        im->capacity = im->capacity ? 2 * im->capacity : 64;
        im->statements = mem_realloc(im->statements, im->capacity * sizeof *im->statements);
    }
    im->statements[im->count++] = statement;
}

static struct store_value column_text(const struct import *im, sqlite3_stmt *row, int column)
{
    const void *text = sqlite3_column_blob(row, column);
    size_t n = (size_t)sqlite3_column_bytes(row, column);
    return store_text(arena_str((struct arena *)&im->arena, (struct str){text ? text : "", n}));
}

static struct store_value column_int_or_null(sqlite3_stmt *row, int column)
{
    if (sqlite3_column_type(row, column) == SQLITE_NULL)
        return (struct store_value){.type = STORE_NULL};
    return store_int(sqlite3_column_int64(row, column));
}

static sqlite3_stmt *query(const struct import *im, const char *sql, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(im->db, sql, -1, &statement, NULL) == SQLITE_OK)
        return statement;
    err_set(err, ERR_CONFIG, "this is no database of llamactl's: %s", sqlite3_errmsg(im->db));
    return NULL;
}

/* A file damaged in the middle must not pass for a short one. */
static bool read_to_end(const struct import *im, int rc, struct err *err)
{
    return rc == SQLITE_DONE ||
           err_set(err, ERR_CONFIG, "llamactl's database cannot be read to its end: %s", sqlite3_errmsg(im->db));
}

static size_t count_rows(const struct import *im, const char *sql, struct err *err)
{
    size_t count = 0;
    sqlite3_stmt *statement = query(im, sql, err);
    int rc = statement ? sqlite3_step(statement) : SQLITE_ERROR;
    if (rc == SQLITE_ROW)
        count = (size_t)sqlite3_column_int64(statement, 0);
    else if (statement)
        read_to_end(im, rc, err);
    sqlite3_finalize(statement);
    return count;
}

/* n ids in a row; *ret_first is the first. */
static bool take_ids(struct import *im, const char *counter, size_t n, int64_t *ret_first, struct err *err)
{
    struct store_result result;
    struct store_statement bump = {.sql = "UPDATE counters SET value = value + $1 WHERE name = $2 RETURNING value",
                                   .params = {store_int((int64_t)n), store_text(str_from(counter))}};
    if (!store_transact_now(im->store, &bump, 1, &im->arena, &result, err))
        return false;
    *ret_first = result.values[0].integer - (int64_t)n + 1;
    return true;
}

static bool name_taken(struct import *im, struct str name, struct err *err)
{
    struct store_result result;
    struct store_statement find = {.sql = "SELECT id FROM instances WHERE node = $1 AND name = $2",
                                   .params = {store_text(str_from(im->conf->local_node)), store_text(name)}};
    return !store_transact_now(im->store, &find, 1, &im->arena, &result, err) || result.rows > 0;
}

static char *canonical_options(struct str text, struct err *err)
{
    json_t *document = json_read(text, err);
    json_t *canonical = json_is_object(document) ? options_canonical(document, err) : NULL;
    if (document && !json_is_object(document))
        err_set(err, ERR_INVALID_PARAMETERS, "its options are no JSON object");
    char *out = canonical ? json_dumps(canonical, JSON_COMPACT) : NULL;
    json_decref(canonical);
    json_decref(document);
    return out;
}

static void take_instance(struct import *im, sqlite3_stmt *row, struct old_row *to)
{
    struct err err = ERR_INIT;
    struct store_value name = column_text(im, row, 1), options = column_text(im, row, 3);
    bool good = options_check_name(name.text, "its name", &err);
    char *text = good ? canonical_options(options.text, &err) : NULL;
    if (text && name_taken(im, name.text, &err)) {
        if (err.code == ERR_NONE)
            err_set(&err, ERR_CONFLICT, "there is an instance of that name already");
        free(text);
        text = NULL;
    }
    if (!text) {
        fprintf(stderr, "inferd: instance '" STR_FMT "' is left out: %s\n", STR_ARG(name.text), err.message);
        return;
    }
    bool running = str_eq(column_text(im, row, 2).text, STR("running"));
    to->taken = true;
    add_statement(im,
                  (struct store_statement){
                      .sql = "INSERT INTO instances (id, node, name, wanted, options, created_at, updated_at) "
                             "VALUES ($1, $2, $3, $4, $5, $6, $7)",
                      .params = {store_int(to->new_id), store_text(str_from(im->conf->local_node)), name,
                                 store_text(running ? STR("running") : STR("stopped")),
                                 store_text(arena_str(&im->arena, str_from(text))),
                                 store_int(sqlite3_column_int64(row, 4)), store_int(sqlite3_column_int64(row, 5))}});
    free(text);
}

/* Imported before: its hash may have changed since, its name and birth have not. */
static bool key_taken(struct import *im, struct store_value name, int64_t created_at)
{
    struct err err;
    struct store_result result;
    struct store_statement find = {.sql = "SELECT id FROM api_keys WHERE name = $1 AND created_at = $2",
                                   .params = {name, store_int(created_at)}};
    return !store_transact_now(im->store, &find, 1, &im->arena, &result, &err) || result.rows > 0;
}

static void take_key(struct import *im, sqlite3_stmt *row, struct old_row *to)
{
    struct store_value name = column_text(im, row, 1);
    if (key_taken(im, name, sqlite3_column_int64(row, 5))) {
        fprintf(stderr, "inferd: key '" STR_FMT "' is left out: it was imported before\n", STR_ARG(name.text));
        return;
    }
    to->taken = true;
    add_statement(im, (struct store_statement){
                          .sql = "INSERT INTO api_keys (id, name, legacy_hash, scopes, permission_mode, expires_at, "
                                 "created_at, updated_at, last_used_at) "
                                 "VALUES ($1, $2, $3, 'inference', $4, $5, $6, $7, $8)",
                          .params = {store_int(to->new_id), name, column_text(im, row, 2), column_text(im, row, 3),
                                     column_int_or_null(row, 4), store_int(sqlite3_column_int64(row, 5)),
                                     store_int(sqlite3_column_int64(row, 6)), column_int_or_null(row, 7)}});
}

static bool take_table(struct import *im, const char *count_sql, const char *sql, const char *counter,
                       struct old_row **ret_rows, size_t *ret_count,
                       void (*take)(struct import *im, sqlite3_stmt *row, struct old_row *to), struct err *err)
{
    int64_t first = 0;
    *err = ERR_INIT;
    size_t room = count_rows(im, count_sql, err);
    struct old_row *rows = arena_calloc(&im->arena, (room + 1) * sizeof *rows);
    *ret_rows = rows;
    *ret_count = 0;
    if (err->code != ERR_NONE || !take_ids(im, counter, room, &first, err))
        return false;
    sqlite3_stmt *statement = query(im, sql, err);
    if (!statement)
        return false;
    int rc = SQLITE_DONE;
    while (*ret_count < room && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
        struct old_row *to = &rows[*ret_count];
        *to = (struct old_row){.old_id = sqlite3_column_int64(statement, 0), .new_id = first + (int64_t)*ret_count};
        take(im, statement, to);
        ++*ret_count;
    }
    bool good = *ret_count == room || read_to_end(im, rc, err);
    sqlite3_finalize(statement);
    return good;
}

static const struct old_row *find_old(const struct old_row *rows, size_t count, int64_t id)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i].old_id == id && rows[i].taken)
            return &rows[i];
    return NULL;
}

static bool take_permissions(struct import *im, struct err *err)
{
    sqlite3_stmt *row = query(im, "SELECT key_id, instance_id FROM key_permissions", err);
    if (!row)
        return false;
    int rc;
    while ((rc = sqlite3_step(row)) == SQLITE_ROW) {
        const struct old_row *key = find_old(im->keys, im->key_count, sqlite3_column_int64(row, 0));
        const struct old_row *instance = find_old(im->instances, im->instance_count, sqlite3_column_int64(row, 1));
        if (key && instance)
            add_statement(
                im, (struct store_statement){.sql = "INSERT INTO key_permissions (key_id, instance_id) VALUES ($1, $2)",
                                             .params = {store_int(key->new_id), store_int(instance->new_id)}});
    }
    bool good = read_to_end(im, rc, err);
    sqlite3_finalize(row);
    return good;
}

static size_t taken(const struct old_row *rows, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += rows[i].taken;
    return n;
}

static bool import_rows(struct import *im, struct err *err)
{
    if (!take_table(im, "SELECT COUNT(*) FROM instances",
                    "SELECT id, name, status, options_json, created_at, updated_at FROM instances ORDER BY id",
                    "instances", &im->instances, &im->instance_count, take_instance, err) ||
        !take_table(im, "SELECT COUNT(*) FROM api_keys",
                    "SELECT id, name, key_hash, permission_mode, expires_at, created_at, updated_at, last_used_at "
                    "FROM api_keys ORDER BY id",
                    "api_keys", &im->keys, &im->key_count, take_key, err) ||
        !take_permissions(im, err))
        return false;
    struct store_result *results = arena_calloc(&im->arena, (im->count + 1) * sizeof *results);
    return im->count == 0 || store_transact_now(im->store, im->statements, im->count, &im->arena, results, err);
}

static int import_database(const char *path, const struct flags *flags)
{
    struct err err = ERR_INIT;
    struct conf conf;
    struct loop loop;
    struct import im = {.conf = &conf};
    loop_init(&loop);
    arena_init(&im.arena);
    bool good =
        conf_load(&conf, flags->config, &err) && conf_finish(&conf, &err) && instance_make_folder(conf.state_dir, &err);
    if (good && sqlite3_open_v2(path, &im.db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
        good = err_set(&err, ERR_CONFIG, "%s cannot be read: %s", path, sqlite3_errmsg(im.db));
    im.store = good ? store_open(&loop, conf.database_path, &err) : NULL;
    good = im.store && import_rows(&im, &err);
    if (good)
        printf("imported %zu of %zu instances and %zu of %zu keys\n", taken(im.instances, im.instance_count),
               im.instance_count, taken(im.keys, im.key_count), im.key_count);
    if (im.store)
        store_close(im.store);
    sqlite3_close(im.db);
    mem_free(im.statements);
    arena_dispose(&im.arena);
    loop_release(&loop);
    conf_release(&conf);
    return good ? EXIT_OK : cli_fail(&err);
}

/* ---- the old configuration ---- */

static int import_configuration(const char *path, const struct flags *flags)
{
    struct err err = ERR_INIT;
    struct buf toml;
    buf_init(&toml, LIMIT_CONFIG_BYTES);
    bool good = llamactl_yaml_to_toml(path, &toml, &err);
    int fd =
        good && flags->output ? open(flags->output, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1; /* has keys */
    FILE *out = !good || !flags->output ? stdout : fd >= 0 ? fdopen(fd, "w") : NULL;
    if (good && !out)
        good = err_set(&err, ERR_USAGE, "%s cannot be made: %s", flags->output, strerror(errno));
    if (good && fwrite(toml.data ? toml.data : "", 1, toml.len, out) != toml.len)
        good = err_set(&err, ERR_IO, "the configuration cannot be written: %s", strerror(errno));
    if (good && out != stdout && fclose(out) != 0)
        good = err_set(&err, ERR_IO, "%s cannot be written: %s", flags->output, strerror(errno));
    buf_release(&toml);
    return good ? EXIT_OK : cli_fail(&err);
}

/* ---- the command ---- */

static bool is_database(const char *path)
{
    char head[16] = "";
    FILE *file = fopen(path, "rbe");
    size_t n = file ? fread(head, 1, sizeof head, file) : 0;
    if (file)
        fclose(file);
    return n == sizeof head && memcmp(head, "SQLite format 3", 16) == 0;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct flags flags = {0};
    struct err err;
    int status;
    int at = cli_parse(command, argc, argv, on_option, &flags, &status);
    if (at < 0)
        return status;
    if (argc - at != 2 || strcmp(argv[at], "llamactl") != 0)
        return cli_usage(command, "say: inferd import llamactl PATH");
    if (access(argv[at + 1], R_OK) != 0) {
        err_set(&err, ERR_USAGE, "%s cannot be read: %s", argv[at + 1], strerror(errno));
        return cli_fail(&err);
    }
    return is_database(argv[at + 1]) ? import_database(argv[at + 1], &flags)
                                     : import_configuration(argv[at + 1], &flags);
}

const struct cli_command cmd_import = {
    "import",
    "llamactl PATH",
    "take over a llamactl's instances, keys and configuration",
    "PATH is its llamactl.db or its llamactl.yaml.\n\n"
    "  inferd import llamactl ~/.local/share/llamactl/llamactl.db\n"
    "  inferd import llamactl ~/.config/llamactl/config.yaml -o ~/.config/inferd/inferd.toml\n\n"
    "A database is imported while no server is running on our own. Keys go on working: nobody needs a new one.",
    cli_options,
    run};
