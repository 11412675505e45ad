/* The routes of batches and of the files they read and write. */
#include "api/admit.h"
#include "api/batch/batch.h"
#include "api/docs/doc.h"

#define JSON_TYPE "application/json"

static const struct api_doc doc_batch_call = {
    .tag = "Batches",
    .text = "Up to batch.max_requests chats or completions, answered together and in order. What stands beside "
            "requests is each one's default. One that fails holds an error in place of choices. They run behind "
            "interactive requests, and each counts as one against the caller's limits.",
    .bodies = {{JSON_TYPE, "BatchCallRequest"}},
    .replies = {{200, {JSON_TYPE, "BatchCall"}}},
    .errors = {503},
};

#define OPENAI (void *)&openai_dialect

static const struct http_route routes[] = {
    {"POST", "/v1/batch", batch_call, OPENAI, "Several requests in one call", AUTH_INFERENCE | API_UNCHARGED,
     &doc_batch_call},
};

void batch_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
