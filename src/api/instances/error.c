/* llamactl's error dialect, as its document has it: {"error": "message"}, with our code, parameter and details beside
 * it (specs/llamactl.md 1.0 and 8.4). */
#include "api/app.h"
#include "base/json_write.h"

static void manager_error_write(struct buf *out, const struct err *err)
{
    struct json j;
    json_begin(&j, out);
    json_open_object(&j, NULL);
    json_put_string(&j, "error", err->message);
    json_put_string(&j, "code", err_wire_code(err->code));
    if (*err->param)
        json_put_string(&j, "param", err->param);
    if (*err->details)
        json_put_raw(&j, "details", str_from(err->details));
    json_close(&j);
    json_finish(&j);
}

const struct dialect manager_dialect = {.content_type = "application/json", .write = manager_error_write};
