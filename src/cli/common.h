/* Options that most commands share. */
#ifndef CLI_COMMON_H
#define CLI_COMMON_H

#include <jansson.h>
#include <stdbool.h>

struct cli_common {
    const char *url;
    bool json;
};

#define CLI_OPTION_URL                                                                                                 \
    {                                                                                                                  \
        "url", 'u', "URL", "server to talk to (default $INFERD_URL, else http://127.0.0.1:8080)"                       \
    }
#define CLI_OPTION_JSON                                                                                                \
    {                                                                                                                  \
        "json", 0, NULL, "print JSON for scripts"                                                                      \
    }

bool cli_common_option(void *arg, const char *name, const char *value); /* arg: struct cli_common */

void cli_print_json(const json_t *document); /* indented, to stdout */

#endif
