/* A walk over the YAML document, one of our option rows at a time: llamactl's tables and keys have the same names here,
 * but for the few in `renamed`. The row's kind decides how a value is written. The result is read back by our own
 * reader before it is given out, so that what is wrong is said here and not at the next start. */
#include "cli/llamactl_yaml.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <yaml.h>

#include "base/json_write.h"
#include "base/str.h"
#include "conf/conf.h"

struct convert {
    yaml_document_t *document;
    struct buf *toml;
    struct err *err;
    bool good;
};

static const struct renamed {
    const char *theirs, *table, *key;
} renamed[] = {
    {"server.host", "server", "bind_address"},
    {"server.allowed_origins", "server", "cors_origins"},
    {"instances.configs_dir", "instances", "instances_dir"},
};

static struct str scalar(const yaml_node_t *node)
{
    return (struct str){(const char *)node->data.scalar.value, node->data.scalar.length};
}

static yaml_node_t *at(const struct convert *c, int index)
{
    return yaml_document_get_node(c->document, index);
}

static void put_quoted(struct buf *out, struct str text)
{
    json_escape(out, text);
}

static void put_list(struct convert *c, const yaml_node_t *node)
{
    buf_puts(c->toml, "[");
    if (node->type == YAML_SCALAR_NODE && node->data.scalar.length)
        put_quoted(c->toml, scalar(node));
    for (yaml_node_item_t *i = node->data.sequence.items.start;
         node->type == YAML_SEQUENCE_NODE && i < node->data.sequence.items.top; i++) {
        const yaml_node_t *item = at(c, *i);
        if (i > node->data.sequence.items.start)
            buf_puts(c->toml, ", ");
        if (item->type == YAML_SCALAR_NODE)
            put_quoted(c->toml, scalar(item));
    }
    buf_puts(c->toml, "]");
}

static void put_range(struct convert *c, const yaml_node_t *node)
{
    if (node->type != YAML_SEQUENCE_NODE) {
        put_quoted(c->toml, node->type == YAML_SCALAR_NODE ? scalar(node) : STR(""));
        return;
    }
    buf_puts(c->toml, "[");
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
        const yaml_node_t *item = at(c, *i);
        buf_puts(c->toml, i > node->data.sequence.items.start ? ", " : "");
        if (item->type == YAML_SCALAR_NODE)
            buf_str(c->toml, scalar(item));
    }
    buf_puts(c->toml, "]");
}

static void put_map(struct convert *c, const yaml_node_t *node)
{
    buf_puts(c->toml, "{");
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start;
         node->type == YAML_MAPPING_NODE && p < node->data.mapping.pairs.top; p++) {
        const yaml_node_t *key = at(c, p->key), *value = at(c, p->value);
        if (key->type != YAML_SCALAR_NODE || value->type != YAML_SCALAR_NODE)
            continue;
        buf_puts(c->toml, p > node->data.mapping.pairs.start ? ", " : " ");
        put_quoted(c->toml, scalar(key));
        buf_puts(c->toml, " = ");
        put_quoted(c->toml, scalar(value));
    }
    buf_puts(c->toml, " }");
}

/* llamactl's YAML has durations such as 1h30m or 3600s where we have seconds; a plain number stays as it is. */
static void put_number(struct convert *c, struct str text)
{
    static const struct {
        char letter;
        uint64_t seconds;
    } units[] = {{'h', 3600}, {'m', 60}, {'s', 1}};
    uint64_t seconds = 0, value;
    size_t unit = 0;
    struct str rest = text;
    while (rest.n && unit < 3) {
        const char *letter = memchr(rest.p, units[unit].letter, rest.n);
        if (letter && str_u64((struct str){rest.p, (size_t)(letter - rest.p)}, LIMIT_REQUEST_SECONDS * 365, &value)) {
            seconds += value * units[unit].seconds;
            rest = (struct str){letter + 1, (size_t)(rest.p + rest.n - letter) - 1};
        }
        unit++;
    }
    if (text.n && rest.n == 0)
        buf_printf(c->toml, "%llu", (unsigned long long)seconds);
    else
        buf_str(c->toml, text);
}

/* YAML 1.1 knows more words for these than we do. */
static struct str truth(struct str word)
{
    static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no", "off"};
    for (size_t i = 0; i < 3; i++) {
        if (str_ieq(word, str_from(yes[i])))
            return STR("true");
        if (str_ieq(word, str_from(no[i])))
            return STR("false");
    }
    return word;
}

static bool is_null(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (node->data.scalar.length == 0 || str_eq(scalar(node), STR("~")) || str_ieq(scalar(node), STR("null")));
}

static void put_value(struct convert *c, const struct conf_option *o, const yaml_node_t *node)
{
    bool is_scalar = node->type == YAML_SCALAR_NODE;
    switch (o->kind) {
    case CONF_LIST:
    case CONF_SECRETS: put_list(c, node); break;
    case CONF_RANGE: put_range(c, node); break;
    case CONF_MAP: put_map(c, node); break;
    case CONF_INT:
    case CONF_NUMBER: put_number(c, is_scalar ? scalar(node) : STR("\"\"")); break;
    case CONF_BOOL:
    case CONF_SWITCH: buf_str(c->toml, is_scalar ? truth(scalar(node)) : STR("\"\"")); break;
    default: put_quoted(c->toml, is_scalar ? scalar(node) : STR("")); break;
    }
}

static const struct conf_option *find_row(const struct conf_option *rows, const char *table, struct str key)
{
    for (const struct conf_option *o = rows; o->key; o++)
        if (strcmp(o->table, table) == 0 && str_eq(key, str_from(o->key)))
            return o;
    return NULL;
}

static void put_key(struct convert *c, const char *prefix, struct str key)
{
    buf_puts(c->toml, prefix);
    buf_str(c->toml, key);
    buf_puts(c->toml, " = ");
}

static void put_comment(struct convert *c, const char *table, struct str key)
{
    buf_printf(c->toml, "# llamactl's %s%s" STR_FMT " has no counterpart\n", table, *table ? "." : "", STR_ARG(key));
}

/* One mapping whose keys are rows of `table`; header is its TOML header or "". */
static void put_table(struct convert *c, const struct conf_option *rows, const char *table, const yaml_node_t *node,
                      const char *prefix)
{
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start;
         node->type == YAML_MAPPING_NODE && p < node->data.mapping.pairs.top; p++) {
        const yaml_node_t *key = at(c, p->key), *value = at(c, p->value);
        char full[128], name[128];
        if (key->type != YAML_SCALAR_NODE || is_null(value))
            continue;
        snprintf(full, sizeof full, "%s%s" STR_FMT, table, *table ? "." : "", STR_ARG(scalar(key)));
        snprintf(name, sizeof name, "%s" STR_FMT, prefix, STR_ARG(scalar(key)));
        struct str wanted = str_from(name);
        for (size_t i = 0; i < sizeof renamed / sizeof *renamed; i++)
            if (strcmp(renamed[i].theirs, full) == 0 && strcmp(renamed[i].table, table) == 0)
                wanted = str_from(renamed[i].key);
        const struct conf_option *o = find_row(rows, table, wanted);
        if (strcmp(full, "database.path") == 0) { /* a llamactl.db is no database of ours */
            buf_puts(c->toml, "# llamactl's database.path: take it over with `inferd import llamactl PATH`\n");
            continue;
        }
        if (!o && value->type == YAML_MAPPING_NODE && !*prefix) {
            snprintf(full, sizeof full, STR_FMT "_", STR_ARG(scalar(key))); /* [x.docker] image is docker_image */
            put_table(c, rows, table, value, full);
        } else if (!o) {
            put_comment(c, table, scalar(key));
        } else {
            put_key(c, "", wanted);
            put_value(c, o, value);
            buf_puts(c->toml, "\n");
        }
    }
}

static void put_records(struct convert *c, const struct conf_option *rows, const char *table, const yaml_node_t *node)
{
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start;
         node->type == YAML_MAPPING_NODE && p < node->data.mapping.pairs.top; p++) {
        const yaml_node_t *key = at(c, p->key);
        if (key->type != YAML_SCALAR_NODE)
            continue;
        buf_printf(c->toml, "\n[%s.", table);
        put_quoted(c->toml, scalar(key));
        buf_puts(c->toml, "]\n");
        put_table(c, rows, table, at(c, p->value), "");
    }
}

static bool is_table(struct str name)
{
    for (const struct conf_option *o = conf_options; o->key; o++)
        if (*o->table && str_eq(name, str_from(o->table)))
            return true;
    return false;
}

static void put_root(struct convert *c, const yaml_node_t *root)
{
    yaml_node_pair_t *start = root->data.mapping.pairs.start, *top = root->data.mapping.pairs.top;
    static const char *const names[] = {"data_dir", "local_node"}, *const keys[] = {"state_dir", "local_node"};
    for (yaml_node_pair_t *p = start; p < top; p++) { /* keys before tables */
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            if (at(c, p->key)->type == YAML_SCALAR_NODE && str_eq(scalar(at(c, p->key)), str_from(names[i]))) {
                put_key(c, "", str_from(keys[i]));
                put_value(c, find_row(conf_options, "", str_from(keys[i])), at(c, p->value));
                buf_puts(c->toml, "\n");
            }
        }
    }
    for (yaml_node_pair_t *p = start; p < top; p++) {
        const yaml_node_t *key = at(c, p->key), *value = at(c, p->value);
        struct str name = key->type == YAML_SCALAR_NODE ? scalar(key) : STR("");
        if (str_eq(name, STR("backends"))) {
            put_records(c, conf_backend_options, "backends", value);
        } else if (str_eq(name, STR("nodes"))) {
            put_records(c, conf_node_options, "nodes", value);
        } else if (value->type == YAML_MAPPING_NODE && is_table(name)) {
            char table[64];
            snprintf(table, sizeof table, STR_FMT, STR_ARG(name));
            buf_printf(c->toml, "\n[%s]\n", table);
            put_table(c, conf_options, table, value, "");
        } else if (!str_eq(name, STR("data_dir")) && !str_eq(name, STR("local_node"))) {
            put_comment(c, "", name);
        }
    }
}

/* ---- variables ---- */

static void put_variable(struct buf *out, struct str inside)
{
    char name[128];
    const char *split = inside.n ? memmem(inside.p, inside.n, ":-", 2) : NULL;
    size_t length = split ? (size_t)(split - inside.p) : inside.n;
    snprintf(name, sizeof name, "%.*s", (int)length, inside.p);
    const char *value = getenv(name);
    if (value)
        buf_puts(out, value);
    else if (split)
        buf_append(out, split + 2, inside.n - length - 2);
    else
        buf_printf(out, "${" STR_FMT "}", STR_ARG(inside));
}

static void expand(struct str text, struct buf *out)
{
    while (text.n) {
        const char *start = memmem(text.p, text.n, "${", 2);
        const char *end = start ? memchr(start, '}', (size_t)(text.p + text.n - start)) : NULL;
        if (!end) {
            buf_str(out, text);
            return;
        }
        buf_append(out, text.p, (size_t)(start - text.p));
        put_variable(out, (struct str){start + 2, (size_t)(end - start) - 2});
        text = (struct str){end + 1, (size_t)(text.p + text.n - end) - 1};
    }
}

/* ---- the whole ---- */

static bool read_file(const char *path, struct buf *out, struct err *err)
{
    char piece[8192];
    FILE *file = fopen(path, "rbe");
    if (!file)
        return err_set(err, ERR_CONFIG, "%s cannot be read: %s", path, strerror(errno));
    for (size_t n; (n = fread(piece, 1, sizeof piece, file)) > 0;)
        buf_append(out, piece, n);
    fclose(file);
    return buf_ok(out) || err_set(err, ERR_CONFIG, "%s is larger than 1 MiB", path);
}

/* Read by our own reader, as the next start will. */
static bool check(struct buf *toml, struct err *err)
{
    char path[] = "/tmp/inferd-import-XXXXXX";
    int fd = mkstemp(path);
    struct conf conf;
    if (fd < 0)
        return err_set(err, ERR_IO, "no temporary file: %s", strerror(errno));
    bool good = write(fd, toml->data ? toml->data : "", toml->len) == (ssize_t)toml->len;
    close(fd);
    conf_init(&conf);
    good = good ? conf_read_file(&conf, path, err) : err_set(err, ERR_IO, "%s cannot be written", path);
    conf_release(&conf);
    unlink(path);
    return good;
}

bool llamactl_yaml_to_toml(const char *path, struct buf *toml, struct err *err)
{
    yaml_parser_t parser;
    yaml_document_t document;
    struct buf raw, text;
    buf_init(&raw, LIMIT_CONFIG_BYTES);
    buf_init(&text, LIMIT_CONFIG_BYTES);
    bool good = read_file(path, &raw, err);
    expand(buf_view(&raw), &text);
    yaml_parser_initialize(&parser);
    yaml_parser_set_input_string(&parser, (const unsigned char *)(text.data ? text.data : ""), text.len);
    if (good && !yaml_parser_load(&parser, &document)) {
        good = err_set(err, ERR_CONFIG, "%s:%zu: %s", path, parser.problem_mark.line + 1,
                       parser.problem ? parser.problem : "no YAML");
    } else if (good) {
        struct convert c = {.document = &document, .toml = toml, .err = err};
        yaml_node_t *root = yaml_document_get_root_node(&document);
        if (root && root->type == YAML_MAPPING_NODE)
            put_root(&c, root);
        else
            good = err_set(err, ERR_CONFIG, "%s is no configuration: it holds no mapping", path);
        yaml_document_delete(&document);
    }
    yaml_parser_delete(&parser);
    buf_release(&text);
    buf_release(&raw);
    return good && (buf_ok(toml) || err_set(err, ERR_CONFIG, "%s is too large", path)) && check(toml, err);
}
