/* inferd key VERB: keys of a running server, through its public API. One row a verb. */
#include "base/mem.h"
#include "cli/account.h"
#include "cli/commands.h"
#include "cli/common.h"

#define KEYS_PATH "/v1/auth/keys"

static const struct cli_option options[] = {
    CLI_OPTION_URL,
    CLI_OPTION_JSON,
    {"permissions", 'p', "LIST", "create: such as inference,metrics (default inference)"},
    {"expires", 'e', "TIME", "create: such as 30d, 1h30m or never (default: the longest the server allows)"},
    {"models", 'm', "LIST", "create: models it may use, * for any characters (default: all)"},
    {"requests-per-minute", 0, "N", "create: its own limit"},
    {"tokens-per-minute", 0, "N", "create: its own limit"},
    {"burst", 0, "N", "create: its own limit"},
    {"concurrent", 0, "N", "create: its own limit"},
    {"priority", 0, "CLASS", "create: interactive or batch"},
    {.name = NULL}};

struct flags {
    struct cli_common common;
    json_t *order; /* what create sends */
};

struct verb {
    const char *name, *operand; /* operand NULL: none */
    int (*run)(struct api_client *api, struct flags *flags, const char *operand, struct err *err);
};

static bool add_number(struct flags *flags, const char *member, const char *text)
{
    uint64_t value;
    if (!str_u64(str_from(text), INT64_MAX, &value))
        return false;
    return json_object_set_new(flags->order, member, json_integer((json_int_t)value)) == 0;
}

static bool on_option(void *arg, const char *name, const char *value)
{
    struct flags *flags = arg;
    if (strcmp(name, "permissions") == 0 || strcmp(name, "models") == 0)
        return json_object_set_new(flags->order, name, account_list(value)) == 0;
    if (strcmp(name, "expires") == 0)
        return json_object_set_new(flags->order, "expires_in", json_string(value)) == 0;
    if (strcmp(name, "priority") == 0)
        return json_object_set_new(flags->order, name, json_string(value)) == 0;
    if (strcmp(name, "requests-per-minute") == 0)
        return add_number(flags, "requests_per_minute", value);
    if (strcmp(name, "tokens-per-minute") == 0)
        return add_number(flags, "tokens_per_minute", value);
    if (strcmp(name, "burst") == 0 || strcmp(name, "concurrent") == 0)
        return add_number(flags, name, value);
    return cli_common_option(&flags->common, name, value);
}

/* The clear key alone goes to standard output, for scripts. */
static int print_new(const struct flags *flags, json_t *reply, struct err *err)
{
    if (!reply)
        return cli_fail(err);
    if (flags->common.json) {
        cli_print_json(reply);
    } else {
        fprintf(stderr, "%s, expires %s; the key is shown only now:\n", account_text(reply, "key_id"),
                account_text(reply, "expires"));
        printf("%s\n", account_text(reply, "api_key"));
    }
    json_decref(reply);
    return EXIT_OK;
}

static int create(struct api_client *api, struct flags *flags, const char *name, struct err *err)
{
    json_object_set_new(flags->order, "name", json_string(name));
    return print_new(flags, account_call(api, "POST", KEYS_PATH, json_incref(flags->order), err), err);
}

static void print_row(const json_t *key)
{
    size_t n;
    const json_t *permission;
    printf("%-20s %-24s ...%-4s %-20s %-20s ", account_text(key, "key_id"), account_text(key, "name"),
           account_text(key, "hint"), account_text(key, "expires"), account_text(key, "last_used"));
    json_array_foreach(json_object_get(key, "permissions"), n, permission)
        printf("%s%s", n ? "," : "", json_string_value(permission));
    printf("\n");
}

static int list(struct api_client *api, struct flags *flags, const char *operand, struct err *err)
{
    size_t n;
    json_t *key, *reply = account_call(api, "GET", KEYS_PATH, NULL, err);
    (void)operand;
    if (!reply)
        return cli_fail(err);
    if (flags->common.json) {
        cli_print_json(reply);
    } else {
        printf("%-20s %-24s %-7s %-20s %-20s %s\n", "ID", "NAME", "KEY", "EXPIRES", "LAST USED", "PERMISSIONS");
        json_array_foreach(json_object_get(reply, "data"), n, key) print_row(key);
    }
    json_decref(reply);
    return EXIT_OK;
}

static int revoke_key(struct api_client *api, struct flags *flags, const char *id, struct err *err)
{
    (void)flags;
    return account_remove(api, "keys", id, id, err);
}

static int rotate(struct api_client *api, struct flags *flags, const char *id, struct err *err)
{
    char *path = account_path("keys", id, "/rotate");
    int status = print_new(flags, account_call(api, "POST", path, NULL, err), err);
    mem_free(path);
    return status;
}

static const struct verb verbs[] = {
    {"create", "a name for the key", create},
    {"list", NULL, list},
    {"revoke", "a key's id", revoke_key},
    {"rotate", "a key's id", rotate},
};

static const struct verb *find_verb(const char *name)
{
    for (size_t n = 0; name && n < sizeof verbs / sizeof *verbs; n++)
        if (strcmp(verbs[n].name, name) == 0)
            return &verbs[n];
    return NULL;
}

static int run_verb(const struct cli_command *command, struct flags *flags, char **operands)
{
    struct err err;
    const struct verb *verb = find_verb(operands[0]);
    if (!verb)
        return cli_usage(command, "say create, list, revoke or rotate");
    if (verb->operand && !operands[1])
        return cli_usage(command, "%s needs %s", verb->name, verb->operand);
    struct api_client *api = api_client_new(flags->common.url, &err);
    if (!api)
        return cli_fail(&err);
    int status = verb->run(api, flags, operands[1], &err);
    api_client_free(api);
    return status;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct flags flags = {.order = json_object()};
    int status;
    int at = cli_parse(command, argc, argv, on_option, &flags, &status);
    if (at >= 0)
        status = run_verb(command, &flags, argv + at);
    json_decref(flags.order);
    return status;
}

const struct cli_command cmd_key = {"key",
                                    "create|list|revoke|rotate [NAME|ID]",
                                    "manage the keys of a running server",
                                    "The key to call with stands in $INFERD_API_KEY.\n\n"
                                    "  inferd key create my-app -p inference,metrics -e 30d\n"
                                    "  inferd key revoke key_abc123\n\n"
                                    "create and rotate print the new key, which is never shown again.",
                                    options,
                                    run};
