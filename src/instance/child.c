#include "instance/child.h"

#include <signal.h>

#include "base/mem.h"

#define LINE_MAX_BYTES 1024
#define OUTPUT_LATE_MS 1000 /* output that comes later than this after the end is not waited for */

struct child {
    uv_process_t process;
    uv_pipe_t output, ready;
    struct deadline output_late;
    struct loop *loop;
    struct child_events events;
    void *arg;
    struct buf ring;
    char line[LINE_MAX_BYTES];
    size_t line_length;
    char read_buffer[4096];
    int64_t status;
    int signal;
    int open; /* uv handles not closed yet */
    bool exited, output_ended, ready_ended, reported, freed;
};

static void destroy_when_closed(struct child *c)
{
    if (!c->freed || c->open > 0)
        return;
    buf_release(&c->ring);
    mem_free(c);
}

static void on_closed(uv_handle_t *handle)
{
    struct child *c = handle->data;
    c->open--;
    destroy_when_closed(c);
}

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, on_closed);
}

static void report_end(struct child *c)
{
    if (!c->exited || !c->output_ended || !c->ready_ended || c->reported)
        return;
    c->reported = true;
    if (!c->freed)
        c->events.on_exit(c->arg, c->status, c->signal);
}

static void keep_output(struct child *c, const char *bytes, size_t n)
{
    if (n > LIMIT_LOG_RING) {
        bytes += n - LIMIT_LOG_RING;
        n = LIMIT_LOG_RING;
    }
    if (c->ring.len + n > LIMIT_LOG_RING)
        buf_consume(&c->ring, c->ring.len + n - LIMIT_LOG_RING);
    buf_append(&c->ring, bytes, n);
}

static void pass_on(const char *bytes, size_t n)
{
    while (n) {
        ssize_t written = write(STDERR_FILENO, bytes, n);
        if (written <= 0)
            return; /* our own log is gone; the ring still has it */
        bytes += written;
        n -= (size_t)written;
    }
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct child *c = handle->data;
    (void)suggested;
    *buffer = uv_buf_init(c->read_buffer, sizeof c->read_buffer);
}

static void on_output(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct child *c = stream->data;
    if (n > 0) {
        keep_output(c, buffer->base, (size_t)n);
        if (!c->events.on_output)
            pass_on(buffer->base, (size_t)n);
        else if (!c->freed && !c->events.on_output(c->arg, (struct str){buffer->base, (size_t)n}))
            uv_read_stop(stream);
    } else if (n < 0) {
        c->output_ended = true;
        close_handle((uv_handle_t *)stream);
        report_end(c);
    }
}

static void read_load(struct child *c, const char *line)
{
    struct worker_load load = {.known = true};
    unsigned long long generated, steps;
    if (sscanf(line, "%u %u %u %u %u %llu %llu", &load.queued, &load.running, &load.sequences, &load.cells_used,
               &load.cells, &generated, &steps) != 7)
        return;
    load.generated = generated;
    load.steps = steps;
    c->events.on_load(c->arg, &load);
}

static void read_memory(struct child *c, const char *line)
{
    unsigned long long weights, kv, compute;
    if (sscanf(line, "%llu %llu %llu", &weights, &kv, &compute) == 3)
        c->events.on_memory(c->arg, &(struct worker_memory){.weights = weights, .kv = kv, .compute = compute});
}

static void read_device(struct child *c, const char *line)
{
    struct worker_device d = {.layers = 0};
    unsigned long long total, unused, weights, kv, compute;
    if (sscanf(line, "%31s %llu %llu %llu %llu %llu %u", d.name, &total, &unused, &weights, &kv, &compute, &d.layers) !=
        7)
        return;
    d.total = total;
    d.free = unused;
    d.weights = weights;
    d.kv = kv;
    d.compute = compute;
    c->events.on_device(c->arg, &d);
}

static void on_line(struct child *c, char *line)
{
    if (strncmp(line, "progress ", 9) == 0) {
        c->events.on_progress(c->arg, strtof(line + 9, NULL));
    } else if (strncmp(line, "memory ", 7) == 0) {
        read_memory(c, line + 7);
    } else if (strncmp(line, "device ", 7) == 0) {
        read_device(c, line + 7);
    } else if (strcmp(line, "ready") == 0) {
        c->events.on_ready(c->arg);
    } else if (strncmp(line, "load ", 5) == 0) {
        read_load(c, line + 5);
    } else if (strncmp(line, "error ", 6) == 0) {
        struct str message = str_from(line + 6);
        struct str code = str_cut(&message, ' ');
        char wire[64];
        struct err err;
        snprintf(wire, sizeof wire, STR_FMT, STR_ARG(code));
        err_set(&err, err_from_wire(wire), "%s", message.p ? message.p : wire);
        c->events.on_error(c->arg, &err);
    }
}

static void on_ready_data(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct child *c = stream->data;
    for (ssize_t i = 0; i < n && !c->freed; i++) {
        char ch = buffer->base[i];
        if (ch != '\n') {
            if (c->line_length < sizeof c->line - 1)
                c->line[c->line_length++] = ch;
            continue;
        }
        c->line[c->line_length] = '\0';
        c->line_length = 0;
        on_line(c, c->line);
    }
    if (n < 0) {
        c->ready_ended = true;
        close_handle((uv_handle_t *)stream);
        report_end(c);
    }
}

static void on_output_late(struct deadline *deadline)
{
    struct child *c = container_of(deadline, struct child, output_late);
    c->output_ended = c->ready_ended = true;
    report_end(c);
}

/* A grandchild may hold the pipes open; the child's own end must be reported all the same. */
static void on_process_exit(uv_process_t *process, int64_t status, int signal)
{
    struct child *c = process->data;
    deadline_arm(c->loop, &c->output_late, OUTPUT_LATE_MS, on_output_late);
    kill(-process->pid, SIGKILL); /* the group outlives its leader: nothing may hold the port or the memory */
    c->exited = true;
    c->status = status;
    c->signal = signal;
    close_handle((uv_handle_t *)process);
    report_end(c);
}

static void pipe_init(struct child *c, uv_pipe_t *pipe)
{
    uv_pipe_init(&c->loop->uv, pipe, 0);
    pipe->data = c;
    c->open++;
}

static bool replaces(const char *entry, const char *const *over)
{
    size_t name = strcspn(entry, "=") + 1;
    for (; *over; over++)
        if (strncmp(entry, *over, name) == 0)
            return true;
    return false;
}

/* Ours with theirs over it; mem_free. */
static const char **environment_with(const char *const *over)
{
    size_t ours = 0, theirs = 0, n = 0;
    while (environ[ours])
        ours++;
    while (over[theirs])
        theirs++;
    const char **all = mem_calloc(ours + theirs + 1, sizeof *all);
    for (size_t i = 0; i < ours; i++)
        if (!replaces(environ[i], over))
            all[n++] = environ[i];
    memcpy(all + n, over, theirs * sizeof *all);
    return all;
}

struct child *child_new(struct loop *loop, const struct child_options *o, const struct child_events *events, void *arg,
                        struct err *err)
{
    static const char *const nothing[] = {NULL};
    struct child *c = mem_calloc(1, sizeof *c);
    c->loop = loop;
    c->events = *events;
    c->arg = arg;
    c->ready_ended = !o->notify;
    buf_init(&c->ring, LIMIT_LOG_RING);
    pipe_init(c, &c->output);
    pipe_init(c, &c->ready);
    const uv_stdio_flags from_child = UV_CREATE_PIPE | UV_WRITABLE_PIPE;
    uv_stdio_container_t stdio[4] = {{.flags = UV_IGNORE},
                                     {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
                                     {.flags = from_child, .data.stream = (uv_stream_t *)&c->output},
                                     {.flags = from_child, .data.stream = (uv_stream_t *)&c->ready}};
    int pipe_ends[2] = {-1, -1};
    const char **environment = environment_with(o->environment ? o->environment : nothing);
    uv_process_options_t options = {.file = o->argv[0],
                                    .args = (char **)o->argv,
                                    .env = (char **)environment,
                                    .cwd = o->cwd,
                                    .stdio = stdio,
                                    .stdio_count = o->notify ? 4 : 3,
                                    .flags = UV_PROCESS_DETACHED,
                                    .exit_cb = on_process_exit};
    if (!o->notify && uv_pipe(pipe_ends, UV_NONBLOCK_PIPE, 0) == 0) { /* both streams into one pipe, in their order */
        uv_pipe_open(&c->output, pipe_ends[0]);
        stdio[1] = stdio[2] = (uv_stdio_container_t){.flags = UV_INHERIT_FD, .data.fd = pipe_ends[1]};
    }
    c->process.data = c;
    int rc = uv_spawn(&loop->uv, &c->process, &options);
    c->open++; /* uv_spawn leaves a handle to close even when it fails */
    if (pipe_ends[1] >= 0)
        close(pipe_ends[1]);
    mem_free(environment);
    if (rc != 0) {
        bool nowhere = o->cwd && access(o->cwd, X_OK) != 0;
        err_set(err, ERR_START_FAILED, "%s cannot be started%s%s: %s", o->argv[0], nowhere ? " in " : "",
                nowhere ? o->cwd : "", uv_strerror(rc));
        c->exited = true;
        child_free(c);
        return NULL;
    }
    uv_read_start((uv_stream_t *)&c->output, give_buffer, on_output);
    if (o->notify)
        uv_read_start((uv_stream_t *)&c->ready, give_buffer, on_ready_data);
    return c;
}

void child_free(struct child *c)
{
    if (!c || c->freed)
        return;
    child_signal(c, SIGKILL);
    c->freed = true;
    deadline_cancel(c->loop, &c->output_late);
    close_handle((uv_handle_t *)&c->output);
    close_handle((uv_handle_t *)&c->ready);
    close_handle((uv_handle_t *)&c->process);
    destroy_when_closed(c);
}

void child_signal(struct child *c, int signal)
{
    if (!c->exited && c->process.pid > 0)
        kill(-c->process.pid, signal);
}

void child_read_on(struct child *c)
{
    if (!c->freed && !c->output_ended && !uv_is_closing((uv_handle_t *)&c->output))
        uv_read_start((uv_stream_t *)&c->output, give_buffer, on_output);
}

int child_pid(const struct child *c)
{
    return c->process.pid;
}

struct str child_output(const struct child *c)
{
    struct str text = buf_view(&c->ring);
    if (c->ring.len < LIMIT_LOG_RING)
        return text;
    const char *line = memchr(text.p, '\n', text.n);
    if (line)
        text = (struct str){line + 1, (size_t)(text.p + text.n - line - 1)};
    return text;
}

uint64_t child_memory(const struct child *c)
{
    char path[64], text[128];
    unsigned long long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", c->process.pid);
    FILE *file = c->exited ? NULL : fopen(path, "re");
    if (!file)
        return 0;
    if (fgets(text, sizeof text, file) && sscanf(text, "%*u %llu", &pages) != 1)
        pages = 0;
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
