/* A batch's input, a request a line, and what was written of it before: read from the disk line by line, kept as places
 * only. Blocking: for pool threads; an input belongs to one thread at a time. */
#ifndef API_BATCH_INPUT_H
#define API_BATCH_INPUT_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"

struct batch_line {
    uint64_t offset;
    size_t length;
    bool done; /* its outcome is written */
};

struct batch_input {
    struct batch_line *lines; /* blank ones are left out */
    size_t count, capacity;
    struct map ids;     /* custom_id to number + 1 */
    struct buf errors;  /* JSON objects {code, line, message, param}, with commas between them */
    size_t error_count; /* all; the first LIMIT_BATCH_ERRORS are told */
};

struct batch_request {
    struct str custom_id, body; /* in the arena; body is a JSON object */
};

void batch_input_init(struct batch_input *input);
void batch_input_release(struct batch_input *input);

/* Reads the whole input and checks every line: {custom_id, method, url, body}. What is wrong with it stands in errors.
 * false: it cannot be read (ERR_IO). */
bool batch_input_scan(struct batch_input *input, int fd, struct str endpoint, size_t max_lines, struct err *err);

/* Marks the lines whose outcome is in that file, and cuts off a line there that was not written to its end.
 * ret_count: outcomes found; ret_size: bytes of the file. */
bool batch_input_resume(struct batch_input *input, int fd, size_t *ret_count, uint64_t *ret_size, struct err *err);

void batch_input_forget_ids(struct batch_input *input); /* nothing is to be resumed any more */

/* One more error, of no line when line is 0. */
void batch_input_add_error(struct batch_input *input, const char *code, size_t line, const char *param,
                           const char *message);

/* A line as a request; false: it is none (*err, ERR_INVALID_JSON or ERR_INVALID_PARAMETERS with param). */
bool batch_line_read(struct str line, struct str endpoint, struct arena *arena, struct batch_request *ret_request,
                     struct err *err);

#endif
