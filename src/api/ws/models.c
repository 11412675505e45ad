/* subscribe_models: every known model's status at once, then what changes. Changes are found by comparing with what was
 * sent last, whenever an instance moves, and five times a second while something is loading (progress is no event); so
 * a socket that takes nothing misses steps in between, never the last one. */
#include <math.h>

#include "api/ws/session.h"
#include "base/json_read.h"
#include "base/map.h"
#include "openai/error.h"

/* What was sent of a model. */
struct model_told {
    const char *state; /* a static text */
    int progress;
    uint64_t loading_since_ms;
};

struct models_subscription {
    struct ws_subscription base;
    const char **filter; /* ids, NULL-terminated; NULL: all */
    struct map told;     /* by id: struct model_told * in the arena */
    struct loop_soon soon;
};

/* "30s": what is left when it goes on as it went; NULL: not known. */
static const char *eta(const struct model_told *told, float progress, uint64_t now_ms, char *out, size_t size)
{
    double passed = (double)(now_ms - told->loading_since_ms) / 1000;
    if (progress <= 0 || passed <= 0)
        return NULL;
    snprintf(out, size, "%.0fs", ceil(passed * (1 - (double)progress) / (double)progress));
    return out;
}

static void send_status(struct models_subscription *sub, const char *id, const struct instance_status *status,
                        const struct model_told *told)
{
    struct loop *loop = sub->base.session->app->loop;
    bool loading = strcmp(status->model_state, "loading") == 0, failed = strcmp(status->model_state, "error") == 0;
    struct buf out, error;
    struct json j;
    char left[32];
    buf_init(&out, 8 * (LIMIT_ERR_MESSAGE + LIMIT_ERR_DETAILS + 4096));
    buf_init(&error, 8 * (LIMIT_ERR_MESSAGE + LIMIT_ERR_DETAILS));
    json_begin(&j, &out);
    json_open_object(&j, NULL);
    json_put_string(&j, "model_id", id);
    json_put_string(&j, "status", status->model_state);
    if (loading) {
        json_put_int(&j, "progress", told->progress);
        json_put_string(&j, "eta", eta(told, status->progress, loop_now_ms(loop), left, sizeof left));
    }
    if (failed && status->problem.code) {
        openai_error_write(&error, &status->problem);
        struct str inner = buf_view(&error); /* {"error":X} */
        json_put_raw(&j, "error", (struct str){inner.p + 9, inner.n - 10});
    }
    json_close(&j);
    if (json_finish(&j))
        ws_subscription_send(&sub->base, "model_status", buf_view(&out));
    buf_release(&error);
    buf_release(&out);
}

static bool is_wanted(const struct models_subscription *sub, const char *id)
{
    for (const char **name = sub->filter; name && *name; name++)
        if (strcmp(*name, id) == 0)
            return true;
    return !sub->filter;
}

/* Tells the model's status if it is news; true: it is loading. */
static bool tell(struct models_subscription *sub, const char *id)
{
    struct app *app = sub->base.session->app;
    struct instance_status status;
    struct model_told *told = map_get(&sub->told, str_from(id));
    instances_status(app->instances, str_from(id), &status);
    bool loading = strcmp(status.model_state, "loading") == 0,
         same = told && strcmp(told->state, status.model_state) == 0;
    int progress = loading ? (int)(status.progress * 100) : 0;
    if (same && progress == told->progress)
        return loading;
    if (!told) {
        told = arena_calloc(&sub->base.arena, sizeof *told);
        map_put(&sub->told, str_from(id), told);
    }
    if (loading && !same)
        told->loading_since_ms = loop_now_ms(app->loop);
    told->state = status.model_state;
    told->progress = progress;
    send_status(sub, id, &status, told);
    return loading;
}

static void on_due(struct deadline *deadline);

static void tell_all(struct ws_subscription *base)
{
    struct models_subscription *sub = container_of(base, struct models_subscription, base);
    struct app *app = base->session->app;
    bool loading = false;
    for (size_t i = 0; app->catalogue && i < app->catalogue->count; i++) {
        if (http_ws_is_blocked(base->session->ws)) {
            base->behind = true;
            return;
        }
        if (is_wanted(sub, app->catalogue->models[i].id))
            loading |= tell(sub, app->catalogue->models[i].id);
    }
    if (loading)
        deadline_arm(app->loop, &base->deadline, LIMIT_WS_PROGRESS_MS, on_due);
}

static void on_due(struct deadline *deadline)
{
    tell_all(container_of(deadline, struct ws_subscription, deadline));
}

static void on_soon(struct loop_soon *soon)
{
    tell_all(&container_of(soon, struct models_subscription, soon)->base);
}

/* From inside the instance's change: looked at once that is over. */
static void on_change(void *arg, struct instance *i, bool gone)
{
    struct models_subscription *sub = arg;
    (void)i;
    (void)gone;
    loop_soon(sub->base.session->app->loop, &sub->soon, on_soon);
}

static void on_dispose(void *arg)
{
    struct models_subscription *sub = arg;
    loop_soon_cancel(&sub->soon);
    map_release(&sub->told);
}

/* Turns the names the client gave into ids; one that means nothing is an error. */
static bool find_models(struct models_subscription *sub, struct err *err)
{
    const struct model_catalogue *catalogue = sub->base.session->app->catalogue;
    for (const char **name = sub->filter; name && *name; name++) {
        const struct model *model = model_find(catalogue, str_from(*name));
        if (!model) {
            model_not_found(catalogue, str_from(*name), err);
            return false;
        }
        *name = arena_strdup(&sub->base.arena, model->id);
    }
    return true;
}

static void on_catalogue(void *arg)
{
    struct models_subscription *sub = arg;
    struct ws_session *s = sub->base.session;
    struct err err;
    if (!find_models(sub, &err)) {
        ws_session_error(s, sub->base.raw_id, &err);
        ws_subscription_end(&sub->base);
        return;
    }
    instances_watch(s->app->instances, &sub->base.arena, on_change, sub);
    tell_all(&sub->base);
}

static bool check_filter(const json_t *names, struct err *err)
{
    const json_t *name;
    size_t i;
    if (!names || json_is_null(names))
        return true;
    if (!json_is_array(names) || json_array_size(names) > LIMIT_MODELS)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "models", "'models' must be an array of models' names");
    json_array_foreach(names, i, name)
    {
        if (!json_is_string(name))
            return err_set_param(err, ERR_INVALID_PARAMETERS, "models", "'models' must hold names");
    }
    return true;
}

static const char **copy_filter(const json_t *names, struct arena *arena)
{
    const json_t *name;
    size_t i;
    if (!json_is_array(names))
        return NULL;
    const char **filter = arena_calloc(arena, (json_array_size(names) + 1) * sizeof *filter);
    json_array_foreach(names, i, name)
    {
        filter[i] = arena_strdup(arena, json_string_value(name));
    }
    return filter;
}

void ws_models_subscribe(struct ws_session *s, const struct ws_envelope *envelope)
{
    struct err err;
    struct models_subscription *sub = NULL;
    if (!ws_session_may(s, AUTH_MODELS_READ, envelope->raw_id))
        return;
    json_t *data = json_read(envelope->data, &err);
    const json_t *names = json_object_get(data, "models");
    if (data && check_filter(names, &err))
        sub = ws_subscription_new(s, envelope, sizeof *sub, &err);
    if (sub) {
        sub->filter = copy_filter(names, &sub->base.arena);
        map_init(&sub->told);
        sub->base.catch_up = tell_all;
        arena_on_dispose(&sub->base.arena, on_dispose, sub);
        app_refresh_catalogue(s->app, 0, &sub->base.arena, on_catalogue, sub);
    } else {
        ws_session_error(s, envelope->raw_id, &err);
    }
    json_decref(data);
}
