/* POST /v1/completions: every prompt is a submission of best_of choices; the choices that are told about are
 * prompt-major. Echo puts the prompt's own text, and with logprobs its tokens, before what was generated. */
#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "openai/completion_reply.h"
#include "openai/completion_request.h"
#include "worker/serve_task.h"

struct text_choice {
    struct buf text;
    struct arena memory; /* of tokens */
    struct openai_token *tokens;
    size_t token_count, token_capacity;
    size_t offset; /* characters already streamed */
    bool echoed;
    unsigned generated;
    double mean_logprob;
    const char *finish_reason;
};

struct prompt {
    struct serve_tokens tokens;
    struct str text; /* for echo */
};

struct completion_task {
    struct serve_task task;
    struct openai_completion request;
    struct gen_params params;
    struct prompt *prompts;
    struct text_choice *choices; /* best_of of each prompt */
    struct openai_stream stream;
    struct openai_identity identity;
    char id[OPENAI_ID_SIZE];
};

static size_t choice_count(const struct completion_task *t)
{
    return t->request.prompt_count * (size_t)t->request.best_of;
}

static void on_dispose(void *arg)
{
    struct completion_task *t = arg;
    for (size_t i = 0; i < choice_count(t); i++) {
        buf_release(&t->choices[i].text);
        arena_dispose(&t->choices[i].memory);
    }
    if (t->task.stream)
        openai_stream_release(&t->stream);
}

/* ---- events ---- */

/* Sends what a choice has gathered and forgets it. */
static void flush(struct completion_task *t, size_t at, const char *finish_reason)
{
    struct text_choice *c = &t->choices[at];
    bool logprobs = t->request.logprobs >= 0 && c->token_count > 0;
    struct openai_text_choice chunk = {.text = buf_view(&c->text),
                                       .tokens = c->tokens,
                                       .token_count = c->token_count,
                                       .logprobs = logprobs,
                                       .finish_reason = finish_reason};
    serve_task_send(&t->task, openai_completion_chunk(&t->stream, (unsigned)at, &chunk, &c->offset));
    buf_clear(&c->text);
    arena_dispose(&c->memory);
    c->tokens = NULL;
    c->token_count = c->token_capacity = 0;
}

static void echo(struct completion_task *t, size_t prompt, struct text_choice *c)
{
    if (!t->request.echo || c->echoed)
        return;
    c->echoed = true;
    buf_str(&c->text, t->prompts[prompt].text);
}

/* All choices share the prompt's tokens. The one that the model wants in front is nobody's text. */
static void on_prompt(struct completion_task *t, size_t prompt, const struct gen_event *event)
{
    for (int64_t k = 0; t->request.echo && t->request.logprobs >= 0 && k < t->request.best_of; k++) {
        struct text_choice *c = &t->choices[prompt * (size_t)t->request.best_of + (size_t)k];
        size_t first = c->token_count;
        serve_logprobs(t->task.serve, event, &c->memory, &c->tokens, &c->token_count, &c->token_capacity);
        bool own_start = t->request.prompts[prompt].text.p && event->logprob_count &&
                         event->logprobs[0].token == t->task.serve->info->bos;
        if (own_start)
            c->tokens[first].text = STR("");
    }
}

static void on_text(struct completion_task *t, size_t prompt, size_t at, const struct gen_event *event)
{
    struct text_choice *c = &t->choices[at];
    echo(t, prompt, c);
    buf_str(&c->text, event->text);
    if (t->request.logprobs >= 0)
        serve_logprobs(t->task.serve, event, &c->memory, &c->tokens, &c->token_count, &c->token_capacity);
    if (serve_task_check_memory(&t->task, &c->memory) && t->task.stream)
        flush(t, at, NULL);
}

static void on_event(struct serve_task *task, size_t prompt, const struct gen_event *event)
{
    struct completion_task *t = container_of(task, struct completion_task, task);
    size_t at = prompt * (size_t)t->request.best_of + event->choice;
    struct text_choice *c = &t->choices[at];
    switch (event->kind) {
    case GEN_EVENT_PROMPT: on_prompt(t, prompt, event); break;
    case GEN_EVENT_TEXT: on_text(t, prompt, at, event); break;
    case GEN_EVENT_FINISHED:
        echo(t, prompt, c);
        c->generated = event->generated_tokens;
        c->mean_logprob = event->mean_logprob;
        c->finish_reason = event->finish == GEN_FINISH_LENGTH ? "length" : "stop";
        if (task->stream)
            flush(t, at, c->finish_reason);
        break;
    default: break;
    }
}

/* ---- the end ---- */

static int by_mean_logprob(const void *a, const void *b)
{
    const struct text_choice *x = *(const struct text_choice *const *)a, *y = *(const struct text_choice *const *)b;
    if (x->mean_logprob != y->mean_logprob)
        return x->mean_logprob > y->mean_logprob ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* The n best of one prompt, into out. */
static void pick_best(struct completion_task *t, size_t prompt, struct openai_text_choice *out)
{
    struct text_choice *ranked[LIMIT_CHOICES];
    size_t best_of = (size_t)t->request.best_of, n = (size_t)t->request.sampling.n;
    assert(best_of >= n && best_of <= LIMIT_CHOICES && "checked when the request was read");
    for (size_t k = 0; k < best_of; k++)
        ranked[k] = &t->choices[prompt * best_of + k];
    if (best_of > n)
        qsort(ranked, best_of, sizeof *ranked, by_mean_logprob);
    for (size_t k = 0; k < n && k < best_of; k++)
        out[k] = (struct openai_text_choice){.text = buf_view(&ranked[k]->text),
                                             .tokens = ranked[k]->tokens,
                                             .token_count = ranked[k]->token_count,
                                             .logprobs = t->request.logprobs >= 0,
                                             .finish_reason = ranked[k]->finish_reason};
}

static struct openai_usage sum_usage(const struct completion_task *t)
{
    struct openai_usage usage = {.cached_tokens = t->task.timings.cached_tokens};
    for (size_t i = 0; i < t->request.prompt_count; i++)
        usage.prompt_tokens += (unsigned)t->prompts[i].tokens.count;
    for (size_t i = 0; i < choice_count(t); i++)
        usage.completion_tokens += t->choices[i].generated;
    return usage;
}

static void on_end(struct serve_task *task)
{
    struct completion_task *t = container_of(task, struct completion_task, task);
    struct openai_usage usage = sum_usage(t);
    size_t n = (size_t)t->request.sampling.n, count = t->request.prompt_count * n;
    if (task->stream) {
        if (t->request.sampling.include_usage)
            serve_task_send(task, openai_chunk_usage(&t->stream, &usage, &task->timings));
        serve_task_finish_stream(task, true);
        return;
    }
    struct openai_text_choice *choices = arena_alloc(&task->req->arena, count * sizeof *choices);
    struct buf out;
    for (size_t i = 0; i < t->request.prompt_count; i++)
        pick_best(t, i, choices + i * n);
    buf_init(&out, LIMIT_JSON_TEXT);
    openai_completion_write(&out, &t->identity, choices, count, &usage, &task->timings);
    serve_reply_json(task->req, &out);
}

/* ---- the beginning ---- */

static void on_fill(struct serve_task *task, size_t index, struct gen_request *request)
{
    struct completion_task *t = container_of(task, struct completion_task, task);
    request->tokens = t->prompts[index].tokens.ids;
    request->token_count = t->prompts[index].tokens.count;
    request->choices = (unsigned)t->request.best_of;
    request->params = t->params;
    request->score_prompt = t->params.max_tokens == 0 || (t->request.echo && t->request.logprobs >= 0);
}

/* The text behind tokens, for echo. */
static struct str tokens_text(const struct serve *serve, const struct serve_tokens *tokens, struct arena *arena)
{
    struct buf text;
    struct str out = STR("");
    buf_init(&text, LIMIT_JSON_TEXT);
    for (size_t i = 0; i < tokens->count; i++)
        buf_str(&text, serve_piece(serve, tokens->ids[i], true, arena));
    openai_buf_to_arena(&text, arena, &out, NULL);
    return out;
}

static bool read_prompt(struct completion_task *t, size_t index, struct err *err)
{
    struct serve *serve = t->task.serve;
    struct arena *arena = &t->task.req->arena;
    const struct openai_input *input = &t->request.prompts[index];
    struct prompt *prompt = &t->prompts[index];
    if (t->request.suffix.p && !input->text.p)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "suffix", "'suffix' needs a prompt of text, not of tokens");
    bool good = t->request.suffix.p ? serve_fim_tokens(serve, input->text, t->request.suffix, STR(""), "suffix", arena,
                                                       &prompt->tokens, err)
                                    : serve_input_tokens(serve, input, "prompt", arena, &prompt->tokens, err);
    if (good && t->request.echo)
        prompt->text = input->text.p ? input->text : tokens_text(serve, &prompt->tokens, arena);
    return good;
}

static bool prepare(struct completion_task *t, struct str body, struct err *err)
{
    struct serve *serve = t->task.serve;
    struct arena *arena = &t->task.req->arena;
    if (!openai_completion_read(body, &serve->options->completion, arena, &t->request, err))
        return false;
    if (serve->info->embedding_only)
        return err_set_param(err, ERR_NOT_SUPPORTED, "model", "'%s' makes embeddings, not text", serve->model);
    if (!serve_params(serve, &t->request.sampling, arena, &t->params, err))
        return false;
    t->prompts = arena_calloc(arena, t->request.prompt_count * sizeof *t->prompts);
    for (size_t i = 0; i < t->request.prompt_count; i++)
        if (!read_prompt(t, i, err))
            return false;
    t->params.want_logprobs = t->request.logprobs >= 0 || t->request.best_of > t->request.sampling.n;
    t->params.logprobs = t->request.logprobs > 0 ? (unsigned)t->request.logprobs : 0;
    return true;
}

static void start(struct completion_task *t)
{
    struct arena *arena = &t->task.req->arena;
    t->identity = (struct openai_identity){.id = openai_id(t->id, "cmpl-"),
                                           .created = clock_unix(),
                                           .model = t->request.model,
                                           .fingerprint = t->task.serve->fingerprint};
    t->choices = arena_calloc(arena, choice_count(t) * sizeof *t->choices);
    for (size_t i = 0; i < choice_count(t); i++) {
        buf_init(&t->choices[i].text, LIMIT_JSON_TEXT);
        arena_init(&t->choices[i].memory);
    }
    t->task.count = t->request.prompt_count;
    t->task.stream = t->request.sampling.stream;
    if (t->task.stream)
        openai_stream_init(&t->stream, OPENAI_COMPLETION_OBJECT, &t->identity, t->request.sampling.include_usage);
    arena_on_dispose(arena, on_dispose, t);
    serve_task_start(&t->task);
}

static void on_body(struct http_req *req, struct str body)
{
    struct completion_task *t = arena_calloc(&req->arena, sizeof *t);
    struct err err = ERR_INIT;
    t->task = (struct serve_task){
        .serve = req->user, .req = req, .member = "prompt", .on_fill = on_fill, .on_event = on_event, .on_end = on_end};
    req->user = t;
    if (prepare(t, body, &err))
        start(t);
    else
        http_reply_error(req, &err);
}

static void post_completion(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)match;
    serve_read_body(arg, req, on_body);
}

static const struct http_route routes[] = {
    {.method = "POST", .pattern = "/v1/completions", .handler = post_completion, .summary = "Text completion", 0, NULL},
};

const struct serve_routes serve_completion_routes = {routes, sizeof routes / sizeof *routes};
