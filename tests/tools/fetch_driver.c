/* Drives downloads for tests/sys/test_fetch.py: commands are lines on stdin, answers and events JSON lines on stdout.
 *
 *     start REPO TAG|- gguf|safetensors     {"event":"started",job} or {"event":"refused",...}
 *     cancel ID                             {"event":"cancel","found":bool}
 *     list                                  {"event":"list","jobs":[...]}
 *     cached                                {"event":"cached","models":[...]}
 *     remove REPO TAG|-                     {"event":"removed"} or {"event":"refused",...}
 *
 * Every change of a job: {"event":"change",job}. The end of stdin ends it all: {"event":"freed"}. */
#include "base/buf.h"
#include "base/json_read.h"
#include "base/json_write.h"
#include "registry/fetch.h"

#define STALL_SECONDS 2

static struct loop loop;
static struct fetch *downloads;
static uv_pipe_t input;
static struct buf line;
static char read_buffer[4096];

static void put_job(struct json *j, const struct fetch_job *job)
{
    json_put_int(j, "id", job->id);
    json_put_string(j, "repo", job->repo);
    json_put_string(j, "tag", job->tag);
    json_put_string(j, "status", fetch_status_name(job->status));
    json_put_int(j, "done", (int64_t)job->bytes_done);
    json_put_int(j, "total", (int64_t)job->bytes_total);
    json_put_string(j, "file", job->current_file);
    json_put_string(j, "problem", job->problem);
    json_put_int(j, "created_at", job->created_at);
    json_put_int(j, "completed_at", job->completed_at);
    json_put_string(j, "model_path", job->model_path);
}

static void open_event(struct json *j, struct buf *out, const char *event)
{
    buf_init(out, 16u << 20);
    json_begin(j, out);
    json_open_object(j, NULL);
    json_put_string(j, "event", event);
}

static void close_event(struct json *j, struct buf *out)
{
    json_close(j);
    if (!json_finish(j))
        abort();
    printf("%s\n", out->data);
    fflush(stdout);
    buf_release(out);
}

static void tell_job(const char *event, const struct fetch_job *job)
{
    struct buf out;
    struct json j;
    open_event(&j, &out, event);
    put_job(&j, job);
    close_event(&j, &out);
}

static void tell_refused(const struct err *err)
{
    struct buf out;
    struct json j;
    open_event(&j, &out, "refused");
    json_put_string(&j, "code", err_wire_code(err->code));
    json_put_string(&j, "message", err->message);
    close_event(&j, &out);
}

static void tell_plain(const char *event)
{
    struct buf out;
    struct json j;
    open_event(&j, &out, event);
    close_event(&j, &out);
}

static void on_change(void *arg, const struct fetch_job *job)
{
    (void)arg;
    tell_job("change", job);
}

static void do_start(struct str repo, struct str tag, struct str format)
{
    struct err err = ERR_INIT;
    const struct fetch_job *job =
        fetch_start(downloads, repo, tag, str_eq(format, STR("safetensors")) ? FETCH_SAFETENSORS : FETCH_GGUF, &err);
    if (job)
        tell_job("started", job);
    else
        tell_refused(&err);
}

static void do_cancel(struct str id)
{
    struct buf out;
    struct json j;
    uint64_t number = 0;
    str_u64(id, INT64_MAX, &number);
    bool found = fetch_cancel(downloads, (int64_t)number);
    open_event(&j, &out, "cancel");
    json_put_bool(&j, "found", found);
    close_event(&j, &out);
}

static void do_list(void)
{
    struct buf out;
    struct json j;
    struct arena arena;
    arena_init(&arena);
    open_event(&j, &out, "list");
    json_open_array(&j, "jobs");
    for (const struct fetch_job *const *job = fetch_list(downloads, &arena); *job; job++) {
        json_open_object(&j, NULL);
        put_job(&j, *job);
        json_close(&j);
    }
    json_close(&j);
    close_event(&j, &out);
    arena_dispose(&arena);
}

static void put_model(struct json *j, const struct cached_model *model)
{
    json_open_object(j, NULL);
    json_put_string(j, "repo", model->repo);
    json_put_string(j, "tag", model->tag);
    json_put_int(j, "bytes", (int64_t)model->bytes);
    json_open_array(j, "files");
    for (size_t i = 0; i < model->file_count; i++) {
        json_open_object(j, NULL);
        json_put_string(j, "name", model->files[i].name);
        json_put_string(j, "path", model->files[i].path);
        json_put_int(j, "bytes", (int64_t)model->files[i].bytes);
        json_put_string(j, "kind", model->files[i].kind);
        json_close(j);
    }
    json_close(j);
    json_close(j);
}

static void do_cached(void)
{
    struct buf out;
    struct json j;
    struct arena arena;
    struct cached_model *models;
    arena_init(&arena);
    size_t n = fetch_cached(fetch_cache(downloads), &arena, &models);
    open_event(&j, &out, "cached");
    json_open_array(&j, "models");
    for (size_t i = 0; i < n; i++)
        put_model(&j, &models[i]);
    json_close(&j);
    close_event(&j, &out);
    arena_dispose(&arena);
}

static void do_remove(struct str repo, struct str tag)
{
    struct err err = ERR_INIT;
    if (fetch_remove(fetch_cache(downloads), repo, tag, &err))
        tell_plain("removed");
    else
        tell_refused(&err);
}

static struct str or_none(struct str word)
{
    return str_eq(word, STR("-")) ? STR("") : word;
}

static void obey(struct str rest)
{
    struct str verb = str_cut(&rest, ' '), first = str_cut(&rest, ' '), second = or_none(str_cut(&rest, ' '));
    if (str_eq(verb, STR("start")))
        do_start(first, second, rest);
    else if (str_eq(verb, STR("cancel")))
        do_cancel(first);
    else if (str_eq(verb, STR("list")))
        do_list();
    else if (str_eq(verb, STR("cached")))
        do_cached();
    else if (str_eq(verb, STR("remove")))
        do_remove(first, second);
}

static void on_freed(void *arg)
{
    (void)arg;
    tell_plain("freed");
    loop_stop(&loop);
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle, (void)suggested;
    *buffer = uv_buf_init(read_buffer, sizeof read_buffer);
}

static void on_input(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    if (n < 0) {
        uv_close((uv_handle_t *)stream, NULL);
        fetch_free(downloads, on_freed, NULL);
        return;
    }
    buf_append(&line, buffer->base, (size_t)n);
    for (char *end; line.len && (end = memchr(line.data, '\n', line.len));) {
        obey((struct str){line.data, (size_t)(end - line.data)});
        buf_consume(&line, (size_t)(end - line.data) + 1);
    }
}

int main(void)
{
    struct fetch_settings settings = {.stall_seconds = STALL_SECONDS, .on_change = on_change};
    json_setup();
    loop_init(&loop);
    buf_init(&line, 65536);
    downloads = fetch_new(&loop, &settings);
    uv_pipe_init(&loop.uv, &input, 0);
    uv_pipe_open(&input, STDIN_FILENO);
    uv_read_start((uv_stream_t *)&input, give_buffer, on_input);
    loop_run(&loop);
    loop_release(&loop);
    buf_release(&line);
    return 0;
}
