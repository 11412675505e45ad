/* The OpenAI and Inferno error dialect: {"error":{message,type,param,code,details}}. */
#ifndef OPENAI_ERROR_H
#define OPENAI_ERROR_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json_write.h"

/* Appends the body. details is present only when the error has some. */
void openai_error_write(struct buf *out, const struct err *err);

/* The object within it alone. */
void openai_error_put(struct json *j, const char *key, const struct err *err);

/* Reads an error body of this dialect back (from an upstream), keeping code, message, param; false when it is none. */
bool openai_error_read(struct str body, int status, struct err *ret_err);

const char *openai_error_type(const struct err *err); /* "invalid_request_error"... */

#endif
