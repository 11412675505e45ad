/* inferd instance VERB ...: named instances of a running server, through its public API. One row a verb. */
#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/json_read.h"
#include "base/mem.h"
#include "cli/api_client.h"
#include "cli/commands.h"
#include "cli/common.h"

#define LIST_PATH "/api/v1/instances"

static const struct cli_option options[] = {
    CLI_OPTION_URL,
    CLI_OPTION_JSON,
    {"backend", 'b', "TYPE", "create: worker, llama_cpp, vllm, mlx_lm or command (default llama_cpp)"},
    {"option", 'o', "KEY=VALUE",
     "create, edit: an option of the instance or of its backend; VALUE is JSON, or else text"},
    {"file", 'f', "FILE", "create, edit: options from a JSON file, '-' for standard input"},
    {"no-start", 0, NULL, "create: leave it stopped"},
    {"wait", 'w', NULL, "start, stop, restart, create: answer when it is running, or has stopped"},
    {"all", 'a', NULL, "list: those behind model files too"},
    {"lines", 'n', "N", "logs: the last N lines (default: all; with --follow 100)"},
    {"follow", 'F', NULL, "logs: go on with new lines until Ctrl-C"},
    {.name = NULL}};

struct flags {
    struct cli_common common;
    const char *backend, *file, *lines;
    json_t *set; /* of --option */
    bool no_start, wait, all, follow;
};

struct verb {
    const char *name;
    bool needs_name;
    int (*run)(struct api_client *api, const struct flags *flags, const char *name, char **rest, struct err *err);
};

/* ---- options ---- */

static bool add_option(struct flags *flags, const char *text)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return false;
    char *key = mem_strndup(text, (size_t)(equals - text));
    json_t *value = json_loads(equals + 1, JSON_DECODE_ANY, NULL);
    json_object_set_new(flags->set, key, value ? value : json_string(equals + 1));
    mem_free(key);
    return true;
}

static bool on_option(void *arg, const char *name, const char *value)
{
    struct flags *flags = arg;
    if (strcmp(name, "backend") == 0)
        flags->backend = value;
    else if (strcmp(name, "file") == 0)
        flags->file = value;
    else if (strcmp(name, "lines") == 0)
        flags->lines = value;
    else if (strcmp(name, "option") == 0)
        return add_option(flags, value);
    else if (strcmp(name, "no-start") == 0)
        flags->no_start = true;
    else if (strcmp(name, "wait") == 0)
        flags->wait = true;
    else if (strcmp(name, "all") == 0)
        flags->all = true;
    else if (strcmp(name, "follow") == 0)
        flags->follow = true;
    else
        return cli_common_option(&flags->common, name, value);
    return true;
}

static char *path_of(const char *name, const char *suffix)
{
    size_t size = strlen(name) * 3 + strlen(suffix) + sizeof LIST_PATH + 2;
    char *path = mem_alloc(size);
    size_t at = (size_t)snprintf(path, size, LIST_PATH "/");
    for (; *name; name++)
        at += (size_t)snprintf(path + at, size - at,
                               strchr("/%?# ", *name) || (unsigned char)*name < 33 ? "%%%02X" : "%c",
                               (unsigned char)*name);
    snprintf(path + at, size - at, "%s", suffix);
    return path;
}

/* ---- printing ---- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void print_row(const json_t *i)
{
    char bytes[16];
    double memory = (double)json_integer_value(json_object_get(i, "memory_bytes"));
    const char *backend = text_of(json_object_get(i, "options"), "backend_type");
    printf("%-32s %-10s %-9s %7lld %9s %6lld %8lld  %s\n", text_of(i, "name"), text_of(i, "status"),
           *backend ? backend : "worker", (long long)json_integer_value(json_object_get(i, "pid")),
           memory > 0 ? cli_bytes(memory, bytes) : "-",
           (long long)json_integer_value(json_object_get(i, "active_requests")),
           (long long)json_integer_value(json_object_get(i, "restarts")), text_of(i, "error"));
}

static int print_instance(const struct flags *flags, json_t *reply)
{
    size_t n;
    json_t *warning;
    if (flags->common.json) {
        cli_print_json(reply);
    } else {
        printf("%s: %s%s%s\n", text_of(reply, "name"), text_of(reply, "status"),
               json_object_get(reply, "error") ? ": " : "", text_of(reply, "error"));
        json_array_foreach(json_object_get(reply, "warnings"), n, warning)
            fprintf(stderr, "inferd: warning: %s\n", json_string_value(warning));
    }
    json_decref(reply);
    return EXIT_OK;
}

static int call(struct api_client *api, const struct flags *flags, const char *method, const char *name,
                const char *suffix, const json_t *body, struct err *err)
{
    char *path = path_of(name, suffix), *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_t *reply = api_client_json(api, method, path, text ? str_from(text) : STR(""), err);
    mem_free(path);
    free(text);
    return reply ? print_instance(flags, reply) : cli_fail(err);
}

/* ---- verbs ---- */

static int list(struct api_client *api, const struct flags *flags, const char *name, char **rest, struct err *err)
{
    size_t n;
    json_t *i;
    (void)name;
    (void)rest;
    json_t *all = api_client_json(api, "GET", flags->all ? LIST_PATH "?all=1" : LIST_PATH, STR(""), err);
    if (!all)
        return cli_fail(err);
    if (flags->common.json) {
        cli_print_json(all);
    } else {
        printf("%-32s %-10s %-9s %7s %9s %6s %8s\n", "NAME", "STATE", "BACKEND", "PID", "MEMORY", "ACTIVE", "RESTARTS");
        json_array_foreach(all, n, i) print_row(i);
    }
    json_decref(all);
    return EXIT_OK;
}

static int show(struct api_client *api, const struct flags *flags, const char *name, char **rest, struct err *err)
{
    char *path = path_of(name, "");
    json_t *reply = api_client_json(api, "GET", path, STR(""), err);
    (void)rest;
    (void)flags;
    mem_free(path);
    if (!reply)
        return cli_fail(err);
    cli_print_json(reply);
    json_decref(reply);
    return EXIT_OK;
}

static json_t *read_json_file(const char *path, struct err *err)
{
    json_error_t problem;
    bool standard = strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "re");
    if (!file) {
        err_set(err, ERR_USAGE, "%s cannot be read: %s", path, strerror(errno));
        return NULL;
    }
    json_t *document = json_loadf(file, JSON_REJECT_DUPLICATES, &problem);
    if (!standard)
        fclose(file);
    if (document && !json_is_object(document)) {
        json_decref(document);
        document = NULL;
        snprintf(problem.text, sizeof problem.text, "it holds no object");
    }
    if (!document)
        err_set(err, ERR_USAGE, "%s: %s", path, problem.text);
    return document;
}

/* The options that a command line behind "--" stands for, as the server reads it. */
static json_t *parse_command(struct api_client *api, const char *backend, char **words, struct err *err)
{
    struct buf line;
    char path[80];
    const char *type = strcmp(backend, "llama_cpp") == 0 ? "llama-cpp"
                       : strcmp(backend, "mlx_lm") == 0  ? "mlx"
                                                         : backend;
    buf_init(&line, LIMIT_OPTIONS_BYTES);
    for (; *words; words++) {
        buf_puts(&line, line.len ? " '" : "'");
        for (const char *c = *words; *c; c++) {
            if (*c == '\'')
                buf_puts(&line, "'\\''");
            else
                buf_append(&line, c, 1);
        }
        buf_puts(&line, "'");
    }
    json_t *body = json_object();
    json_object_set_new(body, "command", json_stringn(line.data ? line.data : "", line.len));
    char *text = json_dumps(body, JSON_COMPACT);
    snprintf(path, sizeof path, "/api/v1/backends/%.40s/parse-command", type);
    json_t *options = text ? api_client_json(api, "POST", path, str_from(text), err) : NULL;
    free(text);
    json_decref(body);
    buf_release(&line);
    return options;
}

/* Keys that are no options of the instance are its backend's. */
static void set_options(json_t *body, json_t *set)
{
    static const char *const own[] = {"auto_restart", "max_restarts",     "restart_delay",  "on_demand_start",
                                      "idle_timeout", "environment",      "nodes",          "docker_enabled",
                                      "preset_ini",   "command_override", "group",          "pinned",
                                      "preload",      "backend_type",     "backend_options"};
    const char *key;
    json_t *value;
    json_object_foreach(set, key, value)
    {
        bool is_own = false;
        for (size_t n = 0; n < sizeof own / sizeof *own; n++)
            is_own = is_own || strcmp(key, own[n]) == 0;
        if (is_own) {
            json_object_set(body, key, value);
            continue;
        }
        json_t *backend = json_object_get(body, "backend_options");
        if (!backend) {
            backend = json_object();
            json_object_set_new(body, "backend_options", backend);
        }
        json_object_set(backend, key, value);
    }
}

static int create(struct api_client *api, const struct flags *flags, const char *name, char **rest, struct err *err)
{
    const char *backend = flags->backend ? flags->backend : "llama_cpp";
    json_t *body = flags->file ? read_json_file(flags->file, err)
                   : *rest     ? parse_command(api, backend, rest, err)
                               : json_object();
    if (!body)
        return cli_fail(err);
    set_options(body, flags->set);
    if (flags->backend || !json_object_get(body, "backend_type"))
        json_object_set_new(body, "backend_type", json_string(backend));
    if (flags->no_start)
        json_object_set_new(body, "start", json_false());
    int status = call(api, flags, "POST", name, flags->wait ? "?wait=1" : "", body, err);
    json_decref(body);
    return status;
}

static int start(struct api_client *api, const struct flags *flags, const char *name, char **rest, struct err *err)
{
    (void)rest;
    return call(api, flags, "POST", name, flags->wait ? "/start?wait=1" : "/start", NULL, err);
}

static int stop(struct api_client *api, const struct flags *flags, const char *name, char **rest, struct err *err)
{
    (void)rest;
    return call(api, flags, "POST", name, flags->wait ? "/stop?wait=1" : "/stop", NULL, err);
}

static int restart(struct api_client *api, const struct flags *flags, const char *name, char **rest, struct err *err)
{
    (void)rest;
    return call(api, flags, "POST", name, flags->wait ? "/restart?wait=1" : "/restart", NULL, err);
}

static int rm(struct api_client *api, const struct flags *flags, const char *name, char **rest, struct err *err)
{
    struct buf body;
    char *path = path_of(name, "");
    buf_init(&body, LIMIT_OPTIONS_BYTES);
    bool good = api_client_call(api, "DELETE", path, STR(""), &body, err);
    (void)rest;
    (void)flags;
    buf_release(&body);
    mem_free(path);
    if (!good)
        return cli_fail(err);
    printf("%s: removed\n", name);
    return EXIT_OK;
}

static bool print_line(void *arg, struct str data)
{
    json_t *event = json_read(data, NULL);
    const json_t *line = json_object_get(event, "line");
    (void)arg;
    fwrite(json_string_value(line) ? json_string_value(line) : "", 1, json_string_length(line), stdout);
    fputc('\n', stdout);
    fflush(stdout);
    json_decref(event);
    return true;
}

static int logs(struct api_client *api, const struct flags *flags, const char *name, char **rest, struct err *err)
{
    char query[64];
    bool interrupted, good;
    (void)rest;
    snprintf(query, sizeof query, "/logs?%s%.20s%s", flags->lines ? "lines=" : "", flags->lines ? flags->lines : "",
             flags->follow ? "&follow=1" : "");
    char *path = path_of(name, query);
    if (flags->follow) {
        good = api_client_stream(api, "GET", path, STR(""), print_line, NULL, &interrupted, err);
    } else {
        struct buf text;
        buf_init(&text, LIMIT_JSON_TEXT);
        good = api_client_call(api, "GET", path, STR(""), &text, err);
        if (good)
            fwrite(text.data ? text.data : "", 1, text.len, stdout);
        buf_release(&text);
    }
    mem_free(path);
    return good ? EXIT_OK : cli_fail(err);
}

/* ---- editing ---- */

static bool run_editor(const char *path, struct err *err)
{
    const char *editor = getenv("VISUAL") ? getenv("VISUAL") : getenv("EDITOR");
    if (!editor || !*editor)
        editor = "vi";
    pid_t pid = fork();
    if (pid == 0) {
        execlp("/bin/sh", "sh", "-c", "exec $0 \"$1\"", editor, path, (char *)NULL);
        _exit(127);
    }
    int status = -1;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status == 0 || err_set(err, ERR_USAGE, "the editor '%s' failed; set $EDITOR", editor);
}

/* What has to be merged into before to make it after: what is gone becomes null. */
static json_t *difference(const json_t *before, const json_t *after)
{
    const char *key;
    json_t *value;
    json_t *patch = json_object();
    json_object_foreach((json_t *)before, key, value) if (!json_object_get(after, key))
        json_object_set_new(patch, key, json_null());
    json_object_foreach((json_t *)after, key, value)
    {
        const json_t *old = json_object_get(before, key);
        if (old && json_equal(old, value))
            continue;
        if (json_is_object(old) && json_is_object(value))
            json_object_set_new(patch, key, difference(old, value));
        else
            json_object_set(patch, key, value);
    }
    return patch;
}

/* The options as a file that is only ours, opened in the user's editor. */
static json_t *edited(const json_t *before, struct err *err)
{
    char path[] = "/tmp/inferd-instance-XXXXXX.json";
    int fd = mkstemps(path, 5);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    json_t *after = NULL;
    if (!file) {
        err_set(err, ERR_IO, "%s cannot be made: %s", path, strerror(errno));
        return NULL;
    }
    json_dumpf(before, file, JSON_INDENT(2));
    if (fclose(file) != 0)
        err_set(err, ERR_IO, "%s cannot be written: %s", path, strerror(errno));
    else if (run_editor(path, err))
        after = read_json_file(path, err);
    unlink(path);
    return after;
}

static json_t *patch_by_editor(struct api_client *api, const char *name, struct err *err)
{
    char *path = path_of(name, "");
    json_t *instance = api_client_json(api, "GET", path, STR(""), err);
    const json_t *before = json_object_get(instance, "options");
    json_t *after = instance ? edited(before, err) : NULL;
    json_t *patch = after ? difference(before, after) : NULL;
    json_decref(after);
    json_decref(instance);
    mem_free(path);
    return patch;
}

static int edit(struct api_client *api, const struct flags *flags, const char *name, char **rest, struct err *err)
{
    json_t *patch = flags->file                        ? read_json_file(flags->file, err)
                    : json_object_size(flags->set) > 0 ? json_object()
                                                       : patch_by_editor(api, name, err);
    (void)rest;
    if (!patch)
        return cli_fail(err);
    set_options(patch, flags->set);
    int status = EXIT_OK;
    if (json_object_size(patch) > 0)
        status = call(api, flags, "PUT", name, flags->wait ? "?wait=1" : "", patch, err);
    else
        printf("%s: nothing changed\n", name);
    json_decref(patch);
    return status;
}

/* ---- the command ---- */

static const struct verb verbs[] = {
    {"list", false, list},  {"show", true, show}, {"create", true, create},
    {"start", true, start}, {"stop", true, stop}, {"restart", true, restart},
    {"logs", true, logs},   {"rm", true, rm},     {"edit", true, edit},
};

static const struct verb *find_verb(const char *name)
{
    for (size_t n = 0; n < sizeof verbs / sizeof *verbs; n++)
        if (strcmp(verbs[n].name, name) == 0)
            return &verbs[n];
    return NULL;
}

static int run_verb(const struct cli_command *command, const struct flags *flags, char **operands)
{
    struct err err;
    const struct verb *verb = operands[0] ? find_verb(operands[0]) : NULL;
    if (!verb)
        return cli_usage(command, "%s%s: list, show, create, start, stop, restart, logs, rm or edit",
                         operands[0] ? "there is no " : "say what to do", operands[0] ? operands[0] : "");
    if (verb->needs_name && !operands[1])
        return cli_usage(command, "%s needs the name of an instance", verb->name);
    struct api_client *api = api_client_new(flags->common.url, &err);
    if (!api)
        return cli_fail(&err);
    int status = verb->run(api, flags, operands[1], verb->needs_name ? operands + 2 : operands + 1, &err);
    api_client_free(api);
    return status;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct flags flags = {.set = json_object()};
    int status;
    int at = cli_parse(command, argc, argv, on_option, &flags, &status);
    if (at >= 0)
        status = run_verb(command, &flags, argv + at);
    json_decref(flags.set);
    return status;
}

const struct cli_command cmd_instance = {
    "instance",
    "list|show|create|start|stop|restart|logs|rm|edit [NAME] [-- COMMAND...]",
    "manage named instances of a running server",
    "A named instance is a backend process that the server starts, watches, stops and passes requests to.\n\n"
    "  inferd instance create qwen -- llama-server -m /models/qwen.gguf -ngl 99\n"
    "  inferd instance create small -b worker -o model=/models/small.gguf -o idle_timeout=5 --wait\n"
    "  inferd instance logs qwen -F\n"
    "  inferd instance edit qwen -o ctx_size=8192\n\n"
    "edit without options opens the instance's options in $EDITOR.",
    options,
    run};
