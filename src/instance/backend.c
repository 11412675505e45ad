/* The table of backends, and what their command lines have in common: the program or the container in front of the
 * arguments.
 *
 * A command line is built in one pass into launch->argv: backend_command merges what the instance manager has decided
 * (port, host, preset file) into a copy of the options, so that these appear where the option's table has them, and the
 * backend appends the rest. Nothing goes through a shell.
 *
 * A container gets its environment by -e, since what we give to `docker` itself does not reach it, and a name, since
 * ending `docker run` does not end the container. */
#include "instance/backend.h"

#include "base/buf.h"
#include "instance/backend_option.h"

/* ---- the table ---- */

#define BACKEND(name, its_section, how, path, word, in_docker, folder)                                                 \
    static const struct backend row_##name = {.type = #name,                                                           \
                                              .section = its_section,                                                  \
                                              .ready = BACKEND_READY_##how,                                            \
                                              .health = path,                                                          \
                                              .subcommand = word,                                                      \
                                              .docker = in_docker,                                                     \
                                              .cache = folder,                                                         \
                                              .canonical = name##_canonical,                                           \
                                              .program = name##_program,                                               \
                                              .arguments = name##_arguments,                                           \
                                              .parse = name##_parse,                                                   \
                                              .served_model = name##_served_model};
#include "instance/backend.def"
#undef BACKEND

static const struct backend *const backends[] = {
#define BACKEND(name, ...) &row_##name,
#include "instance/backend.def"
#undef BACKEND
    NULL};

static const char *const types[] = {
#define BACKEND(name, ...) #name,
#include "instance/backend.def"
#undef BACKEND
};

const struct backend *const *backend_all(void)
{
    return backends;
}

const struct backend *backend_find(struct str type, struct err *err)
{
    const size_t count = sizeof types / sizeof *types;
    char list[128] = "";
    for (size_t i = 0, n = 0; i < count; i++) {
        if (str_eq(type, str_from(types[i])))
            return backends[i];
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", types[i]);
    }
    const char *nearest = str_nearest(type, types, count);
    err_set_param(err, ERR_INVALID_PARAMETERS, "backend_type", "'backend_type' must be one of %s%s%s%s", list,
                  nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    return NULL;
}

/* ---- the program ---- */

static const char *program_of(struct backend_launch *launch, const json_t *options)
{
    const struct backend_input *in = launch->in;
    if (in->command_override && *in->command_override)
        return in->command_override;
    if (in->conf && *in->conf->command)
        return in->conf->command;
    return in->backend->program(launch, options);
}

/* ---- the container ---- */

static bool same_name(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");
    return strncmp(a, b, n) == 0 && b[n] == '=';
}

static bool is_set_in(const char *variable, const char *const *environment)
{
    for (size_t i = 0; environment && environment[i]; i++)
        if (same_name(variable, environment[i]))
            return true;
    return false;
}

static void add_variables(struct backend_launch *launch, const char *const *variables, const char *const *over,
                          const char *const *over_all)
{
    for (size_t i = 0; variables && variables[i]; i++) {
        if (is_set_in(variables[i], over) || is_set_in(variables[i], over_all))
            continue;
        launch_add(launch, "-e");
        launch_add(launch, variables[i]);
    }
}

static bool mounts_something(const char *const *args)
{
    for (size_t i = 0; args[i]; i++)
        if (strcmp(args[i], "-v") == 0 || str_starts(str_from(args[i]), STR("--volume")) ||
            str_starts(str_from(args[i]), STR("--mount")))
            return true;
    return false;
}

static const char *cache_folder(struct backend_launch *launch)
{
    const struct conf_backend *conf = launch->in->conf;
    const char *home = getenv("HOME"), *leaf = strrchr(launch->in->backend->cache, '/');
    if (*conf->cache_dir)
        return conf->cache_dir;
    return arena_printf(launch->arena, "%s/.cache%s", home ? home : "/root", leaf);
}

/* So that models which were downloaded before, or by others, are not downloaded again. */
static void add_cache(struct backend_launch *launch)
{
    if (mounts_something(launch->in->conf->docker_args))
        return;
    launch_add(launch, "-v");
    launch_add(launch, arena_printf(launch->arena, "%s:%s", cache_folder(launch), launch->in->backend->cache));
}

static bool names_itself(const char *const *args)
{
    for (size_t i = 0; args[i]; i++)
        if (strcmp(args[i], "--name") == 0 || str_starts(str_from(args[i]), STR("--name=")))
            return true;
    return false;
}

static bool add_container(struct backend_launch *launch, struct err *err)
{
    const struct backend_input *in = launch->in;
    const struct conf_backend *conf = in->conf;
    if (!conf || !*conf->docker_image || !conf->docker_args[0])
        return err_set_param(err, ERR_INVALID_PARAMETERS, "docker_enabled",
                             "there is no container for '%s': set image and args in [backends.%s.docker]",
                             in->backend->type, in->backend->section);
    launch_add(launch, "docker");
    for (size_t i = 0; conf->docker_args[i]; i++) {
        launch_add(launch, conf->docker_args[i]);
        if (in->name && strcmp(conf->docker_args[i], "run") == 0 && !names_itself(conf->docker_args)) {
            launch_add(launch, "--name");
            launch_add(launch, arena_printf(launch->arena, "inferd-%s", in->name));
        }
    }
    add_cache(launch);
    add_variables(launch, conf->environment, conf->docker_environment, in->environment);
    add_variables(launch, conf->docker_environment, in->environment, NULL);
    add_variables(launch, in->environment, NULL, NULL);
    launch_add(launch, conf->docker_image);
    return true;
}

/* ---- the whole ---- */

static void put_missing(json_t *options, const char *key, json_t *value)
{
    const json_t *own = json_object_get(options, key);
    if (!own || (json_is_integer(own) && json_integer_value(own) == 0))
        json_object_set_new(options, key, value);
    else
        json_decref(value);
}

static json_t *with_decisions(const struct backend_input *in)
{
    json_t *options = in->options ? json_copy((json_t *)in->options) : json_object();
    if (in->port)
        put_missing(options, "port", json_integer(in->port));
    if (in->host)
        put_missing(options, "host", json_string(in->host));
    if (in->preset_file)
        put_missing(options, "models_preset", json_string(in->preset_file));
    return options;
}

static bool build(struct backend_launch *launch, const json_t *options, struct err *err)
{
    if (launch->docker) {
        if (!add_container(launch, err))
            return false;
    } else {
        launch_add(launch, program_of(launch, options));
        if (launch->in->backend->subcommand)
            launch_add(launch, launch->in->backend->subcommand);
    }
    if (!launch->in->backend->arguments(launch, options, err))
        return false;
    if (launch->full)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "backend_options",
                             "the command line has more than %d arguments", BACKEND_ARGUMENTS - 1);
    launch->argv[launch->argc] = NULL;
    return true;
}

bool backend_command(const struct backend_input *in, struct arena *arena, struct backend_launch *launch,
                     struct err *err)
{
    *launch = (struct backend_launch){.in = in, .arena = arena, .docker = in->docker && in->backend->docker};
    json_t *options = with_decisions(in);
    bool good = build(launch, options, err);
    json_decref(options);
    return good;
}

/* ---- parsing ---- */

static bool is_assignment(const char *word)
{
    size_t n = 0;
    while (word[n] == '_' || (word[n] >= 'A' && word[n] <= 'Z') || (word[n] >= 'a' && word[n] <= 'z') ||
           (n > 0 && word[n] >= '0' && word[n] <= '9'))
        n++;
    return n > 0 && word[n] == '=';
}

/* Takes NAME=value words off the front of *command. */
static bool take_environment(struct str *command, json_t *environment, struct arena *arena, struct err *err)
{
    for (;;) {
        struct str rest = *command;
        const char *word;
        if (!split_word(&rest, arena, &word, err))
            return false;
        if (!word || !is_assignment(word))
            return true;
        struct str value = str_from(word), name = str_cut(&value, '=');
        json_object_set_new(environment, arena_str(arena, name).p, json_stringn(value.p, value.n));
        *command = rest;
    }
}

static json_t *parse(const struct backend *backend, struct str command, json_t *environment, struct err *err)
{
    struct arena arena;
    arena_init(&arena);
    bool good = split_check(command, err) && take_environment(&command, environment, &arena, err);
    arena_dispose(&arena);
    return good ? backend->parse(command, err) : NULL;
}

json_t *backend_parse_command(const struct backend *backend, struct str command, struct err *err)
{
    json_t *environment = json_object();
    json_t *options = parse(backend, command, environment, err), *result = NULL;
    if (options)
        result = json_pack("{s:s, s:o}", "backend_type", backend->type, "backend_options", options);
    if (result && json_object_size(environment) > 0)
        json_object_set(result, "environment", environment);
    json_decref(environment);
    return result;
}
