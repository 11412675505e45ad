#include <stdint.h>

#include "registry/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf gguf;
    struct err err = ERR_INIT;
    if (!gguf_read_memory(data, size, "fuzz", &gguf, &err) && !*err.message)
        abort(); /* refused without saying why */
    return 0;
}
