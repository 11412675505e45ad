#include <stdint.h>

#include "conf/toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct err err = ERR_INIT;
    arena_init(&arena);
    if (!toml_read((struct str){(const char *)data, size}, "fuzz", &arena, &err) && !*err.message)
        abort(); /* refused without saying why */
    arena_dispose(&arena);
    return 0;
}
