/* Options come from four kinds of source but pass through one place each: a TOML value through set_toml, a text (an
 * environment variable, a flag, a default) through set_text. Both check against the same row and write to the field
 * at the row's offset. */
#include "conf/conf.h"

#include <errno.h>
#include <limits.h>

#include "base/buf.h"
#include "base/json_write.h"
#include "conf/toml.h"

#define OPTION(field, kind, table, key, value, least, most, choices, help)                                             \
    {table, key, CONF_##kind, offsetof(struct conf, field), value, (double)(least), (double)(most), choices, help},
const struct conf_option conf_options[] = {
#include "conf/conf.def"
    {.key = NULL}};
#undef OPTION

#define OPTION(field, kind, table, key, value, least, most, choices, help)                                             \
    {table,          key,     CONF_##kind, offsetof(struct conf_model, field), value, (double)(least),                 \
     (double)(most), choices, help},
const struct conf_option conf_model_options[] = {
#include "conf/model.def"
    {.key = NULL}};
#undef OPTION

/* Where a value came from, for messages: "FILE:LINE" or "--port". */
struct target {
    struct conf *conf;
    void *record; /* struct conf or struct conf_model */
    const char *origin;
    struct err *err;
};

static void *slot(const struct target *t, const struct conf_option *o)
{
    return (char *)t->record + o->offset;
}

static const char *full_name(const struct conf_option *o, char *out, size_t size)
{
    snprintf(out, size, "%s%s%s", o->table, *o->table ? "." : "", o->key);
    return out;
}

static bool wrong(const struct target *t, const struct conf_option *o, const char *expected)
{
    char name[96];
    return err_set(t->err, ERR_CONFIG, "%s: '%s' must be %s", t->origin, full_name(o, name, sizeof name), expected);
}

static bool wrong_range(const struct target *t, const struct conf_option *o)
{
    char expected[80];
    snprintf(expected, sizeof expected, "between %.15g and %.15g%s", o->least, o->most,
             o->kind == CONF_AUTO ? ", or \"auto\"" : "");
    return wrong(t, o, expected);
}

const char *conf_choice_name(const char *choices, int index, char *out, size_t size)
{
    struct str rest = str_from(choices), word = STR_NONE;
    for (int i = 0; i <= index && rest.p; i++)
        word = str_cut(&rest, ' ');
    snprintf(out, size, STR_FMT, STR_ARG(word));
    return out;
}

/* ---- storing a checked value ---- */

static bool store_number(const struct target *t, const struct conf_option *o, double value)
{
    if (!(value >= o->least && value <= o->most))
        return wrong_range(t, o);
    if (o->kind == CONF_NUMBER)
        *(double *)slot(t, o) = value;
    else
        *(int64_t *)slot(t, o) = (int64_t)value;
    return true;
}

static bool store_choice(const struct target *t, const struct conf_option *o, struct str text)
{
    struct str rest = str_from(o->choices);
    for (int i = 0; rest.p; i++) {
        if (str_eq(str_cut(&rest, ' '), text)) {
            *(int *)slot(t, o) = i;
            return true;
        }
    }
    char expected[200];
    snprintf(expected, sizeof expected, "one of: %s", o->choices);
    return wrong(t, o, expected);
}

static const char *expand_home(const struct target *t, struct str text)
{
    const char *home = getenv("HOME");
    if (home && str_starts(text, STR("~/")))
        return arena_printf(&t->conf->arena, "%s" STR_FMT, home, (int)(text.n - 1), text.p + 1);
    return arena_strndup(&t->conf->arena, text.p, text.n);
}

static bool store_text(const struct target *t, const struct conf_option *o, struct str text)
{
    if (memchr(text.p ? text.p : "", '\0', text.n))
        return wrong(t, o, "free of NUL characters");
    *(const char **)slot(t, o) =
        o->kind == CONF_PATH ? expand_home(t, text) : arena_strndup(&t->conf->arena, text.p, text.n);
    return true;
}

static const char **list_new(const struct target *t, size_t count)
{
    return arena_calloc(&t->conf->arena, (count + 1) * sizeof(char *));
}

/* ---- from text ---- */

static bool parse_number(const char *text, double *ret_value)
{
    char *end;
    errno = 0;
    *ret_value = strtod(text, &end);
    return *text && !*end && errno == 0;
}

static bool set_list_text(const struct target *t, const struct conf_option *o, const char *text)
{
    size_t count = 1;
    for (const char *p = text; *p; p++)
        count += *p == ',';
    const char **items = list_new(t, count);
    struct str rest = str_from(text);
    for (size_t i = 0; rest.p && rest.n;) {
        struct str item = str_trim(str_cut(&rest, ','));
        if (item.n)
            items[i++] = expand_home(t, item);
    }
    *(const char ***)slot(t, o) = items;
    return true;
}

static bool set_text(const struct target *t, const struct conf_option *o, const char *text)
{
    double number;
    switch (o->kind) {
    case CONF_TEXT:
    case CONF_PATH: return store_text(t, o, str_from(text));
    case CONF_LIST: return set_list_text(t, o, text);
    case CONF_CHOICE: return store_choice(t, o, str_from(text));
    case CONF_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return wrong(t, o, "true or false");
        *(bool *)slot(t, o) = *text == 't';
        return true;
    case CONF_AUTO:
        if (strcmp(text, "auto") == 0) {
            *(int64_t *)slot(t, o) = CONF_AUTO_VALUE;
            return true;
        }
        /* fallthrough */
    case CONF_INT:
        if (!parse_number(text, &number) || number != (double)(int64_t)number)
            return wrong(t, o, o->kind == CONF_AUTO ? "a whole number or \"auto\"" : "a whole number");
        return store_number(t, o, number);
    case CONF_NUMBER: return parse_number(text, &number) ? store_number(t, o, number) : wrong(t, o, "a number");
    }
    return false;
}

/* ---- from TOML ---- */

static bool set_list_toml(const struct target *t, const struct conf_option *o, const struct toml *value)
{
    size_t count = 0;
    if (value->kind != TOML_ARRAY)
        return wrong(t, o, "an array of strings");
    for (const struct toml *item = value->children.first; item; item = item->next) {
        if (item->kind != TOML_STRING)
            return wrong(t, o, "an array of strings");
        count++;
    }
    const char **items = list_new(t, count);
    size_t i = 0;
    for (const struct toml *item = value->children.first; item; item = item->next)
        items[i++] = expand_home(t, item->text);
    *(const char ***)slot(t, o) = items;
    return true;
}

static bool set_toml(const struct target *t, const struct conf_option *o, const struct toml *value)
{
    switch (o->kind) {
    case CONF_TEXT:
    case CONF_PATH: return value->kind == TOML_STRING ? store_text(t, o, value->text) : wrong(t, o, "a string");
    case CONF_CHOICE: return value->kind == TOML_STRING ? store_choice(t, o, value->text) : wrong(t, o, "a string");
    case CONF_LIST: return set_list_toml(t, o, value);
    case CONF_BOOL:
        if (value->kind != TOML_BOOL)
            return wrong(t, o, "true or false");
        *(bool *)slot(t, o) = value->boolean;
        return true;
    case CONF_AUTO:
        if (value->kind == TOML_STRING && str_eq(value->text, STR("auto"))) {
            *(int64_t *)slot(t, o) = CONF_AUTO_VALUE;
            return true;
        }
        /* fallthrough */
    case CONF_INT:
        return value->kind == TOML_INTEGER
                   ? store_number(t, o, (double)value->integer)
                   : wrong(t, o, o->kind == CONF_AUTO ? "a whole number or \"auto\"" : "a whole number");
    case CONF_NUMBER:
        if (value->kind != TOML_INTEGER && value->kind != TOML_FLOAT)
            return wrong(t, o, "a number");
        return store_number(t, o, value->kind == TOML_INTEGER ? (double)value->integer : value->real);
    }
    return false;
}

/* ---- names ---- */

static const struct conf_option *find_option(const struct conf_option *rows, struct str table, struct str key)
{
    for (const struct conf_option *o = rows; o->key; o++)
        if (str_eq(table, str_from(o->table)) && str_eq(key, str_from(o->key)))
            return o;
    return NULL;
}

static bool is_table(struct str name)
{
    for (const struct conf_option *o = conf_options; o->key; o++)
        if (*o->table && str_eq(name, str_from(o->table)))
            return true;
    return str_eq(name, STR("models"));
}

static bool unknown(const struct target *t, const struct conf_option *rows, struct str table, struct str key)
{
    const char *names[128];
    size_t count = 0;
    for (const struct conf_option *o = rows; o->key && count < 127; o++)
        if (str_eq(table, str_from(o->table)))
            names[count++] = o->key;
    const char *nearest = str_nearest(key, names, count);
    return err_set(t->err, ERR_CONFIG, "%s: unknown key '" STR_FMT "'%s" STR_FMT "%s%s%s%s", t->origin, STR_ARG(key),
                   table.n ? " in [" : "", STR_ARG(table), table.n ? "]" : "", nearest ? "; did you mean '" : "",
                   nearest ? nearest : "", nearest ? "'?" : "");
}

static bool unknown_table(const struct target *t, struct str name)
{
    static const char *const names[] = {"server", "backend_config", "inference", "cache", "models"};
    const char *nearest = str_nearest(name, names, sizeof names / sizeof *names);
    return err_set(t->err, ERR_CONFIG,
                   "%s: unknown table [" STR_FMT "]%s%s%s; tables are server, backend_config, inference, cache, models",
                   t->origin, STR_ARG(name), nearest ? "; did you mean [" : "", nearest ? nearest : "",
                   nearest ? "]?" : "");
}

/* ---- files ---- */

static const char *at_line(struct conf *conf, const char *file, unsigned line)
{
    return arena_printf(&conf->arena, "%s:%u", file, line);
}

static void set_defaults(struct conf *conf, void *record, const struct conf_option *rows)
{
    struct target t = {conf, record, "default", NULL};
    for (const struct conf_option *o = rows; o->key; o++)
        set_text(&t, o, o->value);
}

static bool read_table(struct conf *conf, void *record, const struct conf_option *rows, const struct toml *table,
                       struct str name, const char *file, struct err *err)
{
    for (const struct toml *value = table->children.first; value; value = value->next) {
        struct target t = {conf, record, at_line(conf, file, value->line), err};
        const struct conf_option *o = find_option(rows, name, value->key);
        if (!(o ? set_toml(&t, o, value) : unknown(&t, rows, name, value->key)))
            return false;
    }
    return true;
}

static struct conf_model *model_table(struct conf *conf, struct str name)
{
    for (struct conf_model *m = conf->models; m; m = m->next)
        if (str_eq(name, str_from(m->name)))
            return m;
    struct conf_model *m = arena_calloc(&conf->arena, sizeof *m);
    m->name = arena_strndup(&conf->arena, name.p, name.n);
    m->next = conf->models;
    conf->models = m;
    set_defaults(conf, m, conf_model_options);
    return m;
}

static bool read_models(struct conf *conf, const struct toml *models, const char *file, struct err *err)
{
    for (const struct toml *entry = models->children.first; entry; entry = entry->next) {
        if (entry->kind != TOML_TABLE)
            return err_set(err, ERR_CONFIG, "%s:%u: [models] holds tables only: [models.\"NAME\"]", file, entry->line);
        if (!read_table(conf, model_table(conf, entry->key), conf_model_options, entry, STR("models"), file, err))
            return false;
    }
    return true;
}

static bool read_document(struct conf *conf, const struct toml *root, const char *file, struct err *err)
{
    for (const struct toml *value = root->children.first; value; value = value->next) {
        struct target t = {conf, conf, at_line(conf, file, value->line), err};
        bool good;
        if (value->kind != TOML_TABLE) {
            const struct conf_option *o = find_option(conf_options, STR(""), value->key);
            good = o ? set_toml(&t, o, value) : unknown(&t, conf_options, STR(""), value->key);
        } else if (!is_table(value->key)) {
            good = unknown_table(&t, value->key);
        } else if (str_eq(value->key, STR("models"))) {
            good = read_models(conf, value, file, err);
        } else {
            good = read_table(conf, conf, conf_options, value, value->key, file, err);
        }
        if (!good)
            return false;
    }
    return true;
}

static bool read_whole(const char *path, struct buf *out, struct err *err)
{
    FILE *file = fopen(path, "rbe");
    if (!file)
        return err_set(err, ERR_CONFIG, "%s cannot be read: %s", path, strerror(errno));
    for (size_t n = 1; n;) {
        char piece[16384];
        n = fread(piece, 1, sizeof piece, file);
        buf_append(out, piece, n);
    }
    bool good = !ferror(file);
    if (!good)
        err_set(err, ERR_CONFIG, "%s cannot be read: %s", path, strerror(errno));
    fclose(file);
    if (!good)
        return false;
    return buf_ok(out) || err_set(err, ERR_CONFIG, "%s is larger than 1 MiB", path);
}

bool conf_read_file(struct conf *conf, const char *path, struct err *err)
{
    struct buf text;
    buf_init(&text, LIMIT_CONFIG_BYTES);
    bool good = read_whole(path, &text, err);
    struct toml *root = good ? toml_read(buf_view(&text), path, &conf->arena, err) : NULL;
    good = root && read_document(conf, root, path, err);
    /* Bare keys point into the text; everything kept was copied by the setters. */
    buf_release(&text);
    if (good && conf->file_count < (int)(sizeof conf->files / sizeof *conf->files) - 1)
        conf->files[conf->file_count++] = arena_strdup(&conf->arena, path);
    return good;
}

static bool read_usual(struct conf *conf, const char *path, struct err *err)
{
    return access(path, F_OK) != 0 || conf_read_file(conf, path, err);
}

static bool read_usual_files(struct conf *conf, struct err *err)
{
    static const char *const local[] = {"inferno.toml", ".inferno.toml", "inferd.toml"};
    const char *home = getenv("HOME"), *xdg = getenv("XDG_CONFIG_HOME");
    struct arena *a = &conf->arena;
    const char *base = xdg && *xdg ? xdg : home ? arena_printf(a, "%s/.config", home) : NULL;
    if (!read_usual(conf, "/etc/inferno/inferno.toml", err) || !read_usual(conf, "/etc/inferd/inferd.toml", err))
        return false;
    if (base && (!read_usual(conf, arena_printf(a, "%s/inferno/config.toml", base), err) ||
                 !read_usual(conf, arena_printf(a, "%s/inferd/inferd.toml", base), err)))
        return false;
    if (home && !read_usual(conf, arena_printf(a, "%s/.inferno.toml", home), err))
        return false;
    for (size_t i = 0; i < sizeof local / sizeof *local; i++)
        if (!read_usual(conf, local[i], err))
            return false;
    return true;
}

/* ---- environment and flags ---- */

static void env_name(const struct conf_option *o, char *out, size_t size)
{
    int n = snprintf(out, size, "INFERNO_%s%s%s", o->table, *o->table ? "__" : "", o->key);
    for (int i = 0; i < n; i++)
        if (out[i] >= 'a' && out[i] <= 'z')
            out[i] = (char)(out[i] - 32);
}

static bool read_environment(struct conf *conf, struct err *err)
{
    char name[128];
    for (const struct conf_option *o = conf_options; o->key; o++) {
        env_name(o, name, sizeof name);
        const char *text = getenv(name);
        struct target t = {conf, conf, name, err};
        if (text && !set_text(&t, o, text))
            return false;
    }
    return true;
}

bool conf_set(struct conf *conf, const char *name, const char *text, const char *origin, struct err *err)
{
    struct target t = {conf, conf, origin, err};
    struct str key = str_from(name), table = str_cut(&key, '.');
    if (!key.p) {
        key = table;
        table = STR("");
    }
    const struct conf_option *o = find_option(conf_options, table, key);
    return o ? set_text(&t, o, text) : unknown(&t, conf_options, table, key);
}

bool conf_add_model(struct conf *conf, struct str name, const char *path, struct err *err)
{
    if (name.n == 0 || name.n > LIMIT_MODEL_NAME)
        return err_set(err, ERR_CONFIG, "a model's name must have between 1 and %d bytes", LIMIT_MODEL_NAME);
    model_table(conf, name)->file = arena_strdup(&conf->arena, path);
    return true;
}

void conf_init(struct conf *conf)
{
    memset(conf, 0, sizeof *conf);
    arena_init(&conf->arena);
    set_defaults(conf, conf, conf_options);
}

void conf_release(struct conf *conf)
{
    arena_dispose(&conf->arena);
}

bool conf_load(struct conf *conf, const char *explicit_file, struct err *err)
{
    if (!explicit_file)
        explicit_file = getenv("INFERNO_CONFIG");
    conf_init(conf);
    return read_usual_files(conf, err) &&
           (!explicit_file || !*explicit_file || conf_read_file(conf, explicit_file, err)) &&
           read_environment(conf, err);
}

static const char *data_folder(struct conf *conf, const char *leaf)
{
    const char *home = getenv("HOME"), *xdg = getenv("XDG_DATA_HOME");
    if (xdg && *xdg)
        return arena_printf(&conf->arena, "%s/inferd/%s", xdg, leaf);
    return arena_printf(&conf->arena, "%s/.local/share/inferd/%s", home ? home : "/var/lib", leaf);
}

bool conf_finish(struct conf *conf, struct err *err)
{
    if (!*conf->models_dir)
        conf->models_dir = data_folder(conf, "models");
    if (!*conf->state_dir)
        conf->state_dir = data_folder(conf, "state");
    if (conf->ubatch_size > conf->batch_size)
        return err_set(err, ERR_CONFIG,
                       "'backend_config.ubatch_size' (%lld) must not exceed 'backend_config.batch_size' (%lld)",
                       (long long)conf->ubatch_size, (long long)conf->batch_size);
    return true;
}

const struct conf_model *conf_model_find(const struct conf *conf, struct str name)
{
    for (const struct conf_model *m = conf->models; m; m = m->next)
        if (str_eq(name, str_from(m->name)))
            return m;
    return NULL;
}

/* ---- printing ---- */

static void print_quoted(FILE *out, const char *text)
{
    struct buf quoted;
    buf_init(&quoted, LIMIT_CONFIG_BYTES);
    json_escape(&quoted, str_from(text)); /* TOML's basic strings have JSON's escapes */
    fputs(buf_ok(&quoted) ? quoted.data : "\"\"", out);
    buf_release(&quoted);
}

static void print_value(FILE *out, const struct conf_option *o, const void *record)
{
    const void *at = (const char *)record + o->offset;
    char name[64];
    switch (o->kind) {
    case CONF_TEXT:
    case CONF_PATH: print_quoted(out, *(const char *const *)at); break;
    case CONF_CHOICE: print_quoted(out, conf_choice_name(o->choices, *(const int *)at, name, sizeof name)); break;
    case CONF_INT: fprintf(out, "%lld", (long long)*(const int64_t *)at); break;
    case CONF_NUMBER: fprintf(out, "%.10g", *(const double *)at); break;
    case CONF_BOOL: fputs(*(const bool *)at ? "true" : "false", out); break;
    case CONF_AUTO:
        if (*(const int64_t *)at == CONF_AUTO_VALUE)
            fputs("\"auto\"", out);
        else
            fprintf(out, "%lld", (long long)*(const int64_t *)at);
        break;
    case CONF_LIST:
        fputc('[', out);
        for (const char *const *item = *(const char *const *const *)at; *item; item++) {
            if (item != *(const char *const *const *)at)
                fputs(", ", out);
            print_quoted(out, *item);
        }
        fputc(']', out);
        break;
    }
}

static void print_rows(FILE *out, const struct conf_option *rows, const void *record, bool headers)
{
    const char *table = "";
    for (const struct conf_option *o = rows; o->key; o++) {
        if (headers && strcmp(table, o->table) != 0)
            fprintf(out, "\n[%s]\n", o->table);
        table = o->table;
        fprintf(out, "%s = ", o->key);
        print_value(out, o, record);
        fprintf(out, "  # %s\n", o->help);
    }
}

void conf_print(const struct conf *conf, FILE *out)
{
    for (int i = 0; i < conf->file_count; i++)
        fprintf(out, "# from %s\n", conf->files[i]);
    print_rows(out, conf_options, conf, true);
    for (const struct conf_model *m = conf->models; m; m = m->next) {
        fputs("\n[models.", out);
        print_quoted(out, m->name);
        fputs("]\n", out);
        print_rows(out, conf_model_options, m, false);
    }
}
