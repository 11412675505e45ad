#include "cli/account.h"

#include <openssl/crypto.h>
#include <termios.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"

char *account_path(const char *collection, const char *id, const char *suffix)
{
    size_t size = sizeof "/v1/auth//" + strlen(collection) + 3 * strlen(id) + strlen(suffix);
    char *path = mem_alloc(size);
    size_t at = (size_t)snprintf(path, size, "/v1/auth/%s/", collection);
    for (; *id; id++)
        at += (size_t)snprintf(path + at, size - at, strchr("/%?# ", *id) || (unsigned char)*id < 33 ? "%%%02X" : "%c",
                               (unsigned char)*id);
    snprintf(path + at, size - at, "%s", suffix);
    return path;
}

json_t *account_call(struct api_client *api, const char *method, const char *path, json_t *body, struct err *err)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_t *reply = api_client_json(api, method, path, text ? str_from(text) : STR(""), err);
    if (text)
        OPENSSL_cleanse(text, strlen(text)); /* it may hold a password */
    free(text);
    json_decref(body);
    return reply;
}

int account_remove(struct api_client *api, const char *collection, const char *id, const char *name, struct err *err)
{
    struct buf body;
    char *path = account_path(collection, id, "");
    buf_init(&body, LIMIT_OPTIONS_BYTES);
    bool good = api_client_call(api, "DELETE", path, STR(""), &body, err);
    buf_release(&body);
    mem_free(path);
    if (!good)
        return cli_fail(err);
    printf("%s: removed\n", name);
    return EXIT_OK;
}

const char *account_text(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text ? text : "-";
}

json_t *account_list(const char *commas)
{
    struct str rest = str_from(commas);
    json_t *list = commas ? json_array() : NULL;
    while (rest.p) {
        struct str one = str_trim(str_cut(&rest, ','));
        json_array_append_new(list, json_stringn(one.p, one.n));
    }
    return list;
}

/* One line of standard input, without its end; NULL: there is none, or it is too long. */
static char *read_line(const char *prompt)
{
    char line[LIMIT_PASSWORD + 2];
    struct termios before;
    bool terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0;
    if (terminal) {
        struct termios silent = before;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
        fprintf(stderr, "%s", prompt); /* whoever sees it can type */
    }
    bool good = fgets(line, sizeof line, stdin) != NULL;
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fprintf(stderr, "\n");
    }
    size_t n = good ? strcspn(line, "\r\n") : 0;
    char *kept = good && n <= LIMIT_PASSWORD ? mem_strndup(line, n) : NULL;
    OPENSSL_cleanse(line, sizeof line);
    return kept;
}

static void wipe(char *text)
{
    if (text)
        OPENSSL_cleanse(text, strlen(text));
    mem_free(text);
}

char *account_password(struct err *err)
{
    char *password = read_line("Password: ");
    if (!password) {
        err_set(err, ERR_USAGE, "there is no password on standard input, or it is longer than %d bytes",
                LIMIT_PASSWORD);
        return NULL;
    }
    if (!isatty(STDIN_FILENO))
        return password;
    char *again = read_line("Again: ");
    if (!again || strcmp(password, again) != 0) {
        err_set(err, ERR_USAGE, "the two passwords differ");
        wipe(password);
        password = NULL;
    }
    wipe(again);
    return password;
}
