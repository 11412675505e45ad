/* POST /v1/embeddings, and llama-server's own /embedding: every input is a submission; the vectors are normalised and
 * kept in one matrix until the last has come. */
#include "base/mem.h"
#include "openai/embedding_reply.h"
#include "openai/embedding_request.h"
#include "worker/serve_task.h"

struct embedding_task {
    struct serve_task task;
    struct openai_embedding request;
    struct serve_tokens *inputs;
    unsigned tokens; /* of all inputs */
    float *vectors;
    bool native; /* answer as llama-server does */
};

static void on_dispose(void *arg)
{
    struct embedding_task *t = arg;
    mem_free(t->vectors);
}

static void on_event(struct serve_task *task, size_t index, const struct gen_event *event)
{
    struct embedding_task *t = container_of(task, struct embedding_task, task);
    size_t size = task->serve->info->embedding_size;
    if (event->kind != GEN_EVENT_EMBEDDING)
        return;
    memcpy(t->vectors + index * size, event->embedding, size * sizeof *t->vectors);
    openai_embedding_normalise(t->vectors + index * size, size);
}

/* [{"index":0,"embedding":[[...]]}] */
static void write_native(const struct embedding_task *t, struct buf *out)
{
    size_t size = t->task.serve->info->embedding_size;
    struct json j;
    json_begin(&j, out);
    json_open_array(&j, NULL);
    for (size_t i = 0; i < t->request.input_count; i++) {
        json_open_object(&j, NULL);
        json_put_int(&j, "index", (int64_t)i);
        json_open_array(&j, "embedding");
        openai_put_embedding(&j, NULL, t->vectors + i * size, size, false);
        json_close(&j);
        json_close(&j);
    }
    json_close(&j);
    json_finish(&j);
}

static void on_end(struct serve_task *task)
{
    struct embedding_task *t = container_of(task, struct embedding_task, task);
    struct buf out;
    buf_init(&out, LIMIT_JSON_TEXT);
    if (t->native)
        write_native(t, &out);
    else
        openai_embedding_write(&out, t->request.model, t->vectors, t->request.input_count,
                               task->serve->info->embedding_size, t->request.base64, t->tokens);
    serve_reply_json(task->req, &out);
}

static void on_fill(struct serve_task *task, size_t index, struct gen_request *request)
{
    struct embedding_task *t = container_of(task, struct embedding_task, task);
    request->kind = GEN_EMBED;
    request->tokens = t->inputs[index].ids;
    request->token_count = t->inputs[index].count;
}

static bool check_model(const struct embedding_task *t, struct err *err)
{
    const struct engine_info *info = t->task.serve->info;
    if (info->pooling == ENGINE_POOLING_NONE || info->pooling == ENGINE_POOLING_RANK)
        return err_set_param(err, ERR_NOT_SUPPORTED, "model", "'%s' was loaded with a pooling that gives no embeddings",
                             t->task.serve->model);
    if (t->request.dimensions && t->request.dimensions != info->embedding_size)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "dimensions",
                             "'dimensions' must be %u for this model: nothing says that its vectors may be cut",
                             info->embedding_size);
    return true;
}

static bool read_inputs(struct embedding_task *t, struct err *err)
{
    struct arena *arena = &t->task.req->arena;
    t->inputs = arena_calloc(arena, t->request.input_count * sizeof *t->inputs);
    for (size_t i = 0; i < t->request.input_count; i++) {
        char path[LIMIT_ERR_PARAM] = "input";
        if (t->request.input_count > 1)
            json_path_index(path, sizeof path, "input", i);
        if (!serve_input_tokens(t->task.serve, &t->request.inputs[i], path, arena, &t->inputs[i], err)) {
            snprintf(err->param, sizeof err->param, "%s", path);
            return false;
        }
        t->tokens += (unsigned)t->inputs[i].count;
        if (t->tokens > LIMIT_EMBED_TOKENS)
            return err_set_param(err, ERR_INVALID_PARAMETERS, "input", "'input' has more than %d tokens in all",
                                 LIMIT_EMBED_TOKENS);
    }
    return true;
}

static void start(struct embedding_task *t)
{
    t->task.count = t->request.input_count;
    t->vectors = mem_calloc(t->task.count * t->task.serve->info->embedding_size, sizeof *t->vectors);
    arena_on_dispose(&t->task.req->arena, on_dispose, t);
    serve_task_start(&t->task);
}

static struct embedding_task *new_task(struct http_req *req)
{
    struct embedding_task *t = arena_calloc(&req->arena, sizeof *t);
    t->task = (struct serve_task){
        .serve = req->user, .req = req, .member = "input", .on_fill = on_fill, .on_event = on_event, .on_end = on_end};
    req->user = t;
    return t;
}

static void start_or_refuse(struct embedding_task *t, bool good, struct err *err)
{
    if (good && check_model(t, err) && read_inputs(t, err))
        start(t);
    else
        http_reply_error(t->task.req, err);
}

static void on_body(struct http_req *req, struct str body)
{
    struct embedding_task *t = new_task(req);
    struct err err = ERR_INIT;
    start_or_refuse(t, openai_embedding_read(body, &req->arena, &t->request, &err), &err);
}

static void on_native_body(struct http_req *req, struct str body)
{
    struct embedding_task *t = new_task(req);
    struct err err = ERR_INIT;
    const json_t *document = openai_document_read(body, &req->arena, &err);
    t->native = true;
    start_or_refuse(t,
                    document && openai_inputs_read(document, "content", LIMIT_EMBED_INPUTS, &req->arena,
                                                   &t->request.inputs, &t->request.input_count, &err),
                    &err);
}

static void post_embeddings(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    serve_read_body(arg, req, on_body);
}

static void post_native(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    serve_read_body(arg, req, on_native_body);
}

static const struct http_route routes[] = {
    {.method = "POST", .pattern = "/v1/embeddings", .handler = post_embeddings, .summary = "Embeddings", 0, NULL},
    {.method = "POST",
     .pattern = "/embedding",
     .handler = post_native,
     .summary = "Embeddings, llama-server's shape",
     0,
     NULL},
};

const struct serve_routes serve_embedding_routes = {routes, sizeof routes / sizeof *routes};
