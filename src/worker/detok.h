/* Tokens to text that may be shown: whole characters only, stop strings found across token boundaries and never
 * leaked. One for each running choice; decode thread only. */
#ifndef WORKER_DETOK_H
#define WORKER_DETOK_H

#include "base/buf.h"
#include "worker/engine.h"

struct detok {
    const struct engine_ops *ops;
    const struct engine *engine;
    bool special;                  /* render control tokens */
    const engine_token *preserved; /* control tokens rendered in any case */
    size_t preserved_count;
    const struct str *stops;
    size_t stop_count;
    size_t stop_longest;
    struct buf held; /* bytes not yet given out */
    size_t searched; /* held[0..searched) holds no stop's beginning that could still complete */
    uint64_t given;  /* bytes given out or dropped so far */
    uint64_t *ends;  /* ring: where each token not yet given out ends, counted from the first byte */
    unsigned end_first, end_count, end_capacity;
    uint64_t out_end; /* where the last token that is out ends */
    int stopped;      /* index of the stop string that was found, or -1 */
};

/* Everything pointed to must outlive it. */
void detok_init(struct detok *detok, const struct engine_ops *ops, const struct engine *engine, bool special,
                const engine_token *preserved, size_t preserved_count, const struct str *stops, size_t stop_count);
void detok_release(struct detok *detok);

/* Adds a token. True when a stop string is complete: no more may be pushed. */
bool detok_push(struct detok *detok, engine_token token);

/* Appends what may be shown now to out, as valid UTF-8, and returns how many tokens are thereby out altogether, in
 * order. final: nothing follows; what was held back comes out too, bytes that never became a character as U+FFFD.
 * After a stop the tokens wholly inside it are never out. */
unsigned detok_take(struct detok *detok, bool final, struct buf *out);

#endif
