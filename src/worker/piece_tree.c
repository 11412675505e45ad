/* Only a text of whole characters answers for those that begin with it: what a grammar says of half a character says
 * nothing of the whole one. Tokens that end a generation are judged by other rules than their text, so nothing stands
 * below or above them. Tokens without text, or with a NUL in it, are left out: no grammar takes them. */
#include "worker/piece_tree.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/utf8.h"

#define PIECE_BYTES 256 /* a longer text is cut: it can be below others, but nothing is below it */

struct piece {
    uint64_t key; /* the first 8 bytes, so that most comparisons end here */
    const char *text;
    unsigned length;
    engine_token token;
    bool whole; /* may answer for others */
};

struct piece_tree *piece_tree_new(void)
{
    struct piece_tree *tree = mem_calloc(1, sizeof *tree);
    pthread_mutex_init(&tree->lock, NULL);
    return tree;
}

void piece_tree_free(struct piece_tree *tree)
{
    if (!tree)
        return;
    pthread_mutex_destroy(&tree->lock);
    mem_free(tree->tokens);
    mem_free(tree->end);
    mem_free(tree);
}

static int compare_text(const struct piece *a, const struct piece *b)
{
    unsigned shorter = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->text, b->text, shorter);
    return order ? order : a->length < b->length ? -1 : a->length > b->length;
}

static int compare(const void *left, const void *right)
{
    const struct piece *a = left, *b = right;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    int order = compare_text(a, b);
    return order ? order : a->token < b->token ? -1 : 1;
}

static bool begins(const struct piece *piece, const struct piece *with)
{
    return piece->length >= with->length && memcmp(piece->text, with->text, with->length) == 0;
}

static struct piece make_piece(const char *text, int length, engine_token token)
{
    struct piece piece = {.text = text, .token = token, .whole = length <= PIECE_BYTES};
    piece.length = (unsigned)(length < PIECE_BYTES ? length : PIECE_BYTES);
    piece.whole = piece.whole && utf8_valid(text, piece.length);
    for (unsigned i = 0; i < 8; i++)
        piece.key = piece.key << 8 | (i < piece.length ? (unsigned char)text[i] : 0);
    return piece;
}

/* The first PIECE_BYTES of a token's text; returns how long all of it is. */
static int read_text(const struct engine_ops *ops, const struct engine *engine, engine_token token, char *out)
{
    int length = ops->piece(engine, token, true, out, PIECE_BYTES);
    if (length <= PIECE_BYTES)
        return length;
    char *whole = mem_alloc((size_t)length);
    ops->piece(engine, token, true, whole, length);
    memcpy(out, whole, PIECE_BYTES);
    mem_free(whole);
    return length;
}

/* Room for all texts, each cut to PIECE_BYTES, and for one more. */
static size_t pool_size(const struct engine_ops *ops, const struct engine *engine)
{
    size_t size = PIECE_BYTES;
    for (engine_token token = 0; (unsigned)token < ops->info(engine)->vocabulary; token++) {
        int length = ops->piece(engine, token, true, NULL, 0);
        size += (size_t)(length < PIECE_BYTES ? length : PIECE_BYTES);
    }
    return size;
}

/* Fills pieces, in order, and ends (tokens that end a generation); returns how many pieces. */
static unsigned read_pieces(const struct engine_ops *ops, const struct engine *engine, struct piece *pieces, char *pool,
                            engine_token *ends, unsigned *ret_ends)
{
    unsigned vocabulary = ops->info(engine)->vocabulary, count = 0;
    *ret_ends = 0;
    for (engine_token token = 0; (unsigned)token < vocabulary; token++) {
        if (ops->is_end(engine, token)) {
            ends[(*ret_ends)++] = token;
            continue;
        }
        int length = read_text(ops, engine, token, pool);
        size_t kept = (size_t)(length < PIECE_BYTES ? length : PIECE_BYTES);
        if (length <= 0 || memchr(pool, 0, kept))
            continue;
        pieces[count++] = make_piece(pool, length, token);
        pool += kept;
    }
    qsort(pieces, count, sizeof *pieces, compare);
    return count;
}

/* open: the pieces around the present one that may answer for others, outermost first. */
static void find_ends(const struct piece *pieces, unsigned count, unsigned *open, unsigned *end)
{
    unsigned depth = 0;
    for (unsigned i = 0; i < count; i++) {
        while (depth > 0 && !begins(&pieces[i], &pieces[open[depth - 1]]))
            end[open[--depth]] = i;
        end[i] = i + 1;
        if (pieces[i].whole)
            open[depth++] = i;
    }
    while (depth > 0)
        end[open[--depth]] = count;
}

static void fill(struct piece_tree *tree, const struct engine_ops *ops, const struct engine *engine)
{
    unsigned vocabulary = ops->info(engine)->vocabulary, end_count;
    struct piece *pieces = mem_calloc(vocabulary, sizeof *pieces);
    char *pool = mem_alloc(pool_size(ops, engine));
    unsigned *open = mem_calloc(vocabulary, sizeof *open);
    engine_token *ends = mem_calloc(vocabulary, sizeof *ends);
    unsigned count = read_pieces(ops, engine, pieces, pool, ends, &end_count);
    tree->tokens = mem_calloc(vocabulary, sizeof *tree->tokens);
    tree->end = mem_calloc(vocabulary, sizeof *tree->end);
    find_ends(pieces, count, open, tree->end);
    for (unsigned i = 0; i < count; i++)
        tree->tokens[i] = pieces[i].token;
    for (unsigned i = 0; i < end_count; i++) {
        tree->tokens[count + i] = ends[i];
        tree->end[count + i] = count + i + 1;
    }
    tree->count = count + end_count;
    mem_free(ends);
    mem_free(open);
    mem_free(pool);
    mem_free(pieces);
}

void piece_tree_fill(struct piece_tree *tree, const struct engine_ops *ops, const struct engine *engine)
{
    pthread_mutex_lock(&tree->lock);
    if (!tree->filled)
        fill(tree, ops, engine);
    tree->filled = true;
    pthread_mutex_unlock(&tree->lock);
}
