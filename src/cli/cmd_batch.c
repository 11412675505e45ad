/* inferd batch: a file of prompts or requests, uploaded, watched to its end and fetched. The server does the work and
 * keeps it when this command ends; --resume watches on. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json_read.h"
#include "base/mem.h"
#include "cli/api_client.h"
#include "cli/batch_lines.h"
#include "cli/commands.h"
#include "cli/common.h"

#define POLL_MS      500
#define LINE_MS      5000 /* between two lines where there is no terminal */
#define BOUNDARY     "inferd-batch-3kB9wq7LzX"
#define CONTENT_TYPE "multipart/form-data; boundary=" BOUNDARY
#define BAR          "########################################"

static const struct cli_option options[] = {
    CLI_OPTION_URL,
    CLI_OPTION_JSON,
    {"model", 'm', "MODEL", "for lines that name none"},
    {"output", 'o', "FILE", "where the outcomes go (default: stdout)"},
    {"endpoint", 0, "PATH", "chat (default), completions or embeddings, or its whole path"},
    {"resume", 0, "ID", "watch a batch that was left running"},
    {.name = NULL}};

struct batch_options {
    struct cli_common common;
    const char *model, *output, *endpoint, *resume;
};

struct watch {
    struct api_client *api;
    const char *id;
    uint64_t began_ms, told_ms;
    long long done_before; /* by the time we began to watch */
    bool terminal, quiet;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static bool on_option(void *arg, const char *name, const char *value)
{
    struct batch_options *o = arg;
    if (strcmp(name, "model") == 0)
        o->model = value;
    else if (strcmp(name, "output") == 0)
        o->output = value;
    else if (strcmp(name, "endpoint") == 0)
        o->endpoint = value;
    else if (strcmp(name, "resume") == 0)
        o->resume = value;
    else
        return cli_common_option(&o->common, name, value);
    return true;
}

/* ---- create ---- */

static const char *whole_endpoint(const char *name)
{
    static const char *const known[] = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"};
    if (!name || strcmp(name, "chat") == 0)
        return known[0];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i]) == 0 || strcmp(name, known[i] + sizeof "/v1/" - 1) == 0)
            return known[i];
    return NULL;
}

static bool read_file(const char *path, struct buf *text, struct err *err)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "r");
    char piece[65536];
    size_t n;
    if (!file)
        return err_set(err, ERR_USAGE, "'%s' cannot be read: %s", path, strerror(errno));
    while ((n = fread(piece, 1, sizeof piece, file)) > 0)
        buf_append(text, piece, n);
    bool good = !ferror(file);
    if (!standard)
        fclose(file);
    if (!good)
        return err_set(err, ERR_USAGE, "'%s' cannot be read: %s", path, strerror(errno));
    return buf_ok(text) || err_set(err, ERR_USAGE, "'%s' is too large", path);
}

static bool write_form(const struct batch_options *o, const char *path, struct buf *form, struct err *err)
{
    struct batch_lines lines = {.endpoint = whole_endpoint(o->endpoint), .model = o->model};
    struct buf text;
    size_t count;
    buf_init(&text, LIMIT_BODY_BYTES_MAX);
    buf_puts(form, "--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--" BOUNDARY
                   "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"batch.jsonl\"\r\n\r\n");
    bool good = read_file(path, &text, err) && batch_lines_convert(&lines, buf_view(&text), form, &count, err);
    buf_puts(form, "\r\n--" BOUNDARY "--\r\n");
    buf_release(&text);
    return good && (buf_ok(form) || err_set(err, ERR_USAGE, "'%s' is too large", path));
}

/* The new batch's id; NULL and *err. Free with mem_free. */
static char *create(struct api_client *api, const struct batch_options *o, const char *path, struct err *err)
{
    struct buf form;
    char request[512];
    char *id = NULL;
    json_t *file = NULL, *batch = NULL;
    buf_init(&form, LIMIT_BODY_BYTES_MAX);
    if (write_form(o, path, &form, err))
        file = api_client_form(api, "/v1/files", CONTENT_TYPE, buf_view(&form), err);
    buf_release(&form);
    if (file) {
        snprintf(request, sizeof request,
                 "{\"input_file_id\":\"%s\",\"endpoint\":\"%s\",\"completion_window\":\"24h\"}",
                 json_string_value(json_object_get(file, "id")), whole_endpoint(o->endpoint));
        batch = api_client_json(api, "POST", "/v1/batches", str_from(request), err);
    }
    if (batch)
        id = mem_strdup(json_string_value(json_object_get(batch, "id")));
    json_decref(file);
    json_decref(batch);
    return id;
}

/* ---- watch ---- */

static long long count_of(const json_t *batch, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(batch, "request_counts"), name));
}

static const char *text_of(const json_t *batch, const char *name)
{
    const char *text = json_string_value(json_object_get(batch, name));
    return text ? text : "";
}

static void draw(struct watch *w, const json_t *batch)
{
    long long total = count_of(batch, "total"), failed = count_of(batch, "failed"),
              done = count_of(batch, "completed") + failed;
    uint64_t now = clock_ms();
    double seconds = (double)(now - w->began_ms) / 1000,
           rate = seconds > 0 ? (double)(done - w->done_before) / seconds : 0;
    int full = total ? (int)(40 * done / total) : 0;
    char eta[32] = "";
    if (w->quiet || (!w->terminal && w->told_ms && now - w->told_ms < LINE_MS))
        return;
    w->told_ms = now;
    if (rate > 0 && done < total)
        snprintf(eta, sizeof eta, ", %.0f s left", (double)(total - done) / rate);
    if (w->terminal)
        fprintf(stderr, "\r[%.*s%*s] %lld/%lld, %lld failed, %.1f/s%s\033[K", full, BAR, 40 - full, "", done, total,
                failed, rate, eta);
    else
        fprintf(stderr, "%s: %lld of %lld, %lld failed, %.1f/s%s\n", text_of(batch, "status"), done, total, failed,
                rate, eta);
}

static bool has_ended(const json_t *batch)
{
    static const char *const ends[] = {"completed", "failed", "expired", "cancelled"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (strcmp(text_of(batch, "status"), ends[i]) == 0)
            return true;
    return false;
}

static json_t *ask_server(struct watch *w, const char *method, const char *suffix, struct err *err)
{
    char path[512];
    snprintf(path, sizeof path, "/v1/batches/%s%s", w->id, suffix);
    return api_client_json(w->api, method, path, STR(""), err);
}

/* After Ctrl-C. true: the batch was cancelled and its end is to be waited for. */
static bool cancel_wanted(struct watch *w)
{
    char answer[16] = "";
    interrupted = 0;
    if (w->terminal && isatty(STDIN_FILENO)) {
        fprintf(stderr, "\nCancel the batch, or leave it running? [c/L] ");
        if (!fgets(answer, sizeof answer, stdin))
            answer[0] = '\0';
    }
    if (answer[0] != 'c' && answer[0] != 'C') {
        fprintf(stderr, "\nIt goes on. To watch it again: inferd batch --resume %s\n", w->id);
        return false;
    }
    json_decref(ask_server(w, "POST", "/cancel", NULL));
    return true;
}

/* The batch at its end. NULL: *err, or *ret_left. */
static json_t *watch(struct watch *w, bool *ret_left, struct err *err)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
    sigaction(SIGINT, &action, NULL);
    w->began_ms = clock_ms();
    for (bool first = true;; first = false) {
        json_t *batch = ask_server(w, "GET", "", err);
        if (!batch)
            return NULL;
        if (first)
            w->done_before = count_of(batch, "completed") + count_of(batch, "failed");
        draw(w, batch);
        if (has_ended(batch)) {
            if (w->terminal && !w->quiet)
                fprintf(stderr, "\n");
            return batch;
        }
        json_decref(batch);
        if (!interrupted)
            nanosleep(&pause, NULL);
        *ret_left = interrupted && !cancel_wanted(w);
        if (*ret_left)
            return NULL;
    }
}

/* ---- fetch ---- */

static bool fetch(struct api_client *api, const char *file, FILE *to, struct err *err)
{
    struct buf content;
    char path[512];
    if (!*file)
        return true;
    buf_init(&content, LIMIT_BODY_BYTES_MAX);
    snprintf(path, sizeof path, "/v1/files/%s/content", file);
    bool good = api_client_call(api, "GET", path, STR(""), &content, err);
    if (good && (!buf_ok(&content) || fwrite(buf_view(&content).p, 1, content.len, to) != content.len))
        good =
            err_set(err, ERR_IO, "the output cannot be written, or is too large: ask for /v1/files/%s/content", file);
    buf_release(&content);
    return good;
}

static bool fetch_all(struct api_client *api, const json_t *batch, const char *output, struct err *err)
{
    FILE *to = output ? fopen(output, "w") : stdout;
    if (!to)
        return err_set(err, ERR_IO, "'%s' cannot be written: %s", output, strerror(errno));
    bool good =
        fetch(api, text_of(batch, "output_file_id"), to, err) && fetch(api, text_of(batch, "error_file_id"), to, err);
    bool written = output ? fclose(to) == 0 : fflush(to) == 0;
    return good && (written || err_set(err, ERR_IO, "the output cannot be written: %s", strerror(errno)));
}

static void print_errors(const json_t *batch)
{
    size_t i;
    const json_t *error;
    json_array_foreach(json_object_get(json_object_get(batch, "errors"), "data"), i, error)
    {
        long long line = json_integer_value(json_object_get(error, "line"));
        if (line)
            fprintf(stderr, "line %lld: %s\n", line, text_of(error, "message"));
        else
            fprintf(stderr, "%s\n", text_of(error, "message"));
    }
}

/* With --json the batch itself goes to stdout, and its outcomes only to a file. */
static int finish(struct api_client *api, const json_t *batch, const struct batch_options *o)
{
    struct err err;
    if ((o->output || !o->common.json) && !fetch_all(api, batch, o->output, &err))
        return cli_fail(&err);
    if (o->common.json)
        cli_print_json(batch);
    else
        fprintf(stderr, "%s: %lld of %lld answered, %lld failed\n", text_of(batch, "status"),
                count_of(batch, "completed"), count_of(batch, "total"), count_of(batch, "failed"));
    print_errors(batch);
    return strcmp(text_of(batch, "status"), "completed") == 0 && !count_of(batch, "failed") ? EXIT_OK : EXIT_GENERAL;
}

static int run_batch(struct api_client *api, const char *id, const struct batch_options *o)
{
    struct err err = ERR_INIT;
    bool left = false;
    struct watch w = {.api = api, .id = id, .terminal = isatty(STDERR_FILENO) == 1, .quiet = o->common.json};
    json_t *batch = watch(&w, &left, &err);
    int status = batch ? finish(api, batch, o) : left ? EXIT_INTERRUPTED : cli_fail(&err);
    json_decref(batch);
    return status;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct batch_options o = {0};
    struct err err = ERR_INIT;
    int status;
    int at = cli_parse(command, argc, argv, on_option, &o, &status);
    if (at < 0)
        return status;
    if (argc - at != (o.resume ? 0 : 1))
        return cli_usage(command, o.resume ? "--resume takes no file" : "one file is needed ('-': standard input)");
    if (!whole_endpoint(o.endpoint))
        return cli_usage(command, "'%s' is no endpoint for batches", o.endpoint);
    struct api_client *api = api_client_new(o.common.url, &err);
    char *id = !api ? NULL : o.resume ? mem_strdup(o.resume) : create(api, &o, argv[at], &err);
    if (id && !o.common.json && !o.resume)
        fprintf(stderr, "batch %s\n", id);
    status = id ? run_batch(api, id, &o) : cli_fail(&err);
    mem_free(id);
    api_client_free(api);
    return status;
}

const struct cli_command cmd_batch = {
    "batch",
    "FILE",
    "answer a file of prompts in the background",
    "FILE has a prompt, a request's body as JSON, or a whole request line ({custom_id, method, url, body}) a line.\n"
    "The server goes on when this command ends; Ctrl-C asks what you want.",
    options,
    run};
