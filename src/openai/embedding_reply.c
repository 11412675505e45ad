#include "openai/embedding_reply.h"

#include <math.h>

#include "base/hash.h"
#include "base/limits.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "base64 embeddings are little-endian floats as they lie");

void openai_embedding_normalise(float *vector, size_t size)
{
    double sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += (double)vector[i] * vector[i];
    if (sum <= 0)
        return;
    double scale = 1 / sqrt(sum);
    for (size_t i = 0; i < size; i++)
        vector[i] = (float)(vector[i] * scale);
}

void openai_put_embedding(struct json *j, const char *key, const float *vector, size_t size, bool base64)
{
    if (base64) {
        struct buf text;
        buf_init(&text, LIMIT_JSON_TEXT);
        hash_base64(&text, vector, size * sizeof *vector);
        json_put_text(j, key, buf_view(&text));
        buf_release(&text);
        return;
    }
    json_open_array(j, key);
    for (size_t i = 0; i < size; i++)
        json_put_float(j, NULL, vector[i]);
    json_close(j);
}

bool openai_embedding_write(struct buf *out, struct str model, const float *vectors, size_t count, size_t size,
                            bool base64, unsigned prompt_tokens)
{
    struct json j;
    json_begin(&j, out);
    json_open_object(&j, NULL);
    json_put_string(&j, "object", "list");
    json_open_array(&j, "data");
    for (size_t i = 0; i < count; i++) {
        json_open_object(&j, NULL);
        json_put_string(&j, "object", "embedding");
        openai_put_embedding(&j, "embedding", vectors + i * size, size, base64);
        json_put_int(&j, "index", (int64_t)i);
        json_close(&j);
    }
    json_close(&j);
    json_put_text(&j, "model", model);
    json_open_object(&j, "usage");
    json_put_int(&j, "prompt_tokens", prompt_tokens);
    json_put_int(&j, "total_tokens", prompt_tokens);
    json_close(&j);
    json_close(&j);
    return json_finish(&j);
}
