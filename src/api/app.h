/* What every surface of the server shares. Loop thread only. */
#ifndef API_APP_H
#define API_APP_H

#include "base/json_write.h"
#include "conf/conf.h"
#include "http/route.h"
#include "instance/instance.h"

struct app {
    struct loop *loop;
    const struct conf *conf;
    struct instances *instances;
    struct http_server *server;
    struct http_router *router;
    struct model_catalogue *catalogue; /* NULL until the first scan; never keep a pointer into it over a turn */
    struct list catalogue_waiters;
    struct loop_job scan_job;
    struct model_catalogue *scanned;
    bool scanning;
    uint64_t started_ms;
    struct machine *machine; /* load of the machine, sampled by api/system */
};

void app_init(struct app *app, struct loop *loop, const struct conf *conf);
void app_release(struct app *app); /* no scan may be running: see app_scanning */

/* Calls on_fresh(arg) once app->catalogue is younger than max_age_ms, at once when it is. Not called when the arena
 * dies first. */
void app_refresh_catalogue(struct app *app, uint64_t max_age_ms, struct arena *arena, void (*on_fresh)(void *arg),
                           void *arg);

/* A surface's error dialect: what http_req.dialect points to. */
struct dialect {
    const char *content_type;
    void (*write)(struct buf *out, const struct err *err);
};

extern const struct dialect openai_dialect;

/* Answers with a finished document, or with an internal error when the writer failed. */
void api_reply_json(struct http_req *req, int status, struct json *j);

/* Begins a document in the request's memory. */
struct json *api_json_begin(struct http_req *req);

/* Finds a model by name, looking at the folders again when it is not known; on_model gets NULL and the error else.
 * The model pointer is valid during the call only. */
void app_find_model(struct app *app, struct http_req *req, struct str name,
                    void (*on_model)(void *arg, const struct model *model, const struct err *err), void *arg);

/* Route tables of the surfaces. */
void openai_routes(struct http_router *router);
void models_routes(struct http_router *router);
void system_routes(struct http_router *router);

#endif
