/* Nodes and what they hold.
 *
 * node_call() is one bounded HTTP call to a node. A poll is such a call for the node's list of instances; its answer
 * moves the placements of the remote instances, and with them their state. Calls that go to several nodes at once
 * (create, delete, start...) are gathered in struct errand, which answers once. */
#include "instance/node.h"

#include <netdb.h>
#include <arpa/inet.h>

#include "base/clock.h"
#include "base/mem.h"
#include "instance/instance_private.h"
#include "obs/log.h"

struct node {
    struct list link;
    struct instances *all;
    const struct conf_node *conf;
    struct http_target target;
    char *head_lines;
    struct deadline poll;
    struct node_call *polling;
    bool healthy, known; /* known: it has answered, or failed, since the start */
    bool stopped;
};

/* An instance on one of its nodes. */
struct placement {
    struct list link;
    struct node *node;
    enum instance_state state;
    bool there;
    unsigned active; /* our requests in flight there */
};

struct node_call {
    struct node *node;
    struct http_call *call;
    struct deadline late;
    struct buf body;
    int status;
    void (*on_done)(void *arg, int status, struct str body, const struct err *err);
    void *arg;
};

/* ---- one call ---- */

static void call_end(struct node_call *c, const struct err *err)
{
    deadline_cancel(c->node->all->loop, &c->late);
    c->on_done(c->arg, c->status, buf_view(&c->body), err);
    buf_release(&c->body);
    mem_free(c);
}

static void on_head(void *arg, const struct http_head *head)
{
    struct node_call *c = arg;
    c->status = head->status;
}

static void on_data(void *arg, struct str piece)
{
    struct node_call *c = arg;
    buf_str(&c->body, piece);
}

static void on_end(void *arg)
{
    struct node_call *c = arg;
    struct err err;
    if (buf_ok(&c->body)) {
        call_end(c, NULL);
        return;
    }
    err_set(&err, ERR_BAD_GATEWAY, "the answer of node '%s' is too long", c->node->conf->name);
    call_end(c, &err);
}

static void on_error(void *arg, const struct err *cause)
{
    struct node_call *c = arg;
    struct err err;
    err_set(&err, ERR_BAD_GATEWAY, "node '%s' does not answer (%s)", c->node->conf->name, cause->message);
    call_end(c, &err);
}

static void on_late(struct deadline *deadline)
{
    struct node_call *c = container_of(deadline, struct node_call, late);
    struct err err;
    http_call_cancel(c->call);
    err_set(&err, ERR_TIMEOUT, "node '%s' did not answer within %d s", c->node->conf->name, LIMIT_NODE_CALL_MS / 1000);
    call_end(c, &err);
}

static struct node_call *node_call(struct node *node, const char *method, const char *path, struct str body,
                                   void (*on_done)(void *arg, int status, struct str body, const struct err *err),
                                   void *arg)
{
    static const struct http_call_events events = {
        .on_head = on_head, .on_data = on_data, .on_end = on_end, .on_error = on_error};
    struct node_call *c = mem_calloc(1, sizeof *c);
    *c = (struct node_call){.node = node, .on_done = on_done, .arg = arg};
    buf_init(&c->body, LIMIT_NODE_REPLY);
    deadline_arm(node->all->loop, &c->late, LIMIT_NODE_CALL_MS, on_late);
    c->call = http_call_start(node->all->client, &node->target, str_from(method), str_from(path),
                              str_from(node->head_lines), (int64_t)body.n, body, &events, c);
    return c;
}

/* ---- what a node says ---- */

static enum instance_state state_of(const char *wire)
{
    static const struct {
        const char *wire;
        enum instance_state state;
    } names[] = {
        {"running", INSTANCE_RUNNING},        {"starting", INSTANCE_STARTING},     {"stopping", INSTANCE_STOPPING},
        {"shutting_down", INSTANCE_STOPPING}, {"restarting", INSTANCE_RESTARTING}, {"failed", INSTANCE_FAILED},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(wire, names[i].wire) == 0)
            return names[i].state;
    return INSTANCE_STOPPED;
}

/* The most hopeful of its nodes speaks for it. */
static void settle_state(struct instance *i)
{
    static const enum instance_state order[] = {INSTANCE_RUNNING,  INSTANCE_STARTING, INSTANCE_RESTARTING,
                                                INSTANCE_STOPPING, INSTANCE_FAILED,   INSTANCE_STOPPED};
    enum instance_state state = INSTANCE_STOPPED;
    for (size_t n = 0; n < sizeof order / sizeof *order; n++) {
        bool found = false;
        list_each (p, &i->placements, struct placement, link)
            found = found || (p->node->healthy && p->there && p->state == order[n]);
        if (found) {
            state = order[n];
            break;
        }
    }
    if (state == i->state)
        return;
    i->state = state; /* not ours to drive: the node's life cycle, not fsm.def's */
    watchers_tell(i);
}

static const json_t *entry_of(const json_t *list, const char *name)
{
    size_t index;
    json_t *entry;
    json_array_foreach((json_t *)list, index,
                       entry) if (json_is_string(json_object_get(entry, "name")) &&
                                  strcmp(json_string_value(json_object_get(entry, "name")), name) == 0) return entry;
    return NULL;
}

static void take_list(struct node *node, const json_t *list)
{
    list_each (i, &node->all->list, struct instance, link) {
        list_each (p, &i->placements, struct placement, link) {
            if (p->node != node)
                continue;
            const json_t *entry = list ? entry_of(list, i->name) : NULL;
            const char *status = json_string_value(json_object_get(entry, "status"));
            p->there = entry != NULL;
            p->state = status ? state_of(status) : INSTANCE_STOPPED;
        }
        if (i->kind == KIND_REMOTE)
            settle_state(i);
    }
}

static void on_poll(struct deadline *deadline);

static void polled(void *arg, int status, struct str body, const struct err *err)
{
    struct node *node = arg;
    struct err why = ERR_INIT;
    node->polling = NULL;
    json_t *list = !err && status == 200 ? json_read(body, &why) : NULL;
    bool healthy = json_is_array(list);
    if (healthy != node->healthy || !node->known)
        log_info(healthy ? "node answers" : "node does not answer", "node=%s status=%d reason=%s", node->conf->name,
                 status, err ? err->message : why.message);
    node->healthy = healthy;
    node->known = true;
    take_list(node, healthy ? list : NULL);
    json_decref(list);
    if (!node->stopped)
        deadline_arm(node->all->loop, &node->poll, LIMIT_NODE_POLL_MS, on_poll);
}

static void on_poll(struct deadline *deadline)
{
    struct node *node = container_of(deadline, struct node, poll);
    node->polling = node_call(node, "GET", "/api/v1/instances", STR(""), polled, node);
}

static void poll_soon(struct node *node)
{
    if (!node->polling && !node->stopped)
        deadline_arm(node->all->loop, &node->poll, 1, on_poll);
}

/* ---- the set ---- */

static bool resolve(struct http_target *target)
{
    struct in_addr v4;
    struct in6_addr v6;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    if (inet_pton(AF_INET, target->address, &v4) == 1 || inet_pton(AF_INET6, target->address, &v6) == 1)
        return true;
    if (getaddrinfo(target->address, NULL, &hints, &found) != 0)
        return false;
    char address[sizeof target->address];
    bool good = getnameinfo(found->ai_addr, found->ai_addrlen, address, sizeof address, NULL, 0, NI_NUMERICHOST) == 0;
    freeaddrinfo(found);
    if (good)
        snprintf(target->address, sizeof target->address, "%s", address);
    return good;
}

bool nodes_begin(struct instances *all, struct err *err)
{
    for (const struct conf_node *conf = all->conf->nodes; conf; conf = conf->next) {
        if (strcmp(conf->name, all->conf->local_node) == 0)
            continue;
        struct node *node = mem_calloc(1, sizeof *node);
        *node = (struct node){.all = all, .conf = conf};
        list_push(&all->nodes, &node->link);
        node->head_lines = mem_alloc(strlen(conf->api_key) + 64);
        snprintf(node->head_lines, strlen(conf->api_key) + 64, *conf->api_key ? "Authorization: Bearer %s\r\n" : "%s",
                 conf->api_key);
        if (strpbrk(conf->api_key, "\r\n"))
            return err_set(err, ERR_CONFIG, "nodes.%s.api_key must be one line", conf->name);
        if (!http_target_parse(conf->address, &node->target, err)) {
            err->code = ERR_CONFIG;
            return false;
        }
        if (!resolve(&node->target))
            return err_set(err, ERR_CONFIG, "nodes.%s.address: the name '%s' cannot be resolved", conf->name,
                           node->target.address);
        poll_soon(node);
    }
    return true;
}

void nodes_stop(struct instances *all)
{
    list_each (node, &all->nodes, struct node, link) {
        node->stopped = true;
        deadline_cancel(all->loop, &node->poll);
    }
}

void nodes_end(struct instances *all)
{
    list_each (node, &all->nodes, struct node, link) {
        deadline_cancel(all->loop, &node->poll);
        if (node->polling) {
            http_call_cancel(node->polling->call);
            deadline_cancel(all->loop, &node->polling->late);
            buf_release(&node->polling->body);
            mem_free(node->polling);
        }
        list_remove(&node->link);
        mem_free(node->head_lines);
        mem_free(node);
    }
}

static struct node *node_find(const struct instances *all, const char *name)
{
    list_each (node, (struct list *)&all->nodes, struct node, link)
        if (strcmp(node->conf->name, name) == 0)
            return node;
    return NULL;
}

bool node_target(const struct instances *all, const char *name, struct http_target *ret_target,
                 struct str *ret_head_lines)
{
    const struct node *node = node_find(all, name);
    if (!node)
        return false;
    *ret_target = node->target;
    *ret_head_lines = str_from(node->head_lines);
    return true;
}

int node_healthy(const struct instances *all, const char *name)
{
    const struct node *node = node_find(all, name);
    return node && node->known ? node->healthy : -1;
}

bool nodes_check(const struct instances *all, const json_t *names, struct err *err)
{
    size_t index;
    json_t *name;
    json_array_foreach(
        (json_t *)names, index,
        name) if (strcmp(json_string_value(name), all->conf->local_node) != 0 &&
                  !node_find(
                      all, json_string_value(name))) return err_set_param(err, ERR_INVALID_PARAMETERS, "nodes",
                                                                          "there is no node '%s' in the configuration",
                                                                          json_string_value(name));
    return true;
}

/* ---- errands to several nodes ---- */

struct errand {
    unsigned open, good;
    struct err problem;
    int status;
    struct buf body;
    struct arena_disposer *disposer;
    void (*on_done)(void *arg, int status, struct str body, const struct err *err); /* NULL: nobody listens */
    void *arg;
};

static void errand_end(struct errand *e)
{
    if (e->disposer)
        arena_forget(e->disposer);
    if (e->on_done)
        e->on_done(e->arg, e->status, buf_view(&e->body), e->good ? NULL : &e->problem);
    buf_release(&e->body);
    mem_free(e);
}

/* What the node said was wrong, in its words. */
static void explain(struct err *err, int status, struct str body)
{
    json_t *document = json_read(body, NULL);
    const json_t *error = json_object_get(document, "error");
    const char *text = json_string_value(json_is_object(error) ? json_object_get(error, "message") : error);
    enum err_code code = status == 409   ? ERR_CONFLICT
                         : status == 404 ? ERR_INSTANCE_NOT_FOUND
                         : status == 400 ? ERR_INVALID_PARAMETERS
                                         : ERR_BAD_GATEWAY;
    err_set(err, code, "the node answered %d: %s", status, text ? text : "(no reason)");
    json_decref(document);
}

static void errand_answer(void *arg, int status, struct str body, const struct err *err)
{
    struct errand *e = arg;
    if (!err && status < 300) {
        e->good++;
        e->status = status;
        buf_release(&e->body);
        buf_init(&e->body, LIMIT_NODE_REPLY);
        buf_str(&e->body, body);
    } else if (err) {
        e->problem = *err;
    } else {
        explain(&e->problem, status, body);
    }
    if (--e->open == 0)
        errand_end(e);
}

static struct errand *errand_new(void (*on_done)(void *arg, int status, struct str body, const struct err *err),
                                 void *arg)
{
    struct errand *e = mem_calloc(1, sizeof *e);
    *e = (struct errand){.open = 1, .on_done = on_done, .arg = arg};
    err_set(&e->problem, ERR_BAD_GATEWAY, "none of the instance's nodes is configured");
    buf_init(&e->body, LIMIT_NODE_REPLY);
    return e;
}

/* All calls are made: without one, the errand ends here. */
static void errand_sent(struct errand *e)
{
    if (--e->open == 0)
        errand_end(e);
}

struct placing {
    void (*on_done)(void *arg, const struct err *err);
    void *arg;
};

static void placing_done(void *arg, int status, struct str body, const struct err *err)
{
    struct placing p = *(struct placing *)arg;
    (void)status;
    (void)body;
    mem_free(arg);
    p.on_done(p.arg, err);
}

static struct errand *placing_errand(void (*on_done)(void *arg, const struct err *err), void *arg)
{
    struct placing *p = mem_calloc(1, sizeof *p);
    *p = (struct placing){on_done, arg};
    return errand_new(placing_done, p);
}

void nodes_create(struct instances *all, struct str name, const json_t *document, const json_t *names,
                  void (*on_done)(void *arg, const struct err *err), void *arg)
{
    struct errand *e = placing_errand(on_done, arg);
    json_t *body = json_copy((json_t *)document), *node_name;
    char path[LIMIT_INSTANCE_NAME + 40];
    size_t index;
    json_object_del(body, "nodes");
    json_object_set_new(body, "start", json_false());
    char *text = json_dumps(body, JSON_COMPACT);
    snprintf(path, sizeof path, "/api/v1/instances/" STR_FMT, STR_ARG(name));
    json_array_foreach((json_t *)names, index, node_name)
    {
        struct node *node = node_find(all, json_string_value(node_name));
        if (!node)
            continue;
        e->open++;
        node_call(node, "POST", path, str_from(text), errand_answer, e);
    }
    free(text);
    json_decref(body);
    errand_sent(e);
}

static void send_to_all(struct instance *i, struct errand *e, const char *method, const char *path, struct str body)
{
    list_each (p, &i->placements, struct placement, link) {
        e->open++;
        node_call(p->node, method, path, body, errand_answer, e);
        poll_soon(p->node);
    }
    errand_sent(e);
}

void nodes_delete(struct instance *i, void (*on_done)(void *arg, const struct err *err), void *arg)
{
    char path[LIMIT_INSTANCE_NAME + 40];
    snprintf(path, sizeof path, "/api/v1/instances/%s", i->name);
    send_to_all(i, placing_errand(on_done, arg), "DELETE", path, STR(""));
}

static void on_listener_gone(void *arg)
{
    struct errand *e = arg;
    e->disposer = NULL;
    e->on_done = NULL;
}

void remote_call(struct instance *i, const char *method, const char *path, const json_t *body, struct arena *arena,
                 void (*on_done)(void *arg, int status, struct str body, const struct err *err), void *arg)
{
    struct errand *e = errand_new(on_done, arg);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    e->disposer = arena_on_dispose(arena, on_listener_gone, e);
    send_to_all(i, e, method, path, text ? str_from(text) : STR(""));
    free(text);
}

/* ---- remote instances ---- */

void remote_place(struct instance *i)
{
    size_t index;
    json_t *name;
    json_array_foreach((json_t *)i->options.nodes, index, name)
    {
        struct node *node = node_find(i->all, json_string_value(name));
        if (!node) {
            log_warn("an instance's node is not configured", "instance=%s node=%s", i->name, json_string_value(name));
            continue;
        }
        struct placement *p = mem_calloc(1, sizeof *p);
        *p = (struct placement){.node = node, .state = INSTANCE_STOPPED, .there = true};
        list_push(&i->placements, &p->link);
        poll_soon(node);
    }
}

void remote_release(struct instance *i)
{
    list_each (p, &i->placements, struct placement, link) {
        list_remove(&p->link);
        mem_free(p);
    }
}

static bool better(const struct placement *a, const struct placement *b)
{
    if (!b)
        return true;
    bool a_runs = a->state == INSTANCE_RUNNING, b_runs = b->state == INSTANCE_RUNNING;
    return a_runs != b_runs ? a_runs : a->active < b->active;
}

struct placement *remote_pick(struct instance *i, struct str *ret_head_lines, struct err *err)
{
    struct placement *best = NULL;
    list_each (p, &i->placements, struct placement, link) {
        bool usable = (p->node->healthy && p->there) || !p->node->known;
        if (usable && better(p, best))
            best = p;
    }
    if (!best) {
        err_set(err, ERR_BAD_GATEWAY, "no node of '%s' answers", i->name);
        return NULL;
    }
    best->active++;
    *ret_head_lines = str_from(best->node->head_lines);
    return best;
}

const struct http_target *placement_target(const struct placement *p)
{
    return &p->node->target;
}

void placement_end(struct placement *p)
{
    p->active--;
}
