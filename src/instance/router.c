#include "instance/router.h"

#include "base/mem.h"
#include "instance/instance_private.h"

#define ANSWER_MS 5000

struct router {
    struct instance *instance;
    struct http_call *call; /* runs, or NULL */
    struct deadline late;
    struct buf body;
    int status;
    json_t *document;    /* owns the names */
    const char **models; /* NULL-terminated, or NULL */
};

struct refresh {
    struct list link;
    struct instances *all;
    struct deadline late;
    struct arena_disposer *disposer;
    void (*on_fresh)(void *arg);
    void *arg;
};

static bool anyone_asked(const struct instances *all)
{
    list_each (i, (struct list *)&all->list, struct instance, link)
        if (i->router && i->router->call)
            return true;
    return false;
}

static void refresh_end(struct refresh *r)
{
    list_remove(&r->link);
    deadline_cancel(r->all->loop, &r->late);
    arena_forget(r->disposer);
    r->on_fresh(r->arg);
}

static void look_at_refreshes(struct instances *all)
{
    while (!list_empty(&all->refreshes) && !anyone_asked(all))
        refresh_end(list_first(&all->refreshes, struct refresh, link));
}

static void on_late(struct deadline *deadline)
{
    refresh_end(container_of(deadline, struct refresh, late));
}

static void on_refresh_gone(void *arg)
{
    struct refresh *r = arg;
    list_remove(&r->link);
    deadline_cancel(r->all->loop, &r->late);
}

/* ---- one router's answer ---- */

static void read_models(struct router *r)
{
    json_t *document = json_read(buf_view(&r->body), NULL);
    json_t *data = json_object_get(document, "data"), *entry;
    size_t index, count = 0;
    if (!json_is_array(data)) {
        json_decref(document);
        return;
    }
    const char **models = mem_calloc(json_array_size(data) + 1, sizeof *models);
    json_array_foreach(data, index, entry)
    {
        const char *id = json_string_value(json_object_get(entry, "id"));
        if (id && strlen(id) <= LIMIT_MODEL_NAME)
            models[count++] = id;
    }
    mem_free(r->models);
    json_decref(r->document);
    r->models = models;
    r->document = document;
}

static void answered(struct router *r)
{
    struct instances *all = r->instance->all;
    r->call = NULL;
    deadline_cancel(all->loop, &r->late);
    if (r->status == 200 && buf_ok(&r->body))
        read_models(r);
    look_at_refreshes(all);
}

static void on_head(void *arg, const struct http_head *head)
{
    struct router *r = arg;
    r->status = head->status;
}

static void on_data(void *arg, struct str piece)
{
    struct router *r = arg;
    buf_str(&r->body, piece);
}

static void on_end(void *arg)
{
    answered(arg);
}

static void on_error(void *arg, const struct err *err)
{
    struct router *r = arg;
    (void)err;
    r->status = 0;
    answered(r);
}

static void on_answer_late(struct deadline *deadline)
{
    struct router *r = container_of(deadline, struct router, late);
    http_call_cancel(r->call);
    r->status = 0;
    answered(r);
}

static void ask(struct instance *i)
{
    static const struct http_call_events events = {
        .on_head = on_head, .on_data = on_data, .on_end = on_end, .on_error = on_error};
    struct router *r = i->router;
    if (!r) {
        r = i->router = mem_calloc(1, sizeof *r);
        r->instance = i;
        buf_init(&r->body, LIMIT_NODE_REPLY);
    }
    if (r->call)
        return;
    struct str key = options_backend_key(&i->options);
    char line[LIMIT_BACKEND_KEY + 40] = "";
    if (key.p)
        snprintf(line, sizeof line, "Authorization: Bearer " STR_FMT "\r\n", STR_ARG(key));
    r->status = 0;
    r->body.len = 0;
    deadline_arm(i->all->loop, &r->late, ANSWER_MS, on_answer_late);
    r->call = http_call_start(i->all->client, &i->target, STR("GET"), STR("/models"), str_from(line), 0, STR_NONE,
                              &events, r);
}

/* ---- the set ---- */

void routers_refresh(struct instances *all, unsigned within_ms, struct arena *arena, void (*on_fresh)(void *arg),
                     void *arg)
{
    list_each (i, &all->list, struct instance, link)
        if (i->state == INSTANCE_RUNNING && instance_is_router(i))
            ask(i);
    if (!anyone_asked(all)) {
        on_fresh(arg);
        return;
    }
    struct refresh *r = arena_calloc(arena, sizeof *r);
    *r = (struct refresh){.all = all, .on_fresh = on_fresh, .arg = arg};
    r->disposer = arena_on_dispose(arena, on_refresh_gone, r);
    list_push(&all->refreshes, &r->link);
    deadline_arm(all->loop, &r->late, within_ms, on_late);
}

const char *const *router_models_of(const struct instance *i)
{
    return i->router && i->state == INSTANCE_RUNNING ? i->router->models : NULL;
}

void router_forget(struct instance *i)
{
    struct router *r = i->router;
    if (!r)
        return;
    i->router = NULL;
    if (r->call)
        http_call_cancel(r->call);
    deadline_cancel(i->all->loop, &r->late);
    buf_release(&r->body);
    mem_free(r->models);
    json_decref(r->document);
    mem_free(r);
    look_at_refreshes(i->all);
}
