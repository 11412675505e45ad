/* DRY: a penalty on tokens that would go on with a repetition of what was said before, growing with its length.
 * Decode thread only; nothing is allocated after dry_new. */
#ifndef WORKER_DRY_H
#define WORKER_DRY_H

#include "worker/engine.h"

struct dry_params {
    float multiplier;           /* 0: off */
    float base;                 /* >= 1; penalty: multiplier * base^(length - allowed_length) */
    unsigned allowed_length;    /* shorter repetitions cost nothing */
    unsigned last_n;            /* tokens looked back over, prompt included; 0: off */
    const struct str *breakers; /* texts that no repetition reaches over; each at most LIMIT_DRY_BREAKER_BYTES */
    size_t breaker_count;
    const struct engine_ops *ops; /* for the breakers; must outlive the dry, as the breakers' texts */
    const struct engine *engine;
};

struct dry;

struct dry *dry_new(const struct dry_params *params, unsigned vocabulary); /* NULL: the parameters say off */
void dry_free(struct dry *dry);                                            /* NULL is fine */

/* Lowers logits in place. history[0..count): the sequence so far. Linear in last_n. */
void dry_apply(struct dry *dry, float *logits, const engine_token *history, unsigned count);

#endif
