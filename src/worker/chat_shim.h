/* Calls into llama.cpp that may throw, made safe for C: only chat_shim.cpp can catch. For engine_llama.c. */
#ifndef WORKER_CHAT_SHIM_H
#define WORKER_CHAT_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct llama_sampler;
struct llama_vocab;

/* As llama_sampler_init_grammar(_lazy_patterns); NULL and *err when the text or a pattern does not parse. */
struct llama_sampler *shim_grammar_new(const struct llama_vocab *vocab, const char *text, bool lazy,
                                       const char *const *patterns, size_t pattern_count, const int32_t *tokens,
                                       size_t token_count, struct err *err);

/* False when the grammar does not allow the token: it must not be used any more. */
bool shim_grammar_accept(struct llama_sampler *grammar, int32_t token);

#ifdef __cplusplus
}
#endif

#endif
