/* Schema versions. The table schema_version holds one row a step that was taken. Every step is a transaction together
 * with its row, under a lock that keeps a second daemon on the same PostgreSQL from taking it too; so a daemon that
 * dies in the middle leaves the version before. */
#include "store/engine.h"

#include "base/buf.h"
#include "store/schema.h"

#define SCHEMA_BYTES (1u << 20) /* largest schema file, its words replaced */

static bool read_version(struct store_db *db, int64_t *ret_version, struct err *err)
{
    static const struct store_statement read = {.sql = "SELECT COALESCE(MAX(version), 0) FROM schema_version"};
    struct arena arena;
    struct store_result result;
    arena_init(&arena);
    bool ok = db->engine->script(db, "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY)", err) &&
              db->engine->run(db, &read, &arena, &result, err);
    if (ok)
        *ret_version = result.values[0].integer;
    arena_dispose(&arena);
    return ok;
}

static void replace_words(struct buf *out, const char *text, const char *blob_type)
{
    static const char word[] = "{{BLOB}}";
    for (const char *found; (found = strstr(text, word)); text = found + sizeof word - 1) {
        buf_append(out, text, (size_t)(found - text));
        buf_puts(out, blob_type);
    }
    buf_puts(out, text);
}

static bool take_step(struct store_db *db, int64_t version, struct err *err)
{
    struct buf text;
    buf_init(&text, SCHEMA_BYTES);
    replace_words(&text, store_schemas[version - 1], db->engine->blob_type);
    buf_printf(&text, "\nINSERT INTO schema_version (version) VALUES (%lld);", (long long)version);
    bool ok = buf_ok(&text)
                  ? db->engine->script(db, text.data, err)
                  : err_set(err, ERR_INTERNAL, "The database schema's step %lld is too long.", (long long)version);
    buf_release(&text);
    return ok;
}

/* One transaction: the next step, or none when the version is ours. */
static bool step(struct store_db *db, bool *ret_more, struct err *err)
{
    int64_t version;
    if (!db->engine->begin_migration(db, err) || !read_version(db, &version, err))
        return false;
    if (version > store_schema_count)
        return err_set(
            err, ERR_CONFIG,
            "The database was written by a newer inferd (schema %lld, this one knows %d): run that version, or "
            "restore a backup from before the upgrade.",
            (long long)version, store_schema_count);
    *ret_more = version < store_schema_count;
    if (*ret_more && !take_step(db, version + 1, err))
        return false;
    return db->engine->commit(db, err);
}

bool store_migrate(struct store_db *db, struct err *err)
{
    bool more = true;
    while (more) {
        if (!step(db, &more, err)) {
            db->engine->rollback(db);
            return false;
        }
    }
    return true;
}
