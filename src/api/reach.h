/* From the model's name in a request to a lease on what runs it: a named instance first ("instance", or
 * "instance/model" for a model inside a router or a vLLM), else the worker behind the model file of that name. */
#ifndef API_REACH_H
#define API_REACH_H

#include "api/app.h"

struct reached {
    struct lease *lease;
    const struct instance *instance; /* a named one, else NULL */
    const char *model_id;            /* as metrics and limits know it; as long-lived as the arena */
    struct str model;                /* what the backend wants to read in place of the name; STR_NONE: the name */
};

/* Checks that the caller (NULL: anybody) may use it, starts it where that is needed and allowed, and waits. on_reached
 * comes once, maybe at once: with a lease that ends with the arena, or with reached NULL and the error. Not when the
 * arena dies first. name: 1..LIMIT_MODEL_NAME bytes, as long-lived as the arena. */
typedef void api_on_reached(void *arg, const struct reached *reached, const struct err *err);
void api_reach(struct app *app, struct arena *arena, const struct caller *caller, struct str name,
               api_on_reached *on_reached, void *arg);

/* ERR_INVALID_PARAMETERS, param "model", unless name can be a model's. */
bool api_check_model_name(struct str name, struct err *err);

/* The text of a "model" value as json_scan finds it: STR_NONE for an absent or null one. false: ERR_INVALID_PARAMETERS
 * or ERR_INVALID_JSON. */
bool api_read_model_name(struct str raw, struct arena *arena, struct str *ret_name, struct err *err);

/* A name as a JSON string, in arena: what may stand in the raw value's place. */
struct str api_quote(struct str text, struct arena *arena);

#endif
