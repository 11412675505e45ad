/* What the handlers of another dialect share: a POST whose body is translated, answered by one internal call
 * (upstream.h) whose reply is translated back, at once or as a stream with back-pressure. Which dialect that is,
 * nothing here knows. Embed it as a member; req->user points to it. Loop thread only. */
#ifndef API_RELAY_H
#define API_RELAY_H

#include "api/upstream.h"

struct relay {
    struct app *app;
    struct http_req *req;
    struct upstream *upstream; /* while it runs */
    void (*on_body)(struct relay *relay, struct str body);
};

/* Collects the body of a JSON request for on_body; a server that drains and another media type are answered here. */
void relay_begin(struct relay *relay, struct app *app, struct http_req *req,
                 void (*on_body)(struct relay *relay, struct str body));

/* Starts the call; set relay->upstream to NULL in its on_end. body: as long-lived as the request. */
void relay_call(struct relay *relay, const char *path, struct str body, const struct upstream_events *events,
                void *arg);

/* For on_stream: begins the stream, so that its client sees signs of life while the model reads a long prompt. */
void relay_start(struct relay *relay);

/* Sends one event of a stream, which begins with the first one at the latest. A client that reads slowly pauses the
 * call. */
void relay_send(struct relay *relay, const char *name, struct str data);
/* The same for a stream of lines of that media type. */
void relay_send_line(struct relay *relay, const char *type, struct str line);

#endif
