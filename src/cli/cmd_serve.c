#include "cli/commands.h"

#include <limits.h>

#include "conf/conf.h"
#include "obs/log.h"
#include "serve.h"

static const struct cli_option options[] = {
    {"config", 'c', "FILE", "read this configuration after the usual ones"},
    {"port", 'p', "PORT", "port to listen on (server.port, default 8080; 0 takes a free one)"},
    {"bind", 0, "ADDRESS", "numeric address to listen on (server.bind_address, default 127.0.0.1)"},
    {"socket", 0, "PATH", "listen on this Unix socket too (server.socket)"},
    {"models-dir", 'm', "DIR", "folder that holds models (models_dir)"},
    {"state-dir", 0, "DIR", "folder for sockets and state (state_dir)"},
    {"model", 0, "[NAME=]FILE", "serve this GGUF file too; may be repeated"},
    {"log-level", 0, "LEVEL", "trace, debug, info, warn or error (log_level)"},
    {"insecure", 0, NULL, "allow a bind address that other machines reach, without authentication"},
    {"set", 's', "KEY=VALUE", "set any configuration key, e.g. cache.max_cached_models=2; may be repeated"},
    {.name = NULL},
};

/* Which key a flag sets. */
static const char *key_of(const char *flag)
{
    static const struct {
        const char *flag, *key;
    } keys[] = {{"port", "server.port"},      {"bind", "server.bind_address"}, {"socket", "server.socket"},
                {"models-dir", "models_dir"}, {"state-dir", "state_dir"},      {"log-level", "log_level"}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(keys[i].flag, flag) == 0)
            return keys[i].key;
    return NULL;
}

/* Flags win over files, so they are kept until the files are read. */
#define MAX_FLAGS 64
struct flags {
    const char *config;
    int count;
    struct {
        const char *name, *value;
    } list[MAX_FLAGS];
};

static bool on_option(void *arg, const char *name, const char *value)
{
    struct flags *flags = arg;
    if (strcmp(name, "config") == 0)
        flags->config = value;
    else if (flags->count == MAX_FLAGS)
        return fprintf(stderr, "inferd serve: too many options\n"), false;
    else {
        flags->list[flags->count].name = name;
        flags->list[flags->count++].value = value;
    }
    return true;
}

static bool set_pair(struct conf *conf, const char *pair, struct err *err)
{
    struct str value = str_from(pair), key = str_cut(&value, '=');
    char name[128];
    if (!value.p)
        return err_set(err, ERR_USAGE, "--set takes KEY=VALUE, but got '%s'", pair);
    snprintf(name, sizeof name, STR_FMT, STR_ARG(key));
    return conf_set(conf, name, value.p, "--set", err);
}

static bool add_model(struct conf *conf, const char *text, struct err *err)
{
    struct str file = str_from(text), name = str_cut(&file, '=');
    char path[PATH_MAX];
    if (!file.p || memchr(name.p, '/', name.n)) { /* no name: the file's own */
        file = str_from(text);
        const char *slash = strrchr(text, '/');
        name = str_from(slash ? slash + 1 : text);
        if (str_ends(name, STR(".gguf")))
            name.n -= 5;
    }
    if (!realpath(file.p, path))
        return err_set(err, ERR_MODEL_NOT_FOUND, "the model file '%s' does not exist", file.p);
    return conf_add_model(conf, name, path, err);
}

static bool apply(struct conf *conf, const struct flags *flags, struct err *err)
{
    for (int i = 0; i < flags->count; i++) {
        const char *name = flags->list[i].name, *value = flags->list[i].value;
        char origin[64];
        bool good;
        snprintf(origin, sizeof origin, "--%s", name);
        if (strcmp(name, "set") == 0)
            good = set_pair(conf, value, err);
        else if (strcmp(name, "model") == 0)
            good = add_model(conf, value, err);
        else if (strcmp(name, "insecure") == 0)
            good = conf_set(conf, "server.insecure", "true", origin, err);
        else
            good = conf_set(conf, key_of(name), value, origin, err);
        if (!good)
            return false;
    }
    return true;
}

static bool read_all(void *arg, struct conf *ret_conf, struct err *err)
{
    const struct flags *flags = arg;
    return conf_load(ret_conf, flags->config, err) && apply(ret_conf, flags, err) && conf_finish(ret_conf, err);
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct flags flags = {0};
    struct conf conf;
    struct err err;
    int status;
    int at = cli_parse(command, argc, argv, on_option, &flags, &status);
    if (at < 0)
        return status;
    if (at < argc)
        return cli_usage(command, "'%s' was not expected", argv[at]);
    if (read_all(&flags, &conf, &err)) {
        log_setup((enum log_level)conf.log_level, (enum log_format)conf.log_format, "serve");
        status = *conf.log_file && !log_to_file(conf.log_file, &err)
                     ? cli_fail(&err)
                     : gateway_run(&conf, cli_program(), read_all, &flags);
    } else {
        status = cli_fail(&err);
    }
    conf_release(&conf);
    return status;
}

const struct cli_command cmd_serve = {
    "serve",
    "",
    "run the server in the foreground",
    "Serves every GGUF file in models_dir and import_dirs through an OpenAI-compatible API; a model is loaded when a\n"
    "request names it. The first Ctrl-C lets running replies end, the second ends at once. Every option can stand in "
    "a\n"
    "file: see 'inferd config show'.",
    options,
    run};
