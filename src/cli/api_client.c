/* A small loop of its own around http/client: each call runs the loop until the reply is complete. A private server is
 * a child that dies with us (it watches a pipe's other end through the kernel: PR_SET_PDEATHSIG). */
#include "cli/api_client.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/json_read.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "http/client.h"
#include "http/sse_read.h"
#include "openai/error.h"

#define REPLY_MAX        (64u << 20)
#define PRIVATE_START_MS 10000

struct api_client {
    struct loop loop;
    struct http_client *client;
    struct http_target target;
    char url[256];
    char folder[64]; /* of a private server */
    pid_t server;    /* 0: none */
    uv_signal_t interrupt;
    /* the call that runs */
    struct http_call *call;
    const char *content_type; /* of the request; NULL: JSON */
    struct buf *body;
    struct http_sse_reader events;
    bool (*on_data)(void *arg, struct str data);
    void *on_data_arg;
    int status;
    bool done, interrupted, is_stream, failed_stream;
    struct err err;
};

static void on_interrupt(uv_signal_t *handle, int number)
{
    struct api_client *api = handle->data;
    (void)number;
    if (!api->call)
        return;
    http_call_cancel(api->call);
    api->call = NULL;
    api->interrupted = api->done = true;
    loop_stop(&api->loop);
}

static struct api_client *client_new(void)
{
    struct api_client *api = mem_calloc(1, sizeof *api);
    loop_init(&api->loop);
    api->client = http_client_new(&api->loop);
    uv_signal_init(&api->loop.uv, &api->interrupt);
    api->interrupt.data = api;
    return api;
}

struct api_client *api_client_new(const char *url, struct err *err)
{
    struct api_client *api = client_new();
    if (!url)
        url = getenv("INFERD_URL");
    snprintf(api->url, sizeof api->url, "%s", url && *url ? url : "http://127.0.0.1:8080");
    if (http_target_parse(api->url, &api->target, err))
        return api;
    api_client_free(api);
    return NULL;
}

static void end_server(struct api_client *api)
{
    if (!api->server)
        return;
    kill(api->server, SIGTERM);
    while (waitpid(api->server, NULL, 0) < 0 && errno == EINTR)
        continue;
    unlink(api->target.address);
    rmdir(api->folder);
}

void api_client_free(struct api_client *api)
{
    if (!api)
        return;
    uv_close((uv_handle_t *)&api->interrupt, NULL);
    http_client_free(api->client);
    loop_release(&api->loop);
    end_server(api);
    mem_free(api);
}

/* ---- one call ---- */

static void finish(struct api_client *api)
{
    api->call = NULL;
    api->done = true;
    loop_stop(&api->loop);
}

static void on_head(void *arg, const struct http_head *head)
{
    struct api_client *api = arg;
    struct str type = http_head_find(head, "content-type");
    api->status = head->status;
    api->is_stream = api->on_data && head->status == 200 && str_starts(type, STR("text/event-stream"));
}

static void stop_stream(struct api_client *api)
{
    http_call_cancel(api->call);
    finish(api);
}

static void on_event(void *arg, struct str name, struct str data)
{
    struct api_client *api = arg;
    (void)name;
    if (api->done || str_eq(data, STR("[DONE]")))
        return;
    if (openai_error_read(data, 500, &api->err)) {
        api->failed_stream = true;
        stop_stream(api);
    } else if (!api->on_data(api->on_data_arg, data)) {
        stop_stream(api);
    }
}

static void on_bytes(void *arg, struct str piece)
{
    struct api_client *api = arg;
    if (!api->is_stream) {
        buf_str(api->body, piece);
    } else if (!http_sse_reader_feed(&api->events, piece) && !api->done) {
        err_set(&api->err, ERR_BAD_GATEWAY, "the server sent an event that is too large");
        api->failed_stream = true;
        stop_stream(api);
    }
}

static void on_end(void *arg)
{
    finish(arg);
}

static void on_failure(void *arg, const struct err *err)
{
    struct api_client *api = arg;
    if (api->status)
        api->err = *err;
    else
        err_set(&api->err, ERR_BAD_GATEWAY, "no server answers at %s (%s); start one with: inferd serve", api->url,
                err->message);
    finish(api);
}

static bool run_call(struct api_client *api, const char *method, const char *path, struct str request, struct err *err)
{
    static const struct http_call_events events = {
        .on_head = on_head, .on_data = on_bytes, .on_end = on_end, .on_error = on_failure};
    const char *key = getenv("INFERD_API_KEY");
    char lines[1024];
    int n = snprintf(lines, sizeof lines, "Accept: */*\r\n%s%s%s%s%s%s", request.n ? "Content-Type: " : "",
                     !request.n          ? ""
                     : api->content_type ? api->content_type
                                         : "application/json",
                     request.n ? "\r\n" : "", key && *key ? "Authorization: Bearer " : "", key && *key ? key : "",
                     key && *key ? "\r\n" : "");
    if (n >= (int)sizeof lines)
        return err_set(err, ERR_USAGE, "INFERD_API_KEY is too long");
    api->done = api->interrupted = api->failed_stream = false;
    api->status = 0;
    api->err = ERR_INIT;
    api->call = http_call_start(api->client, &api->target, str_from(method), str_from(path),
                                (struct str){lines, (size_t)n}, (int64_t)request.n, request, &events, api);
    while (!api->done)
        loop_run(&api->loop);
    if (api->err.code == ERR_NONE && api->status >= 400 &&
        !openai_error_read(buf_view(api->body), api->status, &api->err))
        err_set(&api->err, ERR_INTERNAL, "the server answered %d", api->status);
    if (api->err.code != ERR_NONE)
        *err = api->err;
    return api->err.code == ERR_NONE;
}

bool api_client_call(struct api_client *api, const char *method, const char *path, struct str request, struct buf *body,
                     struct err *err)
{
    api->body = body;
    api->on_data = NULL;
    return run_call(api, method, path, request, err);
}

json_t *api_client_form(struct api_client *api, const char *path, const char *content_type, struct str form,
                        struct err *err)
{
    api->content_type = content_type;
    json_t *document = api_client_json(api, "POST", path, form, err);
    api->content_type = NULL;
    return document;
}

json_t *api_client_json(struct api_client *api, const char *method, const char *path, struct str request,
                        struct err *err)
{
    struct buf body;
    buf_init(&body, REPLY_MAX);
    json_t *document = api_client_call(api, method, path, request, &body, err) ? json_read(buf_view(&body), err) : NULL;
    buf_release(&body);
    return document;
}

bool api_client_stream(struct api_client *api, const char *method, const char *path, struct str request,
                       bool (*on_data)(void *arg, struct str data), void *arg, bool *ret_interrupted, struct err *err)
{
    struct buf body;
    buf_init(&body, REPLY_MAX);
    api->body = &body;
    api->on_data = on_data;
    api->on_data_arg = arg;
    http_sse_reader_init(&api->events, on_event, api);
    uv_signal_start(&api->interrupt, on_interrupt, SIGINT);
    bool good = run_call(api, method, path, request, err);
    uv_signal_stop(&api->interrupt);
    http_sse_reader_release(&api->events);
    buf_release(&body);
    *ret_interrupted = api->interrupted;
    return good;
}

/* ---- loading ---- */

#define PROGRESS_MS 100

struct load_watch {
    struct api_client *api;
    struct http_call *status_call;
    struct buf status;
    struct deadline tick;
    const char *path;
    void (*on_progress)(float fraction);
};

static void on_tick(struct deadline *deadline);

static void on_status_data(void *arg, struct str piece)
{
    struct load_watch *watch = arg;
    buf_str(&watch->status, piece);
}

static void on_status_over(struct load_watch *watch)
{
    watch->status_call = NULL;
    deadline_arm(&watch->api->loop, &watch->tick, PROGRESS_MS, on_tick);
}

static void on_status_end(void *arg)
{
    struct load_watch *watch = arg;
    json_t *document = json_read(buf_view(&watch->status), NULL);
    const char *state = json_string_value(json_object_get(document, "status"));
    if (state && strcmp(state, "loading") == 0)
        watch->on_progress((float)json_integer_value(json_object_get(document, "progress")) / 100);
    json_decref(document);
    on_status_over(watch);
}

static void on_status_error(void *arg, const struct err *err)
{
    (void)err; /* the load call itself will say */
    on_status_over(arg);
}

static void on_status_head(void *arg, const struct http_head *head)
{
    (void)arg;
    (void)head;
}

static void on_tick(struct deadline *deadline)
{
    static const struct http_call_events events = {
        .on_head = on_status_head, .on_data = on_status_data, .on_end = on_status_end, .on_error = on_status_error};
    struct load_watch *watch = container_of(deadline, struct load_watch, tick);
    buf_clear(&watch->status);
    watch->status_call = http_call_start(watch->api->client, &watch->api->target, STR("GET"), str_from(watch->path),
                                         STR(""), 0, STR(""), &events, watch);
}

/* Percent-encodes what may not stand in a path; '/' may (ids have folders). */
static void put_path(struct buf *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        bool plain =
            (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("-._~/:", *p);
        if (plain)
            buf_putc(out, *p);
        else
            buf_printf(out, "%%%02X", (unsigned char)*p);
    }
}

char *api_client_model_path(const char *model, const char *suffix)
{
    struct buf path;
    buf_init(&path, 8192);
    buf_puts(&path, "/v1/models/");
    put_path(&path, model);
    buf_puts(&path, suffix);
    return buf_take(&path, NULL);
}

bool api_client_load(struct api_client *api, const char *model, void (*on_progress)(float fraction), struct err *err)
{
    char *load = api_client_model_path(model, "/load"), *status = api_client_model_path(model, "/status");
    struct load_watch watch = {.api = api, .path = status, .on_progress = on_progress};
    struct buf body;
    buf_init(&body, REPLY_MAX);
    buf_init(&watch.status, REPLY_MAX);
    deadline_arm(&api->loop, &watch.tick, PROGRESS_MS, on_tick);
    bool good = api_client_call(api, "POST", load, STR(""), &body, err);
    deadline_cancel(&api->loop, &watch.tick);
    if (watch.status_call)
        http_call_cancel(watch.status_call);
    buf_release(&watch.status);
    buf_release(&body);
    mem_free(load);
    mem_free(status);
    return good;
}

/* ---- a server of our own ---- */

static void exec_server(const struct api_client *api, const char *name, const char *file)
{
    char model[4600];
    setsid(); /* Ctrl-C ends an answer, not the server */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    snprintf(model, sizeof model, "%s=%s", name, file);
    execl(cli_program(), "inferd", "serve", "--port", "0", "--socket", api->target.address, "--state-dir", api->folder,
          "--model", model, "--log-level", "warn", (char *)NULL);
    _exit(127);
}

static bool wait_until_up(struct api_client *api, struct err *err)
{
    uint64_t end = loop_now_ms(&api->loop) + PRIVATE_START_MS;
    struct stat info;
    for (;;) {
        if (stat(api->target.address, &info) == 0)
            return true;
        if (waitpid(api->server, NULL, WNOHANG) == api->server) {
            api->server = 0;
            return err_set(err, ERR_INTERNAL, "a server could not be started; its words stand above");
        }
        uv_update_time(&api->loop.uv);
        if (loop_now_ms(&api->loop) > end)
            return err_set(err, ERR_TIMEOUT, "a server did not start in time");
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
}

struct api_client *api_client_private(const char *name, const char *file, struct err *err)
{
    struct api_client *api = client_new();
    const char *base = getenv("XDG_RUNTIME_DIR");
    snprintf(api->folder, sizeof api->folder, "%s/inferd-XXXXXX", base && strlen(base) < 32 ? base : "/tmp");
    if (!mkdtemp(api->folder)) {
        err_set(err, ERR_IO, "a private folder cannot be made: %s", strerror(errno));
    } else {
        snprintf(api->target.address, sizeof api->target.address, "%s/s", api->folder);
        snprintf(api->url, sizeof api->url, "unix:%s", api->target.address);
        api->server = fork();
        if (api->server == 0)
            exec_server(api, name, file);
        if (api->server > 0 && wait_until_up(api, err))
            return api;
    }
    api_client_free(api);
    return NULL;
}

/* The file's name without folder and ending. */
static char *name_of_file(const char *path)
{
    const char *slash = strrchr(path, '/');
    struct str name = str_from(slash ? slash + 1 : path);
    if (str_ends(name, STR(".gguf")))
        name.n -= 5;
    return mem_strndup(name.p, name.n);
}

static bool is_file(const char *model)
{
    struct stat info;
    bool looks_like = strchr(model, '/') || str_ends(str_from(model), STR(".gguf"));
    return looks_like && stat(model, &info) == 0 && S_ISREG(info.st_mode);
}

struct api_client *api_client_for_model(const char *url, const char *model, char **ret_name, struct err *err)
{
    bool file = !url && is_file(model);
    *ret_name = file ? name_of_file(model) : mem_strdup(model);
    struct api_client *api = file ? api_client_private(*ret_name, model, err) : api_client_new(url, err);
    if (!api)
        mem_free(*ret_name);
    return api;
}
