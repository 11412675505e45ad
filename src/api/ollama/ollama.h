/* What the files of this folder share: Ollama's API (docs/api.md of that project), answered by this server's own
 * models. Loop thread only. */
#ifndef API_OLLAMA_OLLAMA_H
#define API_OLLAMA_OLLAMA_H

#include "api/app.h"
#include "api/docs/doc.h"
#include "api/ollama/request.h"

#define OLLAMA_LINES "application/x-ndjson"

extern const struct dialect ollama_dialect;
#define OLLAMA (void *)&ollama_dialect

extern const struct api_doc doc_ollama_chat, doc_ollama_generate, doc_ollama_embed, doc_ollama_embeddings,
    doc_ollama_tags, doc_ollama_ps, doc_ollama_show, doc_ollama_version, doc_ollama_pull, doc_ollama_delete,
    doc_ollama_refused;

/* chat.c */
http_handler ollama_chat, ollama_generate, ollama_embed, ollama_embeddings;
/* models.c, show.c */
http_handler ollama_tags, ollama_ps, ollama_show;
/* store.c */
http_handler ollama_pull, ollama_delete;

/* The model file of that name in the catalogue as it is now, unless a named instance has the name; or NULL. */
const struct model *ollama_model_of(struct app *app, struct str name);

/* After a reply: how long the model of that name is to stay. Named instances live as their own options say. */
void ollama_keep_apply(struct app *app, const struct caller *caller, struct str name, const struct ollama_keep *keep);

/* "details" of a model file. */
void ollama_put_details(struct json *j, struct http_req *req, const struct gguf *gguf);

/* The "model" (older clients: "name") and the "stream" of a body that has little else. false: refused; *err. */
bool ollama_named_read(struct str body, struct arena *arena, struct str *ret_model, bool *ret_stream, struct err *err);

/* Finds the model that such a body names, and that the caller may use: on_model gets req as its argument. Else it is
 * answered. */
void ollama_find_named(struct app *app, struct http_req *req, struct str body,
                       void (*on_model)(void *arg, const struct model *model, const struct err *err));

#endif
