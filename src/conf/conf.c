/* Options come from four kinds of source but pass through one place each: a TOML value through set_toml, a text (an
 * environment variable, a flag, a default) through set_text. Both check against the same row and write to the field
 * at the row's offset. */
#include "conf/conf.h"

#include <errno.h>
#include <limits.h>

#include "base/buf.h"
#include "conf/toml.h"

#define OPTION(field, kind, table, key, value, least, most, choices, help)                                             \
    {table, key, CONF_##kind, offsetof(struct conf, field), value, (double)(least), (double)(most), choices, help},
const struct conf_option conf_options[] = {
#include "conf/conf.def"
    {.key = NULL}};
#undef OPTION

#define RECORD_OPTION(type, kind, field, table, key, value, least, most, choices, help)                                \
    {table, key, CONF_##kind, offsetof(struct type, field), value, (double)(least), (double)(most), choices, help},
#define OPTION(field, kind, ...) RECORD_OPTION(conf_model, kind, field, __VA_ARGS__)
const struct conf_option conf_model_options[] = {
#include "conf/model.def"
    {.key = NULL}};
#undef OPTION
#define OPTION(field, kind, ...) RECORD_OPTION(conf_backend, kind, field, __VA_ARGS__)
const struct conf_option conf_backend_options[] = {
#include "conf/backend.def"
    {.key = NULL}};
#undef OPTION
#define OPTION(field, kind, ...) RECORD_OPTION(conf_node, kind, field, __VA_ARGS__)
const struct conf_option conf_node_options[] = {
#include "conf/node.def"
    {.key = NULL}};
#undef OPTION

const struct conf_table conf_tables[] = {
    {"models", conf_model_options, sizeof(struct conf_model), offsetof(struct conf, models)},
    {"backends", conf_backend_options, sizeof(struct conf_backend), offsetof(struct conf, backends)},
    {"nodes", conf_node_options, sizeof(struct conf_node), offsetof(struct conf, nodes)},
    {.table = NULL}};

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

static bool set_map_text(const struct target *t, const struct conf_option *o, const char *text)
{
    if (!set_list_text(t, o, text))
        return false;
    for (const char *const *item = *(const char *const *const *)slot(t, o); *item; item++)
        if (!strchr(*item, '=') || **item == '=')
            return wrong(t, o, "a list of name=value");
    return true;
}

static bool store_range(const struct target *t, const struct conf_option *o, double low, double high)
{
    if (low > high || low < o->least || high > o->most) {
        char expected[96];
        snprintf(expected, sizeof expected, "two numbers, low to high, between %.15g and %.15g", o->least, o->most);
        return wrong(t, o, expected);
    }
    *(struct conf_range *)slot(t, o) = (struct conf_range){(int64_t)low, (int64_t)high};
    return true;
}

static bool set_range_text(const struct target *t, const struct conf_option *o, const char *text)
{
    unsigned low, high;
    char separator, more;
    if (sscanf(text, "%9u%c%9u%c", &low, &separator, &high, &more) != 3 || (separator != '-' && separator != ','))
        return wrong(t, o, "\"LOW-HIGH\"");
    return store_range(t, o, low, high);
}

static bool set_switch(const struct target *t, const struct conf_option *o, struct str text)
{
    static const char *const words[] = {"false", "true", "auto"};
    static const int values[] = {0, 1, CONF_AUTO_VALUE};
    for (size_t i = 0; i < 3; i++) {
        if (str_eq(text, str_from(words[i]))) {
            *(int *)slot(t, o) = values[i];
            return true;
        }
    }
    return wrong(t, o, "true, false or \"auto\"");
}

static bool set_text(const struct target *t, const struct conf_option *o, const char *text)
{
    double number;
    switch (o->kind) {
    case CONF_TEXT:
    case CONF_SECRET:
    case CONF_PATH: return store_text(t, o, str_from(text));
    case CONF_SECRETS:
    case CONF_LIST: return set_list_text(t, o, text);
    case CONF_MAP: return set_map_text(t, o, text);
    case CONF_RANGE: return set_range_text(t, o, text);
    case CONF_SWITCH: return set_switch(t, o, str_from(text));
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

static bool set_map_toml(const struct target *t, const struct conf_option *o, const struct toml *value)
{
    size_t count = 0, i = 0;
    if (value->kind != TOML_TABLE)
        return wrong(t, o, "a table");
    for (const struct toml *item = value->children.first; item; item = item->next)
        count++;
    const char **items = list_new(t, count);
    for (const struct toml *item = value->children.first; item; item = item->next) {
        if (item->kind == TOML_STRING)
            items[i++] = arena_printf(&t->conf->arena, STR_FMT "=" STR_FMT, STR_ARG(item->key), STR_ARG(item->text));
        else if (item->kind == TOML_INTEGER)
            items[i++] = arena_printf(&t->conf->arena, STR_FMT "=%lld", STR_ARG(item->key), (long long)item->integer);
        else
            return wrong(t, o, "a table of strings or whole numbers");
    }
    *(const char ***)slot(t, o) = items;
    return true;
}

static bool set_range_toml(const struct target *t, const struct conf_option *o, const struct toml *value)
{
    if (value->kind == TOML_STRING)
        return set_range_text(t, o, arena_strndup(&t->conf->arena, value->text.p, value->text.n));
    const struct toml *low = value->kind == TOML_ARRAY ? value->children.first : NULL, *high = low ? low->next : NULL;
    if (!high || high->next || low->kind != TOML_INTEGER || high->kind != TOML_INTEGER)
        return wrong(t, o, "an array of two whole numbers");
    return store_range(t, o, (double)low->integer, (double)high->integer);
}

static bool set_toml(const struct target *t, const struct conf_option *o, const struct toml *value)
{
    switch (o->kind) {
    case CONF_MAP: return set_map_toml(t, o, value);
    case CONF_RANGE: return set_range_toml(t, o, value);
    case CONF_SWITCH:
        if (value->kind == TOML_BOOL)
            return set_switch(t, o, value->boolean ? STR("true") : STR("false"));
        return value->kind == TOML_STRING ? set_switch(t, o, value->text) : wrong(t, o, "true, false or \"auto\"");
    case CONF_TEXT:
    case CONF_SECRET:
    case CONF_PATH: return value->kind == TOML_STRING ? store_text(t, o, value->text) : wrong(t, o, "a string");
    case CONF_CHOICE: return value->kind == TOML_STRING ? store_choice(t, o, value->text) : wrong(t, o, "a string");
    case CONF_SECRETS:
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
    return false;
}

static const struct conf_table *record_table_find(struct str name)
{
    for (const struct conf_table *table = conf_tables; table->table; table++)
        if (str_eq(name, str_from(table->table)))
            return table;
    return NULL;
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

/* All table names, each once, into names. */
static size_t table_names(const char **names, size_t room)
{
    size_t count = 0;
    for (const struct conf_option *o = conf_options; o->key && count < room; o++)
        if (*o->table && (count == 0 || strcmp(names[count - 1], o->table) != 0))
            names[count++] = o->table;
    for (const struct conf_table *table = conf_tables; table->table && count < room; table++)
        names[count++] = table->table;
    return count;
}

static bool unknown_table(const struct target *t, struct str name)
{
    const char *names[32];
    char all[256] = "";
    size_t count = table_names(names, sizeof names / sizeof *names), used = 0;
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i ? ", " : "", names[i]);
    const char *nearest = str_nearest(name, names, count);
    return err_set(t->err, ERR_CONFIG, "%s: unknown table [" STR_FMT "]%s%s%s; tables are %s", t->origin, STR_ARG(name),
                   nearest ? "; did you mean [" : "", nearest ? nearest : "", nearest ? "]?" : "", all);
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

static void *record_find(const struct conf *conf, const struct conf_table *table, struct str name)
{
    for (struct conf_record *r = *(struct conf_record *const *)((const char *)conf + table->list); r; r = r->next)
        if (str_eq(name, str_from(r->name)))
            return r;
    return NULL;
}

static void *record_make(struct conf *conf, const struct conf_table *table, struct str name)
{
    struct conf_record *r = record_find(conf, table, name);
    if (r)
        return r;
    struct conf_record **end = (struct conf_record **)((char *)conf + table->list);
    while (*end)
        end = &(*end)->next;
    r = arena_calloc(&conf->arena, table->size);
    r->name = arena_strndup(&conf->arena, name.p, name.n);
    *end = r;
    set_defaults(conf, r, table->rows);
    return r;
}

/* A table inside a record stands for the keys that begin with its name: [backends.vllm.docker] image is docker_image.
 */
static bool read_inner_table(struct conf *conf, void *record, const struct conf_table *table, const struct toml *inner,
                             const char *file, struct err *err)
{
    for (const struct toml *value = inner->children.first; value; value = value->next) {
        struct target t = {conf, record, at_line(conf, file, value->line), err};
        struct str key =
            str_from(arena_printf(&conf->arena, STR_FMT "_" STR_FMT, STR_ARG(inner->key), STR_ARG(value->key)));
        const struct conf_option *o = find_option(table->rows, str_from(table->table), key);
        if (!(o ? set_toml(&t, o, value) : unknown(&t, table->rows, str_from(table->table), key)))
            return false;
    }
    return true;
}

static bool read_record(struct conf *conf, const struct conf_table *table, const struct toml *entry, const char *file,
                        struct err *err)
{
    void *record = record_make(conf, table, entry->key);
    struct str table_name = str_from(table->table);
    for (const struct toml *value = entry->children.first; value; value = value->next) {
        struct target t = {conf, record, at_line(conf, file, value->line), err};
        const struct conf_option *o = find_option(table->rows, table_name, value->key);
        bool good;
        if (o)
            good = set_toml(&t, o, value);
        else if (value->kind == TOML_TABLE)
            good = read_inner_table(conf, record, table, value, file, err);
        else
            good = unknown(&t, table->rows, table_name, value->key);
        if (!good)
            return false;
    }
    return true;
}

static bool read_records(struct conf *conf, const struct conf_table *table, const struct toml *tables, const char *file,
                         struct err *err)
{
    for (const struct toml *entry = tables->children.first; entry; entry = entry->next) {
        if (entry->kind != TOML_TABLE)
            return err_set(err, ERR_CONFIG, "%s:%u: [%s] holds tables only: [%s.\"NAME\"]", file, entry->line,
                           table->table, table->table);
        if (!read_record(conf, table, entry, file, err))
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
        } else if (record_table_find(value->key)) {
            good = read_records(conf, record_table_find(value->key), value, file, err);
        } else if (!is_table(value->key)) {
            good = unknown_table(&t, value->key);
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
    struct conf_model *model = record_make(conf, record_table_find(STR("models")), name);
    model->file = arena_strdup(&conf->arena, path);
    return true;
}

/* What llamactl runs when nothing else is configured, under its names. */
static const struct builtin_backend {
    const char *name, *command, *args, *docker_image, *docker_args;
} builtin_backends[] = {
    {"llama-cpp", "", "", "ghcr.io/ggml-org/llama.cpp:server", "run,--rm,--network,host,--gpus,all"},
    {"vllm", "vllm", "serve", "vllm/vllm-openai:latest", "run,--rm,--network,host,--gpus,all,--shm-size,1g"},
    {"mlx", "mlx_lm.server", "", "", ""},
};

static void add_backend(struct conf *conf, const struct builtin_backend *b)
{
    struct conf_backend *backend = record_make(conf, record_table_find(STR("backends")), str_from(b->name));
    struct target t = {conf, backend, "default", NULL};
    set_text(&t, find_option(conf_backend_options, STR("backends"), STR("command")), b->command);
    set_text(&t, find_option(conf_backend_options, STR("backends"), STR("args")), b->args);
    set_text(&t, find_option(conf_backend_options, STR("backends"), STR("docker_image")), b->docker_image);
    set_text(&t, find_option(conf_backend_options, STR("backends"), STR("docker_args")), b->docker_args);
}

void conf_init(struct conf *conf)
{
    memset(conf, 0, sizeof *conf);
    arena_init(&conf->arena);
    set_defaults(conf, conf, conf_options);
    for (size_t i = 0; i < sizeof builtin_backends / sizeof *builtin_backends; i++)
        add_backend(conf, &builtin_backends[i]);
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

static bool check_models(const struct conf *conf, struct err *err)
{
    for (const struct conf_model *m = conf->models; m; m = m->next) {
        size_t count = 0;
        while (m->lora[count])
            count++;
        if (count > LIMIT_LORAS)
            return err_set(err, ERR_CONFIG, "'models.\"%s\".lora' has %zu adapters; at most %d are allowed", m->name,
                           count, LIMIT_LORAS);
    }
    return true;
}

bool conf_finish(struct conf *conf, struct err *err)
{
    if (!*conf->models_dir)
        conf->models_dir = data_folder(conf, "models");
    if (!*conf->state_dir)
        conf->state_dir = data_folder(conf, "state");
    if (!*conf->logs_dir)
        conf->logs_dir = arena_printf(&conf->arena, "%s/logs", conf->state_dir);
    if (!*conf->instances_dir)
        conf->instances_dir = arena_printf(&conf->arena, "%s/instances", conf->state_dir);
    if (!*conf->database_path)
        conf->database_path = arena_printf(&conf->arena, "%s/inferd.db", conf->state_dir);
    if (!*conf->batch_files_dir)
        conf->batch_files_dir = arena_printf(&conf->arena, "%s/files", conf->state_dir);
    if (conf->auth_enabled && !conf->api_key_enabled && !conf->jwt_enabled)
        return err_set(
            err, ERR_CONFIG,
            "'security.auth_enabled' needs 'security.api_key_enabled' or 'security.jwt_enabled': else nobody "
            "could call");
    if (conf->ubatch_size > conf->batch_size)
        return err_set(err, ERR_CONFIG,
                       "'backend_config.ubatch_size' (%lld) must not exceed 'backend_config.batch_size' (%lld)",
                       (long long)conf->ubatch_size, (long long)conf->batch_size);
    return check_models(conf, err);
}

const struct conf_model *conf_model_find(const struct conf *conf, struct str name)
{
    return record_find(conf, record_table_find(STR("models")), name);
}

const struct conf_backend *conf_backend_find(const struct conf *conf, struct str name)
{
    return record_find(conf, record_table_find(STR("backends")), name);
}

const struct conf_node *conf_node_find(const struct conf *conf, struct str name)
{
    return record_find(conf, record_table_find(STR("nodes")), name);
}

const char *conf_map_find(conf_MAP map, struct str name)
{
    for (; *map; map++)
        if (strncmp(*map, name.p, name.n) == 0 && (*map)[name.n] == '=')
            return *map + name.n + 1;
    return NULL;
}
