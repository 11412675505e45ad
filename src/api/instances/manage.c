/* Instances: list, look, make, change, delete, start, stop, restart. */
#include "api/docs/doc.h"
#include "api/instances/instances.h"
#include "api/system/reserved.h"
#include "base/clock.h"
#include "base/json_read.h"
#include "instance/node.h"
#include "instance/options.h"

struct str query_text(struct http_req *req, const char *name)
{
    struct str value = STR_NONE;
    return http_query_find(&req->arena, req->head.query, name, &value) ? value : STR_NONE;
}

bool query_int(struct http_req *req, const char *name, int64_t *ret_value)
{
    struct err err;
    struct str text = query_text(req, name), digits = text;
    uint64_t value;
    if (!text.p)
        return true;
    bool negative = str_starts(text, STR("-"));
    if (negative)
        digits = (struct str){text.p + 1, text.n - 1};
    if (str_u64(digits, INT64_MAX, &value)) {
        *ret_value = negative ? -(int64_t)value : (int64_t)value;
        return true;
    }
    err_set_param(&err, ERR_INVALID_PARAMETERS, name, "'%s' must be a whole number", name);
    http_reply_error(req, &err);
    return false;
}

bool query_flag(struct http_req *req, const char *name)
{
    struct str text = query_text(req, name);
    return text.p && (text.n == 0 || str_eq(text, STR("1")) || str_eq(text, STR("true")));
}

struct instance *instance_of_match(struct app *app, struct http_req *req, const struct http_match *match)
{
    struct err err;
    struct str name = match->captures[0];
    struct instance *i = instances_find(app->instances, name);
    if (i)
        return i;
    if (options_check_name(name, "an instance's name", &err))
        err_set(&err, ERR_INSTANCE_NOT_FOUND, "there is no instance '" STR_FMT "'", STR_ARG(name));
    http_reply_error(req, &err);
    return NULL;
}

/* ---- showing ---- */

static void put_document(struct json *j, const char *key, const json_t *document)
{
    char *text = json_dumps(document, JSON_COMPACT | JSON_ENCODE_ANY);
    json_put_raw(j, key, str_from(text ? text : "null"));
    free(text);
}

void instance_put(struct json *j, const char *key, const struct instance *i)
{
    struct instance_status s;
    json_t *options = instance_options(i);
    instance_status(i, &s);
    json_open_object(j, key);
    if (instance_is_named(i))
        json_put_int(j, "id", instance_id(i));
    json_put_string(j, "name", instance_name(i));
    json_put_string(j, "status", s.state);
    json_put_int(j, "created", instance_created(i));
    if (!instance_is_named(i))
        json_put_bool(j, "implicit", true);
    put_document(j, "options", options);
    if (s.problem.code != ERR_NONE)
        json_put_string(j, "error", s.problem.message);
    if (s.pid)
        json_put_int(j, "pid", s.pid);
    if (s.port)
        json_put_int(j, "port", s.port);
    if (s.queue_position)
        json_put_int(j, "queue_position", s.queue_position);
    json_put_int(j, "active_requests", s.active);
    json_put_int(j, "waiting_requests", s.waiting);
    json_put_int(j, "restarts", (int64_t)s.counters->restarts);
    if (s.memory_bytes)
        json_put_int(j, "memory_bytes", (int64_t)s.memory_bytes);
    if (s.reserved.weights)
        reserved_put(j, &s.reserved);
    if (s.last_used)
        json_put_int(j, "last_used", s.last_used);
    if (instance_warnings(i))
        put_document(j, "warnings", instance_warnings(i));
    json_close(j);
    json_decref(options);
}

static void reply_instance(struct http_req *req, int status, const struct instance *i)
{
    struct json *j = api_json_begin(req);
    instance_put(j, NULL, i);
    api_reply_json(req, status, j);
}

static void list(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct instance **all = instances_list(app->instances, query_flag(req, "all"), &req->arena);
    struct json *j = api_json_begin(req);
    (void)match;
    json_open_array(j, NULL);
    for (; *all; all++)
        instance_put(j, NULL, *all);
    json_close(j);
    api_reply_json(req, 200, j);
}

static void look(void *arg, struct http_req *req, const struct http_match *match)
{
    const struct instance *i = instance_of_match(arg, req, match);
    if (i)
        reply_instance(req, 200, i);
}

/* ---- doing ---- */

/* What a request that changes something is waiting for. */
enum until {
    UNTIL_TRIED, /* a process was started, or could not be: the state is on its way */
    UNTIL_UP,    /* running, or failed to be */
    UNTIL_DOWN,  /* stopped */
};

struct action {
    struct app *app;
    struct http_req *req;
    struct str name;
    json_t *body;
    enum until until;
    int status; /* of the reply */
    bool started, settled;
    int64_t id; /* of one that is being deleted */
    struct instance *instance;
    const struct http_match *match;
};

static void release_body(void *arg)
{
    struct action *a = arg;
    json_decref(a->body);
}

static struct action *action_new(void *arg, struct http_req *req, struct str name)
{
    struct action *a = arena_calloc(&req->arena, sizeof *a);
    *a = (struct action){.app = arg, .req = req, .name = name, .status = 200};
    arena_on_dispose(&req->arena, release_body, a);
    req->user = a;
    return a;
}

static bool is(const struct instance_status *s, const char *state)
{
    return strcmp(s->state, state) == 0;
}

/* Whether the answer can be given; *ret_err: what went wrong, if something did. */
static bool settled(const struct action *a, const struct instance *i, struct err *ret_err)
{
    struct instance_status s;
    instance_status(i, &s);
    bool failed = a->until != UNTIL_DOWN && s.problem.code != ERR_NONE && (is(&s, "failed") || is(&s, "restarting"));
    if (failed)
        *ret_err = s.problem;
    if (failed)
        return true;
    switch (a->until) {
    case UNTIL_TRIED: return !is(&s, "starting") || s.pid || s.queue_position;
    case UNTIL_UP: return is(&s, "running") || is(&s, "stopped");
    case UNTIL_DOWN: return is(&s, "stopped");
    }
    return true;
}

static void answer_if_settled(struct action *a, const struct instance *i)
{
    struct err err = ERR_INIT;
    if (a->settled || !settled(a, i, &err))
        return;
    a->settled = true; /* answering may make more changes be told */
    if (err.code != ERR_NONE && a->status != 201)
        http_reply_error(a->req, &err);
    else
        reply_instance(a->req, a->status, i);
}

static void on_change(void *arg, struct instance *i, bool gone)
{
    struct action *a = arg;
    struct err err;
    if (i != a->instance || a->settled)
        return;
    if (gone) {
        a->settled = true;
        err_set(&err, ERR_INSTANCE_NOT_FOUND, "the instance '" STR_FMT "' was deleted meanwhile", STR_ARG(a->name));
        http_reply_error(a->req, &err);
        return;
    }
    answer_if_settled(a, i);
}

/* The store has what is wanted. */
static void on_done(void *arg, struct instance *i, const struct err *err)
{
    struct action *a = arg;
    if (err) {
        http_reply_error(a->req, err);
        return;
    }
    a->instance = i;
    instances_watch(a->app->instances, &a->req->arena, on_change, a);
    answer_if_settled(a, i);
}

/* The node's own words, about our row. */
static void on_remote_answer(void *arg, int status, struct str body, const struct err *err)
{
    struct action *a = arg;
    const struct instance *i = instances_find(a->app->instances, a->name);
    json_t *document = err ? NULL : json_read(body, NULL);
    (void)status;
    if (err) {
        http_reply_error(a->req, err);
        return;
    }
    if (i && json_is_object(document)) {
        json_object_set_new(document, "id", json_integer(instance_id(i)));
        json_object_set_new(document, "created", json_integer(instance_created(i)));
        json_object_set_new(document, "options", instance_options(i));
    }
    char *text = json_dumps(document, JSON_COMPACT);
    http_reply(a->req, a->status, "application/json", str_from(text ? text : "{}"));
    free(text);
    json_decref(document);
}

/* For all nodes that hold it. */
static void forward(struct action *a, struct instance *i, const char *verb)
{
    const char *path = arena_printf(&a->req->arena, "/api/v1/instances/%s%s%s", instance_name(i), verb,
                                    query_flag(a->req, "wait") ? "?wait=1" : "");
    remote_call(i, "POST", path, NULL, &a->req->arena, on_remote_answer, a);
}

typedef void command(struct instance *i, struct arena *arena, instance_on_done *on_done, void *arg);

static void run(void *arg, struct http_req *req, const struct http_match *match, command *command, const char *verb,
                enum until at_once, enum until waiting)
{
    struct instance *i = instance_of_match(arg, req, match);
    if (!i)
        return;
    struct action *a = action_new(arg, req, match->captures[0]);
    a->until = query_flag(req, "wait") ? waiting : at_once;
    if (instance_is_remote(i))
        forward(a, i, verb);
    else
        command(i, &req->arena, on_done, a);
}

static void start(void *arg, struct http_req *req, const struct http_match *match)
{
    run(arg, req, match, instance_start, "/start", UNTIL_TRIED, UNTIL_UP);
}

static void restart(void *arg, struct http_req *req, const struct http_match *match)
{
    run(arg, req, match, instance_restart, "/restart", UNTIL_TRIED, UNTIL_UP);
}

static void on_stop_stored(void *arg, struct instance *i, const struct err *err)
{
    struct action *a = arg;
    if (!err && a->until == UNTIL_TRIED)
        reply_instance(a->req, 200, i);
    else
        on_done(arg, i, err);
}

static void stop_command(struct instance *i, struct arena *arena, instance_on_done *unused, void *arg)
{
    (void)unused;
    instance_stop(i, arena, on_stop_stored, arg);
}

static void stop(void *arg, struct http_req *req, const struct http_match *match)
{
    run(arg, req, match, stop_command, "/stop", UNTIL_TRIED, UNTIL_DOWN);
}

/* ---- making and changing ---- */

static bool read_object(struct action *a, struct str body)
{
    struct err err;
    a->body = json_read(body, &err);
    if (!a->body) {
        http_reply_error(a->req, &err);
        return false;
    }
    if (json_is_object(a->body))
        return true;
    err_set(&err, ERR_INVALID_PARAMETERS, "the body must be a JSON object, not %s", json_kind_name(a->body));
    http_reply_error(a->req, &err);
    return false;
}

/* The document's "Create and start": only a body that says so leaves it stopped. A start that fails leaves an instance
 * behind all the same: the reply shows it, with the reason. */
static void on_created_start(void *arg, struct instance *i, const struct err *err)
{
    struct action *a = arg;
    if (err)
        reply_instance(a->req, a->status, a->instance);
    else
        on_done(arg, i, NULL);
}

static void on_created(void *arg, struct instance *i, const struct err *err)
{
    struct action *a = arg;
    if (err) {
        http_reply_error(a->req, err);
        return;
    }
    a->instance = i;
    const json_t *start_it = json_object_get(a->body, "start");
    if (json_is_false(start_it))
        reply_instance(a->req, 201, i);
    else if (instance_is_remote(i))
        forward(a, i, "/start");
    else
        instance_start(i, &a->req->arena, on_created_start, a);
}

static void on_create_body(struct http_req *req, struct str body)
{
    struct action *a = req->user;
    if (read_object(a, body.n ? body : STR("{}")))
        instances_create(a->app->instances, a->name, a->body, &req->arena, on_created, a);
}

static void create(void *arg, struct http_req *req, const struct http_match *match)
{
    struct action *a = action_new(arg, req, match->captures[0]);
    a->status = 201;
    a->until = query_flag(req, "wait") ? UNTIL_UP : UNTIL_TRIED;
    http_req_read_body(req, LIMIT_OPTIONS_BYTES, on_create_body);
}

static void on_updated(void *arg, struct instance *i, const struct err *err)
{
    struct action *a = arg;
    if (err)
        http_reply_error(a->req, err);
    else if (a->until == UNTIL_UP)
        on_done(arg, i, NULL);
    else
        reply_instance(a->req, 200, i);
}

/* The nodes have it: now our own row. */
static void on_nodes_updated(void *arg, int status, struct str body, const struct err *err)
{
    struct action *a = arg;
    struct instance *i = instances_find(a->app->instances, a->name);
    if (err || !i)
        on_remote_answer(arg, status, body, err);
    else
        instance_update(i, a->body, &a->req->arena, on_updated, a);
}

static void update_nodes(struct action *a, struct instance *i)
{
    const char *path = arena_printf(&a->req->arena, "/api/v1/instances/%s", instance_name(i));
    json_t *patch = json_copy(a->body);
    json_object_del(patch, "nodes");
    remote_call(i, "PUT", path, patch, &a->req->arena, on_nodes_updated, a);
    json_decref(patch);
}

static void on_update_body(struct http_req *req, struct str body)
{
    struct action *a = req->user;
    if (!read_object(a, body))
        return;
    struct instance *i = instance_of_match(a->app, req, a->match); /* it may have gone meanwhile */
    if (i && instance_is_remote(i))
        update_nodes(a, i);
    else if (i)
        instance_update(i, a->body, &req->arena, on_updated, a);
}

static void update(void *arg, struct http_req *req, const struct http_match *match)
{
    struct action *a = action_new(arg, req, match->captures[0]);
    a->match = match;
    a->until = query_flag(req, "wait") ? UNTIL_UP : UNTIL_TRIED;
    if (instance_of_match(arg, req, match))
        http_req_read_body(req, LIMIT_OPTIONS_BYTES, on_update_body);
}

static void on_deleted(void *arg, struct instance *i, const struct err *err)
{
    struct action *a = arg;
    (void)i;
    if (err) {
        http_reply_error(a->req, err);
        return;
    }
    keys_forget_instance(a->app->keys, a->id);
    http_reply(a->req, 204, NULL, STR_NONE);
}

static void delete (void *arg, struct http_req *req, const struct http_match *match)
{
    struct instance *i = instance_of_match(arg, req, match);
    if (!i)
        return;
    struct action *a = action_new(arg, req, match->captures[0]);
    a->id = instance_id(i);
    instance_delete(i, &req->arena, on_deleted, a);
}

#define MANAGER (void *)&manager_dialect

const struct http_route manage_routes[] = {
    {"GET", "/api/v1/instances", list, MANAGER, "All instances; ?all=1 with those behind model files", AUTH_MANAGEMENT,
     &doc_instance_list},
    {"POST", "/api/v1/instances/{name}", create, MANAGER, "Create an instance, and start it unless \"start\" is false",
     AUTH_MANAGEMENT, &doc_instance_create},
    {"GET", "/api/v1/instances/{name}", look, MANAGER, "One instance", AUTH_MANAGEMENT, &doc_instance},
    {"PUT", "/api/v1/instances/{name}", update, MANAGER, "Change options: fields are merged, null removes one",
     AUTH_MANAGEMENT, &doc_instance_update},
    {"DELETE", "/api/v1/instances/{name}", delete, MANAGER, "Stop and remove an instance", AUTH_MANAGEMENT,
     &doc_instance_delete},
    {"POST", "/api/v1/instances/{name}/start", start, MANAGER, "Start; ?wait=1 answers when it is running",
     AUTH_MANAGEMENT, &doc_instance_start},
    {"POST", "/api/v1/instances/{name}/stop", stop, MANAGER, "Stop; ?wait=1 answers when it has stopped",
     AUTH_MANAGEMENT, &doc_instance_stop},
    {"POST", "/api/v1/instances/{name}/restart", restart, MANAGER, "Restart; ?wait=1 answers when it is running",
     AUTH_MANAGEMENT, &doc_instance_start},
    {0},
};

void instances_routes(struct http_router *router)
{
    static const struct http_route *const tables[] = {manage_routes, log_routes,     proxy_routes,  event_routes,
                                                      node_routes,   backend_routes, config_routes, download_routes};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        size_t count = 0;
        while (tables[t][count].method)
            count++;
        http_router_add(router, tables[t], count);
    }
}
