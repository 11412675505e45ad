#include "http/multipart.h"

#include "base/limits.h"

bool http_multipart_is(struct str type)
{
    struct str rest = type;
    return type.p && str_ieq(str_trim(str_cut(&rest, ';')), STR("multipart/form-data"));
}

/* The value of `; name=value` or `; name="value"`. Quoted pairs are not undone: names with quotes in them are not ours.
 */
static struct str parameter(struct str header, struct str name)
{
    str_cut(&header, ';');
    while (header.p) {
        struct str rest = str_trim(header);
        const char *equals = memchr(rest.p, '=', rest.n);
        if (!equals)
            return STR_NONE;
        struct str key = str_trim((struct str){rest.p, (size_t)(equals - rest.p)});
        struct str value = {equals + 1, (size_t)(rest.p + rest.n - equals) - 1};
        bool quoted = value.n && value.p[0] == '"';
        if (quoted) {
            value.p++;
            value.n--;
        }
        const char *end = memchr(value.p, quoted ? '"' : ';', value.n);
        if (quoted && !end)
            return STR_NONE;
        size_t length = end ? (size_t)(end - value.p) : value.n;
        if (str_ieq(key, name))
            return quoted ? (struct str){value.p, length} : str_trim((struct str){value.p, length});
        header = (struct str){value.p + length, value.n - length};
        str_cut(&header, ';');
    }
    return STR_NONE;
}

/* The value of a header among the lines of a part. */
static struct str part_header(struct str lines, struct str name)
{
    while (lines.p && lines.n) {
        struct str line = str_cut(&lines, '\n');
        struct str value = line;
        if (str_ieq(str_trim(str_cut(&value, ':')), name) && value.p) {
            value = str_trim(value);
            if (value.n && value.p[value.n - 1] == '\r')
                value.n--;
            return str_trim(value);
        }
    }
    return STR_NONE;
}

static struct str find(struct str text, struct str what)
{
    const char *at = text.p && text.n >= what.n ? memmem(text.p, text.n, what.p, what.n) : NULL;
    return at ? (struct str){at, (size_t)(text.p + text.n - at)} : STR_NONE;
}

struct str http_multipart_boundary(struct str content_type, struct err *err)
{
    struct str boundary = parameter(content_type, STR("boundary"));
    if (boundary.p && boundary.n > 0 && boundary.n <= HTTP_BOUNDARY_MAX)
        return boundary;
    err_set(err, ERR_BAD_REQUEST, "the Content-Type names no boundary of 1 to %d bytes", HTTP_BOUNDARY_MAX);
    return STR_NONE;
}

struct str http_multipart_parameter(struct str lines, struct str name)
{
    return parameter(part_header(lines, STR("content-disposition")), name);
}

bool http_multipart_find(struct str body, struct str content_type, struct str name, struct str *ret_content,
                         struct err *err)
{
    char mark[HTTP_BOUNDARY_MAX + 5];
    struct str boundary = http_multipart_boundary(content_type, err);
    *ret_content = STR_NONE;
    if (!boundary.p)
        return false;
    snprintf(mark, sizeof mark, "\r\n--" STR_FMT, STR_ARG(boundary));
    struct str delimiter = str_from(mark), first = {mark + 2, delimiter.n - 2};
    struct str rest = str_starts(body, first) ? (struct str){body.p + first.n, body.n - first.n} : STR_NONE;
    if (!rest.p && (rest = find(body, delimiter)).p) { /* a preamble */
        rest.p += delimiter.n;
        rest.n -= delimiter.n;
    }
    for (unsigned parts = 0; rest.p && !str_starts(rest, STR("--")) && parts < LIMIT_FORM_PARTS; parts++) {
        struct str end = find(rest, delimiter), content = find(rest, STR("\r\n\r\n"));
        if (!end.p || !content.p || content.p + 4 > end.p)
            return err_set(err, ERR_BAD_REQUEST, "the form breaks off: part %u has no end", parts + 1);
        struct str lines = {rest.p, (size_t)(content.p - rest.p)};
        struct str field = http_multipart_parameter(lines, STR("name"));
        if (field.p && str_eq(field, name)) {
            *ret_content = (struct str){content.p + 4, (size_t)(end.p - content.p) - 4};
            return true;
        }
        rest = (struct str){end.p + delimiter.n, end.n - delimiter.n};
    }
    return rest.p || err_set(err, ERR_BAD_REQUEST, "the body holds no part with the boundary that its type names");
}
