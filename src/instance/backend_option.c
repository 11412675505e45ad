/* Typed options: one table, three directions (backend_option.h).
 *
 * Names arrive in many forms: "ctx_size", "ctx-size", "c", "--ctx-size", "-c". All are brought to one: dashes and dots
 * become underscores, aliases their key. A name that then is in no row goes into extra_args under the name as it was
 * written, with a dash for an underscore when it came as a JSON key, so that what is built from a parsed command line
 * is that command line.
 *
 * Parsing a command line only collects: values stay texts, and option_canonical gives them their types, as it does for
 * texts in JSON. So there is one set of rules and one set of messages. */
#include "instance/backend_option.h"

#include <errno.h>
#include <math.h>

#include "base/buf.h"

#define NAME_BYTES 128
#define NAMES      1024 /* names of one table in a question "did you mean" */

/* ---- names ---- */

/* A row under the name that was used: negated for no_x of a switch. row NULL: unknown. */
struct option {
    const struct option_row *row;
    bool negated;
};

static void normal_name(struct str name, char out[NAME_BYTES])
{
    size_t n = name.n < NAME_BYTES ? name.n : 0; /* longer ones are nobody's */
    for (size_t i = 0; i < n; i++)
        out[i] = name.p[i] == '-' || name.p[i] == '.' ? '_' : name.p[i];
    out[n] = '\0';
}

static const struct option_row *row_find(const struct option_table *table, const char *name)
{
    for (const struct option_row *row = table->rows; row->name; row++)
        if (strcmp(row->name, name) == 0)
            return row;
    return NULL;
}

static bool can_be_negated(const struct option_row *row)
{
    return row && (row->kind == OPTION_SWITCH || row->kind == OPTION_NEGATIVE);
}

static struct option find(const struct option_table *table, struct str written)
{
    char normal[NAME_BYTES];
    const char *name = normal;
    normal_name(written, normal);
    for (const struct option_alias *alias = table->aliases; alias->name; alias++)
        if (strcmp(alias->name, name) == 0) {
            name = alias->key;
            break;
        }
    struct option option = {row_find(table, name), false};
    if (!option.row && strncmp(name, "no_", 3) == 0 && can_be_negated(row_find(table, name + 3)))
        option = (struct option){row_find(table, name + 3), true};
    return option;
}

static const char *key_of(struct option option, char out[NAME_BYTES])
{
    snprintf(out, NAME_BYTES, "%s%s", option.negated ? "no_" : "", option.row->name);
    return out;
}

static bool unknown(const struct option_table *table, const char *name, struct err *err)
{
    const char *names[NAMES];
    size_t count = 0;
    char param[LIMIT_ERR_PARAM];
    for (const struct option_row *row = table->rows; row->name && count < NAMES; row++)
        names[count++] = row->name;
    const char *nearest = str_nearest(str_from(name), names, count);
    return err_set_param(err, ERR_INVALID_PARAMETERS, json_path_member(param, sizeof param, "backend_options", name),
                         "'%s' is no option of this backend%s%s%s", name, nearest ? "; did you mean '" : "",
                         nearest ? nearest : "", nearest ? "'?" : "");
}

/* ---- values ---- */

const char *option_number(struct arena *arena, const json_t *number)
{
    if (json_is_integer(number))
        return arena_printf(arena, "%lld", (long long)json_integer_value(number));
    double value = json_real_value(number);
    if (value == floor(value) && fabs(value) < 1e15)
        return arena_printf(arena, "%.0f", value);
    char *text = NULL;
    for (int digits = 1; digits <= 17; digits++) {
        text = arena_printf(arena, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    return text;
}

static json_t *whole_number(const json_t *value)
{
    if (json_is_integer(value))
        return json_integer(json_integer_value(value));
    double real = json_real_value(value);
    if (json_is_real(value) && real == floor(real) && fabs(real) < 9e15)
        return json_integer((json_int_t)real);
    const char *text = json_string_value(value);
    char *end;
    if (!text || !(*text == '-' || (*text >= '0' && *text <= '9')))
        return NULL;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    return *end || end == text || errno ? NULL : json_integer(number);
}

/* The grammar of JSON numbers, a leading '+' or '.' besides: strtod alone would take "inf", "0x1p3" and blanks. */
static bool looks_like_number(const char *text)
{
    size_t n = strspn(text, "+-.0123456789eE");
    return n > 0 && text[n] == '\0' && strpbrk(text, "0123456789") && *text != 'e' && *text != 'E';
}

static json_t *real_number(const json_t *value)
{
    if (json_is_number(value))
        return json_deep_copy(value);
    const char *text = json_string_value(value);
    char *end;
    if (!text || !looks_like_number(text))
        return NULL;
    double number = strtod(text, &end);
    if (*end || !isfinite(number))
        return NULL;
    json_t *whole = whole_number(value);
    return whole ? whole : json_real(number);
}

static json_t *port_number(const json_t *value)
{
    json_t *number = whole_number(value);
    if (number && json_integer_value(number) >= 0 && json_integer_value(number) <= 65535)
        return number;
    json_decref(number);
    return NULL;
}

/* vllm counts in thousands, too: "32k". */
static bool has_unit(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && text[digits] && strchr("kKmMgG", text[digits]) && text[digits + 1] == '\0';
}

static json_t *count_or_word(const json_t *value)
{
    const char *text = json_string_value(value);
    if (text && (strcmp(text, "auto") == 0 || strcmp(text, "all") == 0 || has_unit(text)))
        return json_string(text);
    return whole_number(value);
}

static json_t *scalar_text(const json_t *value)
{
    if (json_is_string(value))
        return json_deep_copy(value);
    if (!json_is_number(value))
        return NULL;
    struct arena arena;
    arena_init(&arena);
    json_t *text = json_string(option_number(&arena, value));
    arena_dispose(&arena);
    return text;
}

/* An array of texts; NULL when a member is something else. */
static json_t *texts_of(const json_t *array)
{
    json_t *texts = json_array(), *member;
    size_t i;
    json_array_foreach(array, i, member)
    {
        if (json_array_append_new(texts, scalar_text(member)) == 0)
            continue;
        json_decref(texts);
        return NULL;
    }
    return texts;
}

static json_t *several_texts(const json_t *value)
{
    return json_is_string(value) ? json_pack("[O]", value) : json_is_array(value) ? texts_of(value) : NULL;
}

static json_t *pair_of_texts(const json_t *value)
{
    json_t *pair = NULL;
    if (json_is_string(value)) {
        struct str second = str_trim(json_str(value));
        struct str first = str_cut(&second, ' ');
        second = str_trim(second);
        pair = json_pack("[s%, s%]", first.p, first.n, second.p ? second.p : "", second.n);
    } else if (json_is_array(value)) {
        pair = texts_of(value);
    }
    if (pair && json_array_size(pair) == 2 && json_string_length(json_array_get(pair, 0)) > 0 &&
        json_string_length(json_array_get(pair, 1)) > 0)
        return pair;
    json_decref(pair);
    return NULL;
}

static json_t *boolean(const json_t *value)
{
    return json_is_boolean(value) ? json_boolean(json_is_true(value)) : NULL;
}

static json_t *plain_text(const json_t *value)
{
    return json_is_string(value) ? json_deep_copy(value) : NULL;
}

static const struct {
    json_t *(*read)(const json_t *value);
    const char *expected;
} kinds[] = {
    [OPTION_INT] = {whole_number, "a whole number"},
    [OPTION_PORT] = {port_number, "a whole number from 0 to 65535"},
    [OPTION_COUNT] = {count_or_word, "a whole number, \"auto\" or \"all\""},
    [OPTION_FLOAT] = {real_number, "a number"},
    [OPTION_TEXT] = {plain_text, "a string"},
    [OPTION_BOOL] = {boolean, "true or false"},
    [OPTION_SWITCH] = {boolean, "true or false"},
    [OPTION_NEGATIVE] = {boolean, "true or false"},
    [OPTION_MULTI] = {several_texts, "a string or an array of strings"},
    [OPTION_PAIR] = {pair_of_texts, "an array of two, or two words in a string"},
};

/* What stands for an unknown name: a text, "" for a bare flag, or an array of texts when it is given several times. A
 * false flag is no flag. */
static json_t *extra_value(const json_t *value)
{
    if (json_is_true(value))
        return json_string("");
    if (json_is_array(value))
        return texts_of(value);
    if (!json_is_object(value))
        return scalar_text(value);
    char *document = json_dumps(value, JSON_COMPACT); /* vllm takes such */
    json_t *result = json_string(document);
    free(document);
    return result;
}

/* ---- JSON to the canonical shape ---- */

struct canonical {
    const struct option_table *table;
    json_t *options, *extra;
    struct err *err;
};

static bool wrong_type(struct canonical *c, const char *key, const char *expected, const json_t *value)
{
    char param[LIMIT_ERR_PARAM];
    json_path_member(param, sizeof param, "backend_options", key);
    if (json_is_string(value))
        return err_set_param(c->err, ERR_INVALID_PARAMETERS, param, "'%s' must be %s, but is \"%.100s\"", param,
                             expected, json_string_value(value));
    return err_set_param(c->err, ERR_INVALID_PARAMETERS, param, "'%s' must be %s, but is %s", param, expected,
                         json_kind_name(value));
}

static bool put_extra(struct canonical *c, const char *name, const json_t *value)
{
    if (json_is_null(value) || json_is_false(value))
        return true;
    if (*name == '\0')
        return unknown(c->table, name, c->err);
    json_t *extra = extra_value(value);
    if (!extra)
        return wrong_type(c, name, "a string, a number, true or false, or an array of strings", value);
    json_object_set_new(c->extra, name, extra);
    return true;
}

/* As it was written, but for the underscores of a JSON key: '_' is no usual character of a flag. */
static bool put_unknown(struct canonical *c, const char *name, const json_t *value)
{
    char flag[NAME_BYTES];
    snprintf(flag, sizeof flag, "%s", name);
    for (char *p = flag; *p; p++)
        if (*p == '_')
            *p = '-';
    if (c->table->strict || strlen(name) >= sizeof flag)
        return unknown(c->table, name, c->err);
    return put_extra(c, flag, value);
}

static bool put_member(struct canonical *c, const char *name, const json_t *value)
{
    struct option option = find(c->table, str_from(name));
    char key[NAME_BYTES];
    if (!option.row)
        return put_unknown(c, name, value);
    if (json_is_null(value))
        return true;
    key_of(option, key);
    json_t *typed = kinds[option.row->kind].read(value);
    if (!typed)
        return wrong_type(c, key, kinds[option.row->kind].expected, value);
    json_object_set_new(c->options, key, typed);
    return true;
}

static bool put_extras(struct canonical *c, const json_t *extras)
{
    const char *name;
    json_t *value;
    if (!extras || json_is_null(extras))
        return true;
    if (!json_is_object(extras))
        return wrong_type(c, "extra_args", "an object", extras);
    if (c->table->strict && json_object_size(extras) > 0)
        return unknown(c->table, "extra_args", c->err);
    json_object_foreach((json_t *)extras, name, value) if (!put_extra(c, name, value)) return false;
    return true;
}

static bool put_all(struct canonical *c, const json_t *options)
{
    const char *name;
    json_t *value;
    if (!put_extras(c, json_object_get(options, "extra_args")))
        return false;
    json_object_foreach((json_t *)options, name,
                        value) if (strcmp(name, "extra_args") != 0 && !put_member(c, name, value)) return false;
    return true;
}

json_t *option_canonical(const struct option_table *table, const json_t *options, struct err *err)
{
    struct canonical c = {table, json_object(), json_object(), err};
    bool good = !options || json_is_null(options) || json_is_object(options)
                    ? put_all(&c, options)
                    : err_set_param(err, ERR_INVALID_PARAMETERS, "backend_options",
                                    "'backend_options' must be an object, but is %s", json_kind_name(options));
    if (good && json_object_size(c.extra) > 0)
        json_object_set(c.options, "extra_args", c.extra);
    json_decref(c.extra);
    if (good)
        return c.options;
    json_decref(c.options);
    return NULL;
}

/* ---- canonical options to arguments ---- */

void launch_add(struct backend_launch *launch, const char *argument)
{
    launch->full = launch->full || launch->argc == BACKEND_ARGUMENTS - 1;
    if (!launch->full)
        launch->argv[launch->argc++] = argument;
}

void launch_add_configured(struct backend_launch *launch)
{
    const struct conf_backend *conf = launch->in->conf;
    for (size_t i = 0; conf && !launch->docker && conf->args[i]; i++)
        launch_add(launch, conf->args[i]);
}

static const char *dashed(struct arena *arena, const char *prefix, const char *name)
{
    char *flag = arena_printf(arena, "%s%s", prefix, name);
    for (char *p = flag; *p; p++)
        if (*p == '_')
            *p = '-';
    return flag;
}

static const char *flag_of(struct backend_launch *launch, const struct option_row *row)
{
    return row->flag ? row->flag : dashed(launch->arena, "--", row->name);
}

static const char *text_of(struct backend_launch *launch, const json_t *value)
{
    if (json_is_number(value))
        return option_number(launch->arena, value);
    return arena_strdup(launch->arena, json_string_value(value));
}

static void add_option(struct backend_launch *launch, const char *flag, const json_t *value)
{
    launch_add(launch, flag);
    launch_add(launch, text_of(launch, value));
}

static void add_repeated(struct backend_launch *launch, const char *flag, const json_t *values)
{
    json_t *value;
    size_t i;
    json_array_foreach(values, i, value) if (json_string_length(value) > 0) add_option(launch, flag, value);
}

static void add_pair(struct backend_launch *launch, const char *flag, const json_t *pair)
{
    add_option(launch, flag, json_array_get(pair, 0));
    launch_add(launch, text_of(launch, json_array_get(pair, 1)));
}

static void add_boolean(struct backend_launch *launch, const struct option_row *row, bool on)
{
    if (on && row->kind != OPTION_NEGATIVE)
        launch_add(launch, flag_of(launch, row));
    else if (!on && can_be_negated(row))
        launch_add(launch, dashed(launch->arena, "--no-", row->name));
}

static void add_row(struct backend_launch *launch, const struct option_row *row, const json_t *value)
{
    const char *flag = flag_of(launch, row);
    switch (row->kind) {
    case OPTION_BOOL:
    case OPTION_SWITCH:
    case OPTION_NEGATIVE: add_boolean(launch, row, json_is_true(value)); return;
    case OPTION_MULTI: add_repeated(launch, flag, value); return;
    case OPTION_PAIR: add_pair(launch, flag, value); return;
    case OPTION_PORT:
        if (json_integer_value(value) == 0)
            return;
        break;
    case OPTION_TEXT:
        if (json_string_length(value) == 0)
            return;
        break;
    case OPTION_INT:
    case OPTION_COUNT:
    case OPTION_FLOAT: break;
    }
    add_option(launch, flag, value);
}

/* no_x of a switch: true is the negative, false says nothing. */
static void add_negated(struct backend_launch *launch, const struct option_row *row, const json_t *options)
{
    char key[NAME_BYTES];
    if (can_be_negated(row) && json_is_true(json_object_get(options, key_of((struct option){row, true}, key))))
        add_boolean(launch, row, false);
}

static void add_extra(struct backend_launch *launch, const char *flag, const json_t *value)
{
    if (json_string_length(value) > 0)
        add_option(launch, flag, value);
    else
        launch_add(launch, flag);
}

static void add_extras(struct backend_launch *launch, const char *name, json_t *value)
{
    const char *flag = arena_printf(launch->arena, "%s%s", *name == '-' ? "" : "--", name);
    json_t *one;
    size_t i;
    if (!json_is_array(value))
        add_extra(launch, flag, value);
    json_array_foreach(value, i, one) add_extra(launch, flag, one);
}

void option_arguments(const struct option_table *table, struct backend_launch *launch, const json_t *options,
                      const char *except)
{
    const char *name;
    json_t *value;
    for (const struct option_row *row = table->rows; row->name; row++) {
        value = json_object_get(options, row->name);
        if (value && !(except && strcmp(row->name, except) == 0))
            add_row(launch, row, value);
        add_negated(launch, row, options);
    }
    json_object_foreach(json_object_get(options, "extra_args"), name, value) add_extras(launch, name, value);
}

/* ---- a command line to options ---- */

struct parser {
    const struct option_table *table;
    const char *const *word; /* the next one */
    json_t *options, *extra;
    struct err *err;
};

static bool is_flag(const char *word)
{
    return word[0] == '-' && word[1] && !looks_like_number(word);
}

static struct str name_of_flag(const char *word)
{
    word += word[1] == '-' ? 2 : 1;
    return (struct str){word, strcspn(word, "=")};
}

/* What a flag that takes a value is followed by may begin with a dash, unless it is a flag that we know. */
static const char *take_value(struct parser *p)
{
    const char *word = *p->word;
    if (!word || (is_flag(word) && find(p->table, name_of_flag(word)).row))
        return NULL;
    p->word++;
    return word;
}

static bool missing_value(struct parser *p, const char *flag)
{
    return err_set(p->err, ERR_INVALID_PARAMETERS, "'%.100s' needs a value behind it", flag);
}

static bool parse_boolean(struct parser *p, const char *flag, const char *key, const char *inline_value)
{
    bool off = inline_value && strcmp(inline_value, "false") == 0;
    if (inline_value && !off && strcmp(inline_value, "true") != 0)
        return err_set(p->err, ERR_INVALID_PARAMETERS, "'%.100s': the flag takes no value but true or false", flag);
    json_object_set_new(p->options, key, json_boolean(!off));
    return true;
}

static bool parse_pair(struct parser *p, const char *flag, const char *key, const char *inline_value)
{
    const char *first = inline_value ? inline_value : take_value(p);
    const char *second = inline_value ? NULL : take_value(p);
    if (!inline_value && !second)
        return err_set(p->err, ERR_INVALID_PARAMETERS, "'%.100s' needs two values behind it", flag);
    json_object_set_new(p->options, key, second ? json_pack("[s, s]", first, second) : json_string(first));
    return true;
}

/* Into object under key; once more makes it an array. */
static void put_again(json_t *object, const char *key, const char *value)
{
    json_t *before = json_object_get(object, key);
    if (!before)
        json_object_set_new(object, key, json_string(value));
    else if (json_is_array(before))
        json_array_append_new(before, json_string(value));
    else
        json_object_set_new(object, key, json_pack("[O, s]", before, value));
}

static bool parse_known(struct parser *p, const char *flag, struct option option, const char *inline_value)
{
    char key[NAME_BYTES];
    key_of(option, key);
    switch (option.row->kind) {
    case OPTION_BOOL:
    case OPTION_SWITCH:
    case OPTION_NEGATIVE: return parse_boolean(p, flag, key, inline_value);
    case OPTION_PAIR: return parse_pair(p, flag, key, inline_value);
    default: break;
    }
    const char *value = inline_value ? inline_value : take_value(p);
    if (!value)
        return missing_value(p, flag);
    if (option.row->kind == OPTION_MULTI)
        put_again(p->options, key, value);
    else
        json_object_set_new(p->options, key, json_string(value));
    return true;
}

/* Nobody here knows whether it takes a value: what follows is one unless it looks like a flag. */
static bool parse_unknown(struct parser *p, const char *flag, const char *inline_value)
{
    struct str name = name_of_flag(flag);
    char key[NAME_BYTES];
    if (name.n + 1 >= sizeof key || name.n == 0)
        return err_set(p->err, ERR_INVALID_PARAMETERS, "'%.100s' is no flag", flag);
    snprintf(key, sizeof key, "%s" STR_FMT, flag[1] == '-' ? "" : "-", STR_ARG(name));
    if (p->table->strict)
        return unknown(p->table, key, p->err);
    if (!inline_value && *p->word && !is_flag(*p->word))
        inline_value = *p->word++;
    put_again(p->extra, key, inline_value ? inline_value : "");
    return true;
}

static bool parse_flag(struct parser *p)
{
    const char *flag = *p->word++;
    struct str name = name_of_flag(flag);
    const char *inline_value = name.p[name.n] == '=' ? name.p + name.n + 1 : NULL;
    if (name.n == 0 || *name.p == '-')
        return err_set(p->err, ERR_INVALID_PARAMETERS, "'%.100s' is no flag", flag);
    struct option option = find(p->table, name);
    return option.row ? parse_known(p, flag, option, inline_value) : parse_unknown(p, flag, inline_value);
}

static struct str base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return str_from(slash ? slash + 1 : path);
}

static bool is_container_tool(const char *word)
{
    return word && (str_ieq(base_name(word), STR("docker")) || str_ieq(base_name(word), STR("podman")));
}

static void skip_program(struct parser *p)
{
    for (size_t i = 0; *p->word && p->table->programs[i]; i++)
        if (str_ieq(base_name(*p->word), str_from(p->table->programs[i]))) {
            p->word++;
            break;
        }
    if (*p->word && p->table->subcommand && strcmp(*p->word, p->table->subcommand) == 0)
        p->word++;
}

static bool parse_words(struct parser *p)
{
    if (is_container_tool(*p->word))
        return err_set(p->err, ERR_INVALID_PARAMETERS,
                       "a command line of a container cannot be taken apart: give the part behind the image, and set "
                       "docker_enabled");
    skip_program(p);
    const char *model = *p->word && !is_flag(*p->word) ? *p->word++ : NULL;
    while (*p->word) {
        if (!is_flag(*p->word))
            return err_set(p->err, ERR_INVALID_PARAMETERS, "'%.100s' belongs to no flag", *p->word);
        if (!parse_flag(p))
            return false;
    }
    if (model && !json_object_get(p->options, "model"))
        json_object_set_new(p->options, "model", json_string(model));
    return true;
}

json_t *option_parse(const struct option_table *table, struct str command, struct err *err)
{
    struct arena arena;
    json_t *result = NULL;
    arena_init(&arena);
    struct parser p = {table, backend_split(command, &arena, err), json_object(), json_object(), err};
    if (p.word && parse_words(&p)) {
        json_object_set(p.options, "extra_args", p.extra);
        result = option_canonical(table, p.options, err);
    }
    json_decref(p.options);
    json_decref(p.extra);
    arena_dispose(&arena);
    return result;
}
