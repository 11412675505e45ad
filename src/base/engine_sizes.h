/* Sizes of an engine when nobody names them. The worker opens with them and the gateway predicts memory from them, so
 * both read them here. Pure. */
#ifndef BASE_ENGINE_SIZES_H
#define BASE_ENGINE_SIZES_H

#include <stdint.h>

#include "base/limits.h"

#define ENGINE_CONTEXT   8192 /* tokens of one sequence; a model trained on fewer gets fewer */
#define ENGINE_BATCH     2048 /* tokens a decode call may carry */
#define ENGINE_UBATCH    512  /* of these computed at once */
#define ENGINE_SEQUENCES 16
#define ENGINE_HOLDERS   4 /* sequence ids for each sequence that decodes; the others hold prefixes */
#define ENGINE_KV_TYPE   "f16"

static inline unsigned engine_smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Rows of a decode that may ask for logits: one a sequence, and as many prompt tokens as are scored at once. A row is
 * as long as the vocabulary, so a whole batch of them would take half a gigabyte with one of 262 144. */
static inline unsigned engine_outputs(unsigned vocabulary, unsigned sequences, unsigned ubatch)
{
    unsigned scored = LIMIT_SCORE_BYTES / (vocabulary * (unsigned)sizeof(float) + 1);
    return sequences + engine_smaller(scored > 0 ? scored : 1, ubatch);
}

/* Sequence ids, of a model whose sequences can be cut; a row of logits is kept for each. */
static inline unsigned engine_holders(unsigned sequences, unsigned outputs)
{
    return engine_smaller(engine_smaller(ENGINE_HOLDERS * sequences, outputs), LIMIT_SEQUENCES);
}

#endif
