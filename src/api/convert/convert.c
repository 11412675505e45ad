/* Conversion of models (seeds/002, "Model Conversion") is not here yet, and says so: whatever is asked for, this server
 * cannot convert it. */
#include "api/app.h"
#include "api/docs/doc.h"

static void refuse(void *arg, struct http_req *req, const struct http_match *match)
{
    struct err err;
    (void)arg;
    (void)match;
    err_set(&err, ERR_UNSUPPORTED_CONVERSION,
            "This server does not convert models; convert it elsewhere, and put the "
            "GGUF file into models_dir");
    http_reply_error(req, &err);
}

static const struct api_doc doc_convert = {
    .tag = "Conversion", .text = "Not available: always answers unsupported_conversion.", .errors = {400}};

static const struct http_route routes[] = {
    {"POST", "/v1/convert", refuse, (void *)&openai_dialect, "Convert a model (not available)", AUTH_MODEL_MANAGEMENT,
     &doc_convert},
    {"GET", "/v1/convert/{job_id}", refuse, (void *)&openai_dialect, "A conversion's progress (not available)",
     AUTH_MODEL_MANAGEMENT, &doc_convert},
};

void convert_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
