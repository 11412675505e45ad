#include "cli/commands.h"

#include "conf/conf.h"

static const struct cli_option options[] = {{"config", 'c', "FILE", "read this file after the usual ones"},
                                            {.name = NULL}};

static bool on_option(void *arg, const char *name, const char *value)
{
    (void)name;
    *(const char **)arg = value;
    return true;
}

static int check_file(const char *path)
{
    struct conf conf;
    struct err err;
    conf_init(&conf);
    bool good = conf_read_file(&conf, path, &err) && conf_finish(&conf, &err);
    if (good)
        printf("%s is fine\n", path);
    conf_release(&conf);
    return good ? EXIT_OK : cli_fail(&err);
}

static int effective(const char *file, bool print)
{
    struct conf conf;
    struct err err;
    bool good = conf_load(&conf, file, &err) && conf_finish(&conf, &err);
    if (good && print)
        conf_print(&conf, stdout);
    else if (good)
        printf("the configuration is fine (%d file%s read)\n", conf.file_count, conf.file_count == 1 ? "" : "s");
    conf_release(&conf);
    return good ? EXIT_OK : cli_fail(&err);
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    const char *file = NULL;
    int status;
    if (argc > 1 && strcmp(argv[1], "--help") != 0 && strcmp(argv[1], "-h") != 0) {
        const char *verb = argv[1];
        int at = cli_parse(command, argc - 1, argv + 1, on_option, &file, &status);
        if (at < 0)
            return status;
        at++;
        if (strcmp(verb, "show") == 0 && at == argc)
            return effective(file, true);
        if (strcmp(verb, "check") == 0 && at == argc - 1)
            return check_file(argv[at]);
        if (strcmp(verb, "check") == 0 && at == argc)
            return effective(file, false);
    } else if (argc > 1) {
        cli_help(command);
        return EXIT_OK;
    }
    return cli_usage(command, "say 'check' or 'show'");
}

const struct cli_command cmd_config = {
    "config",
    "check [FILE] | show",
    "check or print the configuration",
    "check FILE looks at one file; without FILE at all sources that apply. show prints what results, as a file\n"
    "that can be read back, with a comment a key.",
    options,
    run};
