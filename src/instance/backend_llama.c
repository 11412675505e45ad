/* llama-server, as llama.cpp ships it. Its options are llama_options.def. */
#include "instance/backend_option.h"

#include <sys/stat.h>

static const struct option_row rows[] = {
#define OPTION(name, kind)     {#name, OPTION_##kind, NULL},
#define FLAG(name, kind, flag) {#name, OPTION_##kind, flag},
#include "instance/llama_options.def"
#undef OPTION
#undef FLAG
    {0}};

static const struct option_alias aliases[] = {
#define ALIAS(name, key) {#name, #key},
#include "instance/llama_aliases.def"
#undef ALIAS
    {0}};

static const char *const programs[] = {"llama-server", NULL};

static const struct option_table table = {.rows = rows, .aliases = aliases, .programs = programs};

json_t *llama_cpp_canonical(const json_t *options, struct err *err)
{
    return option_canonical(&table, options, err);
}

static bool is_program(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

static const char *on_path(struct arena *arena, const char *name)
{
    struct str rest = str_from(getenv("PATH"));
    while (rest.p) {
        struct str folder = str_cut(&rest, ':');
        const char *path = arena_printf(arena, STR_FMT "/%s", STR_ARG(folder), name);
        if (folder.n && is_program(path))
            return path;
    }
    return NULL;
}

/* The one on PATH, else the one that was built beside us. When there is neither, starting it says so by name. */
const char *llama_cpp_program(struct backend_launch *launch, const json_t *options)
{
    (void)options;
    const char *found = on_path(launch->arena, programs[0]), *own = launch->in->program;
    const char *slash = own ? strrchr(own, '/') : NULL;
    if (found || !slash)
        return found ? found : programs[0];
    const char *beside = arena_printf(launch->arena, "%.*s/%s", (int)(slash - own), own, programs[0]);
    return is_program(beside) ? beside : programs[0];
}

bool llama_cpp_arguments(struct backend_launch *launch, const json_t *options, struct err *err)
{
    (void)err;
    launch_add_configured(launch);
    option_arguments(&table, launch, options, NULL);
    return true;
}

json_t *llama_cpp_parse(struct str command, struct err *err)
{
    return option_parse(&table, command, err);
}

/* It answers to any name, and sends back the one that it was asked for. */
const char *llama_cpp_served_model(const json_t *options)
{
    (void)options;
    return NULL;
}
