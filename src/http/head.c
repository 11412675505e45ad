/* The strict parser of HTTP/1.1 heads (RFC 9112), for requests and responses.
 *
 * The problem: whoever reads a message's boundaries differently from the next hop lets a client smuggle a second
 * request into somebody else's connection. The answer: one reading of everything that decides a boundary, and
 * refusal of whatever has two. Nothing is repaired: no folded lines, no lone LF, no blanks before the colon, no
 * second Content-Length, no list in it, no transfer coding but chunked, nothing beside it.
 *
 * A head is parsed in one go once it is complete: it has a small maximum, and the caller's buffer holds it anyway.
 * What this file does not do: limits of time, bodies (body.c), and the meaning of any header but those of framing. */
#include "http/head.h"

#include "base/limits.h"
#include "http/chars.h"

size_t http_head_length(const char *bytes, size_t n, size_t *scanned)
{
    const char *end = bytes + n;
    const char *at = bytes + *scanned;
    if (*scanned == 0 && n) { /* an empty line at once: a complete head that the parser refuses */
        if (bytes[0] == '\n')
            return 1;
        if (n > 1 && bytes[0] == '\r' && bytes[1] == '\n')
            return 2;
    }
    while (at < end && (at = memchr(at, '\n', (size_t)(end - at)))) {
        size_t left = (size_t)(end - at);
        if (left > 1 && at[1] == '\n') /* ends the head too, so that a lone LF is refused now and not by timeout */
            return (size_t)(at - bytes) + 2;
        if (left > 2 && at[1] == '\r' && at[2] == '\n')
            return (size_t)(at - bytes) + 3;
        if (left == 1 || (left == 2 && at[1] == '\r'))
            break; /* the next bytes decide: look at this LF again */
        at++;
    }
    *scanned = at ? (size_t)(at - bytes) : n;
    return 0;
}

/* What the lines of one head have said so far about framing. */
struct framing {
    bool request;
    unsigned hosts, lengths, codings;
    bool chunked;
    bool close, keep;
    bool upgrade_named, upgrade_header;
};

/* The next line without its CRLF. false: a lone LF or CR, or a control character. */
static bool next_line(struct str *rest, struct str *ret_line)
{
    const char *lf = memchr(rest->p, '\n', rest->n);
    if (!lf || lf == rest->p || lf[-1] != '\r')
        return false;
    struct str line = {rest->p, (size_t)(lf - rest->p) - 1};
    unsigned bad = 0;
    for (size_t i = 0; i < line.n; i++) {
        unsigned char c = (unsigned char)line.p[i];
        bad |= (unsigned)((c < 0x20) & (c != '\t')) | (unsigned)(c == 0x7f);
    }
    if (bad)
        return false;
    rest->p = lf + 1;
    rest->n -= line.n + 2;
    *ret_line = line;
    return true;
}

static bool is_token(struct str text)
{
    for (size_t i = 0; i < text.n; i++)
        if (!http_is_tchar(text.p[i]))
            return false;
    return text.n > 0;
}

static bool is_host(struct str text)
{
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (!http_is_alnum(c) && !strchr(".-_:[]%~", c))
            return false;
    }
    return text.n > 0;
}

/* One value of a list header: the part before the next comma, trimmed; false at the end. */
static bool next_token(struct str *list, struct str *ret_token)
{
    while (list->p) {
        *ret_token = str_trim(str_cut(list, ','));
        if (ret_token->n)
            return true;
    }
    return false;
}

static void read_connection(struct framing *f, struct str value)
{
    struct str token;
    while (next_token(&value, &token)) {
        f->close |= str_ieq(token, STR("close"));
        f->keep |= str_ieq(token, STR("keep-alive"));
        f->upgrade_named |= str_ieq(token, STR("upgrade"));
    }
}

static bool read_length(struct framing *f, struct http_head *head, struct str value, struct err *err)
{
    if (++f->lengths > 1)
        return err_set(err, ERR_BAD_REQUEST, "Content-Length is given more than once.");
    if (!str_u64(value, INT64_MAX, &head->content_length))
        return err_set(err, ERR_BAD_REQUEST, "Content-Length is not a plain decimal number.");
    return true;
}

static bool read_coding(struct framing *f, struct str value, struct err *err)
{
    if (++f->codings > 1)
        return err_set(err, ERR_BAD_REQUEST, "Transfer-Encoding is given more than once.");
    if (!str_ieq(value, STR("chunked")))
        return err_set(err, ERR_NOT_IMPLEMENTED, "The only transfer coding understood here is chunked.");
    f->chunked = true;
    return true;
}

static bool read_header(struct framing *f, struct http_head *head, const struct http_header *h, struct err *err)
{
    switch (h->name.n) {
    case 4:
        if (!f->request || !str_ieq(h->name, STR("host")))
            return true;
        if (++f->hosts > 1)
            return err_set(err, ERR_BAD_REQUEST, "Host is given more than once.");
        return is_host(h->value) || err_set(err, ERR_BAD_REQUEST, "Host is not a host name.");
    case 6:
        if (!f->request || !str_ieq(h->name, STR("expect")))
            return true;
        head->expect_continue = true;
        return str_ieq(h->value, STR("100-continue")) ||
               err_set(err, ERR_EXPECTATION_FAILED, "The only expectation understood here is 100-continue.");
    case 7: f->upgrade_header |= str_ieq(h->name, STR("upgrade")); return true;
    case 10:
        if (str_ieq(h->name, STR("connection")))
            read_connection(f, h->value);
        return true;
    case 14: return !str_ieq(h->name, STR("content-length")) || read_length(f, head, h->value, err);
    case 17: return !str_ieq(h->name, STR("transfer-encoding")) || read_coding(f, h->value, err);
    default: return true;
    }
}

static bool split_header(struct str line, struct http_header *h, struct err *err)
{
    if (line.p[0] == ' ' || line.p[0] == '\t')
        return err_set(err, ERR_BAD_REQUEST, "A header line is folded, which HTTP/1.1 has abolished.");
    const char *colon = memchr(line.p, ':', line.n);
    if (!colon)
        return err_set(err, ERR_BAD_REQUEST, "A header line has no colon.");
    h->name = (struct str){line.p, (size_t)(colon - line.p)};
    h->value = str_trim((struct str){colon + 1, line.n - h->name.n - 1});
    return is_token(h->name) || err_set(err, ERR_BAD_REQUEST, "A header name has a character that names cannot have.");
}

static size_t count_lines(struct str text)
{
    size_t count = 0;
    for (const char *at = text.p; (at = memchr(at, '\n', (size_t)(text.p + text.n - at))); at++)
        count++;
    return count;
}

/* The header lines up to the empty one, which must be the last. */
static bool read_headers(struct str rest, struct arena *arena, struct framing *f, struct http_head *head,
                         struct err *err)
{
    size_t lines = count_lines(rest); /* the empty one too */
    if (lines > LIMIT_HEADER_COUNT + 1)
        return err_set(err, ERR_HEADERS_TOO_LARGE, "More than %d header lines.", LIMIT_HEADER_COUNT);
    head->headers = arena_alloc(arena, lines * sizeof *head->headers);
    for (;;) {
        struct str line;
        if (!next_line(&rest, &line))
            return err_set(err, ERR_BAD_REQUEST, "A header line holds a control character or does not end in CR LF.");
        if (line.n == 0)
            break;
        struct http_header *h = &head->headers[head->header_count];
        if (!split_header(line, h, err) || !read_header(f, head, h, err))
            return false;
        head->header_count++;
    }
    if (rest.n)
        return err_set(err, ERR_BAD_REQUEST, "Bytes follow the end of the head.");
    if (f->codings && f->lengths)
        return err_set(err, ERR_BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other.");
    if (f->codings && head->minor_version == 0)
        return err_set(err, ERR_BAD_REQUEST, "HTTP/1.0 knows no Transfer-Encoding.");
    head->keep_alive = !f->close && (head->minor_version > 0 || f->keep);
    head->upgrade = f->upgrade_named && f->upgrade_header && head->minor_version > 0;
    return true;
}

/* "HTTP/1.1": 0 and the minor version (later ones count as 1), or the code to refuse with. */
static enum err_code read_version(struct str text, int *ret_minor)
{
    if (text.n != 8 || memcmp(text.p, "HTTP/", 5) != 0 || text.p[6] != '.' || !http_is_digit(text.p[5]) ||
        !http_is_digit(text.p[7]))
        return ERR_BAD_REQUEST;
    if (text.p[5] != '1')
        return ERR_HTTP_VERSION;
    *ret_minor = text.p[7] == '0' ? 0 : 1;
    return ERR_NONE;
}

static enum http_method method_of(struct str name)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"};
    for (int i = 0; i < HTTP_OTHER; i++)
        if (str_eq(name, str_from(names[i])))
            return (enum http_method)i;
    return HTTP_OTHER;
}

static bool read_target(struct http_head *head, struct str target, struct err *err)
{
    if (target.n > LIMIT_TARGET_BYTES)
        return err_set(err, ERR_URI_TOO_LONG, "The request target is longer than %d bytes.", LIMIT_TARGET_BYTES);
    bool star = str_eq(target, STR("*")) && head->method == HTTP_OPTIONS;
    if (!star && (target.n == 0 || target.p[0] != '/'))
        return err_set(err, ERR_BAD_REQUEST, "The request target does not begin with '/'.");
    for (size_t i = 0; i < target.n; i++) {
        unsigned char c = (unsigned char)target.p[i];
        if (c <= ' ' || c >= 0x7f || c == '#')
            return err_set(err, ERR_BAD_REQUEST, "The request target has a character that must be percent-encoded.");
    }
    head->target = target;
    head->query = target;
    head->path = str_cut(&head->query, '?');
    return true;
}

static bool read_request_line(struct http_head *head, struct str line, struct err *err)
{
    struct str rest = line;
    head->method_name = str_cut(&rest, ' ');
    struct str target = str_cut(&rest, ' ');
    if (!is_token(head->method_name) || !target.p || !rest.p)
        return err_set(err, ERR_BAD_REQUEST, "The request line is not: method, target, version.");
    head->method = method_of(head->method_name);
    enum err_code code = read_version(rest, &head->minor_version);
    if (code == ERR_HTTP_VERSION)
        return err_set(err, code, "The only versions understood here are HTTP/1.1 and HTTP/1.0.");
    if (code != ERR_NONE)
        return err_set(err, code, "The request line does not end in a version of HTTP.");
    return read_target(head, target, err);
}

bool http_head_parse_request(const char *bytes, size_t n, struct arena *arena, struct http_head *head, struct err *err)
{
    struct framing f = {.request = true};
    struct str rest = {bytes, n}, line;
    *head = (struct http_head){.method = HTTP_OTHER};
    if (n > LIMIT_HEAD_BYTES)
        return err_set(err, ERR_HEADERS_TOO_LARGE, "The head is larger than %d bytes.", LIMIT_HEAD_BYTES);
    if (!next_line(&rest, &line))
        return err_set(err, ERR_BAD_REQUEST, "The request line holds a control character or does not end in CR LF.");
    if (!read_request_line(head, line, err) || !read_headers(rest, arena, &f, head, err))
        return false;
    if (head->minor_version > 0 && f.hosts == 0)
        return err_set(err, ERR_BAD_REQUEST, "Host is missing.");
    if (f.chunked)
        head->body_kind = HTTP_BODY_CHUNKED;
    else if (head->content_length > 0)
        head->body_kind = HTTP_BODY_LENGTH;
    head->expect_continue = head->expect_continue && head->minor_version > 0 && head->body_kind != HTTP_BODY_NONE;
    return true;
}

static bool read_status_line(struct http_head *head, struct str line, struct err *err)
{
    struct str rest = line, version = str_cut(&rest, ' ');
    if (read_version(version, &head->minor_version) != ERR_NONE)
        return err_set(err, ERR_BAD_GATEWAY, "The reply is not HTTP/1.1.");
    uint64_t status;
    struct str digits = {rest.p, rest.n < 3 ? rest.n : 3};
    if (digits.n != 3 || !str_u64(digits, 599, &status) || status < 100 || (rest.n > 3 && rest.p[3] != ' '))
        return err_set(err, ERR_BAD_GATEWAY, "The reply has no valid status.");
    head->status = (int)status;
    return true;
}

bool http_head_parse_response(const char *bytes, size_t n, enum http_method request_method, struct arena *arena,
                              struct http_head *head, struct err *err)
{
    struct framing f = {0};
    struct str rest = {bytes, n}, line;
    *head = (struct http_head){.method = request_method};
    bool ok = n <= LIMIT_HEAD_BYTES && next_line(&rest, &line);
    if (!ok)
        err_set(err, ERR_BAD_GATEWAY, "The reply's head is too large or not HTTP/1.1.");
    ok = ok && read_status_line(head, line, err) && read_headers(rest, arena, &f, head, err);
    if (!ok) {
        err->code = ERR_BAD_GATEWAY;
        return false;
    }
    if (request_method == HTTP_HEAD || head->status < 200 || head->status == 204 || head->status == 304)
        head->body_kind = HTTP_BODY_NONE;
    else if (f.chunked)
        head->body_kind = HTTP_BODY_CHUNKED;
    else if (f.lengths)
        head->body_kind = head->content_length ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
    else
        head->body_kind = HTTP_BODY_UNTIL_CLOSE;
    head->keep_alive = head->keep_alive && head->body_kind != HTTP_BODY_UNTIL_CLOSE;
    return true;
}

struct str http_head_find(const struct http_head *head, const char *name)
{
    struct str wanted = str_from(name);
    for (size_t i = 0; i < head->header_count; i++)
        if (str_ieq(head->headers[i].name, wanted))
            return head->headers[i].value;
    return STR_NONE;
}

static bool has_token(const struct http_head *head, struct str name, struct str wanted)
{
    for (size_t i = 0; i < head->header_count; i++) {
        if (!str_ieq(head->headers[i].name, name))
            continue;
        struct str list = head->headers[i].value, token;
        while (next_token(&list, &token))
            if (str_ieq(token, wanted))
                return true;
    }
    return false;
}

bool http_head_has_token(const struct http_head *head, const char *name, const char *token)
{
    return has_token(head, str_from(name), str_from(token));
}

bool http_head_is_hop(const struct http_head *head, struct str name)
{
    static const char *const hops[] = {
        "connection", "keep-alive",        "proxy-connection", "proxy-authenticate", "proxy-authorization", "te",
        "trailer",    "transfer-encoding", "upgrade"};
    for (size_t i = 0; i < sizeof hops / sizeof *hops; i++)
        if (str_ieq(name, str_from(hops[i])))
            return true;
    return has_token(head, STR("connection"), name);
}

void http_head_put_upgrade(const struct http_head *head, struct buf *lines)
{
    buf_puts(lines, "Connection: Upgrade\r\n");
    for (size_t i = 0; i < head->header_count; i++) {
        if (!str_ieq(head->headers[i].name, STR("upgrade")))
            continue;
        buf_puts(lines, "Upgrade: ");
        buf_str(lines, head->headers[i].value);
        buf_puts(lines, "\r\n");
    }
}
