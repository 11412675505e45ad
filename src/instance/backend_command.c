/* Any program that speaks HTTP: its words as they are, but for {port}, {host} and {socket}. */
#include "instance/backend_option.h"

#include "base/buf.h"

#define DEFAULT_HOST "127.0.0.1"

static const char *const keys[] = {"argv", "health", "cwd", "host", "port"};

static bool wrong(struct err *err, const char *key, const char *what)
{
    char param[LIMIT_ERR_PARAM];
    json_path_member(param, sizeof param, "backend_options", key);
    return err_set_param(err, ERR_INVALID_PARAMETERS, param, "'%s' %s", param, what);
}

static bool is_path(const json_t *value)
{
    return !value || json_is_null(value) || (json_is_string(value) && *json_string_value(value) == '/');
}

static bool check_argv(const json_t *argv, struct err *err)
{
    const json_t *word;
    size_t i;
    json_array_foreach(argv, i, word) if (!json_is_string(word)) return wrong(err, "argv",
                                                                              "must be an array of strings");
    if (json_string_length(json_array_get(argv, 0)) == 0)
        return wrong(err, "argv", "is required: an array of strings, the program first");
    return true;
}

static bool check_keys(const json_t *options, struct err *err)
{
    const char *name;
    const json_t *value;
    json_object_foreach((json_t *)options, name, value)
    {
        char param[LIMIT_ERR_PARAM];
        const char *nearest = str_nearest(str_from(name), keys, sizeof keys / sizeof *keys);
        if (nearest && strcmp(nearest, name) == 0)
            continue;
        json_path_member(param, sizeof param, "backend_options", name);
        return err_set_param(err, ERR_INVALID_PARAMETERS, param,
                             "'%s' is no option of a command, which has argv, health, cwd, host and port", param);
    }
    return true;
}

static bool check(const json_t *options, struct err *err)
{
    const json_t *host = json_object_get(options, "host"), *port = json_object_get(options, "port");
    if (!check_keys(options, err) || !check_argv(json_object_get(options, "argv"), err))
        return false;
    if (!is_path(json_object_get(options, "health")))
        return wrong(err, "health", "must be a path that begins with '/'");
    if (!is_path(json_object_get(options, "cwd")))
        return wrong(err, "cwd", "must be the absolute path of a folder");
    if (host && !json_is_null(host) && !json_is_string(host))
        return wrong(err, "host", "must be a string");
    if (port && !json_is_null(port) &&
        (!json_is_integer(port) || json_integer_value(port) < 0 || json_integer_value(port) > 65535))
        return wrong(err, "port", "must be a whole number from 0 to 65535");
    return true;
}

json_t *command_canonical(const json_t *options, struct err *err)
{
    if (!check(options, err))
        return NULL;
    json_t *result = json_object();
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        json_t *value = json_object_get(options, keys[i]);
        if (value && !json_is_null(value))
            json_object_set_new(result, keys[i], json_deep_copy(value));
    }
    return result;
}

const char *command_program(struct backend_launch *launch, const json_t *options)
{
    return arena_strdup(launch->arena, json_string_value(json_array_get(json_object_get(options, "argv"), 0)));
}

static bool missing(const char *name, const char *why, struct err *err)
{
    return err_set_param(err, ERR_INVALID_PARAMETERS, "backend_options.argv", "'backend_options.argv' has {%s}, but %s",
                         name, why);
}

/* The value of the placeholder that text begins with, in out. false: *err; out untouched: it is none. */
static bool placeholder(const struct backend_launch *launch, const json_t *options, const char *text, struct buf *out,
                        size_t *ret_length, struct err *err)
{
    const json_int_t port = json_integer_value(json_object_get(options, "port"));
    const char *host = json_string_value(json_object_get(options, "host"));
    *ret_length = 0;
    if (strncmp(text, "{port}", 6) == 0) {
        *ret_length = 6;
        if (port == 0)
            return missing("port", "it was given no port", err);
        buf_printf(out, "%d", (int)port);
    } else if (strncmp(text, "{host}", 6) == 0) {
        *ret_length = 6;
        buf_puts(out, host && *host ? host : DEFAULT_HOST);
    } else if (strncmp(text, "{socket}", 8) == 0) {
        *ret_length = 8;
        if (!launch->in->socket)
            return missing("socket", "it was given a port, not a socket", err);
        buf_puts(out, launch->in->socket);
    }
    return true;
}

static bool fill(const struct backend_launch *launch, const json_t *options, const char *text, struct buf *out,
                 struct err *err)
{
    while (*text) {
        size_t n;
        if (!placeholder(launch, options, text, out, &n, err))
            return false;
        if (n == 0)
            buf_putc(out, *text);
        text += n ? n : 1;
    }
    return buf_ok(out) ||
           err_set_param(err, ERR_INVALID_PARAMETERS, "backend_options.argv", "a word of argv is too long");
}

static bool add_filled(struct backend_launch *launch, const json_t *options, const char *text, struct err *err)
{
    struct buf word;
    buf_init(&word, LIMIT_COMMAND_BYTES);
    bool good = fill(launch, options, text, &word, err);
    if (good)
        launch_add(launch, arena_str(launch->arena, buf_view(&word)).p);
    buf_release(&word);
    return good;
}

bool command_arguments(struct backend_launch *launch, const json_t *options, struct err *err)
{
    const json_t *argv = json_object_get(options, "argv");
    launch_add_configured(launch);
    for (size_t i = 1; i < json_array_size(argv); i++)
        if (!add_filled(launch, options, json_string_value(json_array_get(argv, i)), err))
            return false;
    return true;
}

json_t *command_parse(struct str command, struct err *err)
{
    struct arena arena;
    json_t *argv = json_array(), *options = json_pack("{s:o}", "argv", argv), *result = NULL;
    arena_init(&arena);
    const char *const *words = backend_split(command, &arena, err);
    for (size_t i = 0; words && words[i]; i++)
        json_array_append_new(argv, json_string(words[i]));
    if (words)
        result = command_canonical(options, err);
    json_decref(options);
    arena_dispose(&arena);
    return result;
}

const char *command_served_model(const json_t *options)
{
    (void)options;
    return NULL;
}
