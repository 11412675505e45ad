#include "cli/common.h"

bool cli_common_option(void *arg, const char *name, const char *value)
{
    struct cli_common *common = arg;
    if (value)
        common->url = value;
    else
        common->json = *name == 'j';
    return true;
}

void cli_print_json(const json_t *document)
{
    json_dumpf(document, stdout, JSON_INDENT(2));
    printf("\n");
}
