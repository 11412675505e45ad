#include "base/err.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static const struct row {
    const char *wire;
    int status;
    enum err_kind kind;
    enum err_retry retry;
} rows[ERR_COUNT] = {
    [ERR_NONE] = {"ok", 200, ERR_KIND_SERVER, ERR_RETRY_DEFAULT},
#define ERR(name, wire, status, kind, retry) [ERR_##name] = {wire, status, ERR_KIND_##kind, ERR_##retry},
#include "base/err.def"
#undef ERR
};

static void set(struct err *err, enum err_code code, const char *param, const char *format, va_list args)
{
    memset(err, 0, sizeof *err);
    err->code = code;
    int n = vsnprintf(err->message, sizeof err->message, format, args);
    if (n >= (int)sizeof err->message)
        err->message[utf8_cut(err->message, sizeof err->message - 1)] = '\0';
    if (param) {
        n = snprintf(err->param, sizeof err->param, "%s", param);
        if (n >= (int)sizeof err->param)
            err->param[utf8_cut(err->param, sizeof err->param - 1)] = '\0';
    }
}

bool err_set(struct err *err, enum err_code code, const char *format, ...)
{
    if (!err)
        return false;
    va_list args;
    va_start(args, format);
    set(err, code, NULL, format, args);
    va_end(args);
    return false;
}

bool err_set_param(struct err *err, enum err_code code, const char *param, const char *format, ...)
{
    if (!err)
        return false;
    va_list args;
    va_start(args, format);
    set(err, code, param, format, args);
    va_end(args);
    return false;
}

const char *err_wire_code(enum err_code code)
{
    return rows[code].wire;
}

int err_status(enum err_code code)
{
    return rows[code].status;
}

enum err_kind err_kind(enum err_code code)
{
    return rows[code].kind;
}

enum err_retry err_retry(enum err_code code)
{
    return rows[code].retry;
}

enum err_code err_from_wire(const char *wire)
{
    for (int code = ERR_NONE + 1; code < ERR_COUNT; code++)
        if (strcmp(rows[code].wire, wire) == 0)
            return code;
    return ERR_INTERNAL;
}
