/* Where the last tokens of a sequence stood before in it: what followed then is a guess at what follows now. An index
 * of a sequence's n-grams (4, 3 and 2 tokens), and the match that it has found. Decode thread only.
 *
 * The tokens stay the caller's: every call gets the whole sequence, which only ever grows. Positions count from 0. */
#ifndef WORKER_LOOKUP_H
#define WORKER_LOOKUP_H

#include "worker/engine.h"

struct lookup {        /* zero-initialise */
    uint32_t *slots;   /* by hash: the position behind an n-gram, the latest wins; 0: none */
    unsigned capacity; /* a power of two, or 0 */
    unsigned indexed;  /* n-grams that end before this position are in the slots */
    unsigned seen;     /* tokens that the match takes into account */
    unsigned source;   /* position whose token would come next; 0: no match */
    unsigned matched;  /* tokens before source that equal the last ones; LIMIT_LOOKUP_MATCH: so many or more */
};

void lookup_release(struct lookup *lookup); /* twice is fine */

/* Goes on with the match by the token at position seen. True: the match had foretold it. Else there is none now. */
bool lookup_advance(struct lookup *lookup, const engine_token *tokens);

/* Indexes what came, LIMIT_LOOKUP_FEED tokens a call at most, and looks for a longer match than there is, when that is
 * a short one. seen must be count. */
void lookup_find(struct lookup *lookup, const engine_token *tokens, unsigned count);

/* Writes the guess behind the sequence: tokens[count..count + length), for which the caller has room. A match must
 * exist. A guess longer than what lies between source and the end goes on with itself. */
void lookup_draft(const struct lookup *lookup, engine_token *tokens, unsigned count, unsigned length);

#endif
