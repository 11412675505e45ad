#include "cli/api_client.h"
#include "cli/commands.h"
#include "cli/common.h"

#include "base/json_read.h"

static const struct cli_option options[] = {CLI_OPTION_URL, CLI_OPTION_JSON, {.name = NULL}};

static void print_row(const json_t *model)
{
    const json_t *more = json_object_get(model, "inferno");
    char size[16], count[16];
    const char *status = json_string_value(json_object_get(more, "status"));
    printf("%-40s %8s %8s %-8s %-10s %s\n", json_string_value(json_object_get(model, "id")),
           cli_bytes((double)json_integer_value(json_object_get(more, "size_bytes")), size),
           cli_count((double)json_integer_value(json_object_get(more, "parameters")), count),
           json_string_value(json_object_get(more, "quantization")), json_string_value(json_object_get(more, "arch")),
           status ? status : "");
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct cli_common common = {0};
    struct err err;
    int status;
    int at = cli_parse(command, argc, argv, cli_common_option, &common, &status);
    if (at < 0)
        return status;
    if (at < argc)
        return cli_usage(command, "'%s' was not expected", argv[at]);
    struct api_client *api = api_client_new(common.url, &err);
    json_t *list = api ? api_client_json(api, "GET", "/v1/models", STR(""), &err) : NULL;
    if (!list) {
        status = cli_fail(&err);
    } else if (common.json) {
        cli_print_json(list);
        status = EXIT_OK;
    } else {
        size_t i;
        json_t *model;
        printf("%-40s %8s %8s %-8s %-10s %s\n", "MODEL", "SIZE", "PARAMS", "QUANT", "ARCH", "STATE");
        json_array_foreach(json_object_get(list, "data"), i, model) print_row(model);
        status = EXIT_OK;
    }
    json_decref(list);
    api_client_free(api);
    return status;
}

const struct cli_command cmd_list = {"list", "", "list the models on this machine", NULL, options, run};
