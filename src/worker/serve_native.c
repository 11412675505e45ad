/* llama-server's own routes, for tools that know it: /completion, /infill, /tokenize, /detokenize, /apply-template. */
#include "base/mem.h"
#include "base/utf8.h"
#include "openai/chat_request.h"
#include "worker/serve_task.h"
#include "worker/serve_vision.h"

#define IMAGE_SHOWN "<__media__>" /* as llama-server has it */

/* ---- /completion, /infill ---- */

struct native_task {
    struct serve_task task;
    struct openai_sampling sampling;
    struct gen_params params;
    struct serve_tokens tokens;
    struct str prompt;
    struct buf text, chunk;
    unsigned generated;
    enum gen_finish finish;
    struct str stop; /* the stop string met */
    bool infill;
};

static void on_dispose(void *arg)
{
    struct native_task *t = arg;
    buf_release(&t->text);
    buf_release(&t->chunk);
}

static const char *stop_type(const struct native_task *t)
{
    if (t->finish == GEN_FINISH_LENGTH)
        return "limit";
    return t->stop.n ? "word" : "eos";
}

static void put_settings(struct json *j, const struct native_task *t)
{
    json_open_object(j, "generation_settings");
    json_put_int(j, "n_predict", t->params.max_tokens);
    serve_put_sampling(j, &t->params);
    if (t->params.has_seed)
        json_put_int(j, "seed", (int64_t)t->params.seed);
    else
        json_put_null(j, "seed");
    json_put_bool(j, "ignore_eos", t->params.ignore_end);
    json_put_bool(j, "stream", t->task.stream);
    json_close(j);
}

/* The last object of a stream, and the only one otherwise; content is what has not been sent yet. */
static void write_final(const struct native_task *t, struct str content, struct buf *out)
{
    struct json j;
    json_begin(&j, out);
    json_open_object(&j, NULL);
    json_put_int(&j, "index", 0);
    json_put_text(&j, "content", content);
    json_put_bool(&j, "stop", true);
    json_put_string(&j, "model", t->task.serve->model);
    json_put_int(&j, "tokens_predicted", t->generated);
    json_put_int(&j, "tokens_evaluated", (int64_t)t->tokens.count);
    json_put_int(&j, "tokens_cached", t->task.timings.cached_tokens);
    json_put_bool(&j, "truncated", false);
    json_put_string(&j, "stop_type", stop_type(t));
    json_put_text(&j, "stopping_word", t->stop.n ? t->stop : STR(""));
    json_put_text(&j, "prompt", t->prompt);
    put_settings(&j, t);
    openai_put_timings(&j, &t->task.timings);
    json_close(&j);
    json_finish(&j);
}

static void send_piece(struct native_task *t, struct str text)
{
    struct json j;
    buf_clear(&t->chunk);
    json_begin(&j, &t->chunk);
    json_open_object(&j, NULL);
    json_put_int(&j, "index", 0);
    json_put_text(&j, "content", text);
    json_put_bool(&j, "stop", false);
    json_put_int(&j, "tokens_predicted", t->generated);
    json_put_int(&j, "tokens_evaluated", (int64_t)t->tokens.count);
    json_close(&j);
    json_finish(&j);
    serve_task_send(&t->task, buf_view(&t->chunk));
}

static void on_event(struct serve_task *task, size_t index, const struct gen_event *event)
{
    struct native_task *t = container_of(task, struct native_task, task);
    (void)index;
    if (event->kind == GEN_EVENT_TEXT) {
        t->generated += event->token_count;
        if (!task->stream)
            buf_str(&t->text, event->text);
        else if (event->text.n)
            send_piece(t, event->text);
    } else if (event->kind == GEN_EVENT_FINISHED) {
        t->generated = event->generated_tokens;
        t->finish = event->finish;
        t->stop = event->stop.p ? arena_str(&task->req->arena, event->stop) : STR_NONE;
    }
}

static void on_end(struct serve_task *task)
{
    struct native_task *t = container_of(task, struct native_task, task);
    struct buf out;
    buf_init(&out, LIMIT_JSON_TEXT);
    if (!task->stream) {
        write_final(t, buf_view(&t->text), &out);
        serve_reply_json(task->req, &out);
        return;
    }
    write_final(t, STR(""), &out);
    serve_task_send(task, buf_view(&out));
    buf_release(&out);
    serve_task_finish_stream(task, false);
}

static void on_fill(struct serve_task *task, size_t index, struct gen_request *request)
{
    struct native_task *t = container_of(task, struct native_task, task);
    (void)index;
    request->tokens = t->tokens.ids;
    request->token_count = t->tokens.count;
    request->params = t->params;
    request->score_prompt = t->params.max_tokens == 0;
}

static bool read_sampling(const json_t *document, struct native_task *t, struct err *err)
{
    struct {
        int64_t n_predict;
        const json_t *schema;
    } in = {.n_predict = -1};
    static const struct json_field fields[] = {
        JSON_FIELD(__typeof__(in), n_predict, "n_predict", JSON_KIND_INT, -1, INT32_MAX),
        JSON_FIELD(__typeof__(in), schema, "json_schema", JSON_KIND_OBJECT, 0, 0),
    };
    struct arena *arena = &t->task.req->arena;
    struct openai_sampling *s = &t->sampling;
    openai_sampling_init(s, &t->task.serve->options->chat);
    if (!openai_sampling_read(document, arena, s, err) || !json_fields(document, fields, 2, &in, "", err))
        return false;
    s->max_tokens = in.n_predict < 0 ? t->task.serve->info->context_sequence : in.n_predict;
    s->has_seed = s->has_seed && s->seed >= 0; /* -1: any */
    if (s->grammar.n == 0)
        s->grammar = STR_NONE;
    if (in.schema) {
        char *schema = json_dumps(in.schema, JSON_COMPACT);
        const char *grammar = chat_schema_to_grammar(str_from(schema), arena, err);
        free(schema);
        if (!grammar)
            return false;
        s->grammar = str_from(grammar);
    }
    return serve_params(t->task.serve, s, arena, &t->params, err);
}

static bool read_infill(const json_t *document, struct native_task *t, struct err *err)
{
    struct {
        struct str prefix, suffix, prompt;
    } in = {STR(""), STR(""), STR("")};
    static const struct json_field fields[] = {
        JSON_FIELD(__typeof__(in), prefix, "input_prefix", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(__typeof__(in), suffix, "input_suffix", JSON_KIND_TEXT, 0, 0),
        JSON_FIELD(__typeof__(in), prompt, "prompt", JSON_KIND_TEXT, 0, 0),
    };
    if (!json_fields(document, fields, 3, &in, "", err))
        return false;
    t->prompt = in.prompt;
    return serve_fim_tokens(t->task.serve, in.prefix, in.suffix, in.prompt, "input_suffix", &t->task.req->arena,
                            &t->tokens, err);
}

static bool read_prompt(const json_t *document, struct native_task *t, struct err *err)
{
    const struct openai_input *input;
    size_t count;
    struct arena *arena = &t->task.req->arena;
    if (!openai_inputs_read(document, "prompt", 1, arena, &input, &count, err))
        return false;
    t->prompt = input->text.p ? input->text : STR("");
    return serve_input_tokens(t->task.serve, input, "prompt", arena, &t->tokens, err);
}

static void start(struct http_req *req, struct str body, bool infill)
{
    struct native_task *t = arena_calloc(&req->arena, sizeof *t);
    struct serve *serve = req->user;
    struct err err = ERR_INIT;
    t->task = (struct serve_task){.serve = serve,
                                  .req = req,
                                  .count = 1,
                                  .member = "prompt",
                                  .on_fill = on_fill,
                                  .on_event = on_event,
                                  .on_end = on_end};
    req->user = t;
    const json_t *document = openai_document_read(body, &req->arena, &err);
    bool good = document && read_sampling(document, t, &err) &&
                (infill ? read_infill(document, t, &err) : read_prompt(document, t, &err));
    if (good && serve->info->embedding_only)
        good = err_set(&err, ERR_NOT_SUPPORTED, "'%s' makes embeddings, not text", serve->model);
    if (!good) {
        http_reply_error(req, &err);
        return;
    }
    t->task.stream = t->sampling.stream;
    buf_init(&t->text, LIMIT_JSON_TEXT);
    buf_init(&t->chunk, LIMIT_JSON_TEXT);
    arena_on_dispose(&req->arena, on_dispose, t);
    serve_task_start(&t->task);
}

static void on_completion_body(struct http_req *req, struct str body)
{
    start(req, body, false);
}

static void on_infill_body(struct http_req *req, struct str body)
{
    start(req, body, true);
}

/* ---- /tokenize ---- */

/* A piece is a string, or its bytes when they are no text of their own. */
static void put_piece(struct json *j, struct str piece)
{
    if (utf8_valid(piece.p, piece.n)) {
        json_put_text(j, "piece", piece);
        return;
    }
    json_open_array(j, "piece");
    for (size_t i = 0; i < piece.n; i++)
        json_put_int(j, NULL, (unsigned char)piece.p[i]);
    json_close(j);
}

static void write_tokens(const struct serve *serve, const engine_token *ids, int count, bool with_pieces,
                         struct buf *out)
{
    struct json j;
    json_begin(&j, out);
    json_open_object(&j, NULL);
    json_open_array(&j, "tokens");
    for (int i = 0; i < count; i++) {
        if (!with_pieces) {
            json_put_int(&j, NULL, ids[i]);
            continue;
        }
        struct arena scratch;
        arena_init(&scratch);
        json_open_object(&j, NULL);
        json_put_int(&j, "id", ids[i]);
        put_piece(&j, serve_piece(serve, ids[i], true, &scratch));
        json_close(&j);
        arena_dispose(&scratch);
    }
    json_close(&j);
    json_close(&j);
    json_finish(&j);
}

static void on_tokenize_body(struct http_req *req, struct str body)
{
    struct serve *serve = req->user;
    struct {
        struct str content;
        bool add_special, parse_special, with_pieces;
    } in = {.content = STR(""), .parse_special = true};
    static const struct json_field fields[] = {
        {.name = "content", .kind = JSON_KIND_TEXT, .offset = offsetof(__typeof__(in), content), .required = true},
        JSON_FIELD(__typeof__(in), add_special, "add_special", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(__typeof__(in), parse_special, "parse_special", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(__typeof__(in), with_pieces, "with_pieces", JSON_KIND_BOOL, 0, 0),
    };
    struct err err = ERR_INIT;
    const json_t *document = openai_document_read(body, &req->arena, &err);
    if (!document || !json_fields(document, fields, sizeof fields / sizeof *fields, &in, "", &err)) {
        http_reply_error(req, &err);
        return;
    }
    int capacity = (int)in.content.n + 8; /* a token takes a byte or more */
    engine_token *ids = mem_alloc((size_t)capacity * sizeof *ids);
    int count =
        serve->options->ops->tokenize(serve->engine, in.content, in.add_special, in.parse_special, ids, capacity);
    struct buf out;
    buf_init(&out, LIMIT_JSON_TEXT);
    write_tokens(serve, ids, count < 0 ? 0 : count > capacity ? capacity : count, in.with_pieces, &out);
    mem_free(ids);
    serve_reply_json(req, &out);
}

/* ---- /detokenize ---- */

static bool detokenize(const struct serve *serve, const json_t *tokens, struct buf *text, struct err *err)
{
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        const json_t *token = json_array_get(tokens, i);
        char path[LIMIT_ERR_PARAM];
        json_path_index(path, sizeof path, "tokens", i);
        if (!json_is_integer(token) || json_integer_value(token) < 0 ||
            json_integer_value(token) >= serve->info->vocabulary)
            return err_set_param(err, ERR_INVALID_PARAMETERS, path, "'%s' must be a token id below %u", path,
                                 serve->info->vocabulary);
        struct arena scratch;
        arena_init(&scratch);
        buf_str(text, serve_piece(serve, (engine_token)json_integer_value(token), true, &scratch));
        arena_dispose(&scratch);
    }
    return true;
}

static void on_detokenize_body(struct http_req *req, struct str body)
{
    static const struct json_field fields[] = {{.name = "tokens", .kind = JSON_KIND_ARRAY, .required = true}};
    struct err err = ERR_INIT;
    struct buf text, out;
    struct json j;
    const json_t *tokens = NULL;
    const json_t *document = openai_document_read(body, &req->arena, &err);
    buf_init(&text, LIMIT_JSON_TEXT);
    buf_init(&out, LIMIT_JSON_TEXT);
    bool good =
        document && json_fields(document, fields, 1, &tokens, "", &err) && detokenize(req->user, tokens, &text, &err);
    if (good) {
        json_begin(&j, &out);
        json_open_object(&j, NULL);
        json_put_text(&j, "content", buf_view(&text));
        json_close(&j);
        json_finish(&j);
        serve_reply_json(req, &out);
    } else {
        http_reply_error(req, &err);
    }
    buf_release(&text);
}

/* ---- /apply-template ---- */

/* What stands for an image in a prompt that is shown to people. */
static bool name_images(const struct openai_chat *chat, struct arena *arena, struct chat_prompt *prompt,
                        struct err *err)
{
    struct str text = prompt->text;
    struct buf out;
    if (chat->image_count == 0)
        return true;
    buf_init(&out, LIMIT_JSON_TEXT);
    while (text.p) {
        size_t index;
        buf_str(&out, openai_image_cut(chat, &text, &index));
        if (index != SIZE_MAX)
            buf_puts(&out, IMAGE_SHOWN);
    }
    return openai_buf_to_arena(&out, arena, &prompt->text, err);
}

static bool render(struct serve *serve, struct str body, struct arena *arena, struct chat_prompt *ret_prompt,
                   struct err *err)
{
    struct openai_chat chat;
    const json_t *document = openai_document_read(body, arena, err);
    if (!document || !openai_chat_from_document(document, &serve->options->chat, arena, &chat, err) ||
        !serve_vision_check(serve, &chat, err))
        return false;
    if (!serve->templates) {
        *err = serve->template_error;
        return false;
    }
    const struct chat_request request = {
        .messages = chat.messages,
        .tools = chat.tools,
        .tool_choice = chat.tool_mode == OPENAI_TOOLS_NONE       ? CHAT_TOOLS_NONE
                       : chat.tool_mode == OPENAI_TOOLS_REQUIRED ? CHAT_TOOLS_REQUIRED
                                                                 : CHAT_TOOLS_AUTO,
        .parallel_tool_calls = chat.parallel_tool_calls,
        .json_schema = chat.json_schema,
        .grammar = chat.sampling.grammar,
        .template_kwargs = chat.template_kwargs,
        .enable_thinking = chat.enable_thinking,
        .add_generation_prompt = true,
    };
    return chat_render(serve->templates, serve->options->ops, serve->engine, &request, arena, ret_prompt, err) &&
           name_images(&chat, arena, ret_prompt, err);
}

static void on_template_body(struct http_req *req, struct str body)
{
    struct chat_prompt prompt;
    struct err err = ERR_INIT;
    struct buf out;
    struct json j;
    if (!render(req->user, body, &req->arena, &prompt, &err)) {
        http_reply_error(req, &err);
        return;
    }
    buf_init(&out, LIMIT_JSON_TEXT);
    json_begin(&j, &out);
    json_open_object(&j, NULL);
    json_put_text(&j, "prompt", prompt.text);
    json_close(&j);
    json_finish(&j);
    serve_reply_json(req, &out);
}

/* ---- routes ---- */

static void post_completion(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    serve_read_body(arg, req, on_completion_body);
}

static void post_infill(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    serve_read_body(arg, req, on_infill_body);
}

static void post_tokenize(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    serve_read_body(arg, req, on_tokenize_body);
}

static void post_detokenize(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    serve_read_body(arg, req, on_detokenize_body);
}

static void post_template(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    serve_read_body(arg, req, on_template_body);
}

static const struct http_route routes[] = {
    {.method = "POST",
     .pattern = "/completion",
     .handler = post_completion,
     .summary = "Completion, llama-server's shape",
     0,
     NULL},
    {.method = "POST", .pattern = "/infill", .handler = post_infill, .summary = "Fill in the middle", 0, NULL},
    {.method = "POST", .pattern = "/tokenize", .handler = post_tokenize, .summary = "Text to tokens", 0, NULL},
    {.method = "POST", .pattern = "/detokenize", .handler = post_detokenize, .summary = "Tokens to text", 0, NULL},
    {.method = "POST",
     .pattern = "/apply-template",
     .handler = post_template,
     .summary = "Messages to a prompt",
     0,
     NULL},
};

const struct serve_routes serve_native_routes = {routes, sizeof routes / sizeof *routes};
