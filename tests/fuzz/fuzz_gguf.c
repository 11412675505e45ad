#include <stdint.h>

#include "registry/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_pair(void *arg, const struct gguf_pair *pair)
{
    size_t *bytes = arg;
    *bytes += strlen(pair->key);
    for (size_t i = 0; i < pair->text.n; i++) /* all of it is there */
        *bytes += pair->text.p[i] != 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf gguf;
    size_t bytes = 0;
    struct err err = ERR_INIT;
    if (!gguf_read_memory(data, size, "fuzz", &gguf, &err) && !*err.message)
        abort(); /* refused without saying why */
    err = ERR_INIT;
    if (!gguf_walk_memory(data, size, "fuzz", on_pair, &bytes, &err) && !*err.message)
        abort();
    return 0;
}
