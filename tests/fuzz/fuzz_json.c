/* The gateway's scan against the strict reader: what the reader takes as an object the scan must take too, and both
 * must see the same "model". */
#include <stdint.h>

#include "base/json_read.h"
#include "base/json_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare(const json_t *document, struct str raw)
{
    const json_t *model = json_object_get(document, "model");
    struct arena arena;
    struct str text;
    if (!model != !raw.p)
        abort();
    if (!json_is_string(model))
        return;
    arena_init(&arena);
    if (!json_scan_text(raw, &arena, &text) || !str_eq(text, json_str(model)))
        abort();
    arena_dispose(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    struct json_scan wanted = {.key = "model"};
    struct err err = ERR_INIT;
    json_t *document = json_read(text, &err);
    bool scanned = json_scan(text, &wanted, 1, &err);
    if (json_is_object(document)) {
        if (!scanned)
            abort();
        compare(document, wanted.raw);
    }
    json_decref(document);
    return 0;
}
