/* What is held back is what may still turn out to be a delimiter: at most its length less one of a part's content, or a
 * part's header lines, which have a maximum. A CR LF is put before the body, so that the first delimiter looks like the
 * others. */
#include "http/multipart_read.h"

#include "base/limits.h"

#define STRIDE 65536 /* bytes looked at together */

bool http_form_reader_init(struct http_form_reader *reader, struct str content_type,
                           const struct http_form_events *events, void *arg, struct err *err)
{
    struct str boundary = http_multipart_boundary(content_type, err);
    *reader = (struct http_form_reader){.events = events, .arg = arg};
    buf_init(&reader->held, STRIDE + LIMIT_PART_HEAD + sizeof reader->mark);
    if (!boundary.p)
        return false;
    snprintf(reader->mark, sizeof reader->mark, "\r\n--" STR_FMT, STR_ARG(boundary));
    reader->delimiter = str_from(reader->mark);
    buf_puts(&reader->held, "\r\n");
    return true;
}

void http_form_reader_release(struct http_form_reader *reader)
{
    buf_release(&reader->held);
}

static const char *find(const struct buf *held, struct str what)
{
    return held->len >= what.n ? memmem(held->data, held->len, what.p, what.n) : NULL;
}

static void give(struct http_form_reader *r, size_t count)
{
    if (count && r->state == HTTP_FORM_CONTENT)
        r->events->on_data(r->arg, (struct str){r->held.data, count});
    buf_consume(&r->held, count);
}

/* Up to the next delimiter. true: it was found and is gone. */
static bool pass_content(struct http_form_reader *r)
{
    const char *at = find(&r->held, r->delimiter);
    size_t keep = r->delimiter.n - 1;
    if (!at) {
        give(r, r->held.len > keep ? r->held.len - keep : 0);
        return false;
    }
    give(r, (size_t)(at - r->held.data));
    buf_consume(&r->held, r->delimiter.n);
    r->state = HTTP_FORM_LINE;
    return true;
}

/* The rest of a delimiter's line: "--" ends the form, blanks are allowed before CR LF. */
static bool pass_line(struct http_form_reader *r, struct err *err)
{
    struct str rest = buf_view(&r->held);
    if (rest.n < 2)
        return false;
    if (str_starts(rest, STR("--"))) {
        r->state = HTTP_FORM_END;
        return true;
    }
    while (rest.n && (*rest.p == ' ' || *rest.p == '\t'))
        rest = (struct str){rest.p + 1, rest.n - 1};
    if (rest.n < 2 && r->held.len <= LIMIT_PART_HEAD)
        return false;
    if (!str_starts(rest, STR("\r\n")))
        return err_set(err, ERR_BAD_REQUEST, "the form's delimiter is followed by something else than a line's end");
    if (r->parts++ == LIMIT_FORM_PARTS)
        return err_set(err, ERR_BAD_REQUEST, "the form has more than %d parts", LIMIT_FORM_PARTS);
    buf_consume(&r->held, r->held.len - rest.n);
    r->state = HTTP_FORM_HEAD;
    return true;
}

/* The header lines stand between the CR LF of the delimiter and an empty line. */
static bool pass_head(struct http_form_reader *r, struct err *err)
{
    const char *end = find(&r->held, STR("\r\n\r\n"));
    size_t length = end ? (size_t)(end - r->held.data) : r->held.len;
    if (length > LIMIT_PART_HEAD)
        return err_set(err, ERR_BAD_REQUEST, "the headers of the form's part %u have more than %d bytes", r->parts,
                       LIMIT_PART_HEAD);
    if (!end)
        return false;
    struct str lines = {r->held.data, length};
    struct str name = http_multipart_parameter(lines, STR("name"));
    r->events->on_part(r->arg, name.p ? name : STR(""), http_multipart_parameter(lines, STR("filename")));
    buf_consume(&r->held, length + 4);
    r->state = HTTP_FORM_CONTENT;
    return true;
}

static bool pass(struct http_form_reader *r, struct err *err)
{
    switch (r->state) {
    case HTTP_FORM_PREAMBLE:
    case HTTP_FORM_CONTENT: return pass_content(r);
    case HTTP_FORM_LINE: return pass_line(r, err);
    case HTTP_FORM_HEAD: return pass_head(r, err);
    case HTTP_FORM_END: buf_clear(&r->held); break;
    }
    return false;
}

bool http_form_reader_feed(struct http_form_reader *r, struct str piece, struct err *err)
{
    struct err failed = ERR_INIT;
    while (piece.n && failed.code == ERR_NONE) {
        size_t count = piece.n < STRIDE ? piece.n : STRIDE;
        buf_append(&r->held, piece.p, count);
        piece = (struct str){piece.p + count, piece.n - count};
        while (pass(r, &failed))
            ;
    }
    if (failed.code == ERR_NONE)
        return true;
    *err = failed;
    return false;
}

bool http_form_reader_end(const struct http_form_reader *r, struct err *err)
{
    return r->state == HTTP_FORM_END ||
           err_set(err, ERR_BAD_REQUEST,
                   r->parts ? "the form breaks off: part %u has no end"
                            : "the body holds no part with the boundary that its type names",
                   r->parts);
}
