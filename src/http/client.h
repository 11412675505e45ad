/* Pooled HTTP/1.1 client in the loop, for upstreams on this machine or network (internet traffic is libcurl's). Uses
 * the server's parser. Streams both ways with back-pressure. A call on a reused connection that dies before a byte of
 * the reply is retried once on a fresh one when nothing of a body was lost and the method is idempotent, or nothing
 * had been written. Loop thread only. */
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H

#include "http/head.h"
#include "loop/loop.h"

struct http_client;
struct http_call;

struct http_target {
    char address[108]; /* numeric IPv4/IPv6, or a Unix socket's path */
    int port;          /* 0: Unix socket */
};

/* "http://HOST[:PORT][/...]" with a numeric host or localhost, or "unix:PATH". false: ERR_USAGE. */
bool http_target_parse(const char *url, struct http_target *ret_target, struct err *err);

/* All callbacks may cancel the call; after on_end or on_error the call is gone. */
struct http_call_events {
    void (*on_head)(void *arg, const struct http_head *head); /* final status, 1xx are skipped; valid during the call */
    void (*on_data)(void *arg, struct str piece);             /* decoded body bytes; valid during the call */
    void (*on_end)(void *arg);
    /* Of a tunnel: the upstream ended its direction, nothing follows from it, the call lives until http_call_finish and
     * on_end. NULL where no tunnel was asked for. */
    void (*on_half_end)(void *arg);
    void (*on_proceed)(void *arg); /* may be NULL: request body may be written again */
    /* ERR_BAD_GATEWAY: no connection, broken or cut-off reply; ERR_TIMEOUT */
    void (*on_error)(void *arg, const struct err *err);
};

struct http_client *http_client_new(struct loop *loop);
void http_client_connect_within(struct http_client *client, unsigned ms); /* instead of LIMIT_CONNECT_MS */
/* Cancels what runs, without an event: whoever still holds one of its calls must be gone before. Finishes in later
 * turns of the loop. */
void http_client_free(struct http_client *client);
void http_client_forget(struct http_client *client, const struct http_target *target); /* closes idle connections */

/* Starts a call. head_lines: complete "Name: value\r\n" lines without Host, Connection, Content-Length and
 * Transfer-Encoding, which are ours. body_length >= 0: Content-Length (first body bytes may be given at once in body);
 * -1: chunked. */
struct http_call *http_call_start(struct http_client *client, const struct http_target *target, struct str method,
                                  struct str path_and_query, struct str head_lines, int64_t body_length,
                                  struct str body, const struct http_call_events *events, void *arg);

/* As http_call_start with the first body bytes in several pieces: head and body leave in one system call. */
#define HTTP_CALL_PIECES 4
struct http_call *http_call_startv(struct http_client *client, const struct http_target *target, struct str method,
                                   struct str path_and_query, struct str head_lines, int64_t body_length,
                                   const struct str *body, size_t body_count, const struct http_call_events *events,
                                   void *arg);

/* Right after the start of a GET whose head_lines ask for an upgrade (here with Connection): the upstream may answer
 * 101. Then on_data and http_call_write carry bare bytes, each direction ends for itself (on_half_end,
 * http_call_finish), and on_end comes when both have; the connection is not used again. */
void http_call_may_upgrade(struct http_call *call);
bool http_call_is_tunnel(const struct http_call *call);
size_t http_call_unsent(const struct http_call *call); /* bytes written that the connection has not taken */

bool http_call_write(struct http_call *call, struct str piece); /* false: wait for on_proceed; the piece is kept */
void http_call_finish(struct http_call *call);                  /* end of the request body */
void http_call_pause(struct http_call *call);                   /* stop reading the reply */
void http_call_resume(struct http_call *call);
void http_call_cancel(struct http_call *call); /* no event follows; the connection is closed */

#endif
