/* Which flags a real binary knows, from its own --help text, so that an option which it would refuse is named before it
 * is started. Help texts are for people; what llama-server, vllm and mlx_lm.server have in common is enough:
 *
 *     -t,    --threads N                      number of threads ...
 *       -m MODEL, --model MODEL   the model ...
 *
 * a line begins with a flag, more of them follow behind commas, and two blanks that no comma precedes end the list. */
#include "instance/backend.h"

#include "base/mem.h"

struct flag_set {
    struct arena arena;
    const char *names[LIMIT_FLAGS];
    size_t count;
};

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_name(char c)
{
    return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

/* The flag at the beginning of text ("-x", "--long-name"), or STR_NONE. Negative numbers are none. */
static struct str flag_at(struct str text)
{
    size_t dashes = 0, n;
    while (dashes < text.n && text.p[dashes] == '-')
        dashes++;
    if (dashes < 1 || dashes > 2 || dashes == text.n || !is_letter(text.p[dashes]))
        return STR_NONE;
    for (n = dashes; n < text.n && is_name(text.p[n]); n++)
        ;
    while (text.p[n - 1] == '.' || text.p[n - 1] == '-') /* of the sentence, not of the name */
        n--;
    return (struct str){text.p, n};
}

static struct str skip(struct str text, size_t n)
{
    return (struct str){text.p + n, text.n - n};
}

/* What stands behind the comma after which the next flag begins, or STR_NONE. */
static struct str next_in_list(struct str text)
{
    for (size_t i = 0; text.p && i + 1 < text.n; i++) {
        if (text.p[i] == ',') {
            struct str rest = str_trim(skip(text, i + 1));
            if (flag_at(rest).p)
                return rest;
        } else if (text.p[i] == '\t' || (text.p[i] == ' ' && text.p[i + 1] == ' ')) {
            break;
        }
    }
    return STR_NONE;
}

static void add(struct flag_set *flags, struct str name)
{
    if (flags->count < LIMIT_FLAGS && !flag_set_has(flags, name))
        flags->names[flags->count++] = arena_strndup(&flags->arena, name.p, name.n);
}

/* llama-server lists what it no longer takes, and says so. */
static bool is_removed(struct str line)
{
    static const char words[] = "the argument has been removed";
    return line.n && memmem(line.p, line.n, words, sizeof words - 1);
}

static void read_line(struct flag_set *flags, struct str line)
{
    struct str rest = str_trim(line);
    struct str flag = flag_at(rest);
    if (is_removed(line))
        return;
    while (flag.p) {
        add(flags, flag);
        rest = next_in_list(skip(rest, flag.n));
        flag = flag_at(rest);
    }
}

struct flag_set *flag_set_read(struct str help)
{
    struct flag_set *flags = mem_calloc(1, sizeof *flags);
    arena_init(&flags->arena);
    while (help.p)
        read_line(flags, str_cut(&help, '\n'));
    if (flags->count)
        return flags;
    flag_set_free(flags);
    return NULL;
}

void flag_set_free(struct flag_set *flags)
{
    if (!flags)
        return;
    arena_dispose(&flags->arena);
    mem_free(flags);
}

bool flag_set_has(const struct flag_set *flags, struct str flag)
{
    for (size_t i = 0; i < flags->count; i++)
        if (str_eq(str_from(flags->names[i]), flag))
            return true;
    return false;
}

void flag_set_check(const struct flag_set *flags, const char *const *argv,
                    void (*on_unknown)(void *arg, const char *flag, const char *nearest), void *arg)
{
    for (; *argv; argv++) {
        struct str flag = flag_at(str_from(*argv));
        char whole = flag.p ? flag.p[flag.n] : '\0';
        if (!flag.p || (whole != '\0' && whole != '=') || flag_set_has(flags, flag))
            continue;
        char name[LIMIT_ERR_PARAM];
        snprintf(name, sizeof name, STR_FMT, STR_ARG(flag));
        on_unknown(arg, name, str_nearest(flag, flags->names, flags->count));
    }
}
