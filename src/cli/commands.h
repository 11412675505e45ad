/* One row a command; the table is in main.c. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/cli.h"

extern const struct cli_command cmd_serve, cmd_run, cmd_chat, cmd_ps, cmd_list, cmd_show, cmd_stop, cmd_worker,
    cmd_version, cmd_config, cmd_doctor, cmd_completion, cmd_instance, cmd_import, cmd_key, cmd_user, cmd_batch,
    cmd_bench, cmd_gpu;

#endif
