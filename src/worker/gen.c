/* Events: a record is one allocation that holds the event, its text and its logprobs; the records of one step hang
 * together and cross to the loop as one post. */
#include "worker/gen.h"

#include <assert.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"

struct record {
    struct loop_post post; /* first record of a post only */
    struct record *next;
    struct gen *gen;
    bool last; /* the gen's last: free it */
    struct gen_event event;
};

/* ---- copying the request ---- */

static void *copy(struct arena *arena, const void *from, size_t count, size_t size)
{
    if (count == 0)
        return NULL;
    void *to = arena_alloc(arena, count * size);
    memcpy(to, from, count * size);
    return to;
}

static const struct str *copy_texts(struct arena *arena, const struct str *from, size_t count)
{
    struct str *texts = copy(arena, from, count, sizeof *texts);
    for (size_t i = 0; i < count; i++)
        texts[i] = arena_str(arena, texts[i]);
    return texts;
}

static void copy_params(struct arena *arena, struct gen_params *params)
{
    params->bias = copy(arena, params->bias, params->bias_count, sizeof *params->bias);
    params->preserved = copy(arena, params->preserved, params->preserved_count, sizeof *params->preserved);
    params->stops = copy_texts(arena, params->stops, params->stop_count);
    params->dry_breakers = copy_texts(arena, params->dry_breakers, params->dry_breaker_count);
    params->grammar = params->grammar_prefill = NULL; /* used up by now */
    params->trigger_patterns = NULL;
    params->trigger_tokens = NULL;
    if (!params->has_seed)
        params->seed = rand_u64();
    params->has_seed = true;
}

/* Lets the grammar take the text that the template has already put into the prompt. */
static bool prefill_grammar(struct engine_grammar *grammar, const char *text, const struct engine_ops *ops,
                            const struct engine *engine, struct err *err)
{
    struct str prefill = str_from(text);
    int capacity = (int)prefill.n + 8;
    engine_token *tokens = mem_calloc((size_t)capacity, sizeof *tokens);
    int count = ops->tokenize(engine, prefill, false, true, tokens, capacity);
    bool good = count >= 0 && count <= capacity;
    for (int i = 0; i < count && good; i++) {
        char piece[256] = "";
        ops->piece(engine, tokens[i], true, piece, sizeof piece);
        if (i == 0 && piece[0] == ' ' && prefill.p[0] != ' ') /* a blank that only the tokenizer has put there */
            continue;
        struct engine_candidate candidate = {.token = tokens[i]};
        ops->grammar_mask(grammar, &candidate, 1);
        good = candidate.logit == 0;
        if (good)
            ops->grammar_accept(grammar, tokens[i]);
    }
    mem_free(tokens);
    if (!good)
        err_set_param(err, ERR_INVALID_PARAMETERS, "grammar", "the grammar does not allow the beginning of the reply");
    return good;
}

static bool make_grammars(struct gen *gen, const struct gen_params *params, const struct engine_ops *ops,
                          const struct engine *engine, struct err *err)
{
    if (!params->grammar)
        return true;
    struct engine_grammar *grammar =
        ops->grammar_new(engine, params->grammar, params->grammar_lazy, params->trigger_patterns,
                         params->trigger_pattern_count, params->trigger_tokens, params->trigger_token_count, err);
    if (!grammar)
        return false;
    gen->branches[0].grammar = grammar;
    if (params->grammar_prefill && !params->grammar_lazy &&
        !prefill_grammar(grammar, params->grammar_prefill, ops, engine, err))
        return false;
    for (unsigned i = 1; i < gen->choices; i++)
        gen->branches[i].grammar = ops->grammar_copy(grammar);
    return true;
}

static unsigned look_back(int last_n, const struct engine_info *info)
{
    return last_n < 0 || (unsigned)last_n > info->context_sequence ? info->context_sequence : (unsigned)last_n;
}

static struct dry_params dry_params(const struct gen_params *params, const struct engine_ops *ops,
                                    const struct engine *engine)
{
    return (struct dry_params){.multiplier = params->dry_multiplier,
                               .base = params->dry_base,
                               .allowed_length = params->dry_allowed_length,
                               .last_n = look_back(params->dry_penalty_last_n, ops->info(engine)),
                               .breakers = params->dry_breakers,
                               .breaker_count = params->dry_breaker_count,
                               .ops = ops,
                               .engine = engine};
}

static struct sample_params sample_params(struct gen *gen, unsigned index, const struct engine_ops *ops,
                                          const struct engine *engine)
{
    const struct gen_params *params = &gen->params;
    engine_token *tokens = arena_alloc(&gen->arena, params->bias_count * sizeof *tokens);
    float *values = arena_alloc(&gen->arena, params->bias_count * sizeof *values);
    for (size_t i = 0; i < params->bias_count; i++) {
        tokens[i] = params->bias[i].token;
        values[i] = params->bias[i].bias;
    }
    return (struct sample_params){.temperature = params->temperature,
                                  .top_p = params->top_p,
                                  .min_p = params->min_p,
                                  .typical_p = params->typical_p,
                                  .top_k = params->top_k,
                                  .top_n_sigma = params->top_n_sigma,
                                  .xtc_probability = params->xtc_probability,
                                  .xtc_threshold = params->xtc_threshold,
                                  .dynatemp_range = params->dynatemp_range,
                                  .dynatemp_exponent = params->dynatemp_exponent,
                                  .mirostat = params->mirostat,
                                  .mirostat_tau = params->mirostat_tau,
                                  .mirostat_eta = params->mirostat_eta,
                                  .dry = dry_params(params, ops, engine),
                                  .presence_penalty = params->presence_penalty,
                                  .frequency_penalty = params->frequency_penalty,
                                  .repeat_penalty = params->repeat_penalty,
                                  .repeat_last_n = look_back(params->repeat_last_n, ops->info(engine)),
                                  .bias_tokens = tokens,
                                  .bias_values = values,
                                  .bias_count = params->bias_count,
                                  .seed = params->seed + index};
}

static void branch_init(struct branch *branch, struct gen *gen, unsigned index, const struct engine_ops *ops,
                        const struct engine *engine)
{
    const struct gen_params *params = &gen->params;
    struct sample_params sample = sample_params(gen, index, ops, engine);
    list_init(&branch->link);
    branch->gen = gen;
    branch->index = index;
    branch->sequence = -1;
    branch->count = gen->prompt_count;
    branch->tokens =
        arena_alloc(&gen->arena, ((size_t)gen->prompt_count + gen->max_tokens + 1) * sizeof *branch->tokens);
    memcpy(branch->tokens, gen->prompt, gen->prompt_count * sizeof *branch->tokens);
    sampler_init(&branch->sampler, &sample, ops->info(engine)->vocabulary);
    detok_init(&branch->detok, ops, engine, params->special_text, params->preserved, params->preserved_count,
               params->stops, params->stop_count);
}

/* ---- pictures ---- */

static void copy_pictures(struct gen *gen, const struct gen_request *request)
{
    gen->pictures = copy(&gen->arena, request->pictures, request->picture_count, sizeof *gen->pictures);
    gen->picture_count = (unsigned)request->picture_count;
    for (unsigned i = 0; i < gen->picture_count; i++)
        picture_ref(gen->pictures[i].picture);
}

const struct picture_place *gen_picture_at(const struct gen *gen, unsigned position)
{
    for (unsigned i = 0; i < gen->picture_count; i++) {
        const struct picture_place *place = &gen->pictures[i];
        if (position >= place->start && position - place->start < place->picture->count)
            return place;
    }
    return NULL;
}

unsigned gen_next_picture(const struct gen *gen, unsigned position)
{
    for (unsigned i = 0; i < gen->picture_count; i++)
        if (gen->pictures[i].start > position)
            return gen->pictures[i].start;
    return UINT_MAX;
}

unsigned gen_whole(const struct gen *gen, unsigned length)
{
    const struct picture_place *cut = gen_picture_at(gen, length);
    return cut && cut->start < length ? cut->start : length;
}

/* ---- life ---- */

struct gen *gen_new(const struct gen_request *request, const struct engine_ops *ops, const struct engine *engine,
                    struct err *err)
{
    const struct engine_info *info = ops->info(engine);
    struct gen *gen = mem_calloc(1, sizeof *gen);
    list_init(&gen->link);
    list_init(&gen->queue);
    arena_init(&gen->arena);
    gen->kind = request->kind;
    gen->choices = request->kind == GEN_EMBED ? 1 : request->choices;
    gen->prompt_count = (unsigned)request->token_count;
    gen->prompt = copy(&gen->arena, request->tokens, request->token_count, sizeof *gen->prompt);
    copy_pictures(gen, request);
    unsigned room = info->context_sequence - gen->prompt_count;
    gen->max_tokens = request->params.max_tokens < room ? request->params.max_tokens : room;
    gen->score = request->score_prompt;
    gen->deadline_ms = request->deadline_ms;
    gen->priority = request->priority > 0;
    gen->client = request->client;
    gen->submitted_ns = clock_ns();
    gen->timings.prompt_tokens = gen->prompt_count;
    gen->params = request->params;
    gen->branches = arena_calloc(&gen->arena, gen->choices * sizeof *gen->branches);
    gen->live = gen->choices;
    bool good = request->kind == GEN_EMBED || make_grammars(gen, &request->params, ops, engine, err);
    copy_params(&gen->arena, &gen->params);
    for (unsigned i = 0; i < gen->choices; i++)
        branch_init(&gen->branches[i], gen, i, ops, engine);
    if (good)
        return gen;
    for (unsigned i = 0; i < gen->choices; i++)
        branch_release(&gen->branches[i], ops);
    gen_free(gen);
    return NULL;
}

void branch_release(struct branch *branch, const struct engine_ops *ops)
{
    sampler_release(&branch->sampler);
    detok_release(&branch->detok);
    if (branch->grammar)
        ops->grammar_free(branch->grammar);
    branch->grammar = NULL;
    lookup_release(&branch->lookup);
    mem_free(branch->logprobs);
    mem_free(branch->tops);
    branch->logprobs = NULL;
    branch->tops = NULL;
}

void gen_free(struct gen *gen)
{
    list_remove(&gen->link);
    for (unsigned i = 0; i < gen->picture_count; i++)
        picture_unref(gen->pictures[i].picture);
    arena_dispose(&gen->arena);
    mem_free(gen);
}

/* ---- events ---- */

static void deliver(struct loop_post *post)
{
    struct record *record = container_of(post, struct record, post);
    while (record) {
        struct record *next = record->next;
        struct gen *gen = record->gen;
        unsigned undelivered = atomic_fetch_sub(&gen->undelivered, 1);
        if (!gen->muted) {
            if (undelivered == LIMIT_UNDELIVERED)
                sched_kick(gen->sched);
            gen->on_event(gen->arg, &record->event);
        }
        if (record->last)
            gen_free(gen);
        mem_free(record);
        record = next;
    }
}

void gen_add_event(struct gen *gen, const struct gen_event *event)
{
    size_t tops = 0;
    bool own = event->kind == GEN_EVENT_TEXT; /* GEN_EVENT_PROMPT's lie in the gen */
    for (size_t i = 0; i < event->logprob_count && own; i++)
        tops += event->logprobs[i].top_count;
    size_t logprob_bytes = own ? event->logprob_count * sizeof *event->logprobs : 0;
    size_t top_bytes = tops * sizeof(struct gen_alternative);
    struct record *record = mem_alloc(sizeof *record + logprob_bytes + top_bytes + event->text.n + 1);
    *record = (struct record){.gen = gen, .event = *event};
    struct gen_logprob *logprobs = (struct gen_logprob *)(record + 1);
    struct gen_alternative *top = (struct gen_alternative *)((char *)logprobs + logprob_bytes);
    char *text = (char *)top + top_bytes;
    for (size_t i = 0; i < event->logprob_count && own; i++) {
        logprobs[i] = event->logprobs[i];
        logprobs[i].top = top;
        if (logprobs[i].top_count > 0)
            memcpy(top, event->logprobs[i].top, logprobs[i].top_count * sizeof *top);
        top += logprobs[i].top_count;
    }
    if (own && event->logprob_count > 0)
        record->event.logprobs = logprobs;
    if (event->text.n > 0)
        memcpy(text, event->text.p, event->text.n);
    text[event->text.n] = '\0';
    record->event.text.p = text;
    if (gen->last)
        gen->last->next = record;
    else
        gen->first = record;
    gen->last = record;
    atomic_fetch_add(&gen->undelivered, 1);
}

void gen_post_events(struct gen *gen, struct loop *loop, bool last)
{
    struct record *first = gen->first;
    if (!first)
        return;
    gen->last->last = last;
    gen->first = gen->last = NULL;
    loop_send(loop, &first->post, deliver); /* may free the gen at once when it was the last */
}
