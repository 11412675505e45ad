/* Reads a stream of server-sent events (WHATWG HTML, section 9.2.6) as it arrives, in pieces cut anywhere. Comments,
 * id and retry are skipped; events without data are none; an event over LIMIT_SSE_EVENT is an error. */
#ifndef HTTP_SSE_READ_H
#define HTTP_SSE_READ_H

#include "base/buf.h"

struct http_sse_reader {
    void (*on_event)(void *arg, struct str name, struct str data); /* name: "" when none was given */
    void *arg;
    struct buf line, name, data;
    bool started, after_cr, has_data;
};

void http_sse_reader_init(struct http_sse_reader *reader, void (*on_event)(void *arg, struct str name, struct str data),
                          void *arg);
void http_sse_reader_release(struct http_sse_reader *reader);

/* false: an event is too large; the reader must not be fed again. The reader must outlive the call: on_event may not
 * release it. */
bool http_sse_reader_feed(struct http_sse_reader *reader, struct str bytes);

#endif
