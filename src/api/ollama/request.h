/* Ollama's requests, and the OpenAI requests that they mean. Pure. Every refusal is a 400 that names the field by its
 * path ("options.num_predict", "messages[1].images[0]"): ERR_INVALID_PARAMETERS for a wrong one, ERR_NOT_SUPPORTED for
 * what this server does not do. */
#ifndef API_OLLAMA_REQUEST_H
#define API_OLLAMA_REQUEST_H

#include "base/json_copy.h"

/* How long the model is to stay once its reply is complete. */
struct ollama_keep {
    bool given;
    int64_t seconds; /* 0: it goes; -1: it stays for ever */
};

enum ollama_form { OLLAMA_CHAT, OLLAMA_GENERATE, OLLAMA_EMBED, OLLAMA_EMBEDDINGS };

struct ollama_request {
    enum ollama_form form;
    struct str model; /* as the client named it: what replies say */
    struct str name;  /* as this server knows it */
    bool stream;      /* the default of chat and generate */
    bool empty;       /* nothing to answer: the model is to be loaded, or with keep.seconds 0 unloaded */
    struct ollama_keep keep;
    const char *path; /* of the call that it means, and the call's body, in the arena; NULL when empty */
    struct str body;
};

bool ollama_request_read(struct str body, enum ollama_form form, struct arena *arena,
                         struct ollama_request *ret_request, struct err *err);

/* The name without what only Ollama's registry needs: ":latest", "hf.co/ORG/" and a repository's "-GGUF". In the arena,
 * or a part of name. */
struct str ollama_model_name(struct str name, struct arena *arena);

/* Parts of the above, each with a file of its own. The fields that all forms share: */
struct ollama_fields {
    struct str model;
    bool stream;
    const json_t *options, *format, *think, *keep_alive;
};

bool ollama_fields_read(const json_t *document, struct ollama_request *request, struct ollama_fields *fields,
                        struct arena *arena, struct err *err);
/* Sampling options and the stream's as OpenAI's fields. */
bool ollama_options_write(const struct ollama_fields *fields, bool stream, struct json *out, struct err *err);
bool ollama_format_write(const struct ollama_fields *fields, struct json *out, struct err *err);
bool ollama_think_write(const struct ollama_fields *fields, struct json *out, struct err *err);
/* "messages" of a chat, and one message with a text and images (a JSON array, or NULL) at path. */
bool ollama_messages_write(const json_t *messages, struct json *out, struct err *err);
bool ollama_content_write(struct str text, const json_t *images, const char *path, struct json *out, struct err *err);
/* The bodies of generate and of both embedding forms. */
bool ollama_generate_write(const json_t *document, const struct ollama_fields *fields, struct ollama_request *request,
                           struct json *out, struct err *err);
bool ollama_embed_write(const json_t *document, struct ollama_request *request, struct json *out, struct err *err);

#endif
