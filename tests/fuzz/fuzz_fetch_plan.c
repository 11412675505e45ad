/* A hub's list of files to a plan: first line the tag, first byte of it the format, then the JSON. Whatever is chosen
 * can be written below a folder and adds up. */
#include <stdint.h>

#include "registry/fetch_plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct fetch_plan *plan)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < plan->count; i++) {
        const struct fetch_entry *file = plan->files[i];
        if (!fetch_path_allowed(str_from(file->path)) || !fetch_commit_allowed(str_from(file->hash)))
            abort();
        bytes += file->bytes;
    }
    if (!plan->count || bytes != plan->bytes)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str json = {(const char *)data, size};
    struct str tag = str_cut(&json, '\n');
    struct arena arena;
    struct fetch_tree tree;
    struct fetch_plan plan;
    struct err err = ERR_INIT;
    if (!tag.n || !json.p)
        return 0;
    enum fetch_format format = tag.p[0] == 's' ? FETCH_SAFETENSORS : FETCH_GGUF;
    arena_init(&arena);
    fetch_tree_init(&tree, &arena);
    bool good = fetch_tree_read(&tree, json, &arena, &err) &&
                fetch_plan(&tree, format, (struct str){tag.p + 1, tag.n - 1}, &arena, &plan, &err);
    if (good)
        check(&plan);
    else if (!*err.message)
        abort(); /* refused without saying why */
    arena_dispose(&arena);
    return 0;
}
