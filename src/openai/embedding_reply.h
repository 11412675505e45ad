/* /v1/embeddings' reply. */
#ifndef OPENAI_EMBEDDING_REPLY_H
#define OPENAI_EMBEDDING_REPLY_H

#include "base/json_write.h"

/* Scales to length 1; a vector of zeros stays. */
void openai_embedding_normalise(float *vector, size_t size);

void openai_put_embedding(struct json *j, const char *key, const float *vector, size_t size, bool base64);

/* vectors: count rows of size numbers. */
bool openai_embedding_write(struct buf *out, struct str model, const float *vectors, size_t count, size_t size,
                            bool base64, unsigned prompt_tokens);

#endif
