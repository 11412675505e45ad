#include "api/reach.h"

#include "base/json_scan.h"

struct reach {
    struct app *app;
    struct arena *arena;
    const struct caller *caller;
    struct str name;
    struct reached found;
    api_on_reached *on_reached;
    void *arg;
};

static void on_lease(void *arg, struct lease *lease, const struct err *err)
{
    struct reach *reach = arg;
    reach->found.lease = lease;
    reach->on_reached(reach->arg, lease ? &reach->found : NULL, err);
}

/* ---- a model file ---- */

static bool may_load(const struct reach *reach, const struct model *model, struct err *err)
{
    struct instance_status status;
    if (reach->app->conf->auto_load)
        return true;
    instances_status(reach->app->instances, str_from(model->id), &status);
    if (strcmp(status.model_state, "loaded") == 0)
        return true;
    return err_set_param(err, ERR_MODEL_NOT_LOADED, "model",
                         "The model '%s' is not loaded and cache.auto_load is off; load it with POST "
                         "/v1/models/%s/load",
                         model->id, model->id);
}

static void on_model(void *arg, const struct model *model, const struct err *not_found)
{
    struct reach *reach = arg;
    struct err err;
    if (!model) {
        reach->on_reached(reach->arg, NULL, not_found);
        return;
    }
    if (!caller_may_use(reach->caller, NULL, &err) || !api_may_use_model(reach->caller, str_from(model->id), &err) ||
        !may_load(reach, model, &err)) {
        reach->on_reached(reach->arg, NULL, &err);
        return;
    }
    reach->found.model_id = arena_strdup(reach->arena, model->id);
    instances_acquire(reach->app->instances, model, reach->arena, on_lease, reach);
}

/* ---- a named instance ---- */

static void reach_instance(struct reach *reach, struct instance *i, struct str inner)
{
    const char *served = instance_served_model(i);
    struct err err;
    if (!caller_may_use(reach->caller, i, &err) ||
        !api_may_use_model(reach->caller, inner.n ? reach->name : str_from(instance_name(i)), &err)) {
        reach->on_reached(reach->arg, NULL, &err);
        return;
    }
    if (inner.n && !instance_is_remote(i)) /* the other node cuts its own name off */
        reach->found.model = inner;
    else if (served && !inner.n)
        reach->found.model = arena_str(reach->arena, str_from(served));
    reach->found.instance = i;
    reach->found.model_id = arena_strdup(reach->arena, instance_name(i));
    instance_acquire(i, true, reach->arena, on_lease, reach);
}

void api_reach(struct app *app, struct arena *arena, const struct caller *caller, struct str name,
               api_on_reached *on_reached, void *arg)
{
    struct str inner = name, head = str_cut(&inner, '/');
    struct reach *reach = arena_calloc(arena, sizeof *reach);
    *reach = (struct reach){
        .app = app, .arena = arena, .caller = caller, .name = name, .on_reached = on_reached, .arg = arg};
    struct instance *i = instances_find(app->instances, head);
    if (i)
        reach_instance(reach, i, inner);
    else
        app_find_model(app, arena, name, on_model, reach);
}

/* ---- names ---- */

bool api_check_model_name(struct str name, struct err *err)
{
    if (!name.p)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "model",
                             "'model' is required: the name of a model, see GET /v1/models");
    if (name.n == 0 || name.n > LIMIT_MODEL_NAME)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "model", "'model' must have between 1 and %d bytes",
                             LIMIT_MODEL_NAME);
    return true;
}

bool api_read_model_name(struct str raw, struct arena *arena, struct str *ret_name, struct err *err)
{
    *ret_name = STR_NONE;
    if (!raw.p || str_eq(raw, STR("null")))
        return true;
    if (*raw.p != '"')
        return err_set_param(err, ERR_INVALID_PARAMETERS, "model", "'model' must be a string");
    return json_scan_text(raw, arena, ret_name) ||
           err_set_param(err, ERR_INVALID_JSON, "model", "'model' is not a valid JSON string");
}

struct str api_quote(struct str text, struct arena *arena)
{
    struct buf quoted;
    buf_init(&quoted, 8 * LIMIT_MODEL_NAME);
    json_escape(&quoted, text);
    struct str copy = arena_str(arena, buf_view(&quoted));
    buf_release(&quoted);
    return copy;
}
