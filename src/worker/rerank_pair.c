#include "worker/rerank_pair.h"

#define QUERY    STR("{query}")
#define DOCUMENT STR("{document}")

static bool tokenize(const struct engine_ops *ops, const struct engine *engine, struct str text, bool marks,
                     struct arena *arena, struct rerank_tokens *ret_tokens)
{
    size_t capacity = text.n + 8; /* a token takes a byte or more */
    engine_token *ids = arena_alloc(arena, capacity * sizeof *ids);
    int count = ops->tokenize(engine, text, false, marks, ids, (int)capacity);
    if (count < 0 || (size_t)count > capacity)
        return false;
    *ret_tokens = (struct rerank_tokens){.ids = ids, .count = (size_t)count};
    return true;
}

bool rerank_tokenize(const struct engine_ops *ops, const struct engine *engine, struct str text, struct arena *arena,
                     struct rerank_tokens *ret_tokens)
{
    return tokenize(ops, engine, text, false, arena, ret_tokens);
}

static void add(struct rerank_tokens *tokens, bool wanted, engine_token token)
{
    if (wanted && token != ENGINE_TOKEN_NONE)
        tokens->ids[tokens->count++] = token;
}

static void vocabulary_marks(const struct engine_info *info, struct arena *arena, struct rerank_marks *m)
{
    engine_token end = info->eos != ENGINE_TOKEN_NONE ? info->eos : info->sep;
    m->before.ids = arena_alloc(arena, sizeof(engine_token));
    m->between.ids = arena_alloc(arena, 2 * sizeof(engine_token));
    m->behind.ids = arena_alloc(arena, sizeof(engine_token));
    add(&m->before, info->add_bos, info->bos);
    add(&m->between, info->add_eos, end);
    add(&m->between, info->add_sep, info->sep);
    add(&m->behind, info->add_eos, end);
}

/* The only place of part in text; NULL: none, or several. */
static const char *only_place(struct str text, struct str part)
{
    const char *at = text.n ? memmem(text.p, text.n, part.p, part.n) : NULL;
    size_t behind = at ? (size_t)(text.p + text.n - at) - part.n : 0;
    return at && !memmem(at + part.n, behind, part.p, part.n) ? at : NULL;
}

static bool template_marks(const struct engine_ops *ops, const struct engine *engine, struct str text,
                           struct arena *arena, struct rerank_marks *m, struct err *err)
{
    const char *query = only_place(text, QUERY), *document = only_place(text, DOCUMENT), *end = text.p + text.n;
    if (!query || !document)
        return err_set_param(err, ERR_NOT_SUPPORTED, "model",
                             "the model's own template for pairs must hold {query} and {document} once each");
    m->document_first = document < query;
    const char *first = m->document_first ? document : query, *second = m->document_first ? query : document;
    const char *behind_first = first + (m->document_first ? DOCUMENT.n : QUERY.n);
    const char *behind_second = second + (m->document_first ? QUERY.n : DOCUMENT.n);
    struct str before = {text.p, (size_t)(first - text.p)}, behind = {behind_second, (size_t)(end - behind_second)};
    struct str between = {behind_first, (size_t)(second - behind_first)};
    return (tokenize(ops, engine, before, true, arena, &m->before) &&
            tokenize(ops, engine, between, true, arena, &m->between) &&
            tokenize(ops, engine, behind, true, arena, &m->behind)) ||
           err_set_param(err, ERR_NOT_SUPPORTED, "model", "the model's own template for pairs is no text of its own");
}

bool rerank_marks_of(const struct engine_ops *ops, const struct engine *engine, struct arena *arena,
                     struct rerank_marks *ret_marks, struct err *err)
{
    const struct engine_info *info = ops->info(engine);
    *ret_marks = (struct rerank_marks){0};
    if (*info->rerank_template)
        return template_marks(ops, engine, str_from(info->rerank_template), arena, ret_marks, err);
    vocabulary_marks(info, arena, ret_marks);
    return true;
}

struct rerank_tokens rerank_pair(const struct rerank_marks *marks, const struct rerank_tokens *query,
                                 const struct rerank_tokens *document, struct arena *arena)
{
    const struct rerank_tokens *parts[] = {&marks->before, marks->document_first ? document : query, &marks->between,
                                           marks->document_first ? query : document, &marks->behind};
    struct rerank_tokens all = {0};
    size_t count = 0;
    for (size_t i = 0; i < 5; i++)
        count += parts[i]->count;
    all.ids = arena_alloc(arena, (count + 1) * sizeof *all.ids);
    for (size_t i = 0; i < 5; i++) {
        if (parts[i]->count)
            memcpy(all.ids + all.count, parts[i]->ids, parts[i]->count * sizeof *all.ids);
        all.count += parts[i]->count;
    }
    return all;
}
