/* A multipart/form-data body read as it comes: parts of any size in bounded memory (multipart.h is for bodies that are
 * here already). One thread at a time. */
#ifndef HTTP_MULTIPART_READ_H
#define HTTP_MULTIPART_READ_H

#include "base/buf.h"
#include "http/multipart.h"

struct http_form_events {
    /* A part begins; filename is STR_NONE when it has none. Valid during the call. */
    void (*on_part)(void *arg, struct str name, struct str filename);
    void (*on_data)(void *arg, struct str piece); /* more of that part; never empty */
};

enum http_form_state { HTTP_FORM_PREAMBLE, HTTP_FORM_LINE, HTTP_FORM_HEAD, HTTP_FORM_CONTENT, HTTP_FORM_END };

struct http_form_reader {
    const struct http_form_events *events;
    void *arg;
    char mark[HTTP_BOUNDARY_MAX + 5]; /* CR LF -- boundary */
    struct str delimiter;
    struct buf held; /* not understood yet */
    enum http_form_state state;
    unsigned parts;
};

/* false: the Content-Type names no boundary. Release it either way. */
bool http_form_reader_init(struct http_form_reader *reader, struct str content_type,
                           const struct http_form_events *events, void *arg, struct err *err);
void http_form_reader_release(struct http_form_reader *reader);

/* false: it is no form (ERR_BAD_REQUEST), and nothing more may be fed. */
bool http_form_reader_feed(struct http_form_reader *reader, struct str piece, struct err *err);

/* The body has ended. false: the form breaks off. */
bool http_form_reader_end(const struct http_form_reader *reader, struct err *err);

#endif
