#include "cli/talk_options.h"

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"

static bool number(const char *name, const char *text, double least, double most, double *ret)
{
    char *end;
    *ret = strtod(text, &end);
    if (*text && !*end && *ret >= least && *ret <= most)
        return true;
    fprintf(stderr, "inferd: --%s must be between %g and %g\n", name, least, most);
    return false;
}

bool talk_option(void *arg, const char *name, const char *value)
{
    struct talk_flags *flags = arg;
    double n;
    if (strcmp(name, "system") == 0) {
        flags->talk.system = value;
    } else if (strcmp(name, "max-tokens") == 0) {
        if (!number(name, value, 1, 16777216, &n))
            return false;
        flags->talk.max_tokens = (long)n;
    } else if (strcmp(name, "temperature") == 0) {
        return number(name, value, 0, 2, &flags->talk.temperature);
    } else if (strcmp(name, "verbose") == 0) {
        flags->talk.verbose = true;
    } else if (strcmp(name, "json") == 0) {
        flags->talk.json = true;
    } else {
        return cli_common_option(&flags->common, name, value);
    }
    return true;
}

int talk_session(const struct talk_flags *flags, const char *model, int (*talk_with)(struct talk *talk, void *arg),
                 void *arg)
{
    struct err err;
    char *name = NULL;
    struct api_client *api = api_client_for_model(flags->common.url, model, &name, &err);
    struct talk *talk = api ? talk_new(api, name, &flags->talk, &err) : NULL;
    int status = talk ? talk_with(talk, arg) : cli_fail(&err);
    talk_free(talk);
    if (api)
        mem_free(name);
    api_client_free(api);
    return status;
}
