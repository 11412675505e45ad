/* A radix tree over token ids: who holds which beginning of a token sequence. Holders put a mark into the tree, one for
 * each sequence of the engine's cache and one for each state kept outside it, and move it as their tokens grow or are
 * cut. A lookup walks down once, whatever the number of holders.
 *
 * Time: appending and finding are linear in the tokens given, plus the brothers of the nodes passed; cutting in the
 * length of the edges it joins. Memory: each token once for all holders that share its whole beginning. One thread. */
#ifndef WORKER_PREFIX_H
#define WORKER_PREFIX_H

#include "base/list.h"
#include "worker/engine.h"

enum prefix_kind {              /* where a holder keeps its tokens */
                   PREFIX_IDLE, /* a sequence in the cache that nobody uses */
                   PREFIX_BUSY, /* one that a branch uses */
                   PREFIX_KEPT, /* a state outside the cache */
                   PREFIX_KINDS
};
#define PREFIX_BIT(kind) (1u << (kind))

struct prefix_node;

struct prefix_mark { /* embedded in its holder; zero but for kind before its first use */
    struct list link;
    struct prefix_node *node; /* NULL: holds nothing */
    unsigned length;          /* tokens */
    enum prefix_kind kind;
};

struct prefix_tree {
    struct prefix_node *root;
    unsigned nodes; /* besides the root */
};

void prefix_tree_init(struct prefix_tree *tree);
void prefix_tree_release(struct prefix_tree *tree); /* marks are left as they are */

void prefix_append(struct prefix_tree *tree, struct prefix_mark *mark, const engine_token *tokens, unsigned count);
void prefix_cut(struct prefix_tree *tree, struct prefix_mark *mark,
                unsigned length); /* keeps the first length tokens */
/* to, which holds nothing, holds the first length tokens of from; length is at most from's. */
void prefix_share(struct prefix_tree *tree, const struct prefix_mark *from, struct prefix_mark *to, unsigned length);
void prefix_set_kind(struct prefix_mark *mark, enum prefix_kind kind);

struct prefix_match {
    struct prefix_mark *mark; /* NULL: nothing in common */
    unsigned length;          /* tokens in common */
};

/* The holder, of one of the kinds (PREFIX_BITs), with the longest beginning of tokens[0..count). Among equals any. */
struct prefix_match prefix_find(const struct prefix_tree *tree, const engine_token *tokens, unsigned count,
                                unsigned kinds);

/* The same among holders all of whose tokens are a beginning of tokens: for engines that cannot cut a sequence. */
struct prefix_match prefix_find_whole(const struct prefix_tree *tree, const engine_token *tokens, unsigned count,
                                      unsigned kinds);

#endif
