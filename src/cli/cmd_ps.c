#include "cli/api_client.h"
#include "cli/commands.h"
#include "cli/common.h"

#include "base/json_read.h"
#include "base/mem.h"

static const struct cli_option options[] = {CLI_OPTION_URL, CLI_OPTION_JSON, {.name = NULL}};

/* The status documents of all models that are not unloaded. */
static json_t *collect(struct api_client *api, struct err *err)
{
    json_t *list = api_client_json(api, "GET", "/v1/models", STR(""), err), *found = list ? json_array() : NULL;
    size_t i;
    json_t *model;
    json_array_foreach(json_object_get(list, "data"), i, model)
    {
        const char *state = json_string_value(json_object_get(json_object_get(model, "inferno"), "status"));
        if (!state || strcmp(state, "unloaded") == 0)
            continue;
        char *path = api_client_model_path(json_string_value(json_object_get(model, "id")), "/status");
        json_t *status = api_client_json(api, "GET", path, STR(""), err);
        mem_free(path);
        if (status)
            json_array_append_new(found, status);
    }
    json_decref(list);
    return found;
}

static void print_row(const json_t *s)
{
    char bytes[16];
    const json_t *metrics = json_object_get(s, "metrics");
    const char *last = json_string_value(json_object_get(metrics, "last_used"));
    printf("%-40s %-9s %7lld %9s %6lld %6lld %9lld  %s\n", json_string_value(json_object_get(s, "model_id")),
           json_string_value(json_object_get(s, "status")), (long long)json_integer_value(json_object_get(s, "pid")),
           cli_bytes((double)json_integer_value(json_object_get(s, "memory_usage_bytes")), bytes),
           (long long)json_integer_value(json_object_get(s, "active_requests")),
           (long long)json_integer_value(json_object_get(s, "queued_requests")),
           (long long)json_integer_value(json_object_get(metrics, "total_requests")), last ? last : "never");
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct cli_common common = {0};
    struct err err;
    int status;
    int at = cli_parse(command, argc, argv, cli_common_option, &common, &status);
    if (at < 0)
        return status;
    struct api_client *api = api_client_new(common.url, &err);
    json_t *found = api ? collect(api, &err) : NULL;
    status = EXIT_OK;
    if (!found) {
        status = cli_fail(&err);
    } else if (common.json) {
        cli_print_json(found);
    } else {
        size_t i;
        json_t *s;
        printf("%-40s %-9s %7s %9s %6s %6s %9s  %s\n", "MODEL", "STATE", "PID", "MEMORY", "ACTIVE", "QUEUED",
               "REQUESTS", "LAST USED");
        json_array_foreach(found, i, s) print_row(s);
    }
    json_decref(found);
    api_client_free(api);
    return status;
}

const struct cli_command cmd_ps = {"ps", "", "show the models that are loaded", NULL, options, run};
