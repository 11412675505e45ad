#include "cli/cli.h"

#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#define MAX_OPTIONS 64

void cli_help(const struct cli_command *command)
{
    printf("inferd %s - %s\n\nusage: inferd %s [options]%s%s\n", command->name, command->summary, command->name,
           *command->arguments ? " " : "", command->arguments);
    if (command->details)
        printf("\n%s\n", command->details);
    printf("\noptions:\n");
    for (const struct cli_option *o = command->options; o && o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "%s%c%s--%s%s%s", o->letter ? "-" : " ", o->letter ? o->letter : ' ',
                 o->letter ? ", " : "  ", o->name, o->value ? " " : "", o->value ? o->value : "");
        printf("  %-30s %s\n", left, o->help);
    }
    printf("  -h, --help                     show this text\n");
}

void cli_help_all(void)
{
    printf("inferd - run GGUF models and serve them\n\nusage: inferd COMMAND [options]\n\ncommands:\n");
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        printf("  %-11s %-18s %s\n", (*c)->name, (*c)->arguments, (*c)->summary);
    printf("\n'inferd COMMAND --help' tells more. A first step: inferd run MODEL.gguf \"Hello\"\n");
}

int cli_parse(const struct cli_command *command, int argc, char **argv,
              bool (*on_option)(void *arg, const char *name, const char *value), void *arg, int *ret_status)
{
    struct option longs[MAX_OPTIONS + 2] = {{0}};
    char shorts[2 * MAX_OPTIONS + 4] = "h";
    int count = 0;
    for (const struct cli_option *o = command->options; o->name && count < MAX_OPTIONS; o++, count++) {
        longs[count] = (struct option){o->name, o->value ? required_argument : no_argument, NULL, 256 + count};
        if (o->letter)
            snprintf(shorts + strlen(shorts), 3, "%c%s", o->letter, o->value ? ":" : "");
    }
    longs[count] = (struct option){"help", no_argument, NULL, 'h'};
    optind = 1;
    *ret_status = EXIT_USAGE;
    for (int c; (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        const struct cli_option *o = c >= 256 ? &command->options[c - 256] : NULL;
        if (c == 'h') {
            cli_help(command);
            *ret_status = EXIT_OK;
            return -1;
        }
        if (c == '?') {
            fprintf(stderr, "see: inferd %s --help\n", command->name);
            return -1;
        }
        for (int i = 0; !o && i < count; i++)
            if (command->options[i].letter == c)
                o = &command->options[i];
        if (o && !on_option(arg, o->name, o->value ? optarg : NULL))
            return -1;
    }
    return optind;
}

static int exit_status(const struct err *err)
{
    switch (err->code) {
    case ERR_USAGE: return EXIT_USAGE;
    case ERR_CONFIG: return EXIT_BAD_CONFIG;
    case ERR_MODEL_NOT_FOUND:
    case ERR_MODEL_LOAD_FAILED:
    case ERR_MODEL_NOT_LOADED:
    case ERR_MODEL_CRASHED: return EXIT_MODEL;
    case ERR_BAD_GATEWAY:
    case ERR_TIMEOUT: return EXIT_NO_NETWORK;
    case ERR_AUTHENTICATION_FAILED:
    case ERR_PERMISSION_DENIED: return EXIT_AUTH;
    case ERR_INSUFFICIENT_MEMORY:
    case ERR_INSUFFICIENT_STORAGE:
    case ERR_SERVER_OVERLOADED: return EXIT_RESOURCES;
    case ERR_GPU_UNAVAILABLE: return EXIT_GPU;
    default: return EXIT_GENERAL;
    }
}

int cli_fail(const struct err *err)
{
    fprintf(stderr, "inferd: %s\n", err->message);
    return exit_status(err);
}

int cli_usage(const struct cli_command *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "inferd %s: ", command->name);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\nusage: inferd %s [options] %s\n", command->name, command->arguments);
    va_end(args);
    return EXIT_USAGE;
}

const char *cli_program(void)
{
    static char path[PATH_MAX];
    if (!*path) {
        ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
        path[n > 0 ? n : 0] = '\0';
    }
    return path;
}

const char *cli_bytes(double bytes, char out[16])
{
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
    int unit = 0;
    while (bytes >= 999.5 && unit < 4) {
        bytes /= 1000;
        unit++;
    }
    snprintf(out, 16, unit && bytes < 99.95 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return out;
}

const char *cli_count(double count, char out[16])
{
    if (count >= 999.5e6)
        snprintf(out, 16, "%.1fB", count / 1e9);
    else
        snprintf(out, 16, "%.0fM", count / 1e6);
    return out;
}
