/* What http_route.doc points to: what a route takes and answers, as data, for the API's own description
 * (api/docs/openapi.h). Schemas are named here and stand in schemas.json. A route's method, path, summary, key and
 * dialect come from its row in the route table and are not said again. */
#ifndef API_DOCS_DOC_H
#define API_DOCS_DOC_H

#include <stdbool.h>

#define API_DOC_PARAMS  6
#define API_DOC_BODIES  2
#define API_DOC_REPLIES 3
#define API_DOC_ERRORS  8

/* Of the path when the pattern captures that name ("{id}" without a row here is a string), else of the query. */
struct api_param {
    const char *name, *type, *text; /* type: a JSON type */
    bool required;                  /* those of the path always are */
};

struct api_content {
    const char *media;  /* NULL: nothing */
    const char *schema; /* a name in schemas.json; NULL: anything */
};

struct api_reply {
    int status; /* 0: no more */
    struct api_content content;
};

struct api_doc {
    const char *tag;
    const char *text; /* more than the summary says, or NULL */
    struct api_param params[API_DOC_PARAMS];
    struct api_content bodies[API_DOC_BODIES];
    bool body_optional;
    struct api_reply replies[API_DOC_REPLIES]; /* rows of one status stand together: several media types */
    int errors[API_DOC_ERRORS];                /* statuses beside those that every route has (openapi.c) */
    const char *error_schema;                  /* where the route's errors have a form of their own, else NULL */
    bool passes;                               /* what a backend answers comes through, whatever it is */
};

/* api/docs */
extern const struct api_doc doc_openapi, doc_swagger, doc_swagger_redirect, doc_swagger_file;
/* api/system */
extern const struct api_doc doc_index, doc_health, doc_live, doc_ready, doc_metrics, doc_snapshot, doc_status;
/* api/openai, api/models */
extern const struct api_doc doc_chat, doc_completion, doc_embedding, doc_rerank, doc_backend_inference, doc_upload;
extern const struct api_doc doc_model_list, doc_model, doc_model_load, doc_model_unload, doc_model_status;
/* api/instances */
extern const struct api_doc doc_instance_list, doc_instance, doc_instance_create, doc_instance_update,
    doc_instance_delete, doc_instance_start, doc_instance_stop, doc_logs, doc_events, doc_proxy, doc_native,
    doc_native_page, doc_router_models, doc_router_model, doc_node_list, doc_node, doc_backend_text, doc_parse_command,
    doc_version, doc_config;
extern const struct api_doc doc_download, doc_files, doc_files_remove, doc_job_list, doc_job, doc_job_cancel;
/* api/ws */
extern const struct api_doc doc_ws, doc_ws_legacy;
/* api/keys */
extern const struct api_doc doc_key_create, doc_key_list, doc_key, doc_key_delete, doc_key_permissions;
/* api/auth */
extern const struct api_doc doc_auth_key_create, doc_auth_key_list, doc_auth_key, doc_auth_key_delete,
    doc_auth_key_rotate, doc_user_create, doc_user_list, doc_user, doc_user_update, doc_user_delete, doc_login,
    doc_logout, doc_who_am_i;

#endif
