#include "cli/commands.h"

#include "base/build.h"
#include "base/version.h"

static int run(const struct cli_command *command, int argc, char **argv)
{
    (void)command;
    (void)argc;
    (void)argv;
    printf("inferd %s (%s)\n", INFERD_VERSION, build_backends());
    return EXIT_OK;
}

const struct cli_command cmd_version = {"version", "", "print the version and the engine's backends", NULL, NULL, run};
