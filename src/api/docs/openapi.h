/* The API's own description: an OpenAPI 3.1 document made from the route table (http/route.h), so that no route can be
 * missing or stale in it. Schemas come from schemas.json, which the build puts into the program. */
#ifndef API_DOCS_OPENAPI_H
#define API_DOCS_OPENAPI_H

#include "base/buf.h"
#include "http/route.h"

/* Appends the document. flat_errors: errors under /v1 are in the manager's dialect, too (auth.flat_errors). false: out
 * is too small for it. */
bool openapi_write(struct buf *out, const struct http_router *router, bool flat_errors);

/* The finished document, made once from all routes. Loop thread only. */
struct openapi {
    struct buf text;
    char etag[24];
};

/* NULL: it does not fit LIMIT_OPENAPI. */
struct openapi *openapi_new(const struct http_router *router, bool flat_errors);
void openapi_free(struct openapi *openapi); /* NULL is fine */

#endif
