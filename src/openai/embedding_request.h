/* POST /v1/embeddings: the body as a struct. */
#ifndef OPENAI_EMBEDDING_REQUEST_H
#define OPENAI_EMBEDDING_REQUEST_H

#include "openai/request.h"

struct openai_embedding {
    struct str model;
    const struct openai_input *inputs; /* none is empty */
    size_t input_count;
    bool base64;        /* little-endian float32, as the SDKs ask by default; else arrays of numbers */
    int64_t dimensions; /* 0: the model's own */
};

/* The result lives as long as the arena. */
bool openai_embedding_read(struct str body, struct arena *arena, struct openai_embedding *ret_request, struct err *err);

#endif
