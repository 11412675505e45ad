/* Passes a request on to an upstream and its reply back, byte for byte in the body, piece by piece, with
 * back-pressure in both directions and cancel through the hop: the client's death cancels the call at once.
 *
 * A GET without a body that asks for an upgrade is passed on with it. When the upstream answers 101, both connections
 * become one tunnel of bare bytes, whose directions end each for itself; it is complete when both have. Any other
 * answer is an ordinary reply. A request that asks for an upgrade and has a body, or another method, is proxied
 * without the upgrade, and so is one to a protocol that is HTTP again (h2c, HTTP/x, TLS/x): requests nobody here has
 * seen would reach the upstream. */
#ifndef HTTP_PROXY_H
#define HTTP_PROXY_H

#include "http/client.h"
#include "http/server.h"

struct http_proxy_options {
    struct http_target target;
    struct str path_and_query; /* STR_NONE: as requested */
    /* The body when the caller has read it already (valid as long as the request's arena): pieces are sent in order
     * under one Content-Length. body_count 0: the request's body is streamed through as it comes. */
    struct str body[3];
    size_t body_count;
    struct str extra_head_lines; /* complete lines added to the request, e.g. a backend's key */
    const char *const *replaced; /* names of the client's headers that stay behind, NULL-terminated; may be NULL */
    bool drop_authorization;     /* never forward the caller's credentials */
    /* The reply's head arrived / the last byte was sent / the upstream failed. May be NULL. on_error returns true when
     * it took the request over (it must then answer or retry); false: the error is answered here. It is called only
     * while nothing has been sent to the client. started: the failure came after the reply began (the reply is
     * aborted here). */
    void (*on_head)(void *arg, const struct http_head *head);
    void (*on_data)(void *arg, struct str piece); /* looks on as the reply's body passes */
    void (*on_broken)(void *arg);                 /* the reply broke off after it began */
    bool (*on_error)(void *arg, struct http_req *req, const struct err *err);
    void (*on_finish)(void *arg,
                      bool complete); /* last call, always, exactly once per http_proxy; also on client death */
    void *arg;
};

void http_proxy(struct http_req *req, struct http_client *client, const struct http_proxy_options *options);

#endif
