/* The vocabulary ordered by text, so that a grammar's verdict on one token answers for many: a grammar over characters
 * that refuses a text refuses everything that begins with it. Filled at the first grammar; any thread. */
#ifndef WORKER_PIECE_TREE_H
#define WORKER_PIECE_TREE_H

#include <pthread.h>

#include "worker/engine.h"

struct piece_tree {
    pthread_mutex_t lock;
    bool filled;
    unsigned count;       /* tokens that have a text; end-of-generation tokens among them, as the last */
    engine_token *tokens; /* by text */
    unsigned *end;        /* tokens[i + 1 .. end[i]) all begin with the text of tokens[i] */
};

struct piece_tree *piece_tree_new(void);
void piece_tree_free(struct piece_tree *tree); /* NULL is fine */

/* Reads the vocabulary, once; later calls do nothing. Takes tens of milliseconds with 262 144 tokens. */
void piece_tree_fill(struct piece_tree *tree, const struct engine_ops *ops, const struct engine *engine);

/* The tokens directly below i, as a loop:
 *   for (unsigned at = piece_tree_child(i); at < tree->end[i]; at = tree->end[at])
 * and the topmost: the same from 0 to tree->count. */
static inline unsigned piece_tree_child(unsigned i)
{
    return i + 1;
}

#endif
