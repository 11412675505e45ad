/* Starting: the listeners open first, so that /health answers within milliseconds; folders are looked through on a
 * pool thread meanwhile; models that are to be warm are loaded after that. Ending runs backwards: listeners close and
 * replies drain, then the workers end, then the loop has nothing left and returns. */
#include "serve.h"

#include <signal.h>
#include <sys/resource.h>

#include "api/app.h"
#include "api/batch/batches.h"
#include "api/batch/pool.h"
#include "api/instances/instances.h"
#include "api/openai/cache.h"
#include "api/system/check.h"
#include "api/system/machine.h"
#include "base/build.h"
#include "base/clock.h"
#include "auth/guess.h"
#include "base/mem.h"
#include "base/version.h"
#include "conf/adopt.h"
#include "http/tls.h"
#include "obs/export.h"
#include "instance/port_owner.h"
#include "obs/log.h"

#define RELOAD_LATER_MS 100 /* between two looks whether a scan is over */

enum { EXIT_CONFIG = 3, EXIT_NETWORK = 5 };

/* Strings of a configuration that was read again are in use from then on. */
struct older_conf {
    struct older_conf *next;
    struct conf conf;
};

struct serve {
    struct loop loop;
    struct conf *conf;
    gateway_reload *reload;
    void *reload_arg;
    struct older_conf *reloaded; /* newest first */
    struct app app;
    struct tls_context *tls; /* NULL: plain HTTP */
    uv_signal_t term, interrupt, hangup;
    struct arena arena; /* lives as long as the server: warm-up's requests */
    struct deadline reload_later;
    int signals;
    bool drained;
    int status;
};

/* A path that is no route speaks the dialect of its neighbours. */
static const struct dialect *dialect_of(const struct http_req *req)
{
    if (req && req->dialect)
        return req->dialect;
    return req && str_starts(req->head.path, STR("/api/v1/")) ? &manager_dialect : &openai_dialect;
}

static const char *on_error(void *arg, const struct http_req *req, const struct err *err, struct buf *body)
{
    const struct dialect *dialect = dialect_of(req);
    (void)arg;
    dialect->write(body, err);
    return dialect->content_type;
}

static void on_log(void *arg, const struct http_req *req)
{
    struct serve *serve = arg;
    char status[12];
    const char *const label[] = {status};
    snprintf(status, sizeof status, "%d", req->status ? req->status : 499);
    metrics_add(serve->app.metrics, METRIC_HTTP_REQUESTS, label, 1);
    metrics_observe(serve->app.metrics, METRIC_HTTP_SECONDS, NULL, (double)(clock_ns() - req->started_ns) / 1e9);
    log_debug("request", "id=%s method=" STR_FMT " status=%d bytes=%llu path=" STR_FMT, req->id,
              STR_ARG(req->head.method_name), req->status, (unsigned long long)req->bytes_out, STR_ARG(req->head.path));
}

static void on_request(void *arg, struct http_req *req)
{
    struct serve *serve = arg;
    http_router_dispatch(serve->app.router, req);
}

/* ---- models that are to be warm ---- */

static void on_warm_lease(void *arg, struct lease *lease, const struct err *err)
{
    if (lease)
        lease_end(lease);
    else
        log_error("model could not be warmed", "model=%s reason=%s", (const char *)arg, err->message);
}

static void warm_all(void *arg)
{
    struct serve *serve = arg;
    for (const char *const *name = serve->conf->always_warm; *name; name++) {
        const struct model *model = model_find(serve->app.catalogue, str_from(*name));
        if (model)
            instances_acquire(serve->app.instances, model, &serve->arena, on_warm_lease, (void *)*name);
        else
            log_error("model to be warmed does not exist", "model=%s", *name);
    }
    log_info("models found", "count=%zu models_dir=%s", serve->app.catalogue->count, serve->conf->models_dir);
}

/* ---- the end ---- */

static void close_signals(struct serve *serve)
{
    uv_close((uv_handle_t *)&serve->term, NULL);
    uv_close((uv_handle_t *)&serve->interrupt, NULL);
    uv_close((uv_handle_t *)&serve->hangup, NULL);
}

static void on_instances_stopped(void *arg)
{
    struct serve *serve = arg;
    loop_stop(&serve->loop);
}

static void on_flushed(void *arg)
{
    struct serve *serve = arg;
    instances_stop(serve->app.instances, 0, on_instances_stopped, serve);
}

static void on_fetch_ended(void *arg)
{
    struct serve *serve = arg;
    serve->app.fetch = NULL;
    if (serve->app.tracer)
        tracer_flush(serve->app.tracer, on_flushed, serve);
    else
        on_flushed(serve);
}

/* A second signal drains again: what follows happens once. */
static void on_drained(void *arg)
{
    struct serve *serve = arg;
    if (serve->drained)
        return;
    serve->drained = true;
    fetch_free(serve->app.fetch, on_fetch_ended, serve);
}

static void on_end_signal(uv_signal_t *handle, int number)
{
    struct serve *serve = handle->data;
    bool first = serve->signals++ == 0;
    if (serve->signals > 2)
        _exit(128 + number);
    api_end_endless(&serve->app);
    batches_stop(serve->app.batches);
    http_server_drain(serve->app.server, first ? (unsigned)serve->conf->shutdown_grace_seconds * 1000 : 0, on_drained,
                      serve);
    log_info(first ? "draining" : "ending now", "signal=%d connections=%zu", number,
             http_server_connections(serve->app.server));
}

/* The certificate of the configuration, for connections from now on. false: the one before stays. */
static bool load_certificate(struct serve *serve, struct err *err)
{
    const struct conf *conf = serve->conf;
    if (!*conf->tls_cert && !*conf->tls_key)
        return true;
    if (!*conf->tls_cert || !*conf->tls_key)
        return err_set(err, ERR_CONFIG, "server.tls_cert and server.tls_key need each other");
    struct tls_context *fresh = tls_context_new(conf->tls_cert, conf->tls_key, err);
    if (!fresh)
        return false;
    http_server_secure(serve->app.server, fresh);
    tls_context_free(serve->tls);
    serve->tls = fresh;
    return true;
}

static bool read_trusted(struct serve *serve, struct err *err)
{
    struct app *app = &serve->app;
    const char *const *text = serve->conf->trusted_proxies;
    size_t n = 0;
    while (text[n])
        n++;
    struct http_network *trusted = mem_calloc(n + 1, sizeof *trusted);
    for (size_t i = 0; i < n; i++) {
        if (http_network_parse(str_from(text[i]), &trusted[i]))
            continue;
        mem_free(trusted);
        return err_set(err, ERR_CONFIG, "server.trusted_proxies: '%s' is no address or network", text[i]);
    }
    mem_free(app->trusted);
    app->trusted = trusted;
    app->trusted_count = n;
    return true;
}

/* A model whose table has changed takes its new settings with its next process; others are left alone. */
static void on_conf_change(void *arg, const struct conf_change *change)
{
    struct serve *serve = arg;
    unsigned grace_ms = (unsigned)serve->conf->shutdown_grace_seconds * 1000;
    log_info(change->applied ? "configuration changed" : "configuration changes at the next start", "key=%s%s%s",
             change->table, *change->table ? "." : "", change->name);
    if (strcmp(change->table, "models") == 0)
        instances_unload(serve->app.instances, str_from(change->name), grace_ms, NULL, NULL);
}

static void take_over(struct serve *serve)
{
    struct err err;
    log_set_level((enum log_level)serve->conf->log_level);
    if (!read_trusted(serve, &err))
        log_error("the trusted proxies stay as they were", "reason=%s", err.message);
    app_refresh_catalogue(&serve->app, 0, &serve->arena, warm_all, serve);
}

static void reload_certificate(struct serve *serve)
{
    struct err err;
    if (!load_certificate(serve, &err))
        log_error("the certificate stays as it was", "reason=%s", err.message);
    else if (serve->tls)
        log_info("certificate read again", "path=%s", serve->conf->tls_cert);
}

/* A scan of the folders reads the configuration on another thread: then the signal is answered after it. */
static void reload(struct serve *serve)
{
    struct err err;
    struct older_conf *fresh = mem_calloc(1, sizeof *fresh);
    if (!serve->reload(serve->reload_arg, &fresh->conf, &err)) {
        log_error("the configuration stays as it was", "reason=%s", err.message);
    } else if (conf_adopt(serve->conf, &fresh->conf, on_conf_change, serve) > 0) {
        fresh->next = serve->reloaded;
        serve->reloaded = fresh;
        take_over(serve);
        return;
    }
    conf_release(&fresh->conf);
    mem_free(fresh);
}

static void on_scan_over(struct deadline *deadline)
{
    struct serve *serve = container_of(deadline, struct serve, reload_later);
    if (serve->app.scanning) {
        deadline_arm(&serve->loop, deadline, RELOAD_LATER_MS, on_scan_over);
        return;
    }
    reload(serve);
    reload_certificate(serve);
}

static void on_hangup(uv_signal_t *handle, int number)
{
    struct serve *serve = handle->data;
    (void)number;
    log_reopen();
    log_info("log reopened", NULL);
    on_scan_over(&serve->reload_later);
}

static void watch_signal(struct serve *serve, uv_signal_t *handle, uv_signal_cb on_signal, int number)
{
    uv_signal_init(&serve->loop.uv, handle);
    handle->data = serve;
    uv_signal_start(handle, on_signal, number);
}

/* ---- the beginning ---- */

static bool is_loopback(const char *address)
{
    return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0 || strcmp(address, "localhost") == 0;
}

/* Others can connect and some routes would ask for no key: only on purpose. */
static bool check_bind(const struct app *app, struct err *err)
{
    const struct conf *conf = app->conf;
    if (is_loopback(conf->bind_address) || conf->insecure ||
        (keys_required(app->keys, AUTH_MANAGEMENT) && keys_required(app->keys, AUTH_INFERENCE)))
        return true;
    return err_set(err, ERR_CONFIG,
                   "server.bind_address = \"%s\" lets other machines in, and not all routes ask for a key; set "
                   "security.auth_enabled to true, or require_management_auth and require_inference_auth in [auth] to "
                   "true (a first key is made and shown), "
                   "give keys, bind 127.0.0.1, or start with --insecure",
                   conf->bind_address);
}

/* The one key that is made by itself is shown once, on the terminal and not in the log. */
static bool first_key(struct serve *serve, struct err *err)
{
    *err = ERR_INIT;
    if (users_have_admin(serve->app.users) || !serve->conf->api_key_enabled)
        return true;
    const char *clear = keys_first_management_key(serve->app.keys, &serve->arena, err);
    if (clear)
        fprintf(stderr, "\nThere was no management key, so one was made. It is shown only now; keep it:\n\n    %s\n\n",
                clear);
    return err->code == ERR_NONE;
}

/* Another server on this machine may have that port: the user is told whose it is, and nothing else suffers. */
static void listen_local(struct serve *serve)
{
    const struct conf *conf = serve->conf;
    struct err err;
    char owner[PORT_OWNER_SIZE];
    int port = 0;
    if (!conf->local_enabled)
        return;
    if (!is_loopback(conf->local_bind))
        log_warn("no listener for local clients", "reason=local.bind_address = \"%s\" is no loopback address",
                 conf->local_bind);
    else if (http_server_listen_tagged(serve->app.server, conf->local_bind, (int)conf->local_port, API_LISTENER_LOCAL,
                                       &port, &err))
        log_info("listening for local clients", "url=%s://%s:%d", serve->tls ? "https" : "http", conf->local_bind,
                 port);
    else
        log_warn("no listener for local clients", "reason=%s owner=%s", err.message,
                 port_owner((int)conf->local_port, owner));
}

/* "ADDRESS:PORT", an IPv6 address in brackets. Others may come in when measurements ask for a key, or on purpose. */
static bool listen_metrics(struct serve *serve, struct err *err)
{
    const struct conf *conf = serve->conf;
    struct str bind = str_from(conf->metrics_bind);
    const char *colon = strrchr(conf->metrics_bind, ':');
    uint64_t wanted = 0;
    int port = 0;
    if (!bind.n || !conf->metrics_enabled)
        return true;
    if (!colon || colon == bind.p || !str_u64(str_from(colon + 1), 65535, &wanted))
        return err_set(err, ERR_CONFIG, "metrics.bind = \"%s\" is not \"ADDRESS:PORT\"", conf->metrics_bind);
    struct str host = {bind.p, (size_t)(colon - bind.p)};
    if (host.n > 2 && *host.p == '[' && host.p[host.n - 1] == ']')
        host = (struct str){host.p + 1, host.n - 2};
    const char *address = arena_str(&serve->arena, host).p;
    if (!is_loopback(address) && !conf->insecure && !conf->metrics_public &&
        !keys_required(serve->app.keys, AUTH_METRICS))
        return err_set(err, ERR_CONFIG,
                       "metrics.bind = \"%s\" lets other machines in, and measurements ask for no key; set "
                       "security.metrics_public if they may, or security.auth_enabled",
                       conf->metrics_bind);
    if (!http_server_listen_tagged(serve->app.server, address, (int)wanted, API_LISTENER_METRICS, &port, err))
        return false;
    log_info("listening for measurements", "url=%s://" STR_FMT ":%d%s", serve->tls ? "https" : "http",
             STR_ARG(((struct str){bind.p, (size_t)(colon - bind.p)})), port, conf->metrics_path);
    return true;
}

static bool listen_all(struct serve *serve, struct err *err)
{
    const struct conf *conf = serve->conf;
    int port = 0;
    if (!http_server_listen_tcp(serve->app.server, conf->bind_address, (int)conf->port, &port, err))
        return false;
    if (*conf->socket && !http_server_listen_unix(serve->app.server, conf->socket, 0600, err))
        return false;
    if (!listen_metrics(serve, err))
        return false;
    listen_local(serve);
    log_info("listening", "version=%s backends=%s url=%s://%s:%d", INFERD_VERSION, build_backends(),
             serve->tls ? "https" : "http", conf->bind_address, port);
    return true;
}

static struct http_server *server_new(struct serve *serve)
{
    const struct conf *conf = serve->conf;
    struct http_server_options options = {.on_request = on_request,
                                          .on_error = on_error,
                                          .on_log = on_log,
                                          .arg = serve,
                                          .max_connections = (unsigned)conf->max_connections,
                                          .header_timeout_ms = (unsigned)conf->header_timeout_seconds * 1000,
                                          .keep_alive_ms = (unsigned)conf->keep_alive_seconds * 1000,
                                          .max_body = (uint64_t)conf->max_body_mb << 20,
                                          .cors_origins = conf->cors_origins,
                                          .allowed_hosts = conf->allowed_hosts,
                                          .server_name = "inferd"};
    return http_server_new(&serve->loop, &options);
}

/* A proxied stream takes two descriptors; the soft limit is often 1024. */
static void raise_file_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

static void on_download(void *arg, const struct fetch_job *job)
{
    events_download(arg, job);
}

static struct fetch *fetch_of(struct serve *serve)
{
    const struct conf_backend *llama = conf_backend_find(serve->conf, STR("llama-cpp"));
    struct fetch_settings settings = {.cache = *llama->cache_dir ? llama->cache_dir : NULL,
                                      .stall_seconds = (unsigned)llama->download_timeout,
                                      .on_change = on_download,
                                      .arg = &serve->app};
    return fetch_new(&serve->loop, &settings);
}

static void on_key_lost(void *arg)
{
    callers_lost(arg);
}

static void on_user_lost(void *arg, const char *id, bool gone)
{
    struct app *app = arg;
    if (gone)
        keys_forget_user(app->keys, id);
    callers_lost(app);
}

/* INFERNO_ADMIN_PASSWORD makes the first user. */
static bool first_admin(const struct app *app, struct err *err)
{
    const char *password = getenv("INFERNO_ADMIN_PASSWORD");
    if (!app->conf->auth_enabled || !password || users_count(app->users) > 0)
        return true;
    if (!users_create_now(app->users, STR("admin"), str_from(password), err))
        return err_set(err, ERR_CONFIG, "INFERNO_ADMIN_PASSWORD must have %d to %d bytes", PASSWORD_LEAST,
                       LIMIT_PASSWORD);
    log_info("the user admin was made with INFERNO_ADMIN_PASSWORD", NULL);
    return true;
}

/* Who may call: keys, users, tokens. */
static bool start_auth(struct serve *serve, struct err *err)
{
    static const struct guess_rules guess_rules = {.free = LIMIT_GUESSES, .window_ms = LIMIT_GUESSES_MS};
    struct app *app = &serve->app;
    app->guesses = guesses_new(&guess_rules);
    app->keys = keys_new(&serve->loop, serve->conf, app->store, err);
    app->users = app->keys ? users_new(&serve->loop, app->store, err) : NULL;
    app->tokens = app->users ? tokens_new(serve->conf, app->store, err) : NULL;
    if (!app->tokens || !check_bind(app, err) || !first_admin(app, err) || !first_key(serve, err))
        return false;
    keys_on_lost(app->keys, on_key_lost, app);
    users_on_lost(app->users, on_user_lost, app);
    return true;
}

static bool start_tracer(struct serve *serve, struct err *err)
{
    const struct conf *conf = serve->conf;
    struct tracer_options options = {.endpoint = conf->otlp_endpoint,
                                     .headers = conf->otlp_headers,
                                     .service = conf->service_name,
                                     .version = INFERD_VERSION,
                                     .interval_ms = (unsigned)conf->trace_interval_ms,
                                     .sampling = conf->trace_sampling};
    if (!*conf->otlp_endpoint)
        return true;
    serve->app.tracer = tracer_new(&serve->loop, &options, serve->app.metrics, err);
    return serve->app.tracer != NULL;
}

static bool start(struct serve *serve, const char *program, struct err *err)
{
    struct app *app = &serve->app;
    app->program = program;
    app->metrics = metrics_new();
    if (!instance_make_folder(serve->conf->state_dir, err) || !read_trusted(serve, err) || !start_tracer(serve, err))
        return false;
    app->store = store_open(&serve->loop, serve->conf->database_path, err);
    if (!app->store || !start_auth(serve, err))
        return false;
    app->instances = instances_new(&serve->loop, serve->conf, program, app->store, err);
    if (!app->instances)
        return false;
    app->fetch = fetch_of(serve);
    app->server = server_new(serve);
    app->machine = machine_new();
    app->check = check_new(app);
    app->limits = limits_new(LIMIT_SUBJECTS);
    app->batch_pool = batch_pool_new(app, (unsigned)serve->conf->batch_concurrency);
    if (serve->conf->response_cache)
        app->cache = cache_new((size_t)serve->conf->response_cache_entries,
                               (uint64_t)serve->conf->response_cache_memory_mb << 20,
                               (uint64_t)serve->conf->response_cache_ttl * 1000, app->metrics);
    app->router = http_router_new(app);
    system_routes(app->router);
    openai_routes(app->router);
    responses_routes(app->router);
    anthropic_routes(app->router);
    ollama_routes(app->router);
    batch_routes(app->router);
    models_routes(app->router);
    instances_routes(app->router);
    keys_routes(app->router);
    convert_routes(app->router);
    auth_routes(app->router);
    docs_routes(app->router);
    ws_routes(app);
    http_router_guard(app->router, api_guard);
    app->batches = batches_new(app, err);
    if (!app->batches || !metrics_routes(app, err) || !load_certificate(serve, err) || !listen_all(serve, err))
        return false;
    instances_begin(app->instances);
    app_refresh_catalogue(app, 0, &serve->arena, warm_all, serve);
    return true;
}

static void release(struct serve *serve)
{
    deadline_cancel(&serve->loop, &serve->reload_later);
    arena_dispose(&serve->arena);
    if (serve->app.server)
        http_server_free(serve->app.server);
    tls_context_free(serve->tls);
    if (serve->app.fetch)
        fetch_free(serve->app.fetch, NULL, NULL);
    batches_stop(serve->app.batches);
    instances_free(serve->app.instances);
    deadline_cancel(&serve->loop, &serve->app.caller_sweep);
    keys_free(serve->app.keys);
    users_free(serve->app.users);
    tokens_free(serve->app.tokens);
    guesses_free(serve->app.guesses);
    check_stop(serve->app.check);
    if (serve->app.store)
        store_close(serve->app.store);
    machine_free(serve->app.machine);
    tracer_free(serve->app.tracer);
    cache_free(serve->app.cache);
    metrics_free(serve->app.metrics);
    limits_free(serve->app.limits);
    mem_free(serve->app.trusted);
    batch_pool_free(serve->app.batch_pool);
    close_signals(serve);
    loop_release(&serve->loop); /* also lets a running scan end */
    batches_free(serve->app.batches);
    check_free(serve->app.check);
    app_release(&serve->app);
    while (serve->reloaded) {
        struct older_conf *conf = serve->reloaded;
        serve->reloaded = conf->next;
        conf_release(&conf->conf);
        mem_free(conf);
    }
}

int gateway_run(struct conf *conf, const char *program, gateway_reload *reload_conf, void *arg)
{
    mem_setup();
    raise_file_limit();
    struct serve *serve = mem_calloc(1, sizeof *serve);
    struct err err = ERR_INIT;
    serve->conf = conf;
    serve->reload = reload_conf;
    serve->reload_arg = arg;
    arena_init(&serve->arena);
    loop_init(&serve->loop);
    app_init(&serve->app, &serve->loop, conf);
    watch_signal(serve, &serve->term, on_end_signal, SIGTERM);
    watch_signal(serve, &serve->interrupt, on_end_signal, SIGINT);
    watch_signal(serve, &serve->hangup, on_hangup, SIGHUP);
    if (start(serve, program, &err)) {
        loop_run(&serve->loop);
    } else {
        log_error("cannot start", "reason=%s", err.message);
        serve->status = err.code == ERR_CONFIG ? EXIT_CONFIG : EXIT_NETWORK;
    }
    int status = serve->status;
    release(serve);
    mem_free(serve);
    log_info("ended", NULL);
    return status;
}
