/* The server and the life of the worker: listen, load, serve, drain.
 *
 * The socket answers before the model is there: /health says how far loading has come, everything else is a 503 with
 * Retry-After. Loading is a pool job; its result arrives on the loop, and from then on the engine belongs to the
 * scheduler. The first signal drains (no new connections, running replies may end), the second cuts. The loop ends
 * when both the connections and the loading job are gone, so that nothing is freed under anybody's feet. */
#include "worker/notify.h"
#include "worker/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "obs/log.h"
#include "openai/error.h"

#define KV_MEMORY_PART 32 /* of the machine's memory, for states outside the cache */
#define KV_MEMORY_MOST (512ull << 20)

/* Exit statuses (specs/inferno.md 6.3). */
enum { EXIT_GENERAL = 1, EXIT_MODEL = 4, EXIT_RESOURCES = 7, EXIT_GPU = 8 };

static const char *on_error(void *arg, const struct http_req *req, const struct err *err, struct buf *body)
{
    (void)arg;
    (void)req;
    openai_error_write(body, err);
    return "application/json";
}

static void on_request(void *arg, struct http_req *req)
{
    struct serve *serve = arg;
    req->user = serve;
    http_router_dispatch(serve->router, req);
}

static void on_log(void *arg, const struct http_req *req)
{
    (void)arg;
    log_debug("request", "method=" STR_FMT " status=%d ms=%.1f bytes=%llu id=%s path=" STR_FMT,
              STR_ARG(req->head.method_name), req->status, (double)(clock_ns() - req->started_ns) / 1e6,
              (unsigned long long)req->bytes_out, req->id, STR_ARG(req->head.path));
}

/* ---- replies ---- */

void serve_reply_json(struct http_req *req, struct buf *body)
{
    char elapsed[24];
    struct err err;
    if (buf_ok(body)) {
        snprintf(elapsed, sizeof elapsed, "%llu", (unsigned long long)((clock_ns() - req->started_ns) / 1000000));
        http_reply_header(req, "openai-processing-ms", elapsed);
        http_reply(req, 200, "application/json", buf_view(body));
    } else {
        err_set(&err, ERR_INTERNAL, "the reply is larger than %u bytes", LIMIT_JSON_TEXT);
        http_reply_error(req, &err);
    }
    buf_release(body);
}

static bool is_json(const struct http_req *req)
{
    struct str type = http_head_find(&req->head, "content-type");
    return !type.p || str_ieq(str_trim(str_cut(&type, ';')), STR("application/json"));
}

void serve_read_body(struct serve *serve, struct http_req *req, void (*on_body)(struct http_req *req, struct str body))
{
    struct err err = ERR_INIT;
    if (serve->state == SERVE_LOADING) {
        err_set(&err, ERR_MODEL_LOADING, "the model '%s' is being loaded (%u%%)", serve->model,
                atomic_load(&serve->progress) / 10);
        err.retry_after_ms = 1000;
    } else if (!serve->sched) {
        err_set(&err, ERR_DRAINING, "this worker is about to end");
    } else if (!is_json(req)) {
        err_set(&err, ERR_UNSUPPORTED_MEDIA_TYPE, "the body must be application/json");
    }
    if (err.code == ERR_NONE)
        http_req_read_body(req, 0, on_body);
    else
        http_reply_error(req, &err);
}

/* ---- ending ---- */

static void on_tune_stopped(void *arg)
{
    serve_maybe_stop(arg);
}

void serve_maybe_stop(struct serve *serve)
{
    if (serve->drained && !serve->loading && serve->sights == 0 &&
        serve_tune_stop(&serve->tune, on_tune_stopped, serve))
        loop_stop(&serve->loop);
}

static void on_drained(void *arg)
{
    struct serve *serve = arg;
    serve->drained = true;
    serve_maybe_stop(serve);
}

static void stop(struct serve *serve, unsigned grace_ms)
{
    serve->state = SERVE_STOPPING;
    atomic_store(&serve->abandon, true);
    serve_tune_stop(&serve->tune, on_tune_stopped, serve);
    http_server_drain(serve->http, grace_ms, on_drained, serve);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct serve *serve = handle->data;
    bool first = serve->stops++ == 0;
    stop(serve, first ? LIMIT_DRAIN_MS : 0);
    log_info(first ? "draining" : "ending now", "signal=%d", number);
}

static void on_fatal(void *arg, const struct err *err)
{
    struct serve *serve = arg;
    log_error("the engine failed", "reason=%s", err->message);
    serve->exit_code = EXIT_GENERAL;
    stop(serve, 0);
}

/* ---- loading ---- */

static bool on_progress(void *arg, float fraction)
{
    struct serve *serve = arg;
    unsigned before = atomic_exchange(&serve->progress, (unsigned)(fraction * 1000));
    if (before / 50 != (unsigned)(fraction * 1000) / 50)
        notify_progress(serve->options->notify_fd, fraction);
    return !atomic_load(&serve->abandon);
}

/* With an eye, when there is a projector. *ret_cells: what a step must hold for it, if that is why it failed. */
static bool open_engine(struct serve *serve, const struct engine_config *config, unsigned *ret_cells)
{
    const struct serve_options *o = serve->options;
    serve->engine = o->ops->open(config, &serve->load_error);
    if (!serve->engine || !o->projector)
        return serve->engine != NULL;
    const struct vision_config vision = {.path = o->projector, .info = o->ops->info(serve->engine)};
    serve->vision = vision_load(&vision, ret_cells, &serve->load_error);
    if (serve->vision)
        return true;
    o->ops->close(serve->engine);
    serve->engine = NULL;
    return false;
}

/* Only a loaded projector says how large a step it needs; where nobody has set one, the engine is opened again with it.
 */
static void load_work(struct loop_job *job)
{
    struct serve *serve = container_of(job, struct serve, load);
    struct engine_config config = serve->options->engine;
    unsigned cells = 0;
    config.on_progress = on_progress;
    config.arg = serve;
    config.projector = serve->options->projector;
    if (open_engine(serve, &config, &cells) || cells == 0 || config.ubatch > 0)
        return;
    config.ubatch = cells;
    config.batch = config.batch > 0 && config.batch < cells ? cells : config.batch;
    serve->load_error = ERR_INIT;
    open_engine(serve, &config, &cells);
}

static bool read_file(const char *path, struct buf *out, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0) {
        char *room = buf_reserve(out, 65536);
        n = room ? read(fd, room, 65536) : -1;
        if (n > 0)
            buf_commit(out, (size_t)n);
    }
    if (n < 0)
        err_set(err, ERR_CONFIG, "the chat template %s cannot be read: %s", path,
                buf_ok(out) ? strerror(errno) : "it is too large");
    if (fd >= 0)
        close(fd);
    return n == 0;
}

/* A model without a template is a good model for completions; an explicit template that is bad is an error. */
static bool load_templates(struct serve *serve, struct err *err)
{
    const char *path = serve->options->template_file;
    struct buf text;
    buf_init(&text, LIMIT_TEMPLATE_BYTES);
    bool good = !path || read_file(path, &text, err);
    if (good) {
        serve->templates = chat_templates_new(serve->info, path ? text.data : NULL, &serve->template_error);
        good = serve->templates || !path;
        if (!good)
            *err = serve->template_error;
    }
    buf_release(&text);
    return good;
}

static void load_failed(struct serve *serve, const struct err *err)
{
    if (!atomic_load(&serve->abandon)) {
        log_error("the model cannot be loaded", "model=%s reason=%s", serve->options->engine.path, err->message);
        notify_error(serve->options->notify_fd, err);
        serve->exit_code = err->code == ERR_INSUFFICIENT_MEMORY ? EXIT_RESOURCES
                           : err->code == ERR_GPU_UNAVAILABLE   ? EXIT_GPU
                                                                : EXIT_MODEL;
    }
    stop(serve, 0);
}

static bool is_same_load(const struct sched_stats *a, const struct sched_stats *b)
{
    return a->queued == b->queued && a->running == b->running && a->cells_used == b->cells_used &&
           a->generated_tokens == b->generated_tokens && a->steps == b->steps;
}

static void on_tell_load(struct deadline *deadline)
{
    struct serve *serve = container_of(deadline, struct serve, tell_load);
    struct sched_stats now;
    sched_stats(serve->sched, &now);
    if (!serve->told.sequences || !is_same_load(&now, &serve->told))
        notify_load(serve->options->notify_fd, &now);
    serve->told = now;
    deadline_arm(&serve->loop, deadline, LIMIT_TELL_LOAD_MS, on_tell_load);
}

static void start_tuning(struct serve *serve)
{
    const struct engine_config *engine = &serve->options->engine;
    const struct tune_setup setup = {
        .info = serve->info, .path = engine->path, .kv_type = engine->kv_type, .dir = engine->tune_dir};
    serve_tune_start(&serve->tune, &setup, &serve->loop, serve->sched);
}

/* For the log: the kind of attention, and who chose it. */
static const char *attention_text(const struct engine_attention *a)
{
    static const char *const texts[] = {"plain (forced)", "flash (forced)", "plain (measured)", "flash (measured)"};
    if (a->source == ENGINE_CHOICE_DEFAULT)
        return "default";
    return texts[(a->source == ENGINE_CHOICE_MEASURED ? 2 : 0) + (a->flash ? 1 : 0)];
}

/* A part of the machine's memory, so that a laptop stays usable. */
static uint64_t kv_memory(const struct serve *serve)
{
    unsigned mb = serve->options->kv_memory_mb;
    if (mb != KV_MEMORY_AUTO)
        return (uint64_t)mb << 20;
    uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    return machine / KV_MEMORY_PART < KV_MEMORY_MOST ? machine / KV_MEMORY_PART : KV_MEMORY_MOST;
}

/* A file as far as can be told without reading it. */
static void put_file(struct buf *out, const char *path)
{
    struct stat st = {0};
    stat(path, &st);
    buf_printf(out, "%llu bytes, modified %lld.%09ld, inode %llu; ", (unsigned long long)st.st_size,
               (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (unsigned long long)st.st_ino);
}

/* The states of flash and of plain attention are laid out differently. */
static enum engine_flash attention_of(const struct serve *serve)
{
    const struct engine_attention *a = &serve->info->attention;
    if (a->source == ENGINE_CHOICE_DEFAULT)
        return ENGINE_FLASH_AUTO;
    return a->flash ? ENGINE_FLASH_ON : ENGINE_FLASH_OFF;
}

/* All that shapes a state: the files and the settings. */
static void identify_states(struct serve *serve)
{
    const struct engine_config *e = &serve->options->engine;
    const struct engine_info *info = serve->info;
    buf_init(&serve->kv_identity, LIMIT_JSON_TEXT);
    buf_printf(&serve->kv_identity, "%s %s; %s; vocabulary %u; kv %s, flash attention %d, layers on GPUs %d; ",
               info->name, info->build, info->description, info->vocabulary, e->kv_type ? e->kv_type : "f16",
               (int)attention_of(serve), (int)info->gpu_layers);
    put_file(&serve->kv_identity, e->path);
    if (serve->vision) {
        buf_puts(&serve->kv_identity, "projector ");
        put_file(&serve->kv_identity, serve->options->projector);
    }
    for (unsigned i = 0; i < e->lora_count; i++) {
        buf_printf(&serve->kv_identity, "adapter x %.9g, ", (double)e->loras[i].scale);
        put_file(&serve->kv_identity, e->loras[i].path);
    }
}

static void load_done(struct loop_job *job)
{
    struct serve *serve = container_of(job, struct serve, load);
    serve->loading = false;
    if (!serve->engine) {
        load_failed(serve, &serve->load_error);
        serve_maybe_stop(serve);
        return;
    }
    serve->info = serve->options->ops->info(serve->engine);
    identify_states(serve);
    struct sched_config config = {.ops = serve->options->ops,
                                  .engine = serve->engine,
                                  .loop = &serve->loop,
                                  .queue_size = serve->options->queue_size,
                                  .kv_memory = kv_memory(serve),
                                  .kv_disk = (uint64_t)serve->options->kv_disk_mb << 20,
                                  .kv_folder = serve->options->kv_folder,
                                  .kv_identity = buf_view(&serve->kv_identity).p,
                                  .lookup = serve->options->lookup,
                                  .on_fatal = on_fatal,
                                  .arg = serve};
    struct err err = ERR_INIT;
    serve->sched = sched_new(&config);
    if (!load_templates(serve, &err)) {
        load_failed(serve, &err);
        return;
    }
    openai_fingerprint(serve->fingerprint, serve->info->build, serve->info->description);
    if (serve->state == SERVE_LOADING) {
        serve->state = SERVE_READY;
        start_tuning(serve);
    }
    notify_memory(serve->options->notify_fd, serve->info);
    notify_ready(serve->options->notify_fd);
    if (serve->options->notify_fd >= 0)
        on_tell_load(&serve->tell_load);
    log_info("model loaded",
             "model=%s sequences=%u context=%u threads=%u gpu_layers=%u attention=%s ubatch=%u weights_mb=%llu "
             "description=%s",
             serve->model, serve->info->sequences, serve->info->context_sequence, serve->info->threads,
             serve->info->gpu_layers, attention_text(&serve->info->attention), serve->info->ubatch,
             (unsigned long long)(serve->info->weight_bytes >> 20), serve->info->description);
    serve_maybe_stop(serve);
}

/* ---- setting up and down ---- */

/* "SmolLM2.Q4.gguf" or the first of "big-00001-of-00003.gguf". */
static void name_model(struct serve *serve)
{
    const char *path = serve->options->engine.path;
    const char *slash = strrchr(path, '/');
    struct str name = str_from(serve->options->alias ? serve->options->alias : slash ? slash + 1 : path);
    if (!serve->options->alias && str_ends(name, STR(".gguf")))
        name.n -= strlen(".gguf");
    snprintf(serve->model, sizeof serve->model, STR_FMT, STR_ARG(name));
    struct stat status;
    serve->created = stat(path, &status) == 0 ? (int64_t)status.st_mtime : clock_unix();
}

static bool listen_all(struct serve *serve, struct err *err)
{
    const struct serve_options *o = serve->options;
    int port = 0;
    if (o->socket && !http_server_listen_unix(serve->http, o->socket, 0600, err))
        return false;
    if (o->address && !http_server_listen_tcp(serve->http, o->address, o->port, &port, err))
        return false;
    if (o->socket)
        log_info("listening", "socket=%s", o->socket);
    if (o->address)
        log_info("listening", "address=%s port=%d", o->address, port);
    return true;
}

static void open_server(struct serve *serve)
{
    static const struct serve_routes *const surfaces[] = {&serve_chat_routes,      &serve_completion_routes,
                                                          &serve_embedding_routes, &serve_rerank_routes,
                                                          &serve_native_routes,    &serve_stats_routes};
    struct http_server_options options = {
        .on_request = on_request,
        .on_error = on_error,
        .on_log = on_log,
        .arg = serve,
        .max_connections = LIMIT_WORKER_CONNECTIONS,
        .header_timeout_ms = LIMIT_HEAD_MS,
        .keep_alive_ms = LIMIT_KEEP_ALIVE_MS,
        .max_body = serve->options->max_body,
        .server_name = "inferd-worker",
    };
    serve->http = http_server_new(&serve->loop, &options);
    serve->router = http_router_new(serve);
    for (size_t i = 0; i < sizeof surfaces / sizeof *surfaces; i++)
        http_router_add(serve->router, surfaces[i]->routes, surfaces[i]->count);
}

static void watch_signal(struct serve *serve, uv_signal_t *handle, int number)
{
    uv_signal_init(&serve->loop.uv, handle);
    handle->data = serve;
    uv_signal_start(handle, on_signal, number);
}

static void close_all(struct serve *serve)
{
    deadline_cancel(&serve->loop, &serve->tell_load);
    vision_free(serve->vision); /* it knows the engine's model */
    if (serve->sched)
        sched_free(serve->sched); /* the engine goes with it */
    else if (serve->engine)
        serve->options->ops->close(serve->engine);
    chat_templates_free(serve->templates);
    buf_release(&serve->kv_identity);
    http_server_free(serve->http);
    http_router_free(serve->router);
    uv_close((uv_handle_t *)&serve->terminate, NULL);
    uv_close((uv_handle_t *)&serve->interrupt, NULL);
    uv_run(&serve->loop.uv, UV_RUN_NOWAIT); /* the scheduler's last posts free what they carry */
    loop_release(&serve->loop);
}

int serve_run(const struct serve_options *options)
{
    struct serve *serve = mem_calloc(1, sizeof *serve);
    struct err err = ERR_INIT;
    serve->options = options;
    loop_init(&serve->loop);
    open_server(serve);
    name_model(serve);
    watch_signal(serve, &serve->terminate, SIGTERM);
    watch_signal(serve, &serve->interrupt, SIGINT);
    if (listen_all(serve, &err)) {
        serve->loading = true;
        loop_work(&serve->loop, &serve->load, load_work, load_done);
    } else {
        log_error("cannot listen", "reason=%s", err.message);
        notify_error(options->notify_fd, &err);
        serve->exit_code = EXIT_GENERAL;
        stop(serve, 0);
    }
    loop_run(&serve->loop);
    int code = serve->exit_code;
    close_all(serve);
    mem_free(serve);
    return code;
}
