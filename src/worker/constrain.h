/* Picks tokens that a grammar allows. Decode thread only. */
#ifndef WORKER_CONSTRAIN_H
#define WORKER_CONSTRAIN_H

#include "worker/engine.h"
#include "worker/sample.h"

/* The next token, or ENGINE_TOKEN_NONE when the grammar allows none that has a logit. What the grammar refuses may
 * become -INFINITY in logits. */
engine_token constrain_pick(const struct engine_ops *ops, struct engine_grammar *grammar, struct sampler *sampler,
                            struct sample_space *space, float *logits);

#endif
