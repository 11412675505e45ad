/* The route table as OpenAPI 3.1. A row gives method, path, summary, access and dialect; its struct api_doc the rest.
 *
 * Rows of one path stand together in the document but not in the table: the first row of a path writes the path with
 * all its methods, later ones nothing. "{x...}" becomes one parameter {x}; OpenAPI knows none that spans segments, but
 * an encoded '/' means the same to the router. "*" becomes one operation for each of the usual methods; HEAD goes
 * without saying where GET is.
 *
 * Every route can answer 400 and 500, one with a body also 408, 413 and 415, one that needs a key 401 and 403; what
 * else there is, api_doc says. All of them are in the dialect of the route. */
#include "api/docs/openapi.h"

#include "api/app.h"
#include "api/docs/doc.h"
#include "api/docs/embed.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/version.h"

EMBED(docs_schemas, INFERD_SCHEMAS);

#define REF "#/components/schemas/"

struct writer {
    struct json *j;
    const struct http_router *router;
    bool flat_errors;
};

/* ---- names ---- */

/* "/v1/models/{id...}/load" to "/v1/models/{id}/load". */
static void put_path(struct buf *out, const char *pattern)
{
    for (const char *p = pattern; *p; p++)
        if (strncmp(p, "...}", 4) == 0)
            p += 2;
        else
            buf_putc(out, *p);
}

static const char *without_version(const char *pattern)
{
    static const char prefix[] = "/api/v1/";
    return strncmp(pattern, prefix, sizeof prefix - 1) == 0 ? pattern + sizeof prefix - 2 : pattern;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* "GET /api/v1/instances/{name}/logs" to "get_instances_by_name_logs", "GET /swagger/" to "get_swagger_index". */
static void put_id(struct buf *out, const char *method, const char *pattern)
{
    const char *at = without_version(pattern);
    for (; *method; method++)
        buf_putc(out, (char)(*method | 0x20));
    for (; *at; at++) {
        if (at[0] == '/' && at[1] == '{')
            buf_puts(out, "_by");
        else if (at[0] == '/' && at[1] == '\0')
            buf_puts(out, "_index");
        else if (is_word(*at))
            buf_putc(out, *at);
        else if (*at != '}' && strncmp(at, "...", 3) != 0 && out->data[out->len - 1] != '_')
            buf_putc(out, '_');
        at += strncmp(at, "...", 3) == 0 ? 2 : 0;
    }
}

/* ---- schemas ---- */

static void put_ref(struct json *j, const char *key, const char *schema)
{
    char ref[128];
    json_open_object(j, key);
    if (schema) {
        snprintf(ref, sizeof ref, REF "%s", schema);
        json_put_string(j, "$ref", ref);
    }
    json_close(j);
}

static void put_media(struct json *j, const struct api_content *content)
{
    json_open_object(j, content->media);
    put_ref(j, "schema", content->schema);
    json_close(j);
}

/* ---- parameters ---- */

static const struct api_param *find_param(const struct api_doc *doc, struct str name)
{
    for (size_t i = 0; i < API_DOC_PARAMS && doc->params[i].name; i++)
        if (str_eq(name, str_from(doc->params[i].name)))
            return &doc->params[i];
    return NULL;
}

static void put_param(struct json *j, struct str name, const char *where, const struct api_param *param)
{
    bool required = strcmp(where, "path") == 0 || param->required;
    json_open_object(j, NULL);
    json_put_text(j, "name", name);
    json_put_string(j, "in", where);
    if (required)
        json_put_bool(j, "required", true);
    if (param)
        json_put_string(j, "description", param->text);
    json_open_object(j, "schema");
    json_put_string(j, "type", param ? param->type : "string");
    json_close(j);
    json_close(j);
}

/* The next "{name}" or "{name...}" of *rest; false: none. */
static bool next_capture(struct str *rest, struct str *ret_name)
{
    str_cut(rest, '{');
    if (!rest->p)
        return false;
    *ret_name = str_cut(rest, '}');
    if (str_ends(*ret_name, STR("...")))
        ret_name->n -= 3;
    return true;
}

static bool captures(const char *pattern, const char *name)
{
    struct str rest = str_from(pattern), found;
    while (next_capture(&rest, &found))
        if (str_eq(found, str_from(name)))
            return true;
    return false;
}

static void put_params(struct json *j, const struct http_route *route, const struct api_doc *doc)
{
    struct str rest = str_from(route->pattern), name;
    if (!doc->params[0].name && !strchr(route->pattern, '{'))
        return;
    json_open_array(j, "parameters");
    while (next_capture(&rest, &name))
        put_param(j, name, "path", find_param(doc, name));
    for (size_t i = 0; i < API_DOC_PARAMS && doc->params[i].name; i++)
        if (!captures(route->pattern, doc->params[i].name))
            put_param(j, str_from(doc->params[i].name), "query", &doc->params[i]);
    json_close(j);
}

static void put_body(struct json *j, const struct api_doc *doc)
{
    if (!doc->bodies[0].media)
        return;
    json_open_object(j, "requestBody");
    json_put_bool(j, "required", !doc->body_optional);
    json_open_object(j, "content");
    for (size_t i = 0; i < API_DOC_BODIES && doc->bodies[i].media; i++)
        put_media(j, &doc->bodies[i]);
    json_close(j);
    json_close(j);
}

/* ---- responses ---- */

static const char *meaning(int status)
{
    static const struct {
        int status;
        const char *text;
    } rows[] = {
        {101, "The connection goes on in the protocol that was asked for"},
        {200, "Done"},
        {201, "Made"},
        {202, "Begun"},
        {204, "Done; there is nothing to say"},
        {301, "It is elsewhere: see Location"},
        {304, "It is what the client has already"},
        {400, "The request is malformed, or a value is not allowed"},
        {401, "The key is missing or unknown"},
        {403, "The key may not do this"},
        {404, "There is no such thing"},
        {408, "The body stopped arriving"},
        {409, "It exists already, is in use, or a limit is reached"},
        {413, "The body is too large"},
        {415, "The body is of a kind that is not understood"},
        {426, "This path speaks another protocol: see Upgrade"},
        {500, "It failed here"},
        {501, "This server does not do that"},
        {502, "The backend or node does not answer, or not in HTTP"},
        {429, "Too many: wait as Retry-After says"},
        {503, "Not now: not running, loading, overloaded, or shutting down"},
        {504, "It took too long"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].status == status)
            return rows[i].text;
    return "See the schema";
}

static void open_response(struct json *j, int status)
{
    char key[16];
    snprintf(key, sizeof key, "%d", status);
    json_open_object(j, key);
    json_put_string(j, "description", meaning(status));
}

/* The row of doc->replies with that status, before or at which the status was not seen yet. */
static bool is_first_of_status(const struct api_doc *doc, size_t index)
{
    return index == 0 || doc->replies[index - 1].status != doc->replies[index].status;
}

static void put_replies(struct json *j, const struct api_doc *doc)
{
    for (size_t i = 0; i < API_DOC_REPLIES && doc->replies[i].status; i++) {
        int status = doc->replies[i].status;
        if (!is_first_of_status(doc, i))
            continue;
        open_response(j, status);
        if (doc->replies[i].content.media) {
            json_open_object(j, "content");
            for (size_t k = i; k < API_DOC_REPLIES && doc->replies[k].status == status; k++)
                put_media(j, &doc->replies[k].content);
            json_close(j);
        }
        json_close(j);
    }
}

static const char *error_schema(const struct writer *w, const struct http_route *route)
{
    const struct api_doc *doc = route->doc;
    if (doc->error_schema)
        return doc->error_schema;
    return route->dialect == &manager_dialect || w->flat_errors ? "Error" : "OpenAIError";
}

/* A backend may answer with the same status in its own words. */
static void put_any_error(struct json *j, const char *schema)
{
    json_open_object(j, "application/json");
    json_open_object(j, "schema");
    json_open_array(j, "anyOf");
    put_ref(j, NULL, schema);
    json_open_object(j, NULL);
    json_put_string(j, "description", "The backend's own");
    json_close(j);
    json_close(j);
    json_close(j);
    json_close(j);
    put_media(j, &(struct api_content){"*/*", NULL});
}

static void put_error(const struct writer *w, const struct http_route *route, const struct api_doc *doc, int status)
{
    struct json *j = w->j;
    open_response(j, status);
    json_open_object(j, "content");
    if (doc->passes)
        put_any_error(j, error_schema(w, route));
    else
        put_media(j, &(struct api_content){"application/json", error_schema(w, route)});
    json_close(j);
    json_close(j);
}

static bool answers(const struct api_doc *doc, int status)
{
    for (size_t i = 0; i < API_DOC_REPLIES; i++)
        if (doc->replies[i].status == status)
            return true;
    return false;
}

static bool has_error(const struct api_doc *doc, int status)
{
    for (size_t i = 0; i < API_DOC_ERRORS; i++)
        if (doc->errors[i] == status)
            return true;
    return false;
}

static void put_errors(const struct writer *w, const struct http_route *route, const struct api_doc *doc)
{
    static const int statuses[] = {400, 401, 403, 404, 408, 409, 413, 415, 426, 429, 500, 502, 503, 504};
    bool body = doc->bodies[0].media;
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        int s = statuses[i];
        bool possible = s == 400 || s == 500 || ((s == 401 || s == 403 || s == 429) && route->access != AUTH_NONE) ||
                        ((s == 408 || s == 413 || s == 415) && body) || has_error(doc, s);
        if (possible && !answers(doc, s))
            put_error(w, route, doc, s);
    }
}

static void put_responses(const struct writer *w, const struct http_route *route, const struct api_doc *doc)
{
    json_open_object(w->j, "responses");
    put_replies(w->j, doc);
    put_errors(w, route, doc);
    if (doc->passes) {
        json_open_object(w->j, "default");
        json_put_string(w->j, "description", "What the backend answers, as it is");
        json_open_object(w->j, "content");
        put_media(w->j, &(struct api_content){"*/*", NULL});
        json_close(w->j);
        json_close(w->j);
    }
    json_close(w->j);
}

/* ---- operations ---- */

/* Either scheme will do. What the key must be allowed stands there as a role (OpenAPI 3.1, Security Requirement). */
static void put_security(struct json *j, unsigned access)
{
    static const char *const schemes[] = {"bearer", "apiKey"};
    json_open_array(j, "security");
    for (size_t i = 0; access != AUTH_NONE && i < sizeof schemes / sizeof *schemes; i++) {
        json_open_object(j, NULL);
        json_open_array(j, schemes[i]);
        size_t at = 0;
        for (const char *name; (name = permission_next(access, &at));)
            json_put_string(j, NULL, name);
        json_close(j);
        json_close(j);
    }
    json_close(j);
}

static void put_operation(const struct writer *w, const struct http_route *route, const char *method)
{
    static const struct api_doc nothing = {.tag = "Other", .passes = true};
    const struct api_doc *doc = route->doc ? route->doc : &nothing;
    struct json *j = w->j;
    struct buf text;
    char key[16];
    size_t n = 0;
    for (; method[n] && n < sizeof key - 1; n++)
        key[n] = (char)(method[n] | 0x20);
    key[n] = '\0';
    buf_init(&text, LIMIT_TARGET_BYTES);
    put_id(&text, method, route->pattern);
    json_open_object(j, key);
    json_put_text(j, "operationId", buf_view(&text));
    buf_release(&text);
    json_open_array(j, "tags");
    json_put_string(j, NULL, doc->tag);
    json_close(j);
    json_put_string(j, "summary", route->summary);
    if (doc->text)
        json_put_string(j, "description", doc->text);
    put_security(j, route->access);
    put_params(j, route, doc);
    put_body(j, doc);
    put_responses(w, route, doc);
    json_close(j);
}

static void put_methods(const struct writer *w, const struct http_route *route)
{
    static const char *const all[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
    if (strcmp(route->method, "*") != 0) {
        put_operation(w, route, route->method);
        return;
    }
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        put_operation(w, route, all[i]);
}

/* Writes the path of the row at index, unless a row before it did. */
static void put_path_of(const struct writer *w, size_t index)
{
    const struct http_route *route = http_router_at(w->router, index), *other;
    struct buf path;
    for (size_t i = 0; i < index; i++)
        if (strcmp(http_router_at(w->router, i)->pattern, route->pattern) == 0)
            return;
    buf_init(&path, LIMIT_TARGET_BYTES);
    put_path(&path, route->pattern);
    json_open_object(w->j, path.data);
    buf_release(&path);
    for (size_t i = index; (other = http_router_at(w->router, i)); i++)
        if (strcmp(other->pattern, route->pattern) == 0)
            put_methods(w, other);
    json_close(w->j);
}

/* ---- the document ---- */

static void put_info(struct json *j)
{
    json_open_object(j, "info");
    json_put_string(j, "title", "inferd");
    json_put_string(j, "version", INFERD_VERSION);
    json_put_string(j, "description",
                    "Models by OpenAI's protocol under /v1, instances and their files under /api/v1.\n\n"
                    "Keys are asked for when the configuration or the store has one, "
                    "or when the configuration says so. A key may also be sent as ?api_key=, for clients that cannot "
                    "set headers.\n\n"
                    "A request that matches no route, or that is not valid HTTP, is answered in OpenAI's error format. "
                    "Boolean parameters are true when they are given as 1, true or nothing.");
    json_close(j);
    json_open_array(j, "servers");
    json_open_object(j, NULL);
    json_put_string(j, "url", "/");
    json_close(j);
    json_close(j);
}

static void put_schemes(struct json *j)
{
    json_open_object(j, "securitySchemes");
    json_open_object(j, "bearer");
    json_put_string(j, "type", "http");
    json_put_string(j, "scheme", "bearer");
    json_close(j);
    json_open_object(j, "apiKey");
    json_put_string(j, "type", "apiKey");
    json_put_string(j, "in", "header");
    json_put_string(j, "name", "X-API-Key");
    json_close(j);
    json_close(j);
}

bool openapi_write(struct buf *out, const struct http_router *router, bool flat_errors)
{
    struct json j;
    struct writer w = {.j = &j, .router = router, .flat_errors = flat_errors};
    json_begin(&j, out);
    json_open_object(&j, NULL);
    json_put_string(&j, "openapi", "3.1.0");
    put_info(&j);
    json_open_object(&j, "paths");
    for (size_t i = 0; http_router_at(router, i); i++)
        put_path_of(&w, i);
    json_close(&j);
    json_open_object(&j, "components");
    json_put_raw(&j, "schemas", EMBEDDED(docs_schemas));
    put_schemes(&j);
    json_close(&j);
    json_close(&j);
    return json_finish(&j);
}

struct openapi *openapi_new(const struct http_router *router, bool flat_errors)
{
    struct openapi *openapi = mem_calloc(1, sizeof *openapi);
    unsigned char digest[HASH_SHA256_SIZE];
    char hex[17];
    buf_init(&openapi->text, LIMIT_OPENAPI);
    if (!openapi_write(&openapi->text, router, flat_errors)) {
        openapi_free(openapi);
        return NULL;
    }
    hash_sha256(openapi->text.data, openapi->text.len, digest);
    snprintf(openapi->etag, sizeof openapi->etag, "\"%s\"", hash_hex(digest, 8, hex));
    return openapi;
}

void openapi_free(struct openapi *openapi)
{
    if (!openapi)
        return;
    buf_release(&openapi->text);
    mem_free(openapi);
}
