/* The configured nodes, without their keys. */
#include "api/docs/doc.h"
#include "api/instances/instances.h"
#include "instance/node.h"

static void put_node(struct json *j, const char *key, struct app *app, const struct conf_node *node)
{
    int health = node_healthy(app->instances, node->name);
    json_open_object(j, key);
    json_put_string(j, "address", node->address);
    if (health >= 0)
        json_put_bool(j, "healthy", health == 1);
    json_close(j);
}

static void list(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    const char *local = app->conf->local_node;
    struct json *j = api_json_begin(req);
    (void)match;
    json_open_object(j, NULL);
    if (!conf_node_find(app->conf, str_from(local)))
        put_node(j, local, app, &(struct conf_node){.name = local, .address = ""});
    for (const struct conf_node *node = app->conf->nodes; node; node = node->next)
        put_node(j, node->name, app, node);
    json_close(j);
    api_reply_json(req, 200, j);
}

static void look(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct err err;
    const struct conf_node *node = conf_node_find(app->conf, match->captures[0]);
    struct conf_node local = {.name = app->conf->local_node, .address = ""};
    if (!node && str_eq(match->captures[0], str_from(local.name)))
        node = &local;
    if (!node) {
        err_set(&err, ERR_NOT_FOUND, "there is no node '" STR_FMT "'", STR_ARG(match->captures[0]));
        http_reply_error(req, &err);
        return;
    }
    struct json *j = api_json_begin(req);
    put_node(j, NULL, app, node);
    api_reply_json(req, 200, j);
}

const struct http_route node_routes[] = {
    {"GET", "/api/v1/nodes", list, (void *)&manager_dialect, "Configured nodes", AUTH_MANAGEMENT, &doc_node_list},
    {"GET", "/api/v1/nodes/{name}", look, (void *)&manager_dialect, "One node", AUTH_MANAGEMENT, &doc_node},
    {0},
};
