/* What every surface of the server shares. Loop thread only. */
#ifndef API_APP_H
#define API_APP_H

#include "base/json_write.h"
#include "auth/keys.h"
#include "auth/limits.h"
#include "auth/tokens.h"
#include "auth/users.h"
#include "conf/conf.h"
#include "http/network.h"
#include "http/route.h"
#include "instance/instance.h"
#include "obs/metrics.h"
#include "registry/fetch.h"

struct app {
    struct loop *loop;
    const struct conf *conf;
    const char *program; /* path of this very binary */
    struct store *store;
    struct keys *keys;
    struct users *users;
    struct tokens *tokens;
    struct guesses *guesses; /* failed credentials by address */
    struct instances *instances;
    struct fetch *fetch;
    struct list watches; /* see api/caller.c */
    struct deadline caller_sweep;
    struct list event_streams, endless; /* see api/instances/events.c */
    struct list pulls;                  /* see api/ollama/store.c */
    struct http_server *server;
    struct http_router *router;
    struct model_catalogue *catalogue; /* NULL until the first scan; never keep a pointer into it over a turn */
    struct list catalogue_waiters;
    struct loop_job scan_job;
    struct model_catalogue *scanned;
    bool scanning;
    uint64_t started_ms;
    struct metrics *metrics;
    struct limits *limits;
    struct batch_pool *batch_pool; /* see api/batch/pool.h */
    struct batches *batches;       /* see api/batch/batches.h */
    struct cache *cache;           /* of replies; NULL: off */
    struct http_network *trusted;  /* server.trusted_proxies */
    size_t trusted_count;
    struct tracer *tracer;         /* NULL: nothing is traced. See api/traced.h */
    struct check *check;           /* of the database and the disk, see api/system; NULL until it runs */
    struct machine *machine;       /* load of the machine, sampled by api/system */
    struct http_route ws_rows[2];  /* see api/ws: their paths are configured */
    struct http_route metrics_row; /* see api/system: its path is configured */
    struct openapi *openapi;       /* see api/docs; NULL until somebody asks for it */
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
    const char *id_header; /* what its clients call x-request-id, or NULL */
};

extern const struct dialect openai_dialect;
extern const struct dialect manager_dialect; /* llamactl's: {"error": text} */

/* Answers with a finished document, or with an internal error when the writer failed. */
void api_reply_json(struct http_req *req, int status, struct json *j);

/* Which listener a request came by (http_req_tag): the ordinary ones, or the one for local clients, where any key opens
 * what inference needs and only loaded models are listed; or the one that has the measurements and nothing else. */
enum { API_LISTENER_MAIN, API_LISTENER_LOCAL, API_LISTENER_METRICS };

/* Whether the path is one of the measurements, which may have a listener of their own (metrics.bind). */
#define METRICS_PREFIX "/metrics/"
bool api_is_metrics_path(const struct app *app, struct str path);

/* Begins a document in the request's memory. */
struct json *api_json_begin(struct http_req *req);

/* Finds a model by name, looking at the folders again when it is not known; on_model gets NULL and the error else.
 * The model pointer is valid during the call only. */
void app_find_model(struct app *app, struct arena *arena, struct str name,
                    void (*on_model)(void *arg, const struct model *model, const struct err *err), void *arg);

/* Who sent the request, when a credential was needed: what req->caller points to, else NULL. Lives in the request's
 * memory. */
struct caller {
    int64_t key_id;       /* 0: a key of the configuration, or a token */
    unsigned scopes;      /* as the key has them */
    unsigned permissions; /* what they come to, with the user's role: ask permission_allows */
    bool all_instances;
    const int64_t *instance_ids;
    size_t instance_count;
    const char *user_id;   /* of the user, else "key_...", else "system" */
    const char *user_name; /* else the key's name */
    bool is_user;          /* a user of ours, by a key or a token */
    enum role role;
    const char *models;         /* patterns, a line each; NULL: all. See api_may_use_model */
    struct key_limits limits;   /* 0: the server's default */
    enum key_priority priority; /* of the key */
    int64_t expires_at;         /* unix seconds; 0: never */
    unsigned key_generation;    /* of key_id */
    bool made_by_key;           /* the key is another key's: it makes none */
    bool by_token;              /* and these of the token: */
    int64_t token_version;      /* of the user's tokens; -1: not said */
    unsigned char token_id[HASH_SHA256_SIZE];
};

/* Whether what the caller came with still counts: neither expired nor revoked, its user not gone. Some 100 ns: may be
 * asked for every event of a stream. NULL (nothing was needed) is valid for ever. */
bool caller_still_valid(struct app *app, const struct caller *caller);

/* Who works on without a request: a stored key's bearer, a user, the bearer of some key of the configuration. All in
 * arena; NULL: the key's user, or the user, may not call any more. Whether the right has ended: caller_still_valid. */
const struct caller *api_caller_of_key(const struct app *app, struct arena *arena, const struct key *key);
const struct caller *api_caller_of_user(const struct app *app, struct arena *arena, struct str user_id);
const struct caller *api_caller_of_configuration(struct arena *arena);

/* Failed credentials are counted by address. false: it failed too often and was answered with 429. */
bool api_guess_allowed(struct app *app, struct http_req *req);
void api_guess_failed(struct app *app, const struct http_req *req);

/* With security.audit_log: a line with who asked for what, from where, and the outcome (one word). No blanks in who. */
void api_audit(const struct app *app, const struct http_req *req, const char *who, const char *outcome);

/* Calls on_lost(arg) once when the caller ceases to be valid: at once for a revocation, within a second for an expiry.
 * Not called when the arena dies first, nor for a caller of NULL. caller must live as long as the arena. on_lost may
 * end the request. */
void callers_watch(struct app *app, struct arena *arena, const struct caller *caller, void (*on_lost)(void *arg),
                   void *arg);
void callers_lost(struct app *app); /* some right ended: looks whose */

/* Whether the caller's list of models lets it use that one, by the name it asked for; a caller of NULL may use all.
 * false: *err says so. */
bool api_may_use_model(const struct caller *caller, struct str model, struct err *err);

/* The guard of all routes (guard.c): asks for a key where the route's access needs one. */
http_guard api_guard;

/* For a route that lets everybody in and asks later (access AUTH_NONE): the key in the request, or STR_NONE, and who it
 * belongs to. on_caller comes once, maybe at once, not when the request ends first: caller (in the request's arena) is
 * NULL for a key that is not valid (ERR_AUTHENTICATION_FAILED), or when that could not be found out. */
struct str api_presented(struct http_req *req);
void api_identify(struct app *app, struct http_req *req, struct str presented,
                  void (*on_caller)(void *arg, const struct caller *caller, const struct err *err), void *arg);

/* Whether the caller (NULL: nobody) may do what needs access, on this server. */
bool api_allows(const struct app *app, const struct caller *caller, unsigned access);

/* Whether the caller (NULL: anybody) may use that instance, or models of no named one (i NULL). false:
 * ERR_PERMISSION_DENIED. */
bool caller_may_use(const struct caller *caller, const struct instance *i, struct err *err);
bool api_may_use(struct http_req *req, const struct instance *i);       /* the same; false: answered with 403 already */
bool api_may_see(const struct http_req *req, const struct instance *i); /* the same, silently */

/* The target as it may be passed on and logged: without ?api_key=. */
struct str api_target(struct http_req *req);

/* A long reply ends when its caller's right does: it is cut off, or answered with 401 when it has not begun. */
void api_watch_caller(struct app *app, struct http_req *req);

/* Passes the request on through the lease, under path, with the body's pieces (count 0: the request's own body as it
 * comes; at most 3), and keeps the lease's counts. watch: who looks on as the reply passes;
 * NULL: nobody. */
/* A line in the head of requests that our workers put behind the others. */
#define API_BATCH_LINE "X-Inferd-Priority: batch\r\n"

/* The line that tells our worker whose a request is, for fair shares of the engine: a digest of the caller's name, or
 * of the address where there is no caller; "" when neither is known. In the arena. */
struct str api_client_line(const struct caller *caller, struct str address, struct arena *arena);

struct account;
struct cache_fill;
struct api_watch {
    struct account *account;
    struct cache_fill *fill; /* where a copy of the reply goes; NULL: nowhere */
    const char *model_id;
};
void api_pass(struct app *app, struct http_req *req, struct lease *lease, struct str path, const struct str *body,
              size_t count, const struct api_watch *watch);

/* The response headers that [backends.X] adds to proxied replies; call before the reply begins. */
void api_backend_headers(struct app *app, struct http_req *req, const struct instance *i);

/* Our environment with over ("NAME=value", NULL-terminated) over it, in arena. */
const char *const *api_environment(const char *const *over, struct arena *arena);

/* Route tables of the surfaces. */
void openai_routes(struct http_router *router);
void responses_routes(struct http_router *router);
void anthropic_routes(struct http_router *router);
void ollama_routes(struct http_router *router);
void batch_routes(struct http_router *router);
void models_routes(struct http_router *router);
void system_routes(struct http_router *router);
bool metrics_routes(struct app *app, struct err *err); /* after all others; false: metrics.path cannot be */
void instances_routes(struct http_router *router);
void keys_routes(struct http_router *router);
void convert_routes(struct http_router *router);
void auth_routes(struct http_router *router);
void docs_routes(struct http_router *router);
void ws_routes(struct app *app);

#endif
