/* WebSockets (RFC 6455) on the server: a request that was upgraded, and messages both ways. Framing is wslay's; an idle
 * socket holds no buffer. Nothing here knows what the messages say. No extensions are negotiated.
 *
 * The socket lives in its request's arena and ends with it. Nothing that is called here ends it at once: its end always
 * comes from the loop, with on_closed. Loop thread only. */
#ifndef HTTP_WS_H
#define HTTP_WS_H

#include "http/server.h"

struct http_ws;

enum http_ws_code {
    HTTP_WS_NORMAL = 1000,
    HTTP_WS_GOING_AWAY = 1001,
    HTTP_WS_PROTOCOL_ERROR = 1002,
    HTTP_WS_UNSUPPORTED = 1003,
    HTTP_WS_NO_CODE = 1005, /* told, never sent */
    HTTP_WS_LOST = 1006,    /* told, never sent: the connection ended without a close frame */
    HTTP_WS_BAD_TEXT = 1007,
    HTTP_WS_POLICY = 1008,
    HTTP_WS_TOO_LARGE = 1009,
    HTTP_WS_INTERNAL = 1011,
    HTTP_WS_SLOW = 4408 /* the client takes nothing, or answers no ping */
};

struct http_ws_events {
    /* A whole message, valid during the call; text is valid UTF-8. */
    void (*on_message)(void *arg, struct str message, bool binary);
    void (*on_proceed)(void *arg); /* after a send that returned false; may be NULL */
    void (*on_drain)(void *arg);   /* the server ends: close soon. NULL: closed with 1001 at once */
    /* The last event, exactly once, while the arena dies: the code of the client's close frame, else of ours, else
     * HTTP_WS_LOST. */
    void (*on_closed)(void *arg, int code);
};

struct http_ws_options {
    uint32_t max_message;   /* bytes; 0: LIMIT_WS_MESSAGE */
    unsigned ping_ms;       /* 0: LIMIT_WS_PING_MS */
    bool binary;            /* binary messages are taken; else they close with 1003 */
    struct str subprotocol; /* the one of the client's offers that is chosen; STR_NONE: none */
};

/* Answers the upgrade with 101. NULL: it was no proper WebSocket request and is answered with an error. events must
 * outlive the socket. */
struct http_ws *http_ws_accept(struct http_req *req, const struct http_ws_options *options,
                               const struct http_ws_events *events, void *arg);

/* The first of the client's offered subprotocols that begins with prefix, or STR_NONE. */
struct str http_ws_offer(const struct http_req *req, const char *prefix);

/* One text message of several pieces (at most HTTP_WS_PIECES). false: it is kept, but wait for on_proceed; or the
 * socket is closing and nothing is sent any more. */
#define HTTP_WS_PIECES 8
bool http_ws_sendv(struct http_ws *ws, const struct str *pieces, size_t count);
bool http_ws_send(struct http_ws *ws, struct str text);
bool http_ws_send_binary(struct http_ws *ws, struct str bytes);

/* Whether messages can be sent at all, and whether the socket takes more right now. */
bool http_ws_is_open(const struct http_ws *ws);
bool http_ws_is_blocked(const struct http_ws *ws);

/* Sends a close frame (reason: UTF-8, cut at LIMIT_WS_REASON bytes) and waits for the client's for LIMIT_WS_CLOSE_MS. A
 * second call does nothing. */
void http_ws_close(struct http_ws *ws, int code, const char *reason);

/* Sockets that are open on the server. */
size_t http_ws_count(const struct http_server *server);

#endif
