#include "api/batch/input.h"

#include <errno.h>
#include <unistd.h>

#include "base/json_copy.h"
#include "base/json_read.h"
#include "base/json_scan.h"
#include "base/mem.h"

#define STRIDE (256 * 1024) /* bytes read at once */

void batch_input_init(struct batch_input *input)
{
    *input = (struct batch_input){0};
    map_init(&input->ids);
    buf_init(&input->errors, LIMIT_BATCH_ERRORS * 4096);
}

void batch_input_forget_ids(struct batch_input *input)
{
    map_release(&input->ids);
    map_init(&input->ids);
}

void batch_input_release(struct batch_input *input)
{
    mem_free(input->lines);
    map_release(&input->ids);
    buf_release(&input->errors);
}

void batch_input_add_error(struct batch_input *input, const char *code, size_t line, const char *param,
                           const char *message)
{
    struct json j;
    if (input->error_count++ >= LIMIT_BATCH_ERRORS)
        return;
    if (input->errors.len)
        buf_putc(&input->errors, ',');
    json_begin(&j, &input->errors);
    json_open_object(&j, NULL);
    json_put_string(&j, "code", code);
    if (line)
        json_put_int(&j, "line", (int64_t)line);
    else
        json_put_null(&j, "line");
    json_put_string(&j, "message", message);
    json_put_string(&j, "param", *param ? param : NULL);
    json_close(&j);
    json_finish(&j);
}

/* ---- lines of a file ---- */

struct reader {
    int fd;
    struct buf held;
    uint64_t offset; /* of held in the file */
    bool skipping;   /* behind the maximum of a line, up to its end */
};

/* whole: its end has come; else it is the file's last and unfinished. cut: it has more than LIMIT_BATCH_LINE bytes. */
typedef void on_line(void *arg, uint64_t offset, struct str line, bool whole, bool cut);

static void give_lines(struct reader *r, on_line *give, void *arg)
{
    size_t at = 0;
    const char *end;
    while ((end = memchr(r->held.data + at, '\n', r->held.len - at))) {
        size_t length = (size_t)(end - r->held.data) - at;
        if (!r->skipping)
            give(arg, r->offset + at, (struct str){r->held.data + at, length}, true, length > LIMIT_BATCH_LINE);
        r->skipping = false;
        at += length + 1;
    }
    if (r->held.len - at > LIMIT_BATCH_LINE && !r->skipping) {
        give(arg, r->offset + at, (struct str){r->held.data + at, r->held.len - at}, true, true);
        r->skipping = true;
    }
    if (r->skipping)
        at = r->held.len;
    buf_consume(&r->held, at);
    r->offset += at;
}

static bool read_lines(int fd, on_line *give, void *arg, struct err *err)
{
    struct reader r = {.fd = fd};
    ssize_t count = 0;
    buf_init(&r.held, LIMIT_BATCH_LINE + 2 * STRIDE);
    do {
        char *room = buf_reserve(&r.held, STRIDE);
        if (!room) {
            buf_release(&r.held);
            return err_set(err, ERR_INSUFFICIENT_MEMORY, "there is no memory to read a line of the batch");
        }
        count = pread(fd, room, STRIDE, (off_t)(r.offset + r.held.len));
        if (count > 0) {
            buf_commit(&r.held, (size_t)count);
            give_lines(&r, give, arg);
        }
    } while (count > 0 || (count < 0 && errno == EINTR));
    if (count == 0 && r.held.len)
        give(arg, r.offset, buf_view(&r.held), false, false);
    buf_release(&r.held);
    return count == 0 || err_set(err, ERR_IO, "a file of the batch cannot be read: %s", strerror(errno));
}

/* ---- the input ---- */

static bool wrong(struct err *err, const char *param, const char *message)
{
    return err_set_param(err, ERR_INVALID_PARAMETERS, param, "%s", message);
}

static bool check_body(const json_t *body, struct err *err)
{
    if (!json_is_object(body))
        return wrong(err, "body", "'body' must be an object");
    if (!json_str(json_object_get(body, "model")).n)
        return wrong(err, "body.model", "'body.model' must name a model");
    return !json_is_true(json_object_get(body, "stream")) ||
           wrong(err, "body.stream", "'body.stream': a batch is not streamed");
}

static bool read_request(const json_t *line, struct str endpoint, struct arena *arena, struct batch_request *request,
                         struct err *err)
{
    struct str id = json_str(json_object_get(line, "custom_id")), url = json_str(json_object_get(line, "url"));
    const json_t *body = json_object_get(line, "body");
    if (!json_is_object(line))
        return err_set(err, ERR_INVALID_JSON, "a line must be a JSON object, but is %s", json_kind_name(line));
    if (!id.n || id.n > LIMIT_BATCH_ID)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "custom_id", "'custom_id' must be a string of 1 to %d bytes",
                             LIMIT_BATCH_ID);
    if (!str_eq(json_str(json_object_get(line, "method")), STR("POST")))
        return wrong(err, "method", "'method' must be 'POST'");
    if (!str_eq(url, endpoint))
        return wrong(err, "url", "'url' must be the batch's endpoint");
    if (!check_body(body, err))
        return false;
    *request = (struct batch_request){.custom_id = arena_str(arena, id), .body = json_text(body, arena)};
    return true;
}

bool batch_line_read(struct str line, struct str endpoint, struct arena *arena, struct batch_request *ret_request,
                     struct err *err)
{
    json_t *document = json_read(line, err);
    bool good = document && read_request(document, endpoint, arena, ret_request, err);
    json_decref(document);
    return good;
}

struct scan {
    struct batch_input *input;
    struct str endpoint;
    size_t max_lines, line;
};

static bool is_blank(struct str line)
{
    for (size_t i = 0; i < line.n; i++)
        if (!strchr(" \t\r", line.p[i]) || !line.p[i])
            return false;
    return true;
}

static void check_line(struct scan *s, struct str line)
{
    struct batch_request request;
    struct arena arena;
    struct err err;
    arena_init(&arena);
    if (!batch_line_read(line, s->endpoint, &arena, &request, &err))
        batch_input_add_error(s->input, err.code == ERR_INVALID_JSON ? "invalid_json_line" : "invalid_request", s->line,
                              err.param, err.message);
    else if (map_put(&s->input->ids, request.custom_id, (void *)(s->input->count + 1)))
        batch_input_add_error(s->input, "duplicate_custom_id", s->line, "custom_id",
                              "another line has this custom_id, too");
    arena_dispose(&arena);
}

static void add_line(struct batch_input *input, uint64_t offset, size_t length)
{
    if (input->count == input->capacity) {
        input->capacity = input->capacity ? 2 * input->capacity : 64;
        input->lines = mem_realloc(input->lines, input->capacity * sizeof *input->lines);
    }
    input->lines[input->count++] = (struct batch_line){.offset = offset, .length = length};
}

static void on_input_line(void *arg, uint64_t offset, struct str line, bool whole, bool cut)
{
    struct scan *s = arg;
    char message[96];
    (void)whole;
    s->line++;
    if (!cut && is_blank(line))
        return;
    if (s->input->count == s->max_lines) {
        snprintf(message, sizeof message, "there are more than %zu requests (batch.max_lines)", s->max_lines);
        batch_input_add_error(s->input, "too_many_requests", s->line, "", message);
        s->max_lines = SIZE_MAX; /* told once: nothing of this will run */
    }
    if (s->max_lines == SIZE_MAX)
        return;
    if (cut) {
        snprintf(message, sizeof message, "the line has more than %u bytes", LIMIT_BATCH_LINE);
        batch_input_add_error(s->input, "line_too_long", s->line, "", message);
    } else {
        check_line(s, line);
    }
    add_line(s->input, offset, line.n);
}

bool batch_input_scan(struct batch_input *input, int fd, struct str endpoint, size_t max_lines, struct err *err)
{
    struct scan scan = {.input = input, .endpoint = endpoint, .max_lines = max_lines};
    if (!read_lines(fd, on_input_line, &scan, err))
        return false;
    if (input->count == 0 && input->error_count == 0)
        batch_input_add_error(input, "empty_file", 0, "", "the input holds no request");
    return true;
}

/* ---- what is done ---- */

struct resume {
    struct batch_input *input;
    size_t count;
    uint64_t size; /* up to the end of the last whole line */
};

static void on_output_line(void *arg, uint64_t offset, struct str line, bool whole, bool cut)
{
    struct resume *r = arg;
    struct json_scan wanted = {.key = "custom_id"};
    struct arena arena;
    struct str id;
    if (!whole || cut)
        return;
    r->size = offset + line.n + 1;
    r->count++;
    arena_init(&arena);
    if (json_scan(line, &wanted, 1, NULL) && json_scan_text(wanted.raw, &arena, &id)) {
        size_t number = (size_t)map_get(&r->input->ids, id);
        if (number)
            r->input->lines[number - 1].done = true;
    }
    arena_dispose(&arena);
}

bool batch_input_resume(struct batch_input *input, int fd, size_t *ret_count, uint64_t *ret_size, struct err *err)
{
    struct resume resume = {.input = input};
    if (!read_lines(fd, on_output_line, &resume, err))
        return false;
    if (ftruncate(fd, (off_t)resume.size) != 0)
        return err_set(err, ERR_IO, "a batch's output cannot be cut to its last whole line: %s", strerror(errno));
    *ret_count = resume.count;
    *ret_size = resume.size;
    return true;
}
