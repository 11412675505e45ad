/* Instance options: two lines of JSON, a body and a patch. What is taken once is taken again as it is, and no secret is
 * ever shown. */
#include <stdint.h>

#include "instance/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(json_t *document)
{
    struct err err;
    struct conf conf;
    struct options options;
    json_t *again = options_canonical(document, &err);
    if (!again || !json_equal(again, document))
        abort();
    json_decref(again);
    conf_init(&conf);
    if (!options_read(&options, json_incref(document), &conf, &err))
        abort();
    json_decref(options_shown(&options));
    options_release(&options);
    conf_release(&conf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data, size}, first = str_cut(&rest, '\n');
    struct err err;
    json_t *body = json_read(first, &err), *patch = rest.p ? json_read(rest, &err) : NULL;
    json_t *document = json_is_object(body) ? options_canonical(body, &err) : NULL;
    json_t *merged = document && json_is_object(patch) ? options_merge(document, patch, &err) : NULL;
    if (document)
        check(document);
    if (merged)
        check(merged);
    json_decref(merged);
    json_decref(document);
    json_decref(patch);
    json_decref(body);
    return 0;
}
