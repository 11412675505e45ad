/* The rows behind doc.h. */
#include "api/docs/doc.h"

#include <stddef.h>

#define JSON_TYPE   "application/json"
#define TEXT_TYPE   "text/plain"
#define STREAM_TYPE "text/event-stream"

#define JSON_REPLY(status, schema)                                                                                     \
    {                                                                                                                  \
        status,                                                                                                        \
        {                                                                                                              \
            JSON_TYPE, schema                                                                                          \
        }                                                                                                              \
    }
#define TEXT_REPLY(status)                                                                                             \
    {                                                                                                                  \
        status,                                                                                                        \
        {                                                                                                              \
            TEXT_TYPE, "Text"                                                                                          \
        }                                                                                                              \
    }
#define STREAM_REPLY(status, schema)                                                                                   \
    {                                                                                                                  \
        status,                                                                                                        \
        {                                                                                                              \
            STREAM_TYPE, schema                                                                                        \
        }                                                                                                              \
    }
#define EMPTY_REPLY(status)                                                                                            \
    {                                                                                                                  \
        status,                                                                                                        \
        {                                                                                                              \
            NULL, NULL                                                                                                 \
        }                                                                                                              \
    }
#define JSON_BODY(schema)                                                                                              \
    {                                                                                                                  \
        {                                                                                                              \
            JSON_TYPE, schema                                                                                          \
        }                                                                                                              \
    }

#define WAIT_UP                                                                                                        \
    {                                                                                                                  \
        "wait", "boolean", "answer when it is running, or could not be started", false                                 \
    }
#define WAIT_DOWN                                                                                                      \
    {                                                                                                                  \
        "wait", "boolean", "answer when it has stopped", false                                                         \
    }
#define NODE                                                                                                           \
    {                                                                                                                  \
        "node", "string", "a configured node that is asked instead of this one", false                                 \
    }

/* ---- this description ---- */

const struct api_doc doc_openapi = {
    .tag = "Documentation",
    .replies = {JSON_REPLY(200, NULL), EMPTY_REPLY(304)},
    .errors = {404},
};

const struct api_doc doc_swagger = {
    .tag = "Documentation",
    .replies = {{200, {"text/html", "Text"}}, EMPTY_REPLY(304)},
    .errors = {404},
};

const struct api_doc doc_swagger_redirect = {
    .tag = "Documentation",
    .replies = {EMPTY_REPLY(301)},
    .errors = {404},
};

const struct api_doc doc_swagger_file = {
    .tag = "Documentation",
    .replies = {{200, {"*/*", NULL}}, EMPTY_REPLY(304)},
    .errors = {404},
};

/* ---- system ---- */

const struct api_doc doc_index = {.tag = "System", .replies = {JSON_REPLY(200, "Index")}};

const struct api_doc doc_health = {
    .tag = "System",
    .replies = {JSON_REPLY(200, "Health"), JSON_REPLY(503, "Health")},
};

const struct api_doc doc_live = {.tag = "System", .replies = {JSON_REPLY(200, "Probe")}};

const struct api_doc doc_ready = {
    .tag = "System",
    .replies = {JSON_REPLY(200, "Probe"), JSON_REPLY(503, "Probe")},
};

const struct api_doc doc_metrics = {
    .tag = "System",
    .text = "The Prometheus text format, version 0.0.4; OpenMetrics 1.0 when Accept asks for it.",
    .replies = {TEXT_REPLY(200), {200, {"application/openmetrics-text", "Text"}}},
};

const struct api_doc doc_snapshot = {.tag = "System", .replies = {JSON_REPLY(200, "Snapshot")}};

const struct api_doc doc_status = {.tag = "System", .replies = {JSON_REPLY(200, "ServerStatus")}};

const struct api_doc doc_version = {
    .tag = "System",
    .text = "Three lines: Version, Commit, Build Time.",
    .replies = {TEXT_REPLY(200)},
};

const struct api_doc doc_config = {.tag = "System", .replies = {JSON_REPLY(200, "Config")}};

/* ---- inference ---- */

#define INFERENCE_ERRORS                                                                                               \
    {                                                                                                                  \
        404, 409, 502, 503, 504                                                                                        \
    }
#define MODEL_TEXT                                                                                                     \
    "model names an instance, INSTANCE/MODEL for a model inside one, or a model file. One that does not run is "       \
    "started, unless the configuration or the instance's on_demand_start says otherwise. Members that are not "        \
    "listed go to the backend as they are."

const struct api_doc doc_chat = {
    .tag = "Inference",
    .text = MODEL_TEXT,
    .bodies = JSON_BODY("ChatRequest"),
    .replies = {JSON_REPLY(200, "ChatCompletion"), STREAM_REPLY(200, "ChatStream")},
    .errors = INFERENCE_ERRORS,
    .passes = true,
};

const struct api_doc doc_completion = {
    .tag = "Inference",
    .text = MODEL_TEXT,
    .bodies = JSON_BODY("CompletionRequest"),
    .replies = {JSON_REPLY(200, "Completion"), STREAM_REPLY(200, "CompletionStream")},
    .errors = INFERENCE_ERRORS,
    .passes = true,
};

const struct api_doc doc_embedding = {
    .tag = "Inference",
    .text = MODEL_TEXT,
    .bodies = JSON_BODY("EmbeddingRequest"),
    .replies = {JSON_REPLY(200, "Embeddings")},
    .errors = INFERENCE_ERRORS,
    .passes = true,
};

const struct api_doc doc_rerank = {
    .tag = "Inference",
    .text = MODEL_TEXT " A model file must be a cross-encoder (pooling type rank); scores are as the model gives them, "
                       "the higher the better.",
    .bodies = JSON_BODY("RerankRequest"),
    .replies = {JSON_REPLY(200, NULL)},
    .errors = INFERENCE_ERRORS,
    .passes = true,
};

const struct api_doc doc_backend_inference = {
    .tag = "Inference",
    .text = MODEL_TEXT,
    .bodies = JSON_BODY("ModelRequest"),
    .replies = {{200, {"*/*", NULL}}},
    .errors = INFERENCE_ERRORS,
    .passes = true,
};

const struct api_doc doc_upload = {
    .tag = "Inference",
    .text = MODEL_TEXT,
    .params = {{"what", "string", "the backend's own path, such as transcriptions or generations", true}},
    .bodies = {{JSON_TYPE, "ModelRequest"}, {"multipart/form-data", "ModelRequest"}},
    .replies = {{200, {"*/*", NULL}}},
    .errors = INFERENCE_ERRORS,
    .passes = true,
};

/* ---- models ---- */

#define MODEL_ID                                                                                                       \
    {                                                                                                                  \
        "id", "string", "a model's id; it may hold '/', encoded or not", true                                          \
    }

const struct api_doc doc_model_list = {.tag = "Models", .replies = {JSON_REPLY(200, "ModelList")}};

const struct api_doc doc_model = {
    .tag = "Models",
    .params = {MODEL_ID},
    .replies = {JSON_REPLY(200, "Model")},
    .errors = {404},
};

const struct api_doc doc_model_load = {
    .tag = "Models",
    .text =
        "Settings hold until the model is unloaded or loaded anew. One that runs with other settings is a conflict, "
        "unless force ends it; with wait false the answer comes at once.",
    .params = {MODEL_ID},
    .bodies = {{"application/json", "ModelLoad"}},
    .body_optional = true,
    .replies = {JSON_REPLY(200, "ModelLoaded")},
    .errors = {400, 404, 409, 413, 502, 503, 504},
};

const struct api_doc doc_model_unload = {
    .tag = "Models",
    .text = "Running requests may end within server.shutdown_grace_seconds. A model that is not loaded is no error.",
    .params = {MODEL_ID},
    .bodies = JSON_BODY("ModelUnload"),
    .body_optional = true,
    .replies = {JSON_REPLY(200, "ModelUnloaded")},
    .errors = {404},
};

const struct api_doc doc_model_status = {
    .tag = "Models",
    .params = {MODEL_ID},
    .replies = {JSON_REPLY(200, "ModelStatus")},
    .errors = {404},
};

/* ---- instances ---- */

const struct api_doc doc_instance_list = {
    .tag = "Instances",
    .params = {{"all", "boolean", "with those that stand behind model files", false}},
    .replies = {JSON_REPLY(200, "Instances")},
};

const struct api_doc doc_instance = {
    .tag = "Instances",
    .replies = {JSON_REPLY(200, "Instance")},
    .errors = {404},
};

const struct api_doc doc_instance_create = {
    .tag = "Instances",
    .text = "Without backend_type and backend_options, members that are no options of an instance are taken as "
            "backend_options of llama_cpp. An instance that cannot be started exists all the same; its error says "
            "why.",
    .params = {WAIT_UP},
    .bodies = JSON_BODY("InstanceCreate"),
    .body_optional = true,
    .replies = {JSON_REPLY(201, "Instance")},
    .errors = {404, 409, 502, 503, 504},
};

const struct api_doc doc_instance_update = {
    .tag = "Instances",
    .text = "A running instance is restarted when what its process was started with changes.",
    .params = {WAIT_UP},
    .bodies = JSON_BODY("InstanceUpdate"),
    .replies = {JSON_REPLY(200, "Instance")},
    .errors = {404, 409, 502, 503, 504},
};

const struct api_doc doc_instance_delete = {
    .tag = "Instances",
    .replies = {EMPTY_REPLY(204)},
    .errors = {404, 409, 502, 503, 504},
};

const struct api_doc doc_instance_start = {
    .tag = "Instances",
    .params = {WAIT_UP},
    .replies = {JSON_REPLY(200, "Instance")},
    .errors = {404, 409, 502, 503, 504},
};

const struct api_doc doc_instance_stop = {
    .tag = "Instances",
    .params = {WAIT_DOWN},
    .replies = {JSON_REPLY(200, "Instance")},
    .errors = {404, 409, 502, 503, 504},
};

const struct api_doc doc_logs = {
    .tag = "Instances",
    .params = {{"lines", "integer",
                "the last so many lines; 0 or less, or nothing: all (when following, nothing means the last 100)",
                false},
               {"follow", "boolean", "stay and send every new line as an event", false}},
    .replies = {TEXT_REPLY(200), STREAM_REPLY(200, "LogStream")},
    .errors = {404, 502, 503, 504},
};

const struct api_doc doc_events = {
    .tag = "Instances",
    .params = {{"logs", "string", "an instance whose log is sent too; * for those of all instances", false}},
    .replies = {STREAM_REPLY(200, "EventStream")},
};

/* ---- straight to a backend ---- */

#define BACKEND_PATH                                                                                                   \
    {                                                                                                                  \
        "path", "string", "path of the backend; it may hold '/', encoded or not", true                                 \
    }
#define ROUTER_MODEL                                                                                                   \
    {                                                                                                                  \
        "model", "string", "the backend's model; it may hold '/', encoded or not", true                                \
    }

const struct api_doc doc_proxy = {
    .tag = "Backends",
    .text = "Query, body and upgrades pass, too. The instance is not started for this.",
    .params = {BACKEND_PATH},
    .errors = {404, 502, 503, 504},
    .passes = true,
};

const struct api_doc doc_native = {
    .tag = "Backends",
    .text = "Query, body and upgrades pass, too. For instances of llama_cpp only.",
    .params = {BACKEND_PATH},
    .errors = {404, 409, 502, 503, 504},
    .passes = true,
};

const struct api_doc doc_native_page = {
    .tag = "Backends",
    .replies = {{200, {"text/html", "Text"}}},
    .errors = {404, 502, 503, 504},
    .passes = true,
};

const struct api_doc doc_router_models = {
    .tag = "Backends",
    .replies = {JSON_REPLY(200, NULL)},
    .errors = {404, 409, 502, 503, 504},
    .passes = true,
};

const struct api_doc doc_router_model = {
    .tag = "Backends",
    .text = "A body goes to the backend instead of {\"model\": the path's}.",
    .params = {ROUTER_MODEL},
    .bodies = JSON_BODY("ModelRequest"),
    .body_optional = true,
    .replies = {JSON_REPLY(200, NULL)},
    .errors = {404, 409, 502, 503, 504},
    .passes = true,
};

const struct api_doc doc_backend_text = {
    .tag = "Backends",
    .replies = {TEXT_REPLY(200)},
};

const struct api_doc doc_parse_command = {
    .tag = "Backends",
    .params = {{"backend", "string", "llama-cpp, mlx or vllm", true}},
    .bodies = JSON_BODY("Command"),
    .replies = {JSON_REPLY(200, "ParsedCommand")},
    .errors = {404},
};

/* ---- nodes ---- */

const struct api_doc doc_node_list = {.tag = "Nodes", .replies = {JSON_REPLY(200, "Nodes")}};

const struct api_doc doc_node = {.tag = "Nodes", .replies = {JSON_REPLY(200, "Node")}, .errors = {404}};

/* ---- downloads ---- */

#define JOB_ID                                                                                                         \
    {                                                                                                                  \
        "id", "integer", "the download's id", true                                                                     \
    }
#define REPO                                                                                                           \
    {                                                                                                                  \
        "repo", "string", "ORG/MODEL", true                                                                            \
    }
#define TAG                                                                                                            \
    {                                                                                                                  \
        "tag", "string", "only the files of that quantization; nothing: all of the model", false                       \
    }

const struct api_doc doc_download = {
    .tag = "Downloads",
    .params = {NODE},
    .bodies = JSON_BODY("DownloadRequest"),
    .replies = {JSON_REPLY(202, "DownloadStarted")},
    .errors = {404, 409, 502, 503, 504},
};

const struct api_doc doc_files = {
    .tag = "Downloads",
    .params = {NODE},
    .replies = {JSON_REPLY(200, "CachedModels")},
    .errors = {404, 502, 504},
};

const struct api_doc doc_files_remove = {
    .tag = "Downloads",
    .params = {REPO, TAG, NODE},
    .replies = {EMPTY_REPLY(204)},
    .errors = {404, 409, 502, 504},
};

const struct api_doc doc_job_list = {
    .tag = "Downloads",
    .params = {NODE},
    .replies = {JSON_REPLY(200, "Downloads")},
    .errors = {404, 502, 504},
};

const struct api_doc doc_job = {
    .tag = "Downloads",
    .params = {JOB_ID, NODE},
    .replies = {JSON_REPLY(200, "Download")},
    .errors = {404, 502, 504},
};

const struct api_doc doc_job_cancel = {
    .tag = "Downloads",
    .params = {JOB_ID, NODE},
    .replies = {EMPTY_REPLY(204)},
    .errors = {404, 502, 504},
};

/* ---- WebSockets ---- */

const struct api_doc doc_ws = {
    .tag = "WebSocket",
    .text = "Messages are JSON objects {type, id, data}: auth, chat, cancel, unsubscribe, subscribe_metrics, "
            "subscribe_models and ping from the client; auth_ok, chat_chunk, chat_done, metrics_update, model_status, "
            "unsubscribed, pong and error from the server.",
    .params = {{"token", "string", "a key, where websocket.allow_query_token is set", false}},
    .replies = {EMPTY_REPLY(101)},
    .errors = {426, 503},
};

const struct api_doc doc_ws_legacy = {
    .tag = "WebSocket",
    .text =
        "connection_info, chat_chunk with whole chunks, error and heartbeat from the server; chat_request and cancel "
        "from the client.",
    .replies = {EMPTY_REPLY(101)},
    .errors = {426, 503},
};

/* ---- keys ---- */

#define KEY_ID                                                                                                         \
    {                                                                                                                  \
        "id", "integer", "the key's id", true                                                                          \
    }

const struct api_doc doc_key_create = {
    .tag = "Keys",
    .bodies = JSON_BODY("KeyRequest"),
    .replies = {JSON_REPLY(201, "NewKey")},
    .errors = {409, 503},
};

const struct api_doc doc_key_list = {.tag = "Keys", .replies = {JSON_REPLY(200, "Keys")}};

const struct api_doc doc_key = {
    .tag = "Keys",
    .params = {KEY_ID},
    .replies = {JSON_REPLY(200, "Key")},
    .errors = {404},
};

const struct api_doc doc_key_delete = {
    .tag = "Keys",
    .params = {KEY_ID},
    .replies = {EMPTY_REPLY(204)},
    .errors = {404, 503},
};

const struct api_doc doc_key_permissions = {
    .tag = "Keys",
    .params = {KEY_ID},
    .replies = {JSON_REPLY(200, "KeyPermissions")},
    .errors = {404},
};
