/* Heads, as request and as response. Besides memory safety: what is accepted ends exactly at its end, has one framing,
 * and an incomplete head found in pieces is found at the same place as in one. */
#include <stdint.h>

#include "http/head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;
    struct arena arena;
    struct http_head head;
    struct err err;
    struct str decoded;
    size_t scanned = 0, trickled = 0, found = 0;
    size_t whole = http_head_length(bytes, size, &scanned);
    for (size_t n = 1; n <= size && !found; n++)
        found = http_head_length(bytes, n, &trickled);
    if (found != whole && !(whole && bytes[0] == '\r'))
        abort();
    arena_init(&arena);
    if (http_head_parse_request(bytes, whole ? whole : size, &arena, &head, &err)) {
        bool coded = http_head_find(&head, "transfer-encoding").p, sized = http_head_find(&head, "content-length").p;
        if ((coded && sized) || head.path.n == 0)
            abort();
        for (size_t i = 0; i < head.header_count; i++)
            http_head_is_hop(&head, head.headers[i].name);
        if (head.upgrade && (head.minor_version == 0 || !http_head_find(&head, "upgrade").p))
            abort();
        http_decode_percent(&arena, head.path, &decoded);
        http_query_find(&arena, head.query, "a", &decoded);
    }
    arena_dispose(&arena);
    http_head_parse_response(bytes, whole ? whole : size, HTTP_GET, &arena, &head, &err);
    arena_dispose(&arena);
    return 0;
}
