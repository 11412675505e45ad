/* The routes of batches and of the files they read and write. */
#include "api/admit.h"
#include "api/batch/batch.h"
#include "api/batch/batches.h"
#include "api/batch/files.h"
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

static const struct api_doc doc_file_upload = {
    .tag = "Files",
    .text = "A form with purpose=batch and file. It is kept for batch.retention_hours, for whoever presents the same "
            "key.",
    .bodies = {{"multipart/form-data", "FileUpload"}},
    .replies = {{200, {JSON_TYPE, "File"}}},
    .errors = {409, 503},
};

static const struct api_doc doc_file_list = {
    .tag = "Files",
    .params = {{"purpose", "string", "only files with this purpose", false},
               {"limit", "integer", "1 to 10000 files of a page; 10000 when it is not given", false},
               {"order", "string", "desc, or asc: the oldest first", false},
               {"after", "string", "the id of the file behind which the page begins", false}},
    .replies = {{200, {JSON_TYPE, "FileList"}}},
};

static const struct api_doc doc_file = {
    .tag = "Files",
    .replies = {{200, {JSON_TYPE, "File"}}},
    .errors = {404},
};

static const struct api_doc doc_file_delete = {
    .tag = "Files",
    .text = "Refused while a batch that has not ended reads it.",
    .replies = {{200, {JSON_TYPE, "FileDeleted"}}},
    .errors = {404, 409},
};

static const struct api_doc doc_file_content = {
    .tag = "Files",
    .replies = {{200, {"application/octet-stream", NULL}}},
    .errors = {404},
};

static const struct api_doc doc_batch_create = {
    .tag = "Batches",
    .text = "Runs every line of an uploaded file, {custom_id, method, url, body}, in the background, behind "
            "interactive requests. It survives the server; a line is never answered twice. It runs in the name of "
            "whoever created it, within their limits, and fails when their key is revoked.",
    .bodies = {{JSON_TYPE, "BatchRequest"}},
    .replies = {{200, {JSON_TYPE, "Batch"}}},
    .errors = {404, 503},
};

static const struct api_doc doc_batch_list = {
    .tag = "Batches",
    .params = {{"limit", "integer", "1 to 100 batches of a page; 20 when it is not given", false},
               {"order", "string", "desc, or asc: the oldest first", false},
               {"after", "string", "the id of the batch behind which the page begins", false}},
    .replies = {{200, {JSON_TYPE, "BatchList"}}},
};

static const struct api_doc doc_batch = {
    .tag = "Batches",
    .replies = {{200, {JSON_TYPE, "Batch"}}},
    .errors = {404},
};

static const struct api_doc doc_batch_cancel = {
    .tag = "Batches",
    .text = "What is done stays in the output; what runs is cancelled.",
    .body_optional = true,
    .replies = {{200, {JSON_TYPE, "Batch"}}},
    .errors = {404, 409},
};

#define OPENAI (void *)&openai_dialect

static const struct http_route routes[] = {
    {"POST", "/v1/batch", batch_call, OPENAI, "Several requests in one call", AUTH_INFERENCE | API_UNCHARGED,
     &doc_batch_call},
    {"POST", "/v1/files", file_upload, OPENAI, "Upload the input of a batch", AUTH_INFERENCE, &doc_file_upload},
    {"GET", "/v1/files", file_list, OPENAI, "Uploaded files, and what batches wrote", AUTH_INFERENCE, &doc_file_list},
    {"GET", "/v1/files/{id}", file_look, OPENAI, "A file", AUTH_INFERENCE, &doc_file},
    {"DELETE", "/v1/files/{id}", file_delete, OPENAI, "Delete a file", AUTH_INFERENCE, &doc_file_delete},
    {"GET", "/v1/files/{id}/content", file_content, OPENAI, "What is in a file", AUTH_INFERENCE, &doc_file_content},
    {"POST", "/v1/batches", batch_create, OPENAI, "Run a file of requests in the background", AUTH_INFERENCE,
     &doc_batch_create},
    {"GET", "/v1/batches", batch_list, OPENAI, "Batches", AUTH_INFERENCE, &doc_batch_list},
    {"GET", "/v1/batches/{id}", batch_look, OPENAI, "A batch and how far it is", AUTH_INFERENCE, &doc_batch},
    {"POST", "/v1/batches/{id}/cancel", batch_cancel, OPENAI, "Cancel a batch", AUTH_INFERENCE, &doc_batch_cancel},
};

void batch_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
