#include "openai/error.h"

#include "base/json_read.h"
#include "base/json_write.h"

const char *openai_error_type(const struct err *err)
{
    switch (err_kind(err->code)) {
    case ERR_KIND_INVALID_REQUEST: return "invalid_request_error";
    case ERR_KIND_AUTHENTICATION: return "authentication_error";
    case ERR_KIND_PERMISSION: return "permission_error";
    case ERR_KIND_RATE_LIMIT: return "rate_limit_error";
    case ERR_KIND_SERVER: break;
    }
    return "server_error";
}

void openai_error_put(struct json *j, const char *key, const struct err *err)
{
    json_open_object(j, key);
    json_put_string(j, "message", err->message);
    json_put_string(j, "type", openai_error_type(err));
    json_put_string(j, "param", *err->param ? err->param : NULL);
    json_put_string(j, "code", err_wire_code(err->code));
    if (*err->details)
        json_put_raw(j, "details", str_from(err->details));
    json_close(j);
}

void openai_error_write(struct buf *out, const struct err *err)
{
    struct json j;
    json_begin(&j, out);
    json_open_object(&j, NULL);
    openai_error_put(&j, "error", err);
    json_close(&j);
    json_finish(&j);
}

bool openai_error_read(struct str body, int status, struct err *ret_err)
{
    json_t *document = json_read(body, NULL);
    const json_t *error = json_object_get(document, "error");
    const json_t *from = json_is_string(error) ? document : error; /* llamactl's dialect has them beside the text */
    const char *message = json_string_value(json_is_string(error) ? error : json_object_get(error, "message"));
    const char *code = json_string_value(json_object_get(from, "code"));
    const char *param = json_string_value(json_object_get(from, "param"));
    if (message) {
        enum err_code known = code ? err_from_wire(code) : ERR_INTERNAL;
        if (err_status(known) != status && status < 500)
            known = ERR_BAD_REQUEST;
        err_set_param(ret_err, known, param ? param : "", "%s", message);
    }
    json_decref(document);
    return message != NULL;
}
