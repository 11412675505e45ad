/* A command line of any backend: split, parsed, and built again when it could be. */
#include <stdint.h>

#include "instance/backend.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void build(const struct backend *backend, const json_t *options)
{
    static struct backend_launch launch;
    struct err err = ERR_INIT;
    struct arena arena;
    struct backend_input in = {
        .backend = backend, .options = options, .program = "/inferd", .port = 1, .socket = "/socket"};
    arena_init(&arena);
    if (!backend_command(&in, &arena, &launch, &err) && !*err.message)
        abort(); /* refused without saying why */
    arena_dispose(&arena);
}

static void check(const struct backend *backend, struct str command)
{
    struct err err = ERR_INIT;
    json_t *parsed = backend_parse_command(backend, command, &err);
    const json_t *options = json_object_get(parsed, "backend_options");
    json_t *again = parsed ? backend->canonical(options, &err) : NULL;
    if (!again && !*err.message)
        abort();
    if (parsed && !json_equal(options, again))
        abort(); /* what was parsed was not canonical */
    if (again)
        build(backend, again);
    json_decref(again);
    json_decref(parsed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (const struct backend *const *backend = backend_all(); *backend; backend++)
        check(*backend, (struct str){(const char *)data, size});
    return 0;
}
