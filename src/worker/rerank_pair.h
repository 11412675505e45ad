/* A query and a document as the one input that a cross-encoder scores: marks before, between and behind them. Where
 * the model file brings a template for it, the marks are that template's texts; else they are the vocabulary's own:
 * BOS query EOS SEP document EOS, of which a model has those that its vocabulary adds. Any thread. */
#ifndef WORKER_RERANK_PAIR_H
#define WORKER_RERANK_PAIR_H

#include "base/arena.h"
#include "worker/engine.h"

struct rerank_tokens {
    engine_token *ids;
    size_t count;
};

struct rerank_marks {
    struct rerank_tokens before, between, behind;
    bool document_first; /* a template may say so */
};

/* In arena. false (ERR_NOT_SUPPORTED): the model's template does not hold "{query}" and "{document}" once each. */
bool rerank_marks_of(const struct engine_ops *ops, const struct engine *engine, struct arena *arena,
                     struct rerank_marks *ret_marks, struct err *err);

/* A query's or document's tokens; what in it looks like a control token is text. false: it cannot be tokenised. */
bool rerank_tokenize(const struct engine_ops *ops, const struct engine *engine, struct str text, struct arena *arena,
                     struct rerank_tokens *ret_tokens);

struct rerank_tokens rerank_pair(const struct rerank_marks *marks, const struct rerank_tokens *query,
                                 const struct rerank_tokens *document, struct arena *arena);

#endif
