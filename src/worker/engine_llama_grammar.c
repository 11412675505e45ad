/* Grammars over llama.cpp's grammar sampler.
 *
 * It is asked about a list of tokens and takes 0.1 to 0.3 us for each, the same whether it refuses the first character
 * or none: the whole of a large vocabulary costs more than a step of decoding. So the vocabulary is asked about from
 * the top of its tree of texts (piece_tree.h), level by level, and what begins with a refused text is not asked about.
 * Where the grammar leaves little choice, that is a few hundred tokens. Where it leaves nearly all, as inside a string,
 * nothing is saved; the caller (constrain.c) comes here rarely then. */
#include <math.h>

#include "base/mem.h"
#include "obs/log.h"
#include "worker/chat_shim.h"
#include "worker/engine_llama_private.h"

struct engine_grammar {
    struct llama_sampler *sampler;   /* NULL once the text has left the grammar */
    const struct piece_tree *pieces; /* the engine's; NULL: the grammar names tokens, so their text decides nothing */
    llama_token_data *scratch;       /* vocabulary */
    unsigned *queue;                 /* vocabulary: places in pieces */
    bool *allowed;                   /* by token */
    unsigned vocabulary;
};

/* llama.cpp's parser descends by recursion. */
static bool too_deep(const char *text)
{
    unsigned depth = 0;
    for (; *text; text++) {
        depth += *text == '(';
        depth -= *text == ')' && depth > 0;
        if (depth > LIMIT_GRAMMAR_DEPTH)
            return true;
    }
    return false;
}

/* The character that follows text[0] when it opens a literal, a class or a comment; NULL when it does not. */
static const char *behind_quoted(const char *text)
{
    char close = *text == '"' ? '"' : *text == '[' ? ']' : *text == '#' ? '\n' : '\0';
    if (!close)
        return NULL;
    for (text++; *text && *text != close; text++)
        if (*text == '\\' && close != '\n' && text[1])
            text++;
    return *text ? text + 1 : text;
}

/* Does a rule name tokens (<think>, !<[7]>) and not only characters? */
static bool names_tokens(const char *text)
{
    while (*text) {
        const char *behind = behind_quoted(text);
        if (!behind && *text == '<')
            return true;
        text = behind ? behind : text + 1;
    }
    return false;
}

static struct engine_grammar *wrap_grammar(struct llama_sampler *sampler, unsigned vocabulary,
                                           const struct piece_tree *pieces)
{
    struct engine_grammar *grammar = mem_calloc(1, sizeof *grammar);
    grammar->sampler = sampler;
    grammar->vocabulary = vocabulary;
    grammar->pieces = pieces;
    return grammar;
}

struct engine_grammar *llama_engine_grammar_new(const struct engine *engine, const char *text, bool lazy,
                                                const char *const *patterns, size_t pattern_count,
                                                const engine_token *tokens, size_t token_count, struct err *err)
{
    if (strlen(text) > LIMIT_GRAMMAR_BYTES || too_deep(text)) {
        err_set_param(err, ERR_INVALID_PARAMETERS, "grammar", "the grammar is larger or nested deeper than is allowed");
        return NULL;
    }
    struct llama_sampler *sampler =
        shim_grammar_new(engine->vocab, text, lazy, patterns, pattern_count, tokens, token_count, err);
    if (!sampler)
        return NULL;
    bool by_text = !names_tokens(text);
    if (by_text)
        piece_tree_fill(engine->pieces, &engine_llama, engine);
    return wrap_grammar(sampler, engine->info.vocabulary, by_text ? engine->pieces : NULL);
}

struct engine_grammar *llama_engine_grammar_copy(const struct engine_grammar *grammar)
{
    return wrap_grammar(grammar->sampler ? llama_sampler_clone(grammar->sampler) : NULL, grammar->vocabulary,
                        grammar->pieces);
}

void llama_engine_grammar_free(struct engine_grammar *grammar)
{
    if (!grammar)
        return;
    if (grammar->sampler)
        llama_sampler_free(grammar->sampler);
    mem_free(grammar->scratch);
    mem_free(grammar->queue);
    mem_free(grammar->allowed);
    mem_free(grammar);
}

/* Scratch for the whole vocabulary, made when it is needed first: once a grammar, not a token. */
static llama_token_data *scratch_of(struct engine_grammar *grammar)
{
    if (!grammar->scratch)
        grammar->scratch = mem_calloc(grammar->vocabulary, sizeof *grammar->scratch);
    return grammar->scratch;
}

static void apply(struct engine_grammar *grammar, llama_token_data *data, size_t count)
{
    llama_token_data_array array = {.data = data, .size = count, .selected = -1};
    llama_sampler_apply(grammar->sampler, &array);
}

void llama_engine_grammar_mask(struct engine_grammar *grammar, struct engine_candidate *candidates, size_t count)
{
    llama_token_data few[256], *data = few;
    if (!grammar->sampler || count == 0)
        return;
    if (count > sizeof few / sizeof *few)
        data = scratch_of(grammar);
    for (size_t i = 0; i < count; i++)
        data[i] = (llama_token_data){.id = candidates[i].token, .logit = candidates[i].logit};
    apply(grammar, data, count);
    for (size_t i = 0; i < count; i++)
        candidates[i].logit = data[i].logit;
}

static void mask_plainly(struct engine_grammar *grammar, float *logits)
{
    llama_token_data *data = scratch_of(grammar);
    for (unsigned i = 0; i < grammar->vocabulary; i++)
        data[i] = (llama_token_data){.id = (llama_token)i, .logit = logits[i]};
    apply(grammar, data, grammar->vocabulary);
    for (unsigned i = 0; i < grammar->vocabulary; i++)
        logits[i] = data[i].logit;
}

/* Asks about queue[from..to) in one call, and queues what is below the allowed ones; returns the queue's new end. */
static unsigned ask_level(struct engine_grammar *grammar, unsigned from, unsigned to)
{
    const struct piece_tree *tree = grammar->pieces;
    llama_token_data *data = grammar->scratch;
    unsigned tail = to;
    for (unsigned i = from; i < to; i++)
        data[i - from] = (llama_token_data){.id = tree->tokens[grammar->queue[i]]};
    apply(grammar, data, to - from);
    for (unsigned i = from; i < to; i++) {
        unsigned place = grammar->queue[i];
        if (data[i - from].logit == -INFINITY)
            continue;
        grammar->allowed[tree->tokens[place]] = true;
        for (unsigned at = piece_tree_child(place); at < tree->end[place]; at = tree->end[at])
            grammar->queue[tail++] = at;
    }
    return tail;
}

void llama_engine_grammar_mask_all(struct engine_grammar *grammar, float *logits)
{
    const struct piece_tree *tree = grammar->pieces;
    if (!grammar->sampler)
        return;
    if (!tree) {
        mask_plainly(grammar, logits);
        return;
    }
    scratch_of(grammar);
    if (!grammar->queue)
        grammar->queue = mem_calloc(grammar->vocabulary, sizeof *grammar->queue);
    if (!grammar->allowed)
        grammar->allowed = mem_calloc(grammar->vocabulary, sizeof *grammar->allowed);
    memset(grammar->allowed, 0, grammar->vocabulary * sizeof *grammar->allowed);
    unsigned from = 0, tail = 0;
    for (unsigned at = 0; at < tree->count; at = tree->end[at])
        grammar->queue[tail++] = at;
    while (from < tail) {
        unsigned to = tail;
        tail = ask_level(grammar, from, to);
        from = to;
    }
    for (unsigned i = 0; i < grammar->vocabulary; i++)
        logits[i] = grammar->allowed[i] ? logits[i] : -INFINITY;
}

void llama_engine_grammar_accept(struct engine_grammar *grammar, engine_token token)
{
    if (!grammar->sampler || shim_grammar_accept(grammar->sampler, token))
        return;
    log_warn("the reply has left its grammar; it goes on without", "token=%d", token);
    llama_sampler_free(grammar->sampler);
    grammar->sampler = NULL;
}
