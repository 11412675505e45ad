/* POST /v1/chat/completions.
 *
 * The body becomes a prompt by the model's template, the prompt one submission with n choices; each choice's text goes
 * through a parser that tells content, reasoning and tool calls apart, and what comes out is either sent at once or
 * kept for the one reply. Log probabilities wait for the next piece of content; tokens count as reasoning when the
 * text they ended in was reasoning. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"
#include "openai/chat_reply.h"
#include "openai/chat_request.h"
#include "worker/serve_task.h"
#include "worker/serve_vision.h"

struct chat_call {
    struct buf id, name, arguments;
};

struct chat_choice {
    struct chat_parser *parser;
    struct buf content, reasoning;
    struct chat_call *calls;
    size_t call_count;
    struct arena memory;         /* of tokens */
    struct openai_token *tokens; /* streaming: those not sent yet */
    size_t token_count, token_capacity;
    unsigned generated; /* tokens so far */
    unsigned unassigned, reasoning_tokens;
    const char *finish_reason;
    struct str stop; /* of the request's, when one was met */
};

struct chat_task {
    struct serve_task task;
    struct openai_chat request;
    struct chat_prompt prompt;
    struct gen_params params;
    struct serve_tokens tokens;
    const struct vision_prompt *seen; /* where tokens come from when there are images; else NULL */
    struct openai_stream stream;
    struct openai_usage so_far; /* for every chunk, when that is asked for */
    struct openai_identity identity;
    char id[OPENAI_ID_SIZE];
    bool opened; /* every choice's role has been sent */
    struct chat_choice *choices;
    struct chat_choice *current; /* whose text is being parsed */
};

static void release_choice(struct chat_choice *c)
{
    chat_parser_free(c->parser);
    buf_release(&c->content);
    buf_release(&c->reasoning);
    for (size_t i = 0; i < c->call_count; i++) {
        buf_release(&c->calls[i].id);
        buf_release(&c->calls[i].name);
        buf_release(&c->calls[i].arguments);
    }
    mem_free(c->calls);
    arena_dispose(&c->memory);
}

static void on_dispose(void *arg)
{
    struct chat_task *chat = arg;
    for (int64_t i = 0; i < chat->request.sampling.n; i++)
        release_choice(&chat->choices[i]);
    if (chat->task.stream)
        openai_stream_release(&chat->stream);
}

/* ---- what the parser finds ---- */

static unsigned choice_index(const struct chat_task *chat)
{
    return (unsigned)(chat->current - chat->choices);
}

static void open_stream(struct chat_task *chat)
{
    if (chat->opened)
        return;
    chat->opened = true;
    for (unsigned i = 0; i < chat->request.sampling.n; i++)
        serve_task_send(&chat->task, openai_chat_chunk_role(&chat->stream, i));
}

static void forget_tokens(struct chat_choice *c)
{
    arena_dispose(&c->memory);
    c->tokens = NULL;
    c->token_count = c->token_capacity = 0;
}

static void put_content(struct chat_task *chat, struct str text)
{
    struct chat_choice *c = chat->current;
    c->unassigned = 0;
    if (!chat->task.stream) {
        buf_str(&c->content, text);
        return;
    }
    serve_task_send(&chat->task, openai_chat_chunk_content(&chat->stream, choice_index(chat), text, c->tokens,
                                                           c->token_count, chat->request.logprobs));
    forget_tokens(c);
}

static void put_reasoning(struct chat_task *chat, struct str text)
{
    struct chat_choice *c = chat->current;
    c->reasoning_tokens += c->unassigned;
    c->unassigned = 0;
    if (chat->task.stream)
        serve_task_send(&chat->task, openai_chat_chunk_reasoning(&chat->stream, choice_index(chat), text));
    else
        buf_str(&c->reasoning, text);
}

static void add_call(struct chat_choice *c, struct str id, struct str name)
{
    char random[25];
    c->calls = mem_realloc(c->calls, (c->call_count + 1) * sizeof *c->calls);
    struct chat_call *call = &c->calls[c->call_count++];
    buf_init(&call->id, LIMIT_JSON_TEXT);
    buf_init(&call->name, LIMIT_JSON_TEXT);
    buf_init(&call->arguments, LIMIT_JSON_TEXT);
    buf_str(&call->name, name);
    if (id.n)
        buf_str(&call->id, id);
    else
        buf_printf(&call->id, "call_%s", rand_text(random, sizeof random - 1));
}

static void put_call(struct chat_task *chat, const struct chat_delta *delta)
{
    struct chat_choice *c = chat->current;
    unsigned choice = choice_index(chat), index = (unsigned)delta->tool_index;
    bool first = index >= c->call_count, legacy = chat->request.legacy_functions;
    c->unassigned = 0;
    if (first && c->call_count == LIMIT_TOOLS)
        return; /* a model gone wild; the grammar cannot count */
    if (first)
        add_call(c, delta->tool_id, delta->tool_name);
    struct chat_call *call = &c->calls[first ? c->call_count - 1 : index];
    if (!chat->task.stream) {
        buf_str(&call->arguments, delta->tool_arguments);
        return;
    }
    if (first && legacy)
        serve_task_send(&chat->task, openai_chat_chunk_function(&chat->stream, choice, buf_view(&call->name), STR("")));
    else if (first)
        serve_task_send(&chat->task, openai_chat_chunk_call(&chat->stream, choice, index, buf_view(&call->id),
                                                            buf_view(&call->name)));
    if (delta->tool_arguments.n && legacy)
        serve_task_send(&chat->task,
                        openai_chat_chunk_function(&chat->stream, choice, STR_NONE, delta->tool_arguments));
    else if (delta->tool_arguments.n)
        serve_task_send(&chat->task, openai_chat_chunk_arguments(&chat->stream, choice, index, delta->tool_arguments));
}

static void on_delta(void *arg, const struct chat_delta *delta)
{
    struct chat_task *chat = arg;
    if (delta->reasoning.n)
        put_reasoning(chat, delta->reasoning);
    if (delta->content.n)
        put_content(chat, delta->content);
    if (delta->tool_index >= 0)
        put_call(chat, delta);
}

/* ---- what the scheduler says ---- */

static struct openai_usage sum_usage(const struct chat_task *chat)
{
    struct openai_usage usage = {.prompt_tokens = (unsigned)chat->tokens.count,
                                 .cached_tokens = chat->task.timings.cached_tokens};
    for (int64_t i = 0; i < chat->request.sampling.n; i++) {
        usage.completion_tokens += chat->choices[i].generated;
        usage.reasoning_tokens += chat->choices[i].reasoning_tokens;
    }
    return usage;
}

/* What every chunk says when the client wants to know all the time. */
static void note_usage(struct chat_task *chat)
{
    if (chat->stream.so_far)
        chat->so_far = sum_usage(chat);
}

static void on_text(struct chat_task *chat, const struct gen_event *event)
{
    struct chat_choice *c = chat->current;
    c->unassigned += event->token_count;
    c->generated += event->token_count;
    note_usage(chat);
    if (chat->request.logprobs)
        serve_logprobs(chat->task.serve, event, &c->memory, &c->tokens, &c->token_count, &c->token_capacity);
    if (!serve_task_check_memory(&chat->task, &c->memory))
        return;
    if (chat->task.stream)
        open_stream(chat);
    if (event->text.n)
        chat_parser_feed(c->parser, event->text, false, on_delta, chat);
}

static const char *finish_reason(const struct chat_task *chat, const struct gen_event *event)
{
    if (event->finish == GEN_FINISH_LENGTH)
        return "length";
    if (chat->current->call_count == 0)
        return "stop";
    return chat->request.legacy_functions ? "function_call" : "tool_calls";
}

/* The template's own stops are nobody's business. */
static struct str own_stop(const struct chat_task *chat, struct str met)
{
    const struct openai_sampling *s = &chat->request.sampling;
    for (size_t i = 0; i < s->stop_count && met.n; i++)
        if (str_eq(s->stops[i], met))
            return s->stops[i];
    return STR_NONE;
}

static void on_finished(struct chat_task *chat, const struct gen_event *event)
{
    struct chat_choice *c = chat->current;
    if (chat->task.stream)
        open_stream(chat);
    chat_parser_feed(c->parser, STR(""), true, on_delta, chat);
    c->generated = event->generated_tokens;
    note_usage(chat);
    c->finish_reason = finish_reason(chat, event);
    c->stop = own_stop(chat, event->stop);
    if (!chat->task.stream)
        return;
    if (c->token_count)
        put_content(chat, STR(""));
    serve_task_send(&chat->task,
                    openai_chat_chunk_finish(&chat->stream, choice_index(chat), c->finish_reason, c->stop));
}

static void on_event(struct serve_task *task, size_t index, const struct gen_event *event)
{
    struct chat_task *chat = container_of(task, struct chat_task, task);
    (void)index;
    chat->current = &chat->choices[event->choice];
    if (event->kind == GEN_EVENT_TEXT)
        on_text(chat, event);
    else if (event->kind == GEN_EVENT_FINISHED)
        on_finished(chat, event);
}

/* ---- the end ---- */

static struct openai_chat_choice finished_choice(struct chat_task *chat, const struct chat_choice *c)
{
    struct openai_call *calls = arena_alloc(&chat->task.req->arena, (c->call_count + 1) * sizeof *calls);
    for (size_t i = 0; i < c->call_count; i++)
        calls[i] = (struct openai_call){buf_view(&c->calls[i].id), buf_view(&c->calls[i].name),
                                        buf_view(&c->calls[i].arguments)};
    return (struct openai_chat_choice){
        .content = buf_view(&c->content),
        .reasoning = buf_view(&c->reasoning),
        .calls = calls,
        .call_count = c->call_count,
        .legacy = chat->request.legacy_functions,
        .tokens = c->tokens,
        .token_count = c->token_count,
        .logprobs = chat->request.logprobs,
        .finish_reason = c->finish_reason,
        .stop = c->stop,
    };
}

static void on_end(struct serve_task *task)
{
    struct chat_task *chat = container_of(task, struct chat_task, task);
    struct openai_usage usage = sum_usage(chat);
    size_t n = (size_t)chat->request.sampling.n;
    if (task->stream) {
        if (chat->request.sampling.include_usage)
            serve_task_send(task, openai_chunk_usage(&chat->stream, &usage, &task->timings));
        serve_task_finish_stream(task, true);
        return;
    }
    struct openai_chat_choice *choices = arena_alloc(&task->req->arena, n * sizeof *choices);
    struct buf out;
    for (size_t i = 0; i < n; i++)
        choices[i] = finished_choice(chat, &chat->choices[i]);
    buf_init(&out, LIMIT_JSON_TEXT);
    openai_chat_write(&out, &chat->identity, choices, n, &usage, &task->timings);
    serve_reply_json(task->req, &out);
}

/* ---- the beginning ---- */

static void on_fill(struct serve_task *task, size_t index, struct gen_request *request)
{
    struct chat_task *chat = container_of(task, struct chat_task, task);
    (void)index;
    request->tokens = chat->tokens.ids;
    request->token_count = chat->tokens.count;
    request->pictures = chat->seen ? chat->seen->pictures : NULL;
    request->picture_count = chat->seen ? chat->seen->picture_count : 0;
    request->choices = (unsigned)chat->request.sampling.n;
    request->params = chat->params;
}

static bool check_model(const struct serve *serve, struct err *err)
{
    if (serve->info->embedding_only)
        return err_set_param(err, ERR_NOT_SUPPORTED, "model", "'%s' makes embeddings, not text", serve->model);
    if (!serve->templates)
        return err_set_param(err, serve->template_error.code, "model", "%s", serve->template_error.message);
    return true;
}

static bool render(struct chat_task *chat, struct err *err)
{
    struct serve *serve = chat->task.serve;
    struct arena *arena = &chat->task.req->arena;
    const struct openai_chat *r = &chat->request;
    static const enum chat_tool_choice modes[] = {[OPENAI_TOOLS_AUTO] = CHAT_TOOLS_AUTO,
                                                  [OPENAI_TOOLS_NONE] = CHAT_TOOLS_NONE,
                                                  [OPENAI_TOOLS_REQUIRED] = CHAT_TOOLS_REQUIRED};
    struct chat_request request = {
        .messages = r->messages,
        .tools = r->tools,
        .tool_choice = modes[r->tool_mode],
        .parallel_tool_calls = r->parallel_tool_calls && !r->legacy_functions,
        .json_schema = r->json_schema,
        .grammar = r->sampling.grammar,
        .template_kwargs = r->template_kwargs,
        .enable_thinking = r->enable_thinking,
        .add_generation_prompt = true,
    };
    return chat_render(serve->templates, serve->options->ops, serve->engine, &request, arena, &chat->prompt, err);
}

/* The template's own stops join the caller's, and its grammar replaces what the caller's became part of. */
static void add_prompt_params(const struct chat_prompt *prompt, struct arena *arena, struct gen_params *params)
{
    struct str *stops = arena_alloc(arena, (params->stop_count + prompt->stop_count + 1) * sizeof *stops);
    for (size_t i = 0; i < params->stop_count; i++)
        stops[i] = params->stops[i];
    for (size_t i = 0; i < prompt->stop_count; i++)
        stops[params->stop_count + i] = prompt->stops[i];
    params->stops = stops;
    params->stop_count += prompt->stop_count;
    params->grammar = prompt->grammar;
    params->grammar_lazy = prompt->grammar_lazy;
    params->trigger_patterns = prompt->trigger_patterns;
    params->trigger_pattern_count = prompt->trigger_pattern_count;
    params->trigger_tokens = prompt->trigger_tokens;
    params->trigger_token_count = prompt->trigger_token_count;
    params->preserved = prompt->preserved;
    params->preserved_count = prompt->preserved_count;
    params->grammar_prefill = prompt->grammar_prefill;
}

/* Texts alone are tokens at once; images take time (begin). */
static bool tokenize(struct chat_task *chat, struct err *err)
{
    if (chat->request.image_count > 0)
        return true;
    return serve_tokenize(chat->task.serve, chat->prompt.text, true, "messages", &chat->task.req->arena, &chat->tokens,
                          err);
}

static bool prepare(struct chat_task *chat, struct str body, struct err *err)
{
    struct serve *serve = chat->task.serve;
    struct arena *arena = &chat->task.req->arena;
    if (!openai_chat_read(body, &serve->options->chat, arena, &chat->request, err) || !check_model(serve, err) ||
        !serve_vision_check(serve, &chat->request, err) ||
        !serve_params(serve, &chat->request.sampling, arena, &chat->params, err) || !render(chat, err) ||
        !tokenize(chat, err))
        return false;
    add_prompt_params(&chat->prompt, arena, &chat->params);
    chat->params.want_logprobs = chat->request.logprobs;
    chat->params.logprobs = (unsigned)chat->request.top_logprobs;
    return true;
}

static void on_seen(void *arg, const struct vision_prompt *prompt, const struct err *err)
{
    struct chat_task *chat = arg;
    if (!prompt) {
        serve_task_fail(&chat->task, err);
        return;
    }
    chat->seen = prompt;
    chat->tokens = (struct serve_tokens){.ids = prompt->tokens, .count = prompt->count};
    note_usage(chat);
    serve_task_start(&chat->task);
}

static void begin(struct chat_task *chat)
{
    struct err err = ERR_INIT;
    if (chat->request.image_count == 0) {
        serve_task_start(&chat->task);
        return;
    }
    serve_task_wait(&chat->task);
    if (!serve_vision_start(chat->task.serve, &chat->request, chat->prompt.text, &chat->task.req->arena, on_seen, chat,
                            &err))
        serve_task_fail(&chat->task, &err);
}

static void start(struct chat_task *chat)
{
    const struct openai_sampling *s = &chat->request.sampling;
    struct arena *arena = &chat->task.req->arena;
    chat->identity = (struct openai_identity){.id = openai_id(chat->id, "chatcmpl-"),
                                              .created = clock_unix(),
                                              .model = chat->request.model,
                                              .fingerprint = chat->task.serve->fingerprint};
    chat->choices = arena_calloc(arena, (size_t)s->n * sizeof *chat->choices);
    for (int64_t i = 0; i < s->n; i++) {
        struct chat_choice *c = &chat->choices[i];
        c->parser = chat_parser_new(&chat->prompt);
        buf_init(&c->content, LIMIT_JSON_TEXT);
        buf_init(&c->reasoning, LIMIT_JSON_TEXT);
        arena_init(&c->memory);
    }
    chat->task.stream = s->stream;
    if (s->stream)
        openai_stream_init(&chat->stream, OPENAI_CHAT_CHUNK, &chat->identity, s->include_usage);
    if (s->stream && s->continuous_usage)
        chat->stream.so_far = &chat->so_far;
    note_usage(chat);
    arena_on_dispose(arena, on_dispose, chat);
    begin(chat);
}

static void on_body(struct http_req *req, struct str body)
{
    struct chat_task *chat = arena_calloc(&req->arena, sizeof *chat);
    struct err err = ERR_INIT;
    chat->task = (struct serve_task){.serve = req->user,
                                     .req = req,
                                     .count = 1,
                                     .member = "messages",
                                     .on_fill = on_fill,
                                     .on_event = on_event,
                                     .on_end = on_end};
    req->user = chat;
    if (prepare(chat, body, &err))
        start(chat);
    else
        http_reply_error(req, &err);
}

static void post_chat(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    serve_read_body(arg, req, on_body);
}

static const struct http_route routes[] = {
    {.method = "POST", .pattern = "/v1/chat/completions", .handler = post_chat, .summary = "Chat completion", 0, NULL},
    {.method = "POST", .pattern = "/chat/completions", .handler = post_chat, .summary = "Chat completion", 0, NULL},
};

const struct serve_routes serve_chat_routes = {routes, sizeof routes / sizeof *routes};
