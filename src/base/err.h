/* One error type for the whole program: written once, where the cause is known, and carried up by value.
 * A surface dresses it (openai/error.c); nothing else formats errors. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>
#include <stdarg.h>

#include "base/limits.h"

enum err_code {
    ERR_NONE = 0,
#define ERR(name, wire, status, kind, retry) ERR_##name,
#include "base/err.def"
#undef ERR
    ERR_COUNT
};

enum err_kind {
    ERR_KIND_INVALID_REQUEST,
    ERR_KIND_AUTHENTICATION,
    ERR_KIND_PERMISSION,
    ERR_KIND_RATE_LIMIT,
    ERR_KIND_SERVER
};

/* What a client's SDK should be told about trying again: by status, always, never. */
enum err_retry { ERR_RETRY_DEFAULT, ERR_RETRY_YES, ERR_RETRY_NO };

/* Plain memory: copy freely, nothing to release. */
struct err {
    enum err_code code;
    unsigned retry_after_ms;         /* 0: not said */
    char message[LIMIT_ERR_MESSAGE]; /* one sentence for a person: the cause and the way out; UTF-8 */
    char param[LIMIT_ERR_PARAM];     /* JSON path of the offending field, or "" */
    char details[LIMIT_ERR_DETAILS]; /* a JSON object as text, or "" */
};

#define ERR_INIT ((struct err){.code = ERR_NONE})

/* Fills *err; always returns false, so that a failing function can `return err_set(...)`. A message too long is cut
 * at a character boundary. err may be NULL when the caller does not want to know. */
bool err_set(struct err *err, enum err_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As err_set, and names the request field at fault, e.g. "messages[0].content". */
bool err_set_param(struct err *err, enum err_code code, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

const char *err_wire_code(enum err_code code); /* "model_not_found" */
int err_status(enum err_code code);            /* HTTP status */
enum err_kind err_kind(enum err_code code);
enum err_retry err_retry(enum err_code code);

/* The row with this wire code, or ERR_INTERNAL. */
enum err_code err_from_wire(const char *wire);

#endif
