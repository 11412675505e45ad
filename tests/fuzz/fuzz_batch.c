/* Bodies of POST /v1/batch, and lines of a batch's input: whatever passes is a request. */
#include <stdint.h>
#include <stdlib.h>

#include "api/batch/entry.h"
#include "api/batch/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size}, path;
    struct batch_entries entries;
    struct batch_request request;
    struct arena arena;
    struct err err;
    arena_init(&arena);
    if (batch_entries_read(text, 16, &arena, &entries, &err))
        for (size_t i = 0; i < entries.count; i++)
            if (batch_entry_check(&entries, i, &path, &err) && !batch_entry_body(&entries, i, &arena).n)
                abort();
    if (batch_line_read(text, STR("/v1/completions"), &arena, &request, &err) &&
        (!request.custom_id.n || !request.body.n))
        abort();
    arena_dispose(&arena);
    return 0;
}
