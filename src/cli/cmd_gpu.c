#include "cli/commands.h"
#include "cli/common.h"

#include "base/build.h"
#include "worker/devices.h"

static const struct cli_option options[] = {CLI_OPTION_JSON, {.name = NULL}};

static int print_document(const struct device *devices, unsigned count)
{
    struct buf text;
    struct json j;
    buf_init(&text, LIMIT_JSON_TEXT);
    json_begin(&j, &text);
    json_open_object(&j, NULL);
    json_put_string(&j, "backends", build_backends());
    json_open_array(&j, "gpus");
    for (unsigned i = 0; i < count; i++) {
        json_open_object(&j, NULL);
        device_put(&j, &devices[i]);
        json_close(&j);
    }
    json_close(&j);
    json_close(&j);
    bool good = json_finish(&j);
    if (good)
        printf("%s\n", text.data);
    buf_release(&text);
    return good ? EXIT_OK : EXIT_GENERAL;
}

static int print_table(const struct device *devices, unsigned count)
{
    char total[16], unused[16];
    if (count)
        printf("%-3s %-12s %-10s %10s %10s  %s\n", "", "NAME", "BACKEND", "MEMORY", "FREE", "DESCRIPTION");
    for (unsigned i = 0; i < count; i++)
        printf("%-3u %-12s %-10s %10s %10s  %s%s\n", i, devices[i].name, devices[i].backend,
               cli_bytes((double)devices[i].total, total), cli_bytes((double)devices[i].free, unused),
               devices[i].description, devices[i].integrated ? " (shares the machine's memory)" : "");
    if (!count)
        printf("no GPU that this program can use; its backends: %s%s\n", build_backends(),
               build_has_gpu() ? "" : " (built without one for GPUs: make GPU=vulkan|cuda|hip|metal)");
    return EXIT_OK;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct cli_common common = {0};
    struct device devices[LIMIT_DEVICES];
    int status;
    int at = cli_parse(command, argc, argv, cli_common_option, &common, &status);
    if (at < 0)
        return status;
    if (at < argc)
        return cli_usage(command, "unknown argument '%s'", argv[at]);
    devices_quiet();
    unsigned count = devices_list(devices);
    return common.json ? print_document(devices, count) : print_table(devices, count);
}

const struct cli_command cmd_gpu = {"gpu",
                                    "",
                                    "show the GPUs of this machine and their memory",
                                    "Names and places are what backend_config.gpu_device takes.",
                                    options,
                                    run};
