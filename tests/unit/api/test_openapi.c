/* The description of the API against the route table it is made from: nothing is missing, nothing dangles. */
#include "unit/unit.h"

#include "api/app.h"
#include "api/docs/doc.h"
#include "api/docs/openapi.h"
#include "base/json_read.h"

static struct {
    struct http_router *router;
    struct conf conf;
    json_t *document, *paths, *schemas;
} T;

static json_t *described(bool flat_errors)
{
    struct buf text;
    struct err err;
    buf_init(&text, LIMIT_OPENAPI);
    assert_true(openapi_write(&text, T.router, flat_errors));
    json_t *document = json_read(buf_view(&text), &err);
    if (!document)
        print_message("%s\n", err.message);
    assert_non_null(document);
    buf_release(&text);
    return document;
}

static int describe(void **state)
{
    (void)state;
    static struct app app;
    struct err err = ERR_INIT;
    conf_init(&T.conf);
    T.router = http_router_new(NULL);
    app = (struct app){.conf = &T.conf, .router = T.router};
    system_routes(T.router);
    openai_routes(T.router);
    responses_routes(T.router);
    anthropic_routes(T.router);
    ollama_routes(T.router);
    batch_routes(T.router);
    models_routes(T.router);
    instances_routes(T.router);
    keys_routes(T.router);
    auth_routes(T.router);
    docs_routes(T.router);
    ws_routes(&app);
    assert_true(metrics_routes(&app, &err));
    T.document = described(false);
    T.paths = json_object_get(T.document, "paths");
    T.schemas = json_object_get(json_object_get(T.document, "components"), "schemas");
    return 0;
}

static int forget(void **state)
{
    (void)state;
    json_decref(T.document);
    http_router_free(T.router);
    conf_release(&T.conf);
    return 0;
}

static const json_t *path_of(const struct http_route *route)
{
    char path[256];
    size_t n = 0;
    for (const char *p = route->pattern; *p; p++)
        if (*p != '.' || p[1] != '.' || p[2] != '.')
            path[n++] = *p;
        else
            p += 2;
    path[n] = '\0';
    return json_object_get(T.paths, path);
}

static const json_t *operation_of(const struct http_route *route, const char *method)
{
    static const char *const names[][2] = {
        {"GET", "get"}, {"POST", "post"}, {"PUT", "put"}, {"PATCH", "patch"}, {"DELETE", "delete"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i][0], method) == 0)
            return json_object_get(path_of(route), names[i][1]);
    return NULL;
}

/* Calls check with each route and one of its operations. */
static void each_route(void (*check)(const struct http_route *route, const json_t *operation))
{
    const struct http_route *route;
    for (size_t i = 0; (route = http_router_at(T.router, i)); i++) {
        const json_t *operation = operation_of(route, strcmp(route->method, "*") ? route->method : "PATCH");
        if (!operation)
            print_message("missing: %s %s\n", route->method, route->pattern);
        assert_non_null(operation);
        check(route, operation);
    }
}

static void check_row(const struct http_route *route, const json_t *operation)
{
    if (!route->doc)
        print_message("without a doc: %s %s\n", route->method, route->pattern);
    assert_non_null(route->doc);
    assert_string_equal(json_string_value(json_object_get(operation, "summary")), route->summary);
    assert_string_equal(json_string_value(json_array_get(json_object_get(operation, "tags"), 0)),
                        ((const struct api_doc *)route->doc)->tag);
}

static void test_every_route_is_there(void **state)
{
    (void)state;
    assert_string_equal(json_string_value(json_object_get(T.document, "openapi")), "3.1.0");
    each_route(check_row);
}

static void check_access(const struct http_route *route, const json_t *operation)
{
    const json_t *responses = json_object_get(operation, "responses"),
                 *security = json_object_get(operation, "security");
    bool key = route->access != AUTH_NONE;
    assert_int_equal(json_array_size(security), key ? 2 : 0);
    bool login = route->doc == &doc_login; /* a password is a credential, too */
    assert_int_equal(json_object_get(responses, "401") != NULL, key || login);
    assert_int_equal(json_object_get(responses, "403") != NULL, key);
}

static void test_keys_where_they_are_asked_for(void **state)
{
    (void)state;
    each_route(check_access);
}

static const char *error_of(const json_t *operation, const char *status)
{
    const json_t *response = json_object_get(json_object_get(operation, "responses"), status);
    const json_t *media = json_object_get(json_object_get(response, "content"), "application/json");
    return json_string_value(json_object_get(json_object_get(media, "schema"), "$ref"));
}

static void check_dialect(const struct http_route *route, const json_t *operation)
{
    const struct api_doc *doc = route->doc;
    bool manager = route->dialect == &manager_dialect;
    char schema[128];
    snprintf(schema, sizeof schema, "#/components/schemas/%s",
             doc->error_schema ? doc->error_schema
             : manager         ? "Error"
                               : "OpenAIError");
    if (!doc->passes)
        assert_string_equal(error_of(operation, "500"), schema);
}

static void test_errors_in_the_route_s_dialect(void **state)
{
    (void)state;
    each_route(check_dialect);
    json_t *flat = described(true);
    const json_t *models = json_object_get(json_object_get(flat, "paths"), "/v1/models");
    assert_string_equal(error_of(json_object_get(models, "get"), "500"), "#/components/schemas/Error");
    json_decref(flat);
}

/* "{name}"s of the pattern, each required and once, and nothing else in the path. */
static void check_captures(const struct http_route *route, const json_t *operation)
{
    const json_t *parameters = json_object_get(operation, "parameters");
    size_t index, captured = 0, declared = 0;
    json_t *parameter;
    for (const char *p = route->pattern; *p; p++)
        captured += *p == '{';
    json_array_foreach((json_t *)parameters, index, parameter)
    {
        char braced[64], rest[64];
        const char *name = json_string_value(json_object_get(parameter, "name"));
        snprintf(braced, sizeof braced, "{%s}", name);
        snprintf(rest, sizeof rest, "{%s...}", name);
        bool in_path = strcmp(json_string_value(json_object_get(parameter, "in")), "path") == 0;
        assert_int_equal(in_path, strstr(route->pattern, braced) || strstr(route->pattern, rest));
        assert_true(!in_path || json_is_true(json_object_get(parameter, "required")));
        declared += in_path;
    }
    assert_int_equal(declared, captured);
}

static void test_captures_are_parameters(void **state)
{
    (void)state;
    each_route(check_captures);
}

static void test_operation_ids_are_unique(void **state)
{
    const char *path, *method;
    json_t *operations, *operation, *ids = json_object();
    size_t count = 0;
    (void)state;
    json_object_foreach(T.paths, path, operations)
    {
        json_object_foreach(operations, method, operation)
        {
            json_object_set(ids, json_string_value(json_object_get(operation, "operationId")), operation);
            count++;
        }
    }
    assert_int_equal(json_object_size(ids), count);
    assert_non_null(json_object_get(ids, "get_instances_by_name_logs"));
    assert_non_null(json_object_get(ids, "post_v1_models_by_id_load"));
    assert_non_null(json_object_get(ids, "get_swagger_index"));
    json_decref(ids);
}

/* Collects the schemas that are referred to into used; each must exist. */
static void resolve(const json_t *value, json_t *used)
{
    static const char prefix[] = "#/components/schemas/";
    const char *key;
    size_t index;
    json_t *member;
    if (json_is_object(value)) {
        json_object_foreach((json_t *)value, key, member)
        {
            if (strcmp(key, "$ref") == 0) {
                const char *name = json_string_value(member);
                assert_int_equal(strncmp(name, prefix, sizeof prefix - 1), 0);
                name += sizeof prefix - 1;
                if (!json_object_get(T.schemas, name))
                    print_message("no schema: %s\n", name);
                assert_non_null(json_object_get(T.schemas, name));
                json_object_set_new(used, name, json_true());
            }
            resolve(member, used);
        }
    }
    json_array_foreach((json_t *)value, index, member) resolve(member, used);
}

static void test_every_reference_resolves(void **state)
{
    const char *name;
    json_t *schema, *used = json_object();
    (void)state;
    resolve(T.document, used);
    json_object_foreach(T.schemas, name, schema)
    {
        if (!json_object_get(used, name))
            print_message("nobody uses the schema %s\n", name);
        assert_non_null(json_object_get(used, name));
    }
    json_decref(used);
}

static void test_every_status_has_a_meaning(void **state)
{
    const char *path, *method, *status;
    json_t *operations, *operation, *response;
    (void)state;
    json_object_foreach(T.paths, path, operations)
    {
        json_object_foreach(operations, method, operation)
        {
            assert_true(json_object_size(json_object_get(operation, "responses")) > 0);
            json_object_foreach(json_object_get(operation, "responses"), status, response)
            {
                const char *text = json_string_value(json_object_get(response, "description"));
                assert_string_not_equal(text, "See the schema");
            }
        }
    }
}

static void test_too_small_a_buffer(void **state)
{
    struct buf text;
    (void)state;
    buf_init(&text, 100000);
    assert_false(openapi_write(&text, T.router, false));
    buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_route_is_there),          cmocka_unit_test(test_keys_where_they_are_asked_for),
        cmocka_unit_test(test_errors_in_the_route_s_dialect), cmocka_unit_test(test_captures_are_parameters),
        cmocka_unit_test(test_operation_ids_are_unique),      cmocka_unit_test(test_every_reference_resolves),
        cmocka_unit_test(test_every_status_has_a_meaning),    cmocka_unit_test(test_too_small_a_buffer),
    };
    json_setup();
    return cmocka_run_group_tests(tests, describe, forget);
}
