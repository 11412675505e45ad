/* A traceparent from anywhere: what is taken comes out again as it was, and its ids are not zero. */
#include <assert.h>
#include <string.h>

#include "obs/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct trace_context nothing;
    struct trace_context remote, again;
    char text[TRACE_PARENT_TEXT];
    if (!trace_parse((struct str){(const char *)data, size}, &remote))
        return 0;
    assert(memcmp(remote.trace, nothing.trace, sizeof remote.trace) != 0);
    assert(memcmp(remote.span, nothing.span, sizeof remote.span) != 0);
    assert(trace_parse(str_from(trace_parent(&remote, text)), &again));
    assert(memcmp(&remote, &again, sizeof again) == 0);
    return 0;
}
