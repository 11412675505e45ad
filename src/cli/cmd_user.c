/* inferd user VERB: users of a running server, through its public API. One row a verb. */
#include <openssl/crypto.h>

#include "base/mem.h"
#include "cli/account.h"
#include "cli/commands.h"
#include "cli/common.h"

#define USERS_PATH "/v1/auth/users"

static const struct cli_option options[] = {CLI_OPTION_URL,
                                            CLI_OPTION_JSON,
                                            {"role", 'r', "ROLE", "add: admin, user, guest or service (default user)"},
                                            {.name = NULL}};

struct flags {
    struct cli_common common;
    const char *role;
};

struct verb {
    const char *name;
    bool needs_name;
    int (*run)(struct api_client *api, const struct flags *flags, const char *name, struct err *err);
};

static bool on_option(void *arg, const char *name, const char *value)
{
    struct flags *flags = arg;
    if (strcmp(name, "role") != 0)
        return cli_common_option(&flags->common, name, value);
    flags->role = value;
    return true;
}

static int print_user(const struct flags *flags, json_t *user, const char *what, struct err *err)
{
    if (!user)
        return cli_fail(err);
    if (flags->common.json)
        cli_print_json(user);
    else
        printf("%s: %s\n", account_text(user, "username"), what);
    json_decref(user);
    return EXIT_OK;
}

/* {"password": ...}, or NULL and *err. */
static json_t *with_password(struct err *err)
{
    char *password = account_password(err);
    json_t *body = NULL;
    if (!password)
        return NULL;
    if (!(body = json_pack("{s:s}", "password", password)))
        err_set(err, ERR_USAGE, "the password is no UTF-8");
    OPENSSL_cleanse(password, strlen(password));
    mem_free(password);
    return body;
}

static int add(struct api_client *api, const struct flags *flags, const char *name, struct err *err)
{
    json_t *body = with_password(err);
    if (!body)
        return cli_fail(err);
    json_object_set_new(body, "username", json_string(name));
    if (flags->role)
        json_object_set_new(body, "role", json_string(flags->role));
    return print_user(flags, account_call(api, "POST", USERS_PATH, body, err), "added", err);
}

static int list(struct api_client *api, const struct flags *flags, const char *name, struct err *err)
{
    size_t n;
    json_t *user, *reply = account_call(api, "GET", USERS_PATH, NULL, err);
    (void)name;
    if (!reply)
        return cli_fail(err);
    if (flags->common.json) {
        cli_print_json(reply);
    } else {
        printf("%-24s %-24s %-8s %-20s %s\n", "NAME", "ID", "ROLE", "LAST LOGIN", "STATE");
        json_array_foreach(json_object_get(reply, "data"), n, user)
            printf("%-24s %-24s %-8s %-20s %s\n", account_text(user, "username"), account_text(user, "user_id"),
                   account_text(user, "role"), account_text(user, "last_login"),
                   json_is_true(json_object_get(user, "disabled")) ? "disabled" : "active");
    }
    json_decref(reply);
    return EXIT_OK;
}

/* The id of the user with that name or id; free with mem_free. NULL and *err. */
static char *find_id(struct api_client *api, const char *name, struct err *err)
{
    size_t n;
    json_t *user, *reply = account_call(api, "GET", USERS_PATH, NULL, err);
    char *id = NULL;
    json_array_foreach(json_object_get(reply, "data"), n, user)
    {
        if (!id &&
            (strcmp(account_text(user, "username"), name) == 0 || strcmp(account_text(user, "user_id"), name) == 0))
            id = mem_strdup(account_text(user, "user_id"));
    }
    if (reply && !id)
        err_set(err, ERR_NOT_FOUND, "there is no user '%s'", name);
    json_decref(reply);
    return id;
}

static int rm(struct api_client *api, const struct flags *flags, const char *name, struct err *err)
{
    char *id = find_id(api, name, err);
    (void)flags;
    int status = id ? account_remove(api, "users", id, name, err) : cli_fail(err);
    mem_free(id);
    return status;
}

static int passwd(struct api_client *api, const struct flags *flags, const char *name, struct err *err)
{
    char *id = find_id(api, name, err);
    json_t *body = id ? with_password(err) : NULL;
    int status = EXIT_OK;
    if (body) {
        char *path = account_path("users", id, "");
        status = print_user(flags, account_call(api, "PATCH", path, body, err), "password changed", err);
        mem_free(path);
    } else {
        status = cli_fail(err);
    }
    mem_free(id);
    return status;
}

static const struct verb verbs[] = {
    {"add", true, add}, {"list", false, list}, {"rm", true, rm}, {"passwd", true, passwd}};

static const struct verb *find_verb(const char *name)
{
    for (size_t n = 0; name && n < sizeof verbs / sizeof *verbs; n++)
        if (strcmp(verbs[n].name, name) == 0)
            return &verbs[n];
    return NULL;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct flags flags = {0};
    struct err err;
    int status;
    int at = cli_parse(command, argc, argv, on_option, &flags, &status);
    if (at < 0)
        return status;
    const struct verb *verb = find_verb(argv[at]);
    if (!verb)
        return cli_usage(command, "say add, list, rm or passwd");
    if (verb->needs_name && !argv[at + 1])
        return cli_usage(command, "%s needs the name of a user", verb->name);
    struct api_client *api = api_client_new(flags.common.url, &err);
    status = api ? verb->run(api, &flags, argv[at + 1], &err) : cli_fail(&err);
    api_client_free(api);
    return status;
}

const struct cli_command cmd_user = {
    "user",
    "add|list|rm|passwd [NAME]",
    "manage the users of a running server",
    "A password is asked for on the terminal, or read as one line from standard input. The key to call with stands in "
    "$INFERD_API_KEY.\n\n"
    "  inferd user add alice -r service\n"
    "  inferd user passwd alice < secret.txt",
    options,
    run};
