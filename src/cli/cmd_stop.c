#include "cli/api_client.h"
#include "cli/commands.h"
#include "cli/common.h"

#include "base/json_read.h"
#include "base/mem.h"

static const struct cli_option options[] = {CLI_OPTION_URL,
                                            CLI_OPTION_JSON,
                                            {"force", 'f', NULL, "cut running requests instead of waiting for them"},
                                            {.name = NULL}};

struct flags {
    struct cli_common common;
    bool force;
};

static bool on_option(void *arg, const char *name, const char *value)
{
    struct flags *flags = arg;
    if (strcmp(name, "force") == 0)
        return flags->force = true;
    return cli_common_option(&flags->common, name, value);
}

static int stop(const struct flags *flags, const char *model)
{
    struct err err;
    int status = EXIT_OK;
    char *path = api_client_model_path(model, "/unload");
    struct api_client *api = api_client_new(flags->common.url, &err);
    json_t *reply =
        api ? api_client_json(api, "POST", path, flags->force ? STR("{\"force\":true}") : STR(""), &err) : NULL;
    if (!reply) {
        status = cli_fail(&err);
    } else if (flags->common.json) {
        cli_print_json(reply);
    } else {
        printf("%s: %s, %s freed\n", model, json_string_value(json_object_get(reply, "message")),
               json_string_value(json_object_get(reply, "memory_freed")));
    }
    json_decref(reply);
    api_client_free(api);
    mem_free(path);
    return status;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct flags flags = {0};
    int status;
    int at = cli_parse(command, argc, argv, on_option, &flags, &status);
    if (at < 0)
        return status;
    if (at != argc - 1)
        return cli_usage(command, "name one model");
    return stop(&flags, argv[at]);
}

const struct cli_command cmd_stop = {"stop", "MODEL", "unload a model", NULL, options, run};
