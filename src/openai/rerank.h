/* POST /v1/rerank: the body as a struct, and the reply, in the form that Jina and Cohere share. */
#ifndef OPENAI_RERANK_H
#define OPENAI_RERANK_H

#include "openai/request.h"

struct openai_rerank {
    struct str model, query;
    const struct str *documents;
    size_t document_count; /* 1..LIMIT_EMBED_INPUTS */
    int64_t top_n;         /* 0: all */
    bool return_documents;
};

struct openai_ranked {
    size_t index; /* of the document in the request */
    float score;  /* as the model gives it: higher is better */
};

/* The result lives as long as the arena. */
bool openai_rerank_read(struct str body, struct arena *arena, struct openai_rerank *ret_request, struct err *err);

/* Best first; equal ones as they stood. */
void openai_rerank_sort(struct openai_ranked *ranked, size_t count);

/* ranked: sorted, all of them; top_n is the writer's business. */
bool openai_rerank_write(struct buf *out, const struct openai_rerank *request, const struct openai_ranked *ranked,
                         unsigned prompt_tokens);

#endif
