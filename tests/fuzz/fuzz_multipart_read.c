/* Forms in pieces: the same parts whatever the pieces are. The first line of the input is the Content-Type, the first
 * byte behind it the length of the pieces. */
#include <stdint.h>
#include <stdlib.h>

#include "http/multipart_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_part(void *arg, struct str name, struct str filename)
{
    buf_printf(arg, "[" STR_FMT "|" STR_FMT "]", STR_ARG(name), STR_ARG(filename.p ? filename : STR("-")));
}

static void on_data(void *arg, struct str piece)
{
    buf_str(arg, piece);
}

static const struct http_form_events events = {on_part, on_data};

static bool read_form(struct str body, struct str type, size_t stride, struct buf *out)
{
    struct http_form_reader reader;
    struct err err;
    buf_init(out, 1 << 20);
    bool good = http_form_reader_init(&reader, type, &events, out, &err);
    for (size_t i = 0; good && i < body.n; i += stride)
        good =
            http_form_reader_feed(&reader, (struct str){body.p + i, body.n - i < stride ? body.n - i : stride}, &err);
    good = good && http_form_reader_end(&reader, &err);
    http_form_reader_release(&reader);
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str body = {(const char *)data, size}, type = str_cut(&body, '\n');
    struct buf whole, pieces;
    if (!body.p || body.n == 0 || !http_multipart_is(type))
        return 0;
    size_t stride = (uint8_t)body.p[0] % 64 + 1u;
    body = (struct str){body.p + 1, body.n - 1};
    bool good = read_form(body, type, body.n + 1, &whole);
    if (good != read_form(body, type, stride, &pieces) || (good && !str_eq(buf_view(&whole), buf_view(&pieces))))
        abort();
    buf_release(&whole);
    buf_release(&pieces);
    return 0;
}
