/* Forms: what is found lies inside the body. The first line of the input is the Content-Type. */
#include <stdint.h>

#include "http/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str body = {(const char *)data, size}, type = str_cut(&body, '\n'), content;
    struct err err;
    if (!body.p || !http_multipart_is(type))
        return 0;
    if (http_multipart_find(body, type, STR("model"), &content, &err) && content.p &&
        (content.p < body.p || content.p + content.n > body.p + body.n))
        abort();
    return 0;
}
