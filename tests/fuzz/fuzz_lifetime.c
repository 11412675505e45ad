/* Lifetimes: what is taken lies in its range, and reads the same as so many seconds. */
#include <assert.h>
#include <stdio.h>

#include "auth/lifetime.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int64_t seconds, again;
    char text[32];
    if (!lifetime_parse((struct str){(const char *)data, size}, &seconds))
        return 0;
    assert(seconds > 0 && seconds <= LIFETIME_SECONDS_MAX);
    snprintf(text, sizeof text, "%lld", (long long)seconds);
    assert(lifetime_parse(str_from(text), &again) && again == seconds);
    return 0;
}
