/* Named instances as rows. Every change by hand goes the same way: check it, hand it to the store, and when the store
 * has it, apply it here and tell the caller. What the store was handed last is kept beside what is in force, so that a
 * second change that comes meanwhile builds on the first. */
#include "instance/record.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"
#include "instance/evict.h"
#include "instance/instance_private.h"
#include "instance/node.h"
#include "obs/log.h"

#define SQL_INSERT                                                                                                     \
    "INSERT INTO instances (id, node, name, wanted, options, created_at, updated_at) "                                 \
    "SELECT value, $1, $2, 'stopped', $3, $4, $4 FROM counters WHERE name = 'instances' RETURNING id"
#define SQL_COUNT  "UPDATE counters SET value = value + 1 WHERE name = 'instances'"
#define SQL_UPDATE "UPDATE instances SET options = $1, updated_at = $2 WHERE id = $3"
#define SQL_WANTED "UPDATE instances SET wanted = $1 WHERE id = $2"
#define SQL_DELETE "DELETE FROM instances WHERE id = $1"
#define SQL_LOAD                                                                                                       \
    "SELECT id, name, wanted, options, created_at, updated_at FROM instances WHERE node = $1 ORDER BY created_at, id"

/* A call to the store on behalf of a request, which may go first. */
struct change {
    struct list link; /* of all->creations, or of nothing */
    struct instances *all;
    struct instance *instance; /* NULL: being created */
    char *name;
    json_t *document; /* to be in force once stored, or NULL */
    struct arena_disposer *disposer;
    instance_on_done *on_done; /* NULL: the caller is gone */
    void *arg;
};

static void on_caller_gone(void *arg)
{
    struct change *c = arg;
    c->disposer = NULL;
    c->on_done = NULL;
}

static struct change *change_new(struct instances *all, struct instance *i, struct arena *arena,
                                 instance_on_done *on_done, void *arg)
{
    struct change *c = mem_calloc(1, sizeof *c);
    *c = (struct change){.all = all, .instance = i, .on_done = on_done, .arg = arg};
    list_init(&c->link);
    c->disposer = arena_on_dispose(arena, on_caller_gone, c);
    return c;
}

static void change_end(struct change *c, struct instance *i, const struct err *err)
{
    instance_on_done *on_done = c->on_done;
    void *arg = c->arg;
    if (on_done)
        arena_forget(c->disposer);
    list_remove(&c->link);
    json_decref(c->document);
    mem_free(c->name);
    mem_free(c);
    if (on_done)
        on_done(arg, i, err);
}

static bool is_remote(const struct instances *all, const struct options *o)
{
    size_t index;
    json_t *node;
    if (json_array_size(o->nodes) == 0)
        return false;
    json_array_foreach((json_t *)o->nodes, index,
                       node) if (strcmp(json_string_value(node), all->conf->local_node) == 0) return false;
    return true;
}

/* ---- what the options mean ---- */

static void apply(struct instance *i)
{
    const struct options *o = &i->options;
    int64_t delay = o->restart_delay * 1000;
    i->policy = (struct policy){.auto_restart = o->auto_restart,
                                .on_demand = o->on_demand_start,
                                .pinned = o->pinned,
                                .max_restarts = (unsigned)o->max_restarts,
                                .restart_delay_ms = delay > LIMIT_RESTART_DELAY_LEAST_MS ? (unsigned)delay
                                                                                         : LIMIT_RESTART_DELAY_LEAST_MS,
                                .idle_ms = (uint64_t)o->idle_timeout * 60000,
                                .group = o->group};
}

static void on_output_room(void *arg)
{
    struct instance *i = arg;
    if (i->child)
        child_read_on(i->child);
}

static struct instance *named_new(struct instances *all, struct str name, struct options *options)
{
    bool remote = is_remote(all, options);
    struct instance *i = instance_new(all, remote ? KIND_REMOTE : KIND_NAMED, name);
    i->options = *options;
    i->newest = json_incref(options->document);
    apply(i);
    if (remote) {
        remote_place(i);
        return i;
    }
    char path[4096];
    const struct conf *conf = all->conf;
    snprintf(path, sizeof path, "%s/%s.log", conf->logs_dir, i->name);
    struct output_options output = {.path = path,
                                    .rotate_bytes =
                                        conf->log_rotation_enabled ? (uint64_t)conf->log_rotation_max_size << 20 : 0,
                                    .rotated_files = (unsigned)conf->log_rotation_max_files,
                                    .compress = conf->log_rotation_compress,
                                    .on_proceed = on_output_room,
                                    .arg = i};
    i->output = output_new(all->loop, &output);
    return i;
}

/* ---- at the start ---- */

bool record_owner(struct instances *all, struct err *err)
{
    char fresh[33], name[LIMIT_INSTANCE_NAME + 64];
    struct arena arena;
    struct store_result results[2];
    snprintf(name, sizeof name, "owner:%s", all->conf->local_node);
    rand_text(fresh, sizeof fresh - 1);
    fresh[sizeof fresh - 1] = '\0';
    struct store_statement statements[] = {
        {.sql = "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
         .params = {store_text(str_from(name)), store_text(str_from(fresh))}},
        {.sql = "SELECT value FROM settings WHERE name = $1", .params = {store_text(str_from(name))}},
    };
    arena_init(&arena);
    bool good = store_transact_now(all->store, statements, 2, &arena, results, err);
    if (good)
        snprintf(all->owner, sizeof all->owner, STR_FMT, STR_ARG(results[1].values[0].text));
    arena_dispose(&arena);
    return good;
}

static bool load_row(struct instances *all, const struct store_value *row, struct err *err)
{
    struct options options;
    struct err why = ERR_INIT;
    json_t *document = json_read(row[3].text, &why);
    if (!document || !options_read(&options, document, all->conf, &why))
        return err_set(err, ERR_CONFIG, "the stored options of instance '" STR_FMT "' cannot be read: %s",
                       STR_ARG(row[1].text), why.message);
    struct instance *i = named_new(all, row[1].text, &options);
    i->id = row[0].integer;
    i->wanted = str_eq(row[2].text, STR("running"));
    i->created_at = row[4].integer;
    i->updated_at = row[5].integer;
    return true;
}

bool record_load(struct instances *all, struct err *err)
{
    struct arena arena;
    struct store_result result;
    struct store_statement load = {.sql = SQL_LOAD, .params = {store_text(str_from(all->conf->local_node))}};
    arena_init(&arena);
    bool good = store_transact_now(all->store, &load, 1, &arena, &result, err);
    for (size_t row = 0; good && row < result.rows; row++)
        good = load_row(all, result.values + row * result.columns, err);
    arena_dispose(&arena);
    return good;
}

/* ---- wanted ---- */

static struct store_statement wanted_statement(const struct instance *i)
{
    return (struct store_statement){
        .sql = SQL_WANTED, .params = {store_text(i->wanted ? STR("running") : STR("stopped")), store_int(i->id)}};
}

void record_wanted(struct instance *i, bool wanted)
{
    if (!instance_is_named(i) || i->wanted == wanted || i->going)
        return;
    i->wanted = wanted;
    struct store_statement statement = wanted_statement(i);
    store_transact(i->all->store, &statement, 1, NULL, NULL);
}

/* ---- creating ---- */

static bool check_free(const struct instances *all, const struct instance *self, const json_t *document,
                       struct err *err)
{
    int port = options_port(document);
    if (port == 0)
        return true;
    if (port == all->conf->port)
        return err_set_param(err, ERR_CONFLICT, "backend_options.port", "port %d is this server's own", port);
    list_each (i, &all->list, struct instance, link)
        if (i != self && i->kind == KIND_NAMED && (options_port(i->newest) == port || (i->child && i->port == port)))
            return err_set_param(err, ERR_CONFLICT, "backend_options.port", "port %d belongs to instance '%s'", port,
                                 i->name);
    list_each (c, &all->creations, struct change, link)
        if (options_port(c->document) == port)
            return err_set_param(err, ERR_CONFLICT, "backend_options.port", "port %d belongs to instance '%s'", port,
                                 c->name);
    return true;
}

/* Those that exist and those that are being made. */
static int64_t count_all(const struct instances *all)
{
    int64_t count = (int64_t)all->by_name.count;
    list_each (c, &all->creations, struct change, link)
        count++;
    return count;
}

static void created(void *arg, const struct store_result *results, const struct err *err)
{
    struct change *c = arg;
    struct options options;
    struct err own;
    if (!results) {
        err_set(&own, err->code, err->code == ERR_CONFLICT ? "there is already an instance '%s'" : "%s",
                err->code == ERR_CONFLICT ? c->name : err->message);
        change_end(c, NULL, &own);
        return;
    }
    bool good = options_read(&options, json_incref(c->document), c->all->conf, &own);
    if (!good) { /* it was read before it was stored */
        change_end(c, NULL, &own);
        return;
    }
    struct instance *i = named_new(c->all, str_from(c->name), &options);
    i->id = results[1].values[0].integer;
    i->created_at = i->updated_at = clock_unix();
    log_info("instance created", "instance=%s backend=%s", i->name, i->options.backend->type);
    watchers_tell(i);
    change_end(c, i, NULL);
}

static void insert(struct change *c)
{
    char *text = json_dumps(c->document, JSON_COMPACT);
    struct store_statement statements[] = {
        {.sql = SQL_COUNT},
        {.sql = SQL_INSERT,
         .params = {store_text(str_from(c->all->conf->local_node)), store_text(str_from(c->name)),
                    store_text(str_from(text)), store_int(clock_unix())}},
    };
    store_transact(c->all->store, statements, 2, created, c);
    free(text);
}

/* The nodes have made it, or not. */
static void placed(void *arg, const struct err *err)
{
    struct change *c = arg;
    if (err)
        change_end(c, NULL, err);
    else
        insert(c);
}

void instances_create(struct instances *all, struct str name, const json_t *body, struct arena *arena,
                      instance_on_done *on_done, void *arg)
{
    struct err err = ERR_INIT;
    struct options options = {0};
    json_t *document = NULL;
    bool good = options_check_name(name, "an instance's name", &err) && (document = options_canonical(body, &err)) &&
                options_read(&options, json_incref(document), all->conf, &err) &&
                nodes_check(all, options.nodes, &err) && check_free(all, NULL, document, &err);
    if (good && instances_find(all, name))
        good = err_set(&err, ERR_CONFLICT, "there is already an instance '" STR_FMT "'", STR_ARG(name));
    int64_t most = all->conf->max_instances >= 0 ? all->conf->max_instances : LIMIT_INSTANCES;
    if (good && count_all(all) >= most)
        good = err_set(&err, ERR_CONFLICT, "there may be %lld instances (instances.max_instances), and there are",
                       (long long)most);
    if (!good) {
        options_release(&options);
        json_decref(document);
        on_done(arg, NULL, &err);
        return;
    }
    struct change *c = change_new(all, NULL, arena, on_done, arg);
    c->name = mem_strndup(name.p, name.n);
    c->document = document;
    list_push(&all->creations, &c->link);
    if (is_remote(all, &options))
        nodes_create(all, str_from(c->name), document, options.nodes, placed, c);
    else
        insert(c);
    options_release(&options);
}

/* ---- changing ---- */

/* Whether a running process would not be the same under the new options. docker_enabled has a default, so what it
 * means is compared, not whether it was said: what was shown can be put back. */
static bool process_differs(const struct options *old, const struct options *new)
{
    static const char *const seen[] = {"backend_type", "backend_options", "environment", "command_override",
                                       "preset_ini"};
    const json_t *a = old->document, *b = new->document;
    if (old->docker != new->docker)
        return true;
    for (size_t i = 0; i < sizeof seen / sizeof *seen; i++) {
        const json_t *x = json_object_get(a, seen[i]), *y = json_object_get(b, seen[i]);
        if (x != y && !(x && y && json_equal(x, y)))
            return true;
    }
    return false;
}

static void updated(void *arg, const struct store_result *results, const struct err *err)
{
    struct change *c = arg;
    struct instance *i = c->instance;
    struct options options;
    struct err own = ERR_INIT;
    if (i->going) {
        err_set(&own, ERR_INSTANCE_NOT_FOUND, "the instance '%s' is being deleted", i->name);
        err = &own;
    }
    if (!results || i->going || !options_read(&options, json_incref(c->document), c->all->conf, &own)) {
        json_decref(i->newest);
        i->newest = json_incref(i->options.document);
        change_end(c, NULL, err ? err : &own);
        return;
    }
    bool differs = process_differs(&i->options, &options);
    options_release(&i->options);
    i->options = options;
    i->updated_at = clock_unix();
    apply(i);
    log_info("instance changed", "instance=%s restart=%s", i->name, differs && i->child ? "true" : "false");
    if (differs && (i->state == INSTANCE_RUNNING || i->state == INSTANCE_STARTING)) {
        i->grace_ms = (unsigned)c->all->conf->shutdown_grace_seconds * 1000;
        i->crashes = 0;
        instance_fire(i, EVENT_RESTART);
    } else {
        deadline_cancel(c->all->loop, &i->idle);
        instance_set_idle(i);
        watchers_tell(i);
    }
    change_end(c, i, NULL);
}

void instance_update(struct instance *i, const json_t *patch, struct arena *arena, instance_on_done *on_done, void *arg)
{
    struct err err = ERR_INIT;
    json_t *document = options_merge(i->newest, patch, &err);
    const json_t *nodes = document ? json_object_get(document, "nodes") : NULL;
    if (document &&
        !(nodes == json_object_get(i->newest, "nodes") || json_equal(nodes, json_object_get(i->newest, "nodes")))) {
        err_set_param(&err, ERR_INVALID_PARAMETERS, "nodes", "'nodes' is fixed when an instance is created");
        json_decref(document);
        document = NULL;
    }
    if (!document || !check_free(i->all, i, document, &err)) {
        json_decref(document);
        on_done(arg, NULL, &err);
        return;
    }
    struct change *c = change_new(i->all, i, arena, on_done, arg);
    c->document = document;
    json_decref(i->newest);
    i->newest = json_incref(document);
    char *text = json_dumps(document, JSON_COMPACT);
    struct store_statement statement = {
        .sql = SQL_UPDATE, .params = {store_text(str_from(text)), store_int(clock_unix()), store_int(i->id)}};
    store_transact(i->all->store, &statement, 1, updated, c);
    free(text);
}

/* ---- deleting ---- */

static void deleted(void *arg, const struct store_result *results, const struct err *err)
{
    struct change *c = arg;
    struct instance *i = c->instance;
    if (!results) {
        i->going = false;
        change_end(c, NULL, err);
        return;
    }
    log_info("instance deleted", "instance=%s", i->name);
    watchers_tell_of(i, true);
    instance_bury(i);
    change_end(c, NULL, NULL);
}

static void delete_row(struct change *c)
{
    struct store_statement statement = {.sql = SQL_DELETE, .params = {store_int(c->instance->id)}};
    store_transact(c->all->store, &statement, 1, deleted, c);
}

void record_stopped(struct instance *i)
{
    struct change *c = i->deletion;
    i->deletion = NULL;
    if (c)
        delete_row(c);
}

static void unplaced(void *arg, const struct err *err)
{
    struct change *c = arg;
    if (err)
        log_warn("a node kept its copy of a deleted instance", "instance=%s reason=%s", c->instance->name,
                 err->message);
    delete_row(c);
}

void instance_delete(struct instance *i, struct arena *arena, instance_on_done *on_done, void *arg)
{
    struct err err;
    if (i->going) {
        err_set(&err, ERR_INSTANCE_NOT_FOUND, "the instance '%s' is being deleted already", i->name);
        on_done(arg, NULL, &err);
        return;
    }
    struct change *c = change_new(i->all, i, arena, on_done, arg);
    i->going = true;
    if (i->kind == KIND_REMOTE) {
        nodes_delete(i, unplaced, c);
        return;
    }
    i->deletion = c;
    i->grace_ms = (unsigned)i->all->conf->shutdown_grace_seconds * 1000;
    instance_fire(i, EVENT_STOP);
}

/* ---- by hand ---- */

static void wanted_stored(void *arg, const struct store_result *results, const struct err *err)
{
    struct change *c = arg;
    change_end(c, results ? c->instance : NULL, results ? NULL : err);
}

/* Answers once the store knows that it shall run, or not. */
static void want(struct instance *i, bool wanted, struct arena *arena, instance_on_done *on_done, void *arg)
{
    i->wanted = wanted;
    struct store_statement statement = wanted_statement(i);
    store_transact(i->all->store, &statement, 1, wanted_stored, change_new(i->all, i, arena, on_done, arg));
}

static bool being_deleted(const struct instance *i, instance_on_done *on_done, void *arg)
{
    struct err err;
    if (!i->going)
        return false;
    err_set(&err, ERR_INSTANCE_NOT_FOUND, "the instance '%s' is being deleted", i->name);
    on_done(arg, NULL, &err);
    return true;
}

void instance_start(struct instance *i, struct arena *arena, instance_on_done *on_done, void *arg)
{
    struct err err = ERR_INIT;
    if (being_deleted(i, on_done, arg))
        return;
    i->crashes = 0;
    if (i->state == INSTANCE_STOPPED || i->state == INSTANCE_FAILED) {
        enum evict_answer answer = evict_make_room(i->all, i, EVICT_NOBODY, &err);
        if (answer == EVICT_NEVER) {
            i->problem = err;
            on_done(arg, NULL, &err);
            return;
        }
        i->wanted = true; /* keeps a place in the queue */
        instance_fire(i, answer == EVICT_ROOM ? EVENT_START : EVENT_ENQUEUE);
    } else if (i->state != INSTANCE_QUEUED) { /* there it keeps its place: it has no room yet */
        instance_fire(i, EVENT_START);
    }
    want(i, true, arena, on_done, arg);
}

void instance_stop(struct instance *i, struct arena *arena, instance_on_done *on_done, void *arg)
{
    if (being_deleted(i, on_done, arg))
        return;
    i->grace_ms = (unsigned)i->all->conf->shutdown_grace_seconds * 1000;
    i->wanted = false;
    instance_fire(i, EVENT_STOP);
    want(i, false, arena, on_done, arg);
}

void instance_restart(struct instance *i, struct arena *arena, instance_on_done *on_done, void *arg)
{
    if (i->state == INSTANCE_STOPPED || i->state == INSTANCE_FAILED || i->state == INSTANCE_QUEUED) {
        instance_start(i, arena, on_done, arg);
        return;
    }
    if (being_deleted(i, on_done, arg))
        return;
    i->crashes = 0;
    i->grace_ms = (unsigned)i->all->conf->shutdown_grace_seconds * 1000;
    instance_fire(i, EVENT_RESTART);
    want(i, true, arena, on_done, arg);
}
