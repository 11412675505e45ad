/* Design. A node is an edge of tokens from its parent and the marks that end where it ends. So no mark ends inside an
 * edge, and all holders below a point have all tokens above it: the walk stops at the first token that differs, and
 * whoever is marked below the point is an answer. For lookups by kind each node counts the marks of a kind in itself
 * and below; a walk never enters a node that has none of the wanted.
 *
 * A sequence grows a token a step, so the usual append must not make nodes: a leaf whose only mark moves on grows in
 * place. A cut or share inside an edge splits it; a node that lost its last mark joins its only child, or goes when it
 * has none.
 *
 * Invariants. Except for the root: count > 0; a node without marks has two children or more; brothers differ in their
 * first token; below[kind] is the number of such marks in the subtree. */
#include "worker/prefix.h"

#include <assert.h>

#include "base/mem.h"

struct prefix_node {
    struct prefix_node *parent;
    struct list brothers; /* in the parent's children */
    struct list children, marks;
    engine_token *tokens;
    unsigned count, capacity; /* of the edge */
    unsigned depth;           /* tokens from the root to this node's end */
    unsigned below[PREFIX_KINDS];
};

static struct prefix_node *new_node(struct prefix_tree *tree, struct prefix_node *parent)
{
    struct prefix_node *node = mem_calloc(1, sizeof *node);
    list_init(&node->brothers);
    list_init(&node->children);
    list_init(&node->marks);
    node->parent = parent;
    if (parent) {
        list_push(&parent->children, &node->brothers);
        tree->nodes++;
    }
    return node;
}

static void free_node(struct prefix_tree *tree, struct prefix_node *node)
{
    if (node->parent) {
        list_remove(&node->brothers);
        tree->nodes--;
    }
    mem_free(node->tokens);
    mem_free(node);
}

void prefix_tree_init(struct prefix_tree *tree)
{
    *tree = (struct prefix_tree){0};
    tree->root = new_node(tree, NULL);
}

void prefix_tree_release(struct prefix_tree *tree)
{
    struct prefix_node *node = tree->root;
    while (node) {
        if (!list_empty(&node->children)) {
            node = list_first(&node->children, struct prefix_node, brothers);
            continue;
        }
        struct prefix_node *parent = node->parent;
        free_node(tree, node);
        node = parent;
    }
    tree->root = NULL;
}

static void grow_edge(struct prefix_node *node, const engine_token *tokens, unsigned count)
{
    if (node->count + count > node->capacity) {
        unsigned capacity = node->capacity ? node->capacity : 16;
        while (capacity < node->count + count)
            capacity *= 2;
        node->tokens = mem_realloc(node->tokens, capacity * sizeof *node->tokens);
        node->capacity = capacity;
    }
    memcpy(node->tokens + node->count, tokens, count * sizeof *tokens);
    node->count += count;
    node->depth += count;
}

static struct prefix_node *child_with(const struct prefix_node *node, engine_token token)
{
    list_each (child, &node->children, struct prefix_node, brothers)
        if (child->tokens[0] == token)
            return child;
    return NULL;
}

/* Cuts the edge of a node behind its first length tokens; the new node, above it, has no marks yet. */
static struct prefix_node *split(struct prefix_tree *tree, struct prefix_node *node, unsigned length)
{
    struct prefix_node *parent = node->parent;
    assert(parent && length > 0 && length < node->count);
    struct prefix_node *upper = new_node(tree, parent);
    upper->depth = parent->depth;
    grow_edge(upper, node->tokens, length);
    memcpy(upper->below, node->below, sizeof upper->below);
    list_remove(&node->brothers);
    list_push(&upper->children, &node->brothers);
    node->parent = upper;
    node->count -= length;
    memmove(node->tokens, node->tokens + length, node->count * sizeof *node->tokens);
    return upper;
}

static void count_path(struct prefix_node *node, const struct prefix_node *end, enum prefix_kind kind, int change)
{
    for (; node != end; node = node->parent)
        node->below[kind] += (unsigned)change;
}

/* A node that says nothing any more goes, and so may its parent then. */
static void tidy(struct prefix_tree *tree, struct prefix_node *node)
{
    while (node->parent && list_empty(&node->marks) && list_empty(&node->children)) {
        struct prefix_node *parent = node->parent;
        free_node(tree, node);
        node = parent;
    }
    if (!node->parent || !list_empty(&node->marks) || list_empty(&node->children))
        return;
    struct prefix_node *child = list_first(&node->children, struct prefix_node, brothers);
    if (child->brothers.next != &node->children)
        return;
    grow_edge(node, child->tokens, child->count);
    list_each (mark, &child->marks, struct prefix_mark, link) {
        list_remove(&mark->link);
        list_push(&node->marks, &mark->link);
        mark->node = node;
    }
    list_remove(&child->brothers);
    list_each (grandchild, &child->children, struct prefix_node, brothers) {
        list_remove(&grandchild->brothers);
        list_push(&node->children, &grandchild->brothers);
        grandchild->parent = node;
    }
    free_node(tree, child);
}

static void put_mark(struct prefix_mark *mark, struct prefix_node *node)
{
    list_push(&node->marks, &mark->link);
    mark->node = node;
    mark->length = node->depth;
}

static bool is_alone(const struct prefix_node *node, const struct prefix_mark *mark)
{
    return node->parent && list_empty(&node->children) && node->marks.next == &mark->link &&
           mark->link.next == &node->marks;
}

static unsigned common(const engine_token *a, const engine_token *b, unsigned limit)
{
    unsigned n = 0;
    while (n < limit && a[n] == b[n])
        n++;
    return n;
}

/* The node that ends behind tokens below node, made where there is none. */
static struct prefix_node *descend(struct prefix_tree *tree, struct prefix_node *node, const engine_token *tokens,
                                   unsigned count)
{
    while (count > 0) {
        struct prefix_node *child = child_with(node, *tokens);
        if (!child) {
            child = new_node(tree, node);
            child->depth = node->depth;
            grow_edge(child, tokens, count);
            return child;
        }
        unsigned same = common(child->tokens, tokens, child->count < count ? child->count : count);
        node = same < child->count ? split(tree, child, same) : child;
        tokens += same;
        count -= same;
    }
    return node;
}

void prefix_append(struct prefix_tree *tree, struct prefix_mark *mark, const engine_token *tokens, unsigned count)
{
    if (count == 0)
        return;
    struct prefix_node *from = mark->node ? mark->node : tree->root;
    if (mark->node && is_alone(from, mark)) {
        grow_edge(from, tokens, count);
        mark->length = from->depth;
        return;
    }
    struct prefix_node *node = descend(tree, from, tokens, count);
    count_path(node, mark->node, mark->kind, 1); /* to the root and it when there was no node */
    if (mark->node)
        list_remove(&mark->link);
    put_mark(mark, node);
    if (from->parent)
        tidy(tree, from);
}

/* The node on the way from the root to node that ends behind length tokens, made where there is none. */
static struct prefix_node *ancestor(struct prefix_tree *tree, struct prefix_node *node, unsigned length)
{
    while (node->depth - node->count >= length && node->parent)
        node = node->parent;
    unsigned above = node->depth - node->count;
    return node->depth == length ? node : split(tree, node, length - above);
}

void prefix_cut(struct prefix_tree *tree, struct prefix_mark *mark, unsigned length)
{
    if (length >= mark->length)
        return;
    struct prefix_node *node = mark->node, *end = length > 0 ? ancestor(tree, node, length) : NULL;
    count_path(node, end, mark->kind, -1);
    list_remove(&mark->link);
    mark->node = NULL;
    mark->length = 0;
    if (end)
        put_mark(mark, end);
    tidy(tree, node);
}

void prefix_share(struct prefix_tree *tree, const struct prefix_mark *from, struct prefix_mark *to, unsigned length)
{
    assert(!to->node && length <= from->length);
    if (length == 0)
        return;
    struct prefix_node *node = ancestor(tree, from->node, length);
    count_path(node, NULL, to->kind, 1);
    put_mark(to, node);
}

void prefix_set_kind(struct prefix_mark *mark, enum prefix_kind kind)
{
    if (mark->node) {
        count_path(mark->node, NULL, mark->kind, -1);
        count_path(mark->node, NULL, kind, 1);
    }
    mark->kind = kind;
}

static bool has_any(const struct prefix_node *node, unsigned kinds)
{
    for (unsigned kind = 0; kind < PREFIX_KINDS; kind++)
        if ((kinds & PREFIX_BIT(kind)) && node->below[kind] > 0)
            return true;
    return false;
}

static struct prefix_mark *mark_at(const struct prefix_node *node, unsigned kinds)
{
    list_each (mark, &node->marks, struct prefix_mark, link)
        if (kinds & PREFIX_BIT(mark->kind))
            return mark;
    return NULL;
}

/* Some mark of the kinds in a subtree that has one. */
static struct prefix_mark *mark_below(const struct prefix_node *node, unsigned kinds)
{
    struct prefix_mark *mark;
    while (!(mark = mark_at(node, kinds))) {
        const struct prefix_node *next = NULL;
        list_each (child, &node->children, struct prefix_node, brothers)
            if (!next && has_any(child, kinds))
                next = child;
        assert(next && "below counts the marks of a subtree");
        node = next;
    }
    return mark;
}

struct prefix_match prefix_find(const struct prefix_tree *tree, const engine_token *tokens, unsigned count,
                                unsigned kinds)
{
    const struct prefix_node *node = tree->root;
    unsigned length = 0;
    while (length < count) {
        const struct prefix_node *child = child_with(node, tokens[length]);
        if (!child || !has_any(child, kinds))
            break;
        unsigned left = count - length;
        unsigned same = common(child->tokens, tokens + length, child->count < left ? child->count : left);
        length += same;
        node = child;
        if (same < child->count)
            break;
    }
    return (struct prefix_match){.mark = length > 0 ? mark_below(node, kinds) : NULL, .length = length};
}

struct prefix_match prefix_find_whole(const struct prefix_tree *tree, const engine_token *tokens, unsigned count,
                                      unsigned kinds)
{
    const struct prefix_node *node = tree->root;
    struct prefix_match best = {0};
    while (node->depth < count) {
        const struct prefix_node *child = child_with(node, tokens[node->depth]);
        if (!child || !has_any(child, kinds) || child->count > count - node->depth ||
            common(child->tokens, tokens + node->depth, child->count) < child->count)
            break;
        node = child;
        struct prefix_mark *mark = mark_at(node, kinds);
        if (mark)
            best = (struct prefix_match){.mark = mark, .length = node->depth};
    }
    return best;
}
