/* The version, and the configuration in force, without secrets. */
#include "api/docs/doc.h"
#include "api/instances/instances.h"
#include "base/version.h"
#include "conf/conf.h"

#ifndef INFERD_COMMIT
#define INFERD_COMMIT "unknown"
#endif
#ifndef INFERD_BUILD_TIME
#define INFERD_BUILD_TIME "unknown"
#endif

static void version(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)arg;
    (void)match;
    http_reply(req, 200, "text/plain; charset=utf-8",
               STR("Version: " INFERD_VERSION "\nCommit: " INFERD_COMMIT "\nBuild Time: " INFERD_BUILD_TIME "\n"));
}

static void put_list(struct json *j, const char *key, const char *const *items)
{
    json_open_array(j, key);
    for (; *items; items++)
        json_put_string(j, NULL, *items);
    json_close(j);
}

/* Values of environments may be tokens; numbers of group_limits are not. */
static void put_map(struct json *j, const char *key, const char *const *items)
{
    bool secret = strstr(key, "environment") != NULL;
    json_open_object(j, key);
    for (; *items; items++) {
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(*items, "="), *items);
        json_put_string(j, name, secret ? "***" : *items + strcspn(*items, "=") + 1);
    }
    json_close(j);
}

static void put_option(struct json *j, const struct conf_option *o, const void *record)
{
    const void *at = (const char *)record + o->offset;
    char name[64];
    switch (o->kind) {
    case CONF_TEXT:
    case CONF_PATH: json_put_string(j, o->key, *(const char *const *)at); break;
    case CONF_SECRET: json_put_string(j, o->key, **(const char *const *)at ? "***" : ""); break;
    case CONF_INT: json_put_int(j, o->key, *(const int64_t *)at); break;
    case CONF_NUMBER: json_put_number(j, o->key, *(const double *)at); break;
    case CONF_BOOL: json_put_bool(j, o->key, *(const bool *)at); break;
    case CONF_CHOICE:
        json_put_string(j, o->key, conf_choice_name(o->choices, *(const int *)at, name, sizeof name));
        break;
    case CONF_LIST: put_list(j, o->key, *(const char *const *const *)at); break;
    case CONF_SECRETS: /* as llamactl: there, but never shown */
        json_open_array(j, o->key);
        json_close(j);
        break;
    case CONF_MAP: put_map(j, o->key, *(const char *const *const *)at); break;
    case CONF_AUTO:
        if (*(const int64_t *)at == CONF_AUTO_VALUE)
            json_put_string(j, o->key, "auto");
        else
            json_put_int(j, o->key, *(const int64_t *)at);
        break;
    case CONF_SWITCH:
        if (*(const int *)at == CONF_AUTO_VALUE)
            json_put_string(j, o->key, "auto");
        else
            json_put_bool(j, o->key, *(const int *)at == 1);
        break;
    case CONF_RANGE: {
        const struct conf_range *range = at;
        json_open_array(j, o->key);
        json_put_int(j, NULL, range->low);
        json_put_int(j, NULL, range->high);
        json_close(j);
        break;
    }
    }
}

static void put_options(struct json *j, const struct conf_option *rows, const void *record)
{
    for (const struct conf_option *o = rows; o->key; o++)
        put_option(j, o, record);
}

/* Rows of one table stand together in the list of options. */
static void put_tables(struct json *j, const struct conf *conf)
{
    const char *table = "";
    for (const struct conf_option *o = conf_options; o->key; o++) {
        if (strcmp(table, o->table) != 0) {
            if (*table)
                json_close(j);
            json_open_object(j, o->table);
            table = o->table;
        }
        put_option(j, o, conf);
    }
    if (*table)
        json_close(j);
}

static void config(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    const struct conf *conf = app->conf;
    struct json *j = api_json_begin(req);
    (void)match;
    json_open_object(j, NULL);
    put_tables(j, conf);
    json_open_object(j, "backends");
    for (const struct conf_backend *b = conf->backends; b; b = b->next) {
        json_open_object(j, b->name);
        put_options(j, conf_backend_options, b);
        json_close(j);
    }
    json_close(j);
    json_open_object(j, "nodes");
    for (const struct conf_node *n = conf->nodes; n; n = n->next) {
        json_open_object(j, n->name);
        put_options(j, conf_node_options, n);
        json_close(j);
    }
    json_close(j);
    json_close(j);
    api_reply_json(req, 200, j);
}

#define MANAGER (void *)&manager_dialect

const struct http_route config_routes[] = {
    {"GET", "/api/v1/version", version, MANAGER, "Version, commit and build time as text", AUTH_MANAGEMENT,
     &doc_version},
    {"GET", "/api/v1/config", config, MANAGER, "Configuration in force, without secrets", AUTH_MANAGEMENT, &doc_config},
    {0},
};
