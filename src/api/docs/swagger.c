/* The API's description as a document (/openapi.json) and as a page (/swagger/, Swagger UI). Everything comes from the
 * program itself, packed with gzip as it lies there; who does not take that gets it unpacked, which costs some
 * milliseconds of the loop for the largest file and is the way of curl, not of browsers.
 *
 * An ETag is the checksum and length that gzip puts behind the data, "-gzip" behind them for the packed form, since the
 * two are different bytes. Names carry no version, so browsers ask each time and are told 304. */
#include <zlib.h>

#include "api/app.h"
#include "api/docs/doc.h"
#include "api/docs/embed.h"
#include "api/docs/openapi.h"
#include "base/limits.h"
#include "http/static.h"

#define ASSET(symbol, name, type) EMBED(swagger_##symbol, INFERD_SWAGGER_PACKED "/" name ".gz");
#include "api/docs/swagger/assets.def"
#undef ASSET

static const struct asset {
    const char *name, *type, *begin, *end;
} assets[] = {
#define ASSET(symbol, name, type) {name, type, swagger_##symbol##_begin, swagger_##symbol##_end},
#include "api/docs/swagger/assets.def"
#undef ASSET
};

#define PAGE_POLICY                                                                                                    \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "              \
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

static bool switched_off(const struct app *app, struct http_req *req)
{
    struct err err;
    if (app->conf->enable_swagger)
        return false;
    err_set(&err, ERR_UNKNOWN_URL, "The API's documentation is switched off (server.enable_swagger).");
    http_reply_error(req, &err);
    return true;
}

static void common_headers(struct http_req *req, const char *etag)
{
    http_reply_header(req, "ETag", etag);
    http_reply_header(req, "Cache-Control", "no-cache");
    http_reply_header(req, "X-Content-Type-Options", "nosniff");
}

/* ---- the document ---- */

static void document(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct err err;
    (void)match;
    if (switched_off(app, req))
        return;
    if (!app->openapi)
        app->openapi = openapi_new(app->router, app->conf->flat_errors);
    if (!app->openapi) {
        err_set(&err, ERR_INTERNAL, "the description of the API is larger than %u bytes", LIMIT_OPENAPI);
        http_reply_error(req, &err);
        return;
    }
    common_headers(req, app->openapi->etag);
    if (http_not_modified(&req->head, app->openapi->etag, INT64_MAX))
        http_reply(req, 304, NULL, STR_NONE);
    else
        http_reply(req, 200, "application/json", buf_view(&app->openapi->text));
}

/* ---- the page ---- */

static uint32_t little_endian(const char *bytes)
{
    const unsigned char *b = (const unsigned char *)bytes;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static bool unpack(struct buf *out, const struct asset *asset)
{
    size_t size = little_endian(asset->end - 4);
    z_stream z = {.next_in = (Bytef *)(uintptr_t)asset->begin, .avail_in = (uInt)(asset->end - asset->begin)};
    char *room = buf_reserve(out, size);
    if (!room || inflateInit2(&z, 15 + 16) != Z_OK)
        return false;
    z.next_out = (Bytef *)room;
    z.avail_out = (uInt)size;
    bool whole = inflate(&z, Z_FINISH) == Z_STREAM_END && z.avail_out == 0;
    inflateEnd(&z);
    buf_commit(out, size);
    return whole;
}

static void reply_unpacked(struct http_req *req, const struct asset *asset)
{
    struct buf text;
    struct err err;
    buf_init(&text, LIMIT_SWAGGER_FILE);
    if (unpack(&text, asset)) {
        http_reply(req, 200, asset->type, buf_view(&text));
    } else {
        err_set(&err, ERR_SERVER_OVERLOADED, "There is no memory to unpack %s.", asset->name);
        http_reply_error(req, &err);
    }
    buf_release(&text);
}

static void reply_asset(struct http_req *req, const struct asset *asset)
{
    char etag[32];
    bool packed = http_head_has_token(&req->head, "accept-encoding", "gzip");
    snprintf(etag, sizeof etag, "\"%x-%x%s\"", little_endian(asset->end - 8), little_endian(asset->end - 4),
             packed ? "-gzip" : "");
    common_headers(req, etag);
    http_reply_header(req, "Vary", "Accept-Encoding");
    http_reply_header(req, "Content-Security-Policy", PAGE_POLICY);
    http_reply_header(req, "Referrer-Policy", "no-referrer");
    if (http_not_modified(&req->head, etag, INT64_MAX)) {
        http_reply(req, 304, NULL, STR_NONE);
        return;
    }
    if (!packed) {
        reply_unpacked(req, asset);
        return;
    }
    http_reply_header(req, "Content-Encoding", "gzip");
    http_reply(req, 200, asset->type, (struct str){asset->begin, (size_t)(asset->end - asset->begin)});
}

static void file(void *arg, struct http_req *req, const struct http_match *match)
{
    struct err err;
    if (switched_off(arg, req))
        return;
    for (size_t i = 0; i < sizeof assets / sizeof *assets; i++) {
        if (!str_eq(match->captures[0], str_from(assets[i].name)))
            continue;
        reply_asset(req, &assets[i]);
        return;
    }
    err_set(&err, ERR_UNKNOWN_URL, "There is no such file.");
    http_reply_error(req, &err);
}

static void page(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    if (!switched_off(arg, req))
        reply_asset(req, &assets[0]);
}

/* The page's own links are relative. So is this one, for the sake of proxies that serve us under a prefix. */
static void redirect(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    if (switched_off(arg, req))
        return;
    http_reply_header(req, "Location", "swagger/");
    http_reply(req, 301, NULL, STR_NONE);
}

#define OPENAI (void *)&openai_dialect

/* "/swagger" would match "/swagger/" too: the more exact one comes first. */
static const struct http_route routes[] = {
    {"GET", "/openapi.json", document, OPENAI, "This description as OpenAPI 3.1", AUTH_NONE, &doc_openapi},
    {"GET", "/swagger/", page, OPENAI, "This description as a page", AUTH_NONE, &doc_swagger},
    {"GET", "/swagger", redirect, OPENAI, "The same page", AUTH_NONE, &doc_swagger_redirect},
    {"GET", "/swagger/doc.json", document, OPENAI, "This description as OpenAPI 3.1", AUTH_NONE, &doc_openapi},
    {"GET", "/swagger/{file}", file, OPENAI, "The page's files", AUTH_NONE, &doc_swagger_file},
};

void docs_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
