/* The table of commands, and nothing else. */
#include "base/json_read.h"
#include "cli/commands.h"

const struct cli_command *const cli_commands[] = {&cmd_serve,  &cmd_run,    &cmd_chat,       &cmd_list,     &cmd_show,
                                                  &cmd_ps,     &cmd_stop,   &cmd_batch,      &cmd_instance, &cmd_key,
                                                  &cmd_user,   &cmd_import, &cmd_bench,      &cmd_gpu,      &cmd_doctor,
                                                  &cmd_config, &cmd_worker, &cmd_completion, &cmd_version,  NULL};

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "--help";
    const char *names[32];
    size_t count = 0;
    json_setup();
    for (const struct cli_command *const *c = cli_commands; *c; c++) {
        if (strcmp((*c)->name, name) == 0)
            return (*c)->run(*c, argc - 1, argv + 1);
        names[count++] = (*c)->name;
    }
    if (strcmp(name, "--version") == 0)
        return cmd_version.run(&cmd_version, 1, argv);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        cli_help_all();
        return EXIT_OK;
    }
    const char *nearest = str_nearest(str_from(name), names, count);
    fprintf(stderr, "inferd: no command '%s'%s%s%s; see: inferd --help\n", name, nearest ? "; did you mean '" : "",
            nearest ? nearest : "", nearest ? "'?" : "");
    return EXIT_USAGE;
}
