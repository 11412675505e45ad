#include "openai/rerank.h"

#include "openai/reply.h"

static bool read_documents(const json_t *array, struct arena *arena, struct openai_rerank *r, struct err *err)
{
    struct str *texts = arena_calloc(arena, json_array_size(array) * sizeof *texts);
    for (size_t i = 0; i < json_array_size(array); i++) {
        char path[LIMIT_ERR_PARAM];
        const json_t *item = json_array_get(array, i);
        json_path_index(path, sizeof path, "documents", i);
        texts[i] = json_str(json_is_object(item) ? json_object_get(item, "text") : item);
        if (!texts[i].p)
            return err_set_param(err, ERR_INVALID_PARAMETERS, path,
                                 "'%s' must be a string or an object with a string 'text'", path);
    }
    r->documents = texts;
    r->document_count = json_array_size(array);
    return true;
}

bool openai_rerank_read(struct str body, struct arena *arena, struct openai_rerank *ret_request, struct err *err)
{
    struct {
        struct openai_rerank r;
        const json_t *documents;
    } in = {0};
    static const struct json_field fields[] = {
        {.name = "query", .kind = JSON_KIND_TEXT, .offset = offsetof(__typeof__(in), r.query), .required = true},
        {.name = "documents",
         .kind = JSON_KIND_ARRAY,
         .offset = offsetof(__typeof__(in), documents),
         .min = 1,
         .max = LIMIT_EMBED_INPUTS,
         .required = true},
        JSON_FIELD(__typeof__(in), r.top_n, "top_n", JSON_KIND_INT, 1, INT32_MAX),
        JSON_FIELD(__typeof__(in), r.return_documents, "return_documents", JSON_KIND_BOOL, 0, 0),
    };
    const json_t *document = openai_document_read(body, arena, err);
    if (!document || !openai_model_read(document, &in.r.model, err) ||
        !json_fields(document, fields, sizeof fields / sizeof *fields, &in, "", err) ||
        !read_documents(in.documents, arena, &in.r, err))
        return false;
    *ret_request = in.r;
    return true;
}

static int by_score(const void *a, const void *b)
{
    const struct openai_ranked *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

void openai_rerank_sort(struct openai_ranked *ranked, size_t count)
{
    qsort(ranked, count, sizeof *ranked, by_score);
}

static void put_result(struct json *j, const struct openai_rerank *r, const struct openai_ranked *ranked)
{
    json_open_object(j, NULL);
    json_put_int(j, "index", (int64_t)ranked->index);
    json_put_float(j, "relevance_score", ranked->score);
    if (r->return_documents) {
        json_open_object(j, "document");
        json_put_text(j, "text", r->documents[ranked->index]);
        json_close(j);
    }
    json_close(j);
}

bool openai_rerank_write(struct buf *out, const struct openai_rerank *request, const struct openai_ranked *ranked,
                         unsigned prompt_tokens)
{
    char id[OPENAI_ID_SIZE];
    struct json j;
    size_t count = request->document_count;
    if (request->top_n && (size_t)request->top_n < count)
        count = (size_t)request->top_n;
    json_begin(&j, out);
    json_open_object(&j, NULL);
    json_put_string(&j, "object", "list");
    json_put_string(&j, "id", openai_id(id, "rerank-"));
    json_put_text(&j, "model", request->model);
    json_open_array(&j, "results");
    for (size_t i = 0; i < count; i++)
        put_result(&j, request, &ranked[i]);
    json_close(&j);
    json_open_object(&j, "usage");
    json_put_int(&j, "prompt_tokens", prompt_tokens);
    json_put_int(&j, "total_tokens", prompt_tokens);
    json_close(&j);
    json_close(&j);
    return json_finish(&j);
}
