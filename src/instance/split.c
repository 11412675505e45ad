/* A command line into words as a POSIX shell does it: blanks, quotes, backslashes. Nothing is expanded, and what a
 * shell would do beyond one plain command ('|', ';', '>' ...) is refused instead of becoming a word. Line ends count as
 * blanks, since that is how command lines are pasted. */
#include "base/buf.h"
#include "base/utf8.h"
#include "instance/backend_option.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_operator(char c)
{
    return c == '|' || c == '&' || c == ';' || c == '<' || c == '>' || c == '(' || c == ')';
}

static char take(struct str *rest)
{
    char c = *rest->p;
    rest->p++;
    rest->n--;
    return c;
}

static void skip_blanks(struct str *rest)
{
    for (;;) {
        if (rest->n && is_blank(*rest->p))
            take(rest);
        else if (rest->n > 1 && rest->p[0] == '\\' && (rest->p[1] == '\n' || rest->p[1] == '\r'))
            take(rest), take(rest);
        else
            return;
    }
}

/* Behind a backslash: the character itself, or nothing for a line end. */
static void escaped(struct str *rest, struct buf *word)
{
    char c = take(rest);
    if (c == '\r' && rest->n && *rest->p == '\n')
        c = take(rest);
    if (c != '\n')
        buf_putc(word, c);
}

/* Behind an opening quote, up to and with the closing one. */
static bool quoted(struct str *rest, char quote, struct buf *word, struct err *err)
{
    while (rest->n) {
        char c = take(rest);
        if (c == quote)
            return true;
        if (c == '\\' && quote == '"' && rest->n && strchr("$`\"\\\n", *rest->p))
            escaped(rest, word);
        else
            buf_putc(word, c);
    }
    return err_set(err, ERR_INVALID_PARAMETERS, "the command has an unclosed %s quote: add the second %c",
                   quote == '"' ? "double" : "single", quote);
}

static bool one_word(struct str *rest, struct buf *word, struct err *err)
{
    while (rest->n && !is_blank(*rest->p)) {
        char c = take(rest);
        if (is_operator(c))
            return err_set(err, ERR_INVALID_PARAMETERS,
                           "the command has an unquoted '%c': only one plain command can be taken, and such a "
                           "character in a value needs quotes",
                           c);
        if (c == '\\' && rest->n)
            escaped(rest, word);
        else if (c != '"' && c != '\'')
            buf_putc(word, c);
        else if (!quoted(rest, c, word, err))
            return false;
    }
    return true;
}

bool split_word(struct str *rest, struct arena *arena, const char **ret_word, struct err *err)
{
    struct buf word;
    *ret_word = NULL;
    skip_blanks(rest);
    if (rest->n == 0)
        return true;
    buf_init(&word, LIMIT_COMMAND_BYTES);
    bool good = one_word(rest, &word, err);
    if (good)
        *ret_word = arena_str(arena, buf_view(&word)).p;
    buf_release(&word);
    return good;
}

bool split_check(struct str command, struct err *err)
{
    if (command.n > LIMIT_COMMAND_BYTES)
        return err_set(err, ERR_INVALID_PARAMETERS, "the command is longer than %d bytes", LIMIT_COMMAND_BYTES);
    if (command.n && memchr(command.p, '\0', command.n))
        return err_set(err, ERR_INVALID_PARAMETERS, "the command has a NUL byte in it");
    if (!utf8_valid(command.p, command.n))
        return err_set(err, ERR_INVALID_PARAMETERS, "the command is not UTF-8");
    return true;
}

const char *const *backend_split(struct str command, struct arena *arena, struct err *err)
{
    const char **words = arena_calloc(arena, BACKEND_ARGUMENTS * sizeof *words);
    if (!split_check(command, err))
        return NULL;
    for (size_t count = 0; count < BACKEND_ARGUMENTS; count++) {
        if (!split_word(&command, arena, &words[count], err))
            return NULL;
        if (words[count])
            continue;
        if (count > 0)
            return words;
        err_set(err, ERR_INVALID_PARAMETERS, "the command is empty");
        return NULL;
    }
    err_set(err, ERR_INVALID_PARAMETERS, "the command has more than %d words", BACKEND_ARGUMENTS - 1);
    return NULL;
}
