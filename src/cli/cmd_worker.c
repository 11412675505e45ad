#include "cli/commands.h"

#include "worker/worker.h"

static int run(const struct cli_command *command, int argc, char **argv)
{
    (void)command;
    return worker_main(argc, argv);
}

const struct cli_command cmd_worker = {"worker", "--model FILE", "serve one model by itself (what serve starts)",
                                       NULL,     NULL,           run};
