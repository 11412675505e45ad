/* The configuration in force as a file: every key with its value and what it means. */
#include "base/buf.h"
#include "base/json_write.h"
#include "conf/conf.h"

static void print_quoted(FILE *out, const char *text)
{
    struct buf quoted;
    buf_init(&quoted, LIMIT_CONFIG_BYTES);
    json_escape(&quoted, str_from(text)); /* TOML's basic strings have JSON's escapes */
    fputs(buf_ok(&quoted) ? quoted.data : "\"\"", out);
    buf_release(&quoted);
}

static void print_items(FILE *out, const char *const *const *list, bool secret)
{
    fputc('[', out);
    for (const char *const *item = *list; *item; item++) {
        if (item != *list)
            fputs(", ", out);
        print_quoted(out, secret ? "***" : *item);
    }
    fputc(']', out);
}

static void print_map(FILE *out, const char *const *map, bool secret)
{
    fputs("{", out);
    for (const char *const *item = map; *item; item++) {
        char name[256];
        size_t n = strcspn(*item, "=");
        snprintf(name, sizeof name, "%.*s", (int)n, *item);
        fputs(item == map ? " " : ", ", out);
        print_quoted(out, name);
        fputs(" = ", out);
        print_quoted(out, secret ? "***" : *item + n + 1);
    }
    fputs(*map ? " }" : "}", out);
}

/* Environments hold tokens. */
static bool is_secret(const struct conf_option *o)
{
    return o->kind == CONF_SECRET || o->kind == CONF_SECRETS || (o->kind == CONF_MAP && strstr(o->key, "environment"));
}

/* A secret that is set is shown as a comment: what is printed can be read back, and must not set it to asterisks. */
static bool hides(const struct conf_option *o, const void *record)
{
    const void *at = (const char *)record + o->offset;
    if (!is_secret(o))
        return false;
    return o->kind == CONF_SECRET ? **(const char *const *)at != '\0' : **(const char *const *const *)at != NULL;
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
    case CONF_SWITCH: {
        int value = *(const int *)at;
        fputs(value == CONF_AUTO_VALUE ? "\"auto\"" : value ? "true" : "false", out);
        break;
    }
    case CONF_RANGE: {
        const struct conf_range *range = at;
        fprintf(out, "[%lld, %lld]", (long long)range->low, (long long)range->high);
        break;
    }
    case CONF_SECRET: print_quoted(out, **(const char *const *)at ? "***" : ""); break;
    case CONF_SECRETS: print_items(out, at, true); break;
    case CONF_MAP: print_map(out, *(const char *const *const *)at, is_secret(o)); break;
    case CONF_LIST: print_items(out, at, false); break;
    }
}

static void print_rows(FILE *out, const struct conf_option *rows, const void *record, bool headers)
{
    const char *table = "";
    for (const struct conf_option *o = rows; o->key; o++) {
        if (headers && strcmp(table, o->table) != 0)
            fprintf(out, "\n[%s]\n", o->table);
        table = o->table;
        fprintf(out, "%s%s = ", hides(o, record) ? "# " : "", o->key);
        print_value(out, o, record);
        fprintf(out, "  # %s\n", o->help);
    }
}

void conf_print(const struct conf *conf, FILE *out)
{
    for (int i = 0; i < conf->file_count; i++)
        fprintf(out, "# from %s\n", conf->files[i]);
    print_rows(out, conf_options, conf, true);
    for (const struct conf_table *table = conf_tables; table->table; table++) {
        for (const struct conf_record *r = *(struct conf_record *const *)((const char *)conf + table->list); r;
             r = r->next) {
            fprintf(out, "\n[%s.", table->table);
            print_quoted(out, r->name);
            fputs("]\n", out);
            print_rows(out, table->rows, r, false);
        }
    }
}
