/* The command line: one file and one table row a command. Commands that concern a running server speak its public API
 * and nothing else. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

/* Exit statuses (specs/inferno.md 6.3). */
enum {
    EXIT_OK = 0,
    EXIT_GENERAL = 1,
    EXIT_USAGE = 2,
    EXIT_BAD_CONFIG = 3,
    EXIT_MODEL = 4,
    EXIT_NO_NETWORK = 5,
    EXIT_AUTH = 6,
    EXIT_RESOURCES = 7,
    EXIT_GPU = 8,
    EXIT_INTERRUPTED = 130
};

struct cli_option {
    const char *name;  /* long name without "--"; NULL ends a table */
    char letter;       /* short name or 0 */
    const char *value; /* what the value is called in the help, NULL: a flag */
    const char *help;
};

struct cli_command {
    const char *name;
    const char *arguments;                                                /* for the usage line */
    const char *summary;                                                  /* one line */
    const char *details;                                                  /* paragraphs for --help, or NULL */
    const struct cli_option *options;                                     /* NULL: parses its own */
    int (*run)(const struct cli_command *command, int argc, char **argv); /* argv[0] is the command's name */
};

extern const struct cli_command *const cli_commands[]; /* ended by NULL; main.c */

/* Parses argv by the command's table: on_option for each option in order (value NULL for flags; false ends with
 * EXIT_USAGE), --help prints and ends with EXIT_OK. Returns the index of the first operand, or -1 with *ret_status. */
int cli_parse(const struct cli_command *command, int argc, char **argv,
              bool (*on_option)(void *arg, const char *name, const char *value), void *arg, int *ret_status);

void cli_help(const struct cli_command *command);
void cli_help_all(void);

/* "inferd: message" on stderr; returns the exit status that fits the error. */
int cli_fail(const struct err *err);
int cli_usage(const struct cli_command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

const char *cli_program(void); /* this binary's path */

/* "98.4 MB", "1.2 GB", "512 KB": decimal. */
const char *cli_bytes(double bytes, char out[16]);
/* "135M", "7.2B" */
const char *cli_count(double count, char out[16]);

#endif
