/* What the backends' own programs say (help, version, devices), and command lines turned into options. */
#include "api/docs/doc.h"
#include "api/instances/instances.h"
#include "base/mem.h"
#include "instance/backend.h"
#include "instance/capture.h"

#define PROGRAM_MS 30000

struct ask {
    struct loop_job job;
    struct http_req *req; /* NULL: the client is gone */
    struct arena_disposer *disposer;
    struct arena arena;
    const char *argv[BACKEND_ARGUMENTS];
    const char *const *environment;
    struct buf text;
    int status;
    bool good;
    struct err err;
};

static void run(struct loop_job *job)
{
    struct ask *a = container_of(job, struct ask, job);
    a->good = capture(a->argv, a->environment, PROGRAM_MS, &a->text, &a->status, &a->err);
}

static void answer(struct ask *a)
{
    if (a->good && a->status == 0) {
        http_reply(a->req, 200, "text/plain; charset=utf-8", buf_view(&a->text));
        return;
    }
    if (a->good)
        err_set(&a->err, ERR_START_FAILED, "%s ended with status %d: %.300s", a->argv[0], a->status >> 8,
                a->text.len ? a->text.data : "");
    a->err.code = ERR_START_FAILED;
    http_reply_error(a->req, &a->err);
}

static void ran(struct loop_job *job)
{
    struct ask *a = container_of(job, struct ask, job);
    if (a->req) {
        arena_forget(a->disposer);
        answer(a);
    }
    buf_release(&a->text);
    arena_dispose(&a->arena);
    mem_free(a);
}

static void on_client_gone(void *arg)
{
    struct ask *a = arg;
    a->req = NULL;
}

/* The configured program and its environment, with one flag. */
static void ask(struct app *app, struct http_req *req, const char *flag)
{
    struct err err;
    struct ask *a = mem_calloc(1, sizeof *a);
    arena_init(&a->arena);
    buf_init(&a->text, LIMIT_HELP_TEXT);
    const struct conf_backend *conf = conf_backend_find(app->conf, STR("llama-cpp"));
    struct backend_launch *launch = arena_calloc(&a->arena, sizeof *launch);
    json_t *none = json_object();
    struct backend_input in = {.backend = backend_find(STR("llama_cpp"), &err),
                               .options = none,
                               .conf = conf,
                               .program = app->program,
                               .name = "help"};
    bool good = backend_command(&in, &a->arena, launch, &err);
    json_decref(none);
    if (!good) {
        buf_release(&a->text);
        arena_dispose(&a->arena);
        mem_free(a);
        http_reply_error(req, &err);
        return;
    }
    a->argv[0] = launch->argv[0];
    a->argv[1] = flag;
    a->environment = api_environment(conf->environment, &a->arena);
    a->req = req;
    a->disposer = arena_on_dispose(&req->arena, on_client_gone, a);
    loop_work(app->loop, &a->job, run, ran);
}

static void help(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    ask(arg, req, "--help");
}

static void version(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    ask(arg, req, "--version");
}

static void devices(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    ask(arg, req, "--list-devices");
}

/* ---- parse-command ---- */

static void reply_parsed(struct http_req *req, const char *type, struct str command)
{
    struct err err;
    const struct backend *backend = backend_find(str_from(type), &err);
    json_t *options = backend ? backend_parse_command(backend, command, &err) : NULL;
    if (!options) {
        http_reply_error(req, &err);
        return;
    }
    char *text = json_dumps(options, JSON_COMPACT);
    http_reply(req, 200, "application/json", str_from(text));
    free(text);
    json_decref(options);
}

static void on_parse_body(struct http_req *req, struct str body)
{
    struct parse {
        struct str command;
    } parse = {0};
    static const struct json_field fields[] = {
        {.name = "command", .kind = JSON_KIND_TEXT, .offset = offsetof(struct parse, command), .required = true}};
    struct err err;
    json_t *document = json_read(body, &err);
    if (document && !json_is_object(document)) {
        err_set(&err, ERR_INVALID_PARAMETERS, "the body must be a JSON object");
        json_decref(document);
        document = NULL;
    }
    if (document && json_fields(document, fields, 1, &parse, "", &err))
        reply_parsed(req, req->user, parse.command);
    else
        http_reply_error(req, &err);
    json_decref(document);
}

static void parse(void *arg, struct http_req *req, const struct http_match *match)
{
    static const struct {
        const char *path, *type;
    } names[] = {{"llama-cpp", "llama_cpp"}, {"mlx", "mlx_lm"}, {"vllm", "vllm"}};
    struct err err;
    (void)arg;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!str_eq(match->captures[0], str_from(names[i].path)))
            continue;
        req->user = (void *)names[i].type;
        http_req_read_body(req, LIMIT_OPTIONS_BYTES, on_parse_body);
        return;
    }
    err_set(&err, ERR_NOT_FOUND, "there is no backend '" STR_FMT "'; backends are llama-cpp, mlx, vllm",
            STR_ARG(match->captures[0]));
    http_reply_error(req, &err);
}

#define MANAGER (void *)&manager_dialect

const struct http_route backend_routes[] = {
    {"GET", "/api/v1/server/help", help, MANAGER, "What llama-server --help prints", AUTH_MANAGEMENT,
     &doc_backend_text},
    {"GET", "/api/v1/server/version", version, MANAGER, "What llama-server --version prints", AUTH_MANAGEMENT,
     &doc_backend_text},
    {"GET", "/api/v1/server/devices", devices, MANAGER, "What llama-server --list-devices prints", AUTH_MANAGEMENT,
     &doc_backend_text},
    {"GET", "/api/v1/backends/llama-cpp/help", help, MANAGER, "What llama-server --help prints", AUTH_MANAGEMENT,
     &doc_backend_text},
    {"GET", "/api/v1/backends/llama-cpp/version", version, MANAGER, "What llama-server --version prints",
     AUTH_MANAGEMENT, &doc_backend_text},
    {"GET", "/api/v1/backends/llama-cpp/devices", devices, MANAGER, "What llama-server --list-devices prints",
     AUTH_MANAGEMENT, &doc_backend_text},
    {"POST", "/api/v1/backends/{backend}/parse-command", parse, MANAGER, "Options of a command line", AUTH_MANAGEMENT,
     &doc_parse_command},
    {0},
};
