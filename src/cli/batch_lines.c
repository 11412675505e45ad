#include "cli/batch_lines.h"

#include "base/json_copy.h"

static struct str trim(struct str line)
{
    while (line.n && strchr(" \t\r", line.p[line.n - 1]))
        line.n--;
    return str_trim(line);
}

/* The body that asks this. */
static json_t *body_of_prompt(const struct batch_lines *lines, struct str prompt, struct err *err)
{
    json_t *text = json_stringn(prompt.p, prompt.n);
    if (!text) {
        err_set(err, ERR_USAGE, "it is not UTF-8");
        return NULL;
    }
    if (strcmp(lines->endpoint, "/v1/chat/completions") == 0)
        return json_pack("{s:[{s:s, s:o}]}", "messages", "role", "user", "content", text);
    return json_pack("{s:o}", strcmp(lines->endpoint, "/v1/embeddings") == 0 ? "input" : "prompt", text);
}

static json_t *request_of_line(const struct batch_lines *lines, struct str line, struct err *err)
{
    json_t *body;
    if (*line.p == '{') {
        json_t *object = json_read(line, err);
        if (!object || json_object_get(object, "body"))
            return object;
        body = object;
    } else {
        body = body_of_prompt(lines, line, err);
    }
    return body ? json_pack("{s:o}", "body", body) : NULL;
}

static void set_default(json_t *object, const char *name, const char *value)
{
    if (value && !json_object_get(object, name))
        json_object_set_new(object, name, json_string(value));
}

static bool convert(const struct batch_lines *lines, struct str line, size_t number, struct buf *out, struct err *err)
{
    char id[32];
    struct json j;
    json_t *request = request_of_line(lines, line, err);
    if (!request)
        return false;
    json_t *body = json_object_get(request, "body");
    snprintf(id, sizeof id, "line-%zu", number);
    set_default(request, "custom_id", id);
    set_default(request, "method", "POST");
    set_default(request, "url", lines->endpoint);
    set_default(body, "model", lines->model);
    bool named = json_is_object(body) && json_object_get(body, "model");
    json_begin(&j, out);
    json_put_value(&j, NULL, request);
    bool good = json_finish(&j);
    buf_putc(out, '\n');
    json_decref(request);
    if (!named)
        return err_set(err, ERR_USAGE, "it names no model; give one with --model");
    return good || err_set(err, ERR_USAGE, "the input is too large");
}

bool batch_lines_convert(const struct batch_lines *lines, struct str text, struct buf *out, size_t *ret_count,
                         struct err *err)
{
    struct err why;
    size_t number = 0;
    *ret_count = 0;
    while (text.p) {
        struct str line = trim(str_cut(&text, '\n'));
        number++;
        if (!line.n)
            continue;
        if (!convert(lines, line, number, out, &why))
            return err_set(err, ERR_USAGE, "line %zu: %s", number, why.message);
        ++*ret_count;
    }
    return *ret_count > 0 || err_set(err, ERR_USAGE, "the file holds no lines");
}
