/* The routes of Ollama's API. */
#include "api/ollama/ollama.h"

#include "api/ollama/reply.h"
#include "base/version.h"

const struct dialect ollama_dialect = {.content_type = "application/json", .write = ollama_error_write};

static void version(void *arg, struct http_req *req, const struct http_match *match)
{
    struct json *j = api_json_begin(req);
    (void)arg;
    (void)match;
    json_open_object(j, NULL);
    json_put_string(j, "version", INFERD_VERSION);
    json_close(j);
    api_reply_json(req, 200, j);
}

/* Models are files here, which have no second name and are not made from recipes. */
static void refuse(void *arg, struct http_req *req, const struct http_match *match)
{
    struct err err;
    (void)arg;
    (void)match;
    err_set(
        &err, ERR_NOT_IMPLEMENTED,
        "%s is not supported: models are GGUF files here; give them other names with 'aliases' in the configuration",
        match->route->pattern);
    http_reply_error(req, &err);
}

/* ---- routes ---- */

#define JSON_TYPE "application/json"
#define CALL_ERRORS                                                                                                    \
    {                                                                                                                  \
        404, 409, 502, 503, 504                                                                                        \
    }

const struct api_doc doc_ollama_chat = {
    .tag = "Ollama",
    .text = "Answered by a chat completion of the model. Options of the process (num_ctx, num_gpu...) are passed over.",
    .bodies = {{JSON_TYPE, "OllamaChatRequest"}},
    .replies = {{200, {JSON_TYPE, "OllamaChat"}}, {200, {OLLAMA_LINES, "OllamaLines"}}},
    .errors = CALL_ERRORS,
    .error_schema = "OllamaError",
    .passes = true,
};

const struct api_doc doc_ollama_generate = {
    .tag = "Ollama",
    .text =
        "The prompt goes through the model's chat template unless it is raw or has a suffix. 'context' is passed over.",
    .bodies = {{JSON_TYPE, "OllamaGenerateRequest"}},
    .replies = {{200, {JSON_TYPE, "OllamaGenerated"}}, {200, {OLLAMA_LINES, "OllamaLines"}}},
    .errors = CALL_ERRORS,
    .error_schema = "OllamaError",
    .passes = true,
};

const struct api_doc doc_ollama_embed = {
    .tag = "Ollama",
    .text = "A text that is longer than the model's context is refused, whatever 'truncate' says.",
    .bodies = {{JSON_TYPE, "OllamaEmbedRequest"}},
    .replies = {{200, {JSON_TYPE, "OllamaEmbed"}}},
    .errors = CALL_ERRORS,
    .error_schema = "OllamaError",
    .passes = true,
};

const struct api_doc doc_ollama_embeddings = {
    .tag = "Ollama",
    .text = "Superseded by /api/embed.",
    .bodies = {{JSON_TYPE, "OllamaEmbeddingsRequest"}},
    .replies = {{200, {JSON_TYPE, "OllamaEmbeddings"}}},
    .errors = CALL_ERRORS,
    .error_schema = "OllamaError",
    .passes = true,
};

const struct api_doc doc_ollama_tags = {
    .tag = "Ollama", .replies = {{200, {JSON_TYPE, "OllamaModels"}}}, .error_schema = "OllamaError"};

const struct api_doc doc_ollama_ps = {
    .tag = "Ollama", .replies = {{200, {JSON_TYPE, "OllamaModels"}}}, .error_schema = "OllamaError"};

const struct api_doc doc_ollama_show = {
    .tag = "Ollama",
    .text = "model_info is the file's own header; arrays stand there as null.",
    .bodies = {{JSON_TYPE, "OllamaNamed"}},
    .replies = {{200, {JSON_TYPE, "OllamaShow"}}},
    .errors = {404, 503},
    .error_schema = "OllamaError",
};

const struct api_doc doc_ollama_version = {
    .tag = "Ollama", .replies = {{200, {JSON_TYPE, "OllamaVersion"}}}, .error_schema = "OllamaError"};

const struct api_doc doc_ollama_pull = {
    .tag = "Ollama",
    .text = "Downloads hf.co/ORGANISATION/REPOSITORY:QUANTIZATION and links it into models_dir.",
    .bodies = {{JSON_TYPE, "OllamaNamed"}},
    .replies = {{200, {JSON_TYPE, "OllamaStatus"}}, {200, {OLLAMA_LINES, "OllamaLines"}}},
    .errors = {409, 502, 503},
    .error_schema = "OllamaError",
};

const struct api_doc doc_ollama_delete = {
    .tag = "Ollama",
    .text = "Removes a model's files below models_dir; of a model that was pulled, the links to them.",
    .bodies = {{JSON_TYPE, "OllamaNamed"}},
    .replies = {{200, {NULL, NULL}}},
    .errors = {404},
    .error_schema = "OllamaError",
};

const struct api_doc doc_ollama_refused = {
    .tag = "Ollama",
    .text = "Answered with 501: models are files here.",
    .bodies = {{JSON_TYPE, NULL}},
    .body_optional = true,
    .replies = {{501, {JSON_TYPE, "OllamaError"}}},
    .error_schema = "OllamaError",
};

static const struct http_route routes[] = {
    {"POST", "/api/chat", ollama_chat, OLLAMA, "Ollama's chat, streamed unless \"stream\": false", AUTH_INFERENCE,
     &doc_ollama_chat},
    {"POST", "/api/generate", ollama_generate, OLLAMA, "Ollama's completion of a prompt; without one, load or unload",
     AUTH_INFERENCE, &doc_ollama_generate},
    {"POST", "/api/embed", ollama_embed, OLLAMA, "Ollama's embeddings", AUTH_INFERENCE, &doc_ollama_embed},
    {"POST", "/api/embeddings", ollama_embeddings, OLLAMA, "Ollama's older embedding of one prompt", AUTH_INFERENCE,
     &doc_ollama_embeddings},
    {"GET", "/api/tags", ollama_tags, OLLAMA, "Models on this machine", AUTH_MODELS_READ, &doc_ollama_tags},
    {"GET", "/api/ps", ollama_ps, OLLAMA, "Models that are loaded", AUTH_MODELS_READ, &doc_ollama_ps},
    {"POST", "/api/show", ollama_show, OLLAMA, "What a model file says about itself", AUTH_MODELS_READ,
     &doc_ollama_show},
    {"GET", "/api/version", version, OLLAMA, "This server's version", 0, &doc_ollama_version},
    {"POST", "/api/pull", ollama_pull, OLLAMA, "Download a model, with progress", AUTH_MODEL_MANAGEMENT,
     &doc_ollama_pull},
    {"DELETE", "/api/delete", ollama_delete, OLLAMA, "Delete a model's files", AUTH_MODEL_MANAGEMENT,
     &doc_ollama_delete},
    {"POST", "/api/copy", refuse, OLLAMA, "Not supported", AUTH_MODEL_MANAGEMENT, &doc_ollama_refused},
    {"POST", "/api/create", refuse, OLLAMA, "Not supported", AUTH_MODEL_MANAGEMENT, &doc_ollama_refused},
};

void ollama_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
