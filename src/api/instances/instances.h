/* What the files of llamactl's surface share (specs/llamactl.md 1). Loop thread only. */
#ifndef API_INSTANCES_H
#define API_INSTANCES_H

#include "api/app.h"

/* The named instance of the match's first capture; NULL: answered with 400 or 404 already. */
struct instance *instance_of_match(struct app *app, struct http_req *req, const struct http_match *match);

/* An instance as the API shows it, as a member (key) or element (NULL). */
void instance_put(struct json *j, const char *key, const struct instance *i);

/* An integer parameter of the query into *ret_value, which stays as it is when there is none; false: answered. */
bool query_int(struct http_req *req, const char *name, int64_t *ret_value);
/* The decoded value, or STR_NONE when there is none. */
struct str query_text(struct http_req *req, const char *name);
bool query_flag(struct http_req *req, const char *name); /* ?name, ?name=1, ?name=true */

extern const struct http_route manage_routes[], log_routes[], proxy_routes[], event_routes[], node_routes[],
    backend_routes[], config_routes[], download_routes[]; /* each ends with a row without a method */

/* A started event stream that has no end of its own: ended when the server begins to drain. */
void api_endless(struct app *app, struct http_req *req);
void api_end_endless(struct app *app);

/* Tells the event streams of a download. */
void events_download(struct app *app, const struct fetch_job *job);
void download_put(struct json *j, const char *key, const struct fetch_job *job);

#endif
