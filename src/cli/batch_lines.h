/* What a user has, a prompt or a request a line, as the input of a batch. Pure. */
#ifndef CLI_BATCH_LINES_H
#define CLI_BATCH_LINES_H

#include "base/buf.h"
#include "base/err.h"

struct batch_lines {
    const char *endpoint; /* "/v1/chat/completions"... */
    const char *model;    /* for lines that name none; NULL: they must */
};

/* Appends the input to out. A line that begins with '{' is JSON: a whole request line, or a request's body; any other
 * is a prompt. Lines without a custom_id get "line-<number>". Blank lines are left out. false: *err names the line. */
bool batch_lines_convert(const struct batch_lines *lines, struct str text, struct buf *out, size_t *ret_count,
                         struct err *err);

#endif
