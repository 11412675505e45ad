/* POST /v1/rerank: every document with the query is a submission; the model scores the pair, and the best come first.
 */
#include "openai/rerank.h"
#include "worker/rerank_pair.h"
#include "worker/serve_task.h"

struct rerank_task {
    struct serve_task task;
    struct openai_rerank request;
    struct rerank_tokens *pairs;
    unsigned tokens; /* of all pairs */
    struct openai_ranked *ranked;
};

static void on_event(struct serve_task *task, size_t index, const struct gen_event *event)
{
    struct rerank_task *t = container_of(task, struct rerank_task, task);
    if (event->kind == GEN_EVENT_EMBEDDING)
        t->ranked[index] = (struct openai_ranked){.index = index, .score = event->embedding[0]};
}

static void on_end(struct serve_task *task)
{
    struct rerank_task *t = container_of(task, struct rerank_task, task);
    struct buf out;
    buf_init(&out, LIMIT_JSON_TEXT);
    openai_rerank_sort(t->ranked, t->request.document_count);
    openai_rerank_write(&out, &t->request, t->ranked, t->tokens);
    serve_reply_json(task->req, &out);
}

static void on_fill(struct serve_task *task, size_t index, struct gen_request *request)
{
    struct rerank_task *t = container_of(task, struct rerank_task, task);
    request->kind = GEN_EMBED;
    request->tokens = t->pairs[index].ids;
    request->token_count = t->pairs[index].count;
}

static bool check_model(const struct rerank_task *t, struct err *err)
{
    if (t->task.serve->info->pooling == ENGINE_POOLING_RANK)
        return true;
    return err_set_param(err, ERR_NOT_SUPPORTED, "model",
                         "'%s' does not rank: that takes a cross-encoder, whose file says that its pooling is 'rank'",
                         t->task.serve->model);
}

static bool tokenize(const struct rerank_task *t, struct str text, const char *path, struct rerank_tokens *ret_tokens,
                     struct err *err)
{
    const struct serve *serve = t->task.serve;
    return rerank_tokenize(serve->options->ops, serve->engine, text, &t->task.req->arena, ret_tokens) ||
           err_set_param(err, ERR_INVALID_PARAMETERS, path, "'%s' cannot be turned into tokens", path);
}

static bool check_length(const struct rerank_task *t, size_t tokens, const char *path, struct err *err)
{
    unsigned room = t->task.serve->info->context_sequence;
    if (tokens == 0)
        return err_set_param(err, ERR_INVALID_PARAMETERS, path, "'%s' must not be empty for this model", path);
    if (tokens > room)
        return err_set_param(err, ERR_CONTEXT_LENGTH_EXCEEDED, path,
                             "'%s' with the query takes %zu tokens, but this model's context holds %u", path, tokens,
                             room);
    if (t->tokens > LIMIT_EMBED_TOKENS)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "documents", "'documents' have more than %d tokens in all",
                             LIMIT_EMBED_TOKENS);
    return true;
}

static bool make_pairs(struct rerank_task *t, struct err *err)
{
    const struct serve *serve = t->task.serve;
    struct arena *arena = &t->task.req->arena;
    size_t count = t->request.document_count;
    struct rerank_marks marks;
    struct rerank_tokens query, document;
    if (!rerank_marks_of(serve->options->ops, serve->engine, arena, &marks, err) ||
        !tokenize(t, t->request.query, "query", &query, err))
        return false;
    t->pairs = arena_calloc(arena, count * sizeof *t->pairs);
    for (size_t i = 0; i < count; i++) {
        char path[LIMIT_ERR_PARAM];
        json_path_index(path, sizeof path, "documents", i);
        if (!tokenize(t, t->request.documents[i], path, &document, err))
            return false;
        t->pairs[i] = rerank_pair(&marks, &query, &document, arena);
        t->tokens += (unsigned)t->pairs[i].count;
        if (!check_length(t, t->pairs[i].count, path, err))
            return false;
    }
    return true;
}

static void on_body(struct http_req *req, struct str body)
{
    struct rerank_task *t = arena_calloc(&req->arena, sizeof *t);
    struct err err = ERR_INIT;
    t->task = (struct serve_task){.serve = req->user,
                                  .req = req,
                                  .member = "documents",
                                  .on_fill = on_fill,
                                  .on_event = on_event,
                                  .on_end = on_end};
    req->user = t;
    if (!openai_rerank_read(body, &req->arena, &t->request, &err) || !check_model(t, &err) || !make_pairs(t, &err)) {
        http_reply_error(req, &err);
        return;
    }
    t->task.count = t->request.document_count;
    t->ranked = arena_calloc(&req->arena, t->task.count * sizeof *t->ranked);
    serve_task_start(&t->task);
}

static void post_rerank(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    serve_read_body(arg, req, on_body);
}

static const struct http_route routes[] = {
    {.method = "POST", .pattern = "/v1/rerank", .handler = post_rerank, .summary = "Documents by relevance"},
    {.method = "POST", .pattern = "/v1/reranking", .handler = post_rerank, .summary = "Documents by relevance"},
    {.method = "POST", .pattern = "/rerank", .handler = post_rerank, .summary = "Documents by relevance"},
};

const struct serve_routes serve_rerank_routes = {routes, sizeof routes / sizeof *routes};
