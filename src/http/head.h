/* The head of an HTTP/1.1 message, and the one strict parser that server and client share (RFC 9112).
 * Refused: bare LF, obs-fold, spaces before ':', control characters, Content-Length beside Transfer-Encoding,
 * repeated or odd Content-Length, any transfer coding but chunked, missing or repeated Host, heads over their limits.
 */
#ifndef HTTP_HEAD_H
#define HTTP_HEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_DELETE, HTTP_OPTIONS, HTTP_PATCH, HTTP_OTHER };

struct http_header {
    struct str name;  /* as sent */
    struct str value; /* without surrounding blanks */
};

/* How a message's body is delimited. */
enum http_body_kind { HTTP_BODY_NONE, HTTP_BODY_LENGTH, HTTP_BODY_CHUNKED, HTTP_BODY_UNTIL_CLOSE };

struct http_head {
    enum http_method method; /* requests */
    struct str method_name;
    struct str target;      /* as sent: origin form, or "*" */
    struct str path, query; /* target cut at '?'; not decoded */
    int status;             /* responses */
    int minor_version;      /* HTTP/1.0 or 1.1 */
    struct http_header *headers;
    size_t header_count;
    enum http_body_kind body_kind;
    uint64_t content_length; /* HTTP_BODY_LENGTH */
    bool keep_alive;         /* by version and Connection */
    bool expect_continue;
    bool upgrade; /* Connection: upgrade with an Upgrade header */
};

/* Length of the head at the start of bytes[0..n) up to and including its empty line; 0 when it is not complete yet.
 * *scanned (start with 0) remembers how far the search came, so that a trickling client costs linear time. */
size_t http_head_length(const char *bytes, size_t n, size_t *scanned);

/* Parses a complete head of n bytes. The strings point into bytes, the header array lies in the arena.
 * For responses, request_method tells whether a body may follow (HEAD). false: *err has code and status (400, 414,
 * 417, 431, 501, 505; ERR_BAD_GATEWAY for responses). */
bool http_head_parse_request(const char *bytes, size_t n, struct arena *arena, struct http_head *head, struct err *err);
bool http_head_parse_response(const char *bytes, size_t n, enum http_method request_method, struct arena *arena,
                              struct http_head *head, struct err *err);

/* Value of the first header of that name (ASCII case folded), or STR_NONE. */
struct str http_head_find(const struct http_head *head, const char *name);

/* Is token one of the comma-separated values of the header(s) of that name? Case folded. */
bool http_head_has_token(const struct http_head *head, const char *name, const char *token);

/* A header that concerns one hop only and must not be forwarded (RFC 9110 7.6.1), including those that Connection
 * names. */
bool http_head_is_hop(const struct http_head *head, struct str name);

/* Appends the two lines of an upgrade for the next hop: "Connection: Upgrade" and Upgrade as the head has it. */
void http_head_put_upgrade(const struct http_head *head, struct buf *lines);

/* Percent-decodes text into the arena; false on a bad escape or a NUL. '+' stays. */
bool http_decode_percent(struct arena *arena, struct str text, struct str *ret_decoded);

/* Value of the first parameter of that name in a query string, percent-decoded ('+' is a blank); false when absent. */
bool http_query_find(struct arena *arena, struct str query, const char *name, struct str *ret_value);

const char *http_status_text(int status);

/* Incremental decoder of a body's framing (length, chunked, until close). */
struct http_body {
    enum http_body_kind kind;
    uint64_t left; /* of the length, or of the current chunk */
    int state;
    unsigned line; /* bytes of the current chunk-size or trailer line */
    unsigned trailer;
    bool done;
};

void http_body_init(struct http_body *body, enum http_body_kind kind, uint64_t length);

/* Takes framed bytes from in[0..n): returns how many were taken, sets *ret_data to the payload found (a part of in,
 * possibly empty). Call again with the rest until nothing is taken or body->done. Returns SIZE_MAX on a framing
 * error. */
size_t http_body_feed(struct http_body *body, const char *in, size_t n, struct str *ret_data);

#endif
