/* From STARTING to a process: look at the model's file (a pool job: headers can be large), take a port, put the command
 * line and the environment together, start the child, and find out when it is ready — our worker says so, others are
 * asked for their health.
 *
 * A start can be called off at every point: the job's end then fires EXITED, as a child's end would. */
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "instance/command.h"
#include "instance/flag_check.h"
#include "instance/gpu.h"
#include "instance/instance_private.h"
#include "instance/load.h"
#include "instance/port.h"
#include "instance/probe.h"
#include "obs/log.h"

struct preparation {
    struct loop_job job;
    struct instance *instance;
    char *path; /* of the model's file, or NULL */
    char *projector;
    uint64_t projector_bytes;
    bool readable;
    struct gguf gguf;
};

void launch_tail(const struct instance *i, char *out, size_t size)
{
    struct str output = i->child ? child_output(i->child) : STR("");
    while (output.n && (output.p[output.n - 1] == '\n' || output.p[output.n - 1] == '\r'))
        output.n--;
    if (output.n > size - 1) {
        output.p += output.n - (size - 1);
        output.n = size - 1;
    }
    snprintf(out, size, STR_FMT, STR_ARG(output));
    for (char *p = out; *p; p++)
        if (*p == '\n')
            *p = '|';
    if (!*out)
        snprintf(out, size, "(none)");
}

/* ---- what the child says and does ---- */

static void on_child_progress(void *arg, float fraction)
{
    struct instance *i = arg;
    if (fraction >= 0 && fraction <= 1)
        i->progress = fraction;
}

static void on_child_load(void *arg, const struct worker_load *load)
{
    struct instance *i = arg;
    i->all->generated += load->generated - i->load.generated;
    i->load = *load;
}

static void on_child_memory(void *arg, const struct worker_memory *memory)
{
    struct instance *i = arg;
    i->memory = *memory;
}

static void on_child_device(void *arg, const struct worker_device *device)
{
    struct instance *i = arg;
    if (i->memory.device_count == LIMIT_DEVICES)
        return;
    i->memory.devices[i->memory.device_count++] = *device;
    gpus_seen(i->all, device);
}

static void on_ready(void *arg)
{
    instance_fire(arg, EVENT_READY);
}

static void on_child_error(void *arg, const struct err *err)
{
    struct instance *i = arg;
    i->problem = *err;
}

static bool on_child_output(void *arg, struct str bytes)
{
    struct instance *i = arg;
    return output_write(i->output, bytes);
}

/* A model's worker that cannot load fails for good; a named instance is tried as often as its options say. One that was
 * never healthy in time is not tried again: each try would take as long. */
static bool may_start_again(const struct instance *i)
{
    if (!i->policy.auto_restart || i->all->stopping || i->going)
        return false;
    if (i->kind == KIND_IMPLICIT)
        return i->state == INSTANCE_RUNNING;
    return i->problem.code == ERR_NONE && i->crashes < i->policy.max_restarts;
}

static enum instance_event event_of_end(const struct instance *i, int64_t status, int signal)
{
    bool called_off = i->state == INSTANCE_STOPPING || i->state == INSTANCE_RECYCLING;
    if (called_off)
        return EVENT_EXITED;
    if (i->state == INSTANCE_RUNNING && i->kind == KIND_NAMED && status == 0 && signal == 0)
        return EVENT_FINISHED;
    return may_start_again(i) ? EVENT_CRASHED : EVENT_EXITED;
}

static void explain_end(struct instance *i, int64_t status, int signal)
{
    char tail[240];
    if (i->problem.code != ERR_NONE || i->state == INSTANCE_STOPPING || i->state == INSTANCE_RECYCLING)
        return;
    launch_tail(i, tail, sizeof tail);
    err_set(&i->problem, i->kind == KIND_IMPLICIT ? ERR_MODEL_LOAD_FAILED : ERR_START_FAILED,
            "the process of '%s' ended with %s %lld; its last output: %s", i->name, signal ? "signal" : "status",
            signal ? (long long)signal : (long long)status, tail);
}

static void mark(struct instance *i, const char *what)
{
    char line[160], when[32];
    time_t now = time(NULL);
    struct tm parts;
    localtime_r(&now, &parts);
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &parts);
    snprintf(line, sizeof line, "=== Instance %s %s at %s ===\n", i->name, what, when);
    if (i->output)
        output_mark(i->output, str_from(line));
}

static void on_child_exit(void *arg, int64_t status, int signal)
{
    struct instance *i = arg;
    if (i->ready_ms > i->start_ms && clock_ms() - i->ready_ms > LIMIT_STABLE_MS)
        i->crashes = 0;
    enum instance_event event = event_of_end(i, status, signal);
    explain_end(i, status, signal);
    mark(i, "stopped");
    instance_fire(i, event);
}

static void failed(struct instance *i, const struct err *err)
{
    i->problem = *err;
    mark(i, err->message);
    instance_fire(i, EVENT_EXITED);
}

/* ---- the process ---- */

/* The KV cache is cleared when a model is loaded: a third of a small one's loading is page faults, unless the C library
 * asks for large pages (glibc reads this before main). Whoever has tunables of their own keeps them. */
#define LARGE_PAGES "glibc.malloc.hugetlb=1"

static bool is_set(const struct instance *i, const struct conf_backend *conf, const char *name)
{
    size_t length = strlen(name);
    for (const char *const *item = conf ? conf->environment : NULL; item && *item; item++)
        if (strncmp(*item, name, length) == 0 && (*item)[length] == '=')
            return true;
    return json_object_get(i->options.environment, name) || getenv(name);
}

static const char *const *environment_of(const struct instance *i, struct arena *arena, const struct conf_backend *conf,
                                         bool own_worker)
{
    size_t count = 4, n = 0;
    const char *key;
    json_t *value;
    json_t *own = (json_t *)i->options.environment;
    for (const char *const *item = conf ? conf->environment : NULL; item && *item; item++)
        count++;
    count += json_object_size(own);
    const char **all = arena_calloc(arena, (count + 1) * sizeof *all);
    for (const char *const *item = conf ? conf->environment : NULL; item && *item; item++)
        if (!json_object_getn(own, *item, strcspn(*item, "=")))
            all[n++] = *item;
    json_object_foreach(own, key, value) all[n++] = arena_printf(arena, "%s=%s", key, json_string_value(value));
    all[n++] = arena_printf(arena, "INFERD_OWNER=%s", i->all->owner);
    all[n++] = arena_printf(arena, "INFERD_INSTANCE=%s", i->name);
    if (own_worker && !is_set(i, conf, "GLIBC_TUNABLES"))
        all[n++] = "GLIBC_TUNABLES=" LARGE_PAGES;
    return all;
}

static const char *const *container_environment(const struct instance *i, struct arena *arena,
                                                const struct conf_backend *conf)
{
    size_t count = 0, n = 0;
    const char *key;
    json_t *value;
    json_t *own = (json_t *)i->options.environment;
    for (const char *const *item = conf ? conf->docker_environment : NULL; item && *item; item++)
        count++;
    const char **all = arena_calloc(arena, (count + json_object_size(own) + 1) * sizeof *all);
    for (const char *const *item = conf ? conf->docker_environment : NULL; item && *item; item++)
        all[n++] = *item;
    json_object_foreach(own, key, value) all[n++] = arena_printf(arena, "%s=%s", key, json_string_value(value));
    return all;
}

static const char *preset_file(struct instance *i, struct arena *arena, struct err *err)
{
    if (!*i->options.preset_ini)
        return NULL;
    const char *folder = arena_printf(arena, "%s/%s", i->all->conf->instances_dir, i->name);
    const char *path = arena_printf(arena, "%s/preset.ini", folder);
    mkdir(folder, 0700);
    FILE *file = fopen(path, "we");
    bool good = file && fputs(i->options.preset_ini, file) >= 0;
    if (file && fclose(file) != 0)
        good = false;
    if (good)
        return path;
    err_set(err, ERR_START_FAILED, "%s cannot be written", path);
    return NULL;
}

static bool named_command(struct instance *i, struct arena *arena, struct backend_launch *launch, struct err *err)
{
    const struct backend *b = i->options.backend;
    const struct conf_backend *conf = conf_backend_find(i->all->conf, str_from(b->section));
    struct backend_input in = {.backend = b,
                               .options = i->options.backend_options,
                               .conf = conf,
                               .program = i->all->program,
                               .command_override = *i->options.command_override ? i->options.command_override : NULL,
                               .name = i->name,
                               .docker = i->options.docker,
                               .environment = container_environment(i, arena, conf)};
    *err = ERR_INIT;
    in.preset_file = preset_file(i, arena, err);
    if (err->code != ERR_NONE || !port_take(i, &in, err))
        return false;
    return backend_command(&in, arena, launch, err);
}

static bool worker_command(struct instance *i, struct arena *arena, struct backend_launch *launch, struct err *err)
{
    struct backend_input in = {.backend = i->options.backend, .options = i->options.backend_options, .name = i->name};
    launch->in = &in;
    launch->arena = arena;
    const char *const *common = command_of_worker(i, arena);
    while (common[launch->argc] && launch->argc < BACKEND_ARGUMENTS / 2) {
        launch->argv[launch->argc] = common[launch->argc];
        launch->argc++;
    }
    if (!i->options.backend->arguments(launch, i->options.backend_options, err))
        return false;
    if (i->fake && launch->argc + 3 < BACKEND_ARGUMENTS) {
        launch->argv[launch->argc++] = "--model";
        launch->argv[launch->argc++] = i->path;
    }
    return true;
}

static void take_socket(struct instance *i)
{
    i->port = 0;
    i->target.port = 0;
    snprintf(i->target.address, sizeof i->target.address, "%s/w%u.sock", i->all->socket_folder, ++i->all->sockets);
    unlink(i->target.address);
}

static bool command_line(struct instance *i, struct arena *arena, struct backend_launch *launch, struct err *err)
{
    bool ours = i->kind == KIND_IMPLICIT || i->options.backend->ready == BACKEND_READY_NOTIFY;
    if (!ours)
        return named_command(i, arena, launch, err);
    take_socket(i);
    if (i->kind == KIND_NAMED)
        return worker_command(i, arena, launch, err);
    const char *const *argv = command_of_worker(i, arena);
    while (argv[launch->argc]) {
        launch->argv[launch->argc] = argv[launch->argc];
        launch->argc++;
    }
    return true;
}

static const char *health_of(const struct instance *i)
{
    const char *own = json_string_value(json_object_get(i->options.backend_options, "health"));
    return own && strcmp(i->options.backend->type, "command") == 0 ? own : i->options.backend->health;
}

static void spawn(struct instance *i)
{
    static const struct child_events model_events = {.on_progress = on_child_progress,
                                                     .on_memory = on_child_memory,
                                                     .on_device = on_child_device,
                                                     .on_ready = on_ready,
                                                     .on_load = on_child_load,
                                                     .on_error = on_child_error,
                                                     .on_exit = on_child_exit};
    struct child_events events = model_events;
    struct err err = ERR_INIT;
    struct arena arena;
    arena_init(&arena);
    struct backend_launch *launch = arena_calloc(&arena, sizeof *launch);
    bool notify = i->kind == KIND_IMPLICIT || i->options.backend->ready == BACKEND_READY_NOTIFY;
    const struct conf_backend *conf =
        i->kind == KIND_NAMED ? conf_backend_find(i->all->conf, str_from(i->options.backend->section)) : NULL;
    if (i->output)
        events.on_output = on_child_output;
    if (command_line(i, &arena, launch, &err)) {
        struct child_options options = {.argv = launch->argv,
                                        .environment = environment_of(i, &arena, conf, notify),
                                        .cwd = json_string_value(json_object_get(i->options.backend_options, "cwd")),
                                        .notify = notify};
        mark(i, "started");
        i->child = child_new(i->all->loop, &options, &events, i, &err);
    }
    if (i->child) {
        log_info("instance starting", "instance=%s pid=%d", i->name, child_pid(i->child));
        if (!notify)
            i->probe = probe_new(i->all->loop, i->all->client, &i->target, health_of(i), on_ready, i);
        if (i->kind == KIND_NAMED && !notify && !i->options.docker)
            flag_check(i, launch->argv);
        watchers_tell(i);
    }
    arena_dispose(&arena);
    if (!i->child)
        failed(i, &err);
}

/* ---- preparing ---- */

static void prepare(struct loop_job *job)
{
    struct preparation *p = container_of(job, struct preparation, job);
    struct stat info;
    p->readable = p->path && gguf_read(p->path, &p->gguf, NULL);
    p->projector_bytes = p->projector && stat(p->projector, &info) == 0 ? (uint64_t)info.st_size : 0;
}

static void prepared(struct loop_job *job)
{
    struct preparation *p = container_of(job, struct preparation, job);
    struct instance *i = p->instance;
    i->preparing = false;
    i->all->jobs--;
    i->fake = false;
    if (p->readable) {
        load_estimate_named(i, &p->gguf, p->projector_bytes);
        gpu_grant(i);
        if (strcmp(p->gguf.architecture, "fake") == 0 && strcmp(i->options.backend->type, "worker") == 0) {
            i->fake = true;
            mem_free(i->path);
            i->path = mem_strdup(p->gguf.name);
        }
    }
    mem_free(p->path);
    mem_free(p->projector);
    mem_free(p);
    if (i->state == INSTANCE_STARTING)
        spawn(i);
    else
        instance_fire(i, EVENT_EXITED);
    instances_check_stopped(i->all);
}

void launch(struct instance *i)
{
    if (i->kind == KIND_IMPLICIT) {
        spawn(i);
        return;
    }
    const char *path = json_string_value(json_object_get(i->options.backend_options, "model"));
    struct preparation *p = mem_calloc(1, sizeof *p);
    p->instance = i;
    bool file = strcmp(i->options.backend->type, "worker") == 0 || strcmp(i->options.backend->type, "llama_cpp") == 0;
    const char *projector = json_string_value(json_object_get(i->options.backend_options, "mmproj"));
    p->path = path && file ? mem_strdup(path) : NULL;
    p->projector = projector && file ? mem_strdup(projector) : NULL;
    i->preparing = true;
    i->all->jobs++;
    loop_work(i->all->loop, &p->job, prepare, prepared);
}

/* A container outlives the docker command that was killed. */
static void remove_container(struct instance *i)
{
    static const char *const docker[] = {"/usr/bin/docker", "/usr/local/bin/docker"};
    char name[LIMIT_INSTANCE_NAME + 16];
    snprintf(name, sizeof name, "inferd-%s", i->name);
    for (size_t n = 0; n < sizeof docker / sizeof *docker; n++) {
        if (access(docker[n], X_OK) != 0)
            continue;
        pid_t pid = fork();
        if (pid == 0) {
            if (fork() == 0) /* the grandchild belongs to init: nobody here has to wait for it */
                execl(docker[n], docker[n], "rm", "-f", name, (char *)NULL);
            _exit(0);
        }
        if (pid > 0)
            waitpid(pid, NULL, 0);
        return;
    }
}

void launch_drop(struct instance *i)
{
    i->load = (struct worker_load){0};
    i->memory = (struct worker_memory){0};
    probe_free(i->probe);
    i->probe = NULL;
    router_forget(i);
    http_client_forget(i->all->client, &i->target);
    if (i->target.port == 0 && *i->target.address)
        unlink(i->target.address);
    if (i->child && i->kind == KIND_NAMED && i->options.docker)
        remove_container(i);
    child_free(i->child);
    i->child = NULL;
}
