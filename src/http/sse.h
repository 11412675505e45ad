/* Server-sent events on a reply (WHATWG HTML, section 9.2), with the headers that keep proxies from buffering and a
 * comment every the server's ping_ms while nothing flows. */
#ifndef HTTP_SSE_H
#define HTTP_SSE_H

#include "http/server.h"

/* Starts a 200 text/event-stream reply: no-cache, X-Accel-Buffering: no. */
void http_sse_start(struct http_req *req);

/* One event "data: <data>\n\n" in a write of its own; data is one line (JSON). Returns as http_reply_write. */
bool http_sse_data(struct http_req *req, struct str data);
/* With an event name. */
bool http_sse_event(struct http_req *req, const char *name, struct str data);
void http_sse_end(struct http_req *req); /* ends the reply */

#endif
