/* The window is the last last_n tokens, read backwards: back(0) is the newest. A Z array over it says for every earlier
 * place how many tokens before it equal those at the end. The token that followed such a place then would make the
 * repetition one longer now; the longest of its places counts.
 *
 * A breaker ends the part of the window that may repeat. It can lie inside one token's text, or begin in one token and
 * go on in the next ones; then what is left of it, as tokens, must follow. Which tokens have a breaker in them is found
 * out when they come up: a vocabulary has up to 262 144, a window seldom more than a few hundred. */
#include "worker/dry.h"

#include <assert.h>
#include <math.h>

#include "base/limits.h"
#include "base/mem.h"

#define TAIL_TOKENS 20
#define PIECE_BYTES 256
#define LOG_MAX     88.72f /* of the largest float */

enum kind {
    KIND_UNKNOWN,
    KIND_PLAIN,
    KIND_BREAKER,
    KIND_HEAD
}; /* of a token: HEAD has a breaker's beginning at its end */

struct tail { /* a breaker from its n-th byte on */
    engine_token tokens[TAIL_TOKENS];
    unsigned count;
};

struct dry {
    struct dry_params params;
    unsigned vocabulary;
    int max_exponent;           /* more would overflow; 0: none needed */
    struct tail *tails;         /* LIMIT_DRY_BREAKER_BYTES for each breaker */
    unsigned char *kinds;       /* by token */
    unsigned *repeats;          /* by token: 1 + the longest repetition it would continue; 0: none */
    unsigned *z;                /* last_n */
    engine_token *touched;      /* those with repeats */
    const engine_token *newest; /* while applying: the end of the history */
};

static engine_token back(const struct dry *dry, unsigned i)
{
    return dry->newest[-(ptrdiff_t)i];
}

static struct tail *tail_of(const struct dry *dry, size_t breaker, size_t from)
{
    assert(from < LIMIT_DRY_BREAKER_BYTES);
    return &dry->tails[breaker * LIMIT_DRY_BREAKER_BYTES + from];
}

static void make_tails(struct dry *dry)
{
    const struct dry_params *p = &dry->params;
    for (size_t i = 0; i < p->breaker_count; i++)
        for (size_t from = 1; from < p->breakers[i].n; from++) {
            struct tail *tail = tail_of(dry, i, from);
            engine_token tokens[LIMIT_DRY_BREAKER_BYTES + 8];
            struct str rest = {p->breakers[i].p + from, p->breakers[i].n - from};
            int count = p->ops->tokenize(p->engine, rest, false, false, tokens, LIMIT_DRY_BREAKER_BYTES + 8);
            tail->count = count < 0 ? 0 : count < TAIL_TOKENS ? (unsigned)count : TAIL_TOKENS;
            memcpy(tail->tokens, tokens, tail->count * sizeof *tokens);
        }
}

struct dry *dry_new(const struct dry_params *params, unsigned vocabulary)
{
    if (params->multiplier == 0 || params->last_n == 0)
        return NULL;
    struct dry *dry = mem_calloc(1, sizeof *dry);
    dry->params = *params;
    dry->vocabulary = vocabulary;
    if (params->base > 1.000001f)
        dry->max_exponent = (int)(LOG_MAX / logf(params->base));
    dry->tails = mem_calloc(params->breaker_count * LIMIT_DRY_BREAKER_BYTES + 1, sizeof *dry->tails);
    dry->kinds = mem_calloc(vocabulary, sizeof *dry->kinds);
    dry->repeats = mem_calloc(vocabulary, sizeof *dry->repeats);
    dry->z = mem_calloc(params->last_n, sizeof *dry->z);
    dry->touched = mem_calloc(params->last_n, sizeof *dry->touched);
    make_tails(dry);
    return dry;
}

void dry_free(struct dry *dry)
{
    if (!dry)
        return;
    mem_free(dry->tails);
    mem_free(dry->kinds);
    mem_free(dry->repeats);
    mem_free(dry->z);
    mem_free(dry->touched);
    mem_free(dry);
}

/* ---- breakers ---- */

static struct str piece_of(const struct dry *dry, engine_token token, char out[PIECE_BYTES])
{
    int n = dry->params.ops->piece(dry->params.engine, token, true, out, PIECE_BYTES);
    return (struct str){out, n > 0 && n <= PIECE_BYTES ? (size_t)n : 0};
}

/* Does text end with the first bytes of breaker, from text's at-th byte on, and not with all of it? */
static bool is_head(struct str text, size_t at, struct str breaker)
{
    size_t n = text.n - at;
    return n < breaker.n && memcmp(text.p + at, breaker.p, n) == 0;
}

static bool has_head(struct str text, struct str breaker)
{
    for (size_t at = 0; at < text.n; at++)
        if (is_head(text, at, breaker))
            return true;
    return false;
}

static enum kind find_kind(const struct dry *dry, engine_token token)
{
    char bytes[PIECE_BYTES];
    enum kind kind = KIND_PLAIN;
    struct str text = dry->params.breaker_count ? piece_of(dry, token, bytes) : STR_NONE;
    for (size_t i = 0; i < dry->params.breaker_count && text.n; i++) {
        struct str breaker = dry->params.breakers[i];
        if (memmem(text.p, text.n, breaker.p, breaker.n))
            return KIND_BREAKER;
        if (has_head(text, breaker))
            kind = KIND_HEAD;
    }
    return kind;
}

static enum kind kind_of(struct dry *dry, engine_token token)
{
    if ((unsigned)token >= dry->vocabulary)
        return KIND_PLAIN;
    if (dry->kinds[token] == KIND_UNKNOWN)
        dry->kinds[token] = (unsigned char)find_kind(dry, token);
    return (enum kind)dry->kinds[token];
}

static bool tail_follows(const struct dry *dry, const struct tail *tail, unsigned place)
{
    if (tail->count > place)
        return false;
    for (unsigned i = 0; i < tail->count; i++)
        if (tail->tokens[i] != back(dry, place - i - 1))
            return false;
    return true;
}

/* Tokens behind place that belong to the longest breaker that begins in it; -1: none begins there. */
static int breaker_at(struct dry *dry, unsigned place)
{
    char bytes[PIECE_BYTES];
    enum kind kind = kind_of(dry, back(dry, place));
    int longest = kind == KIND_BREAKER ? 0 : -1;
    if (kind == KIND_PLAIN)
        return -1;
    struct str text = piece_of(dry, back(dry, place), bytes);
    for (size_t i = 0; i < dry->params.breaker_count; i++) {
        struct str breaker = dry->params.breakers[i];
        if (memmem(text.p, text.n, breaker.p, breaker.n))
            continue;
        for (size_t at = 0; at < text.n; at++) {
            const struct tail *tail = is_head(text, at, breaker) ? tail_of(dry, i, text.n - at) : NULL;
            if (tail && (int)tail->count > longest && tail_follows(dry, tail, place))
                longest = (int)tail->count;
        }
    }
    return longest;
}

/* Newest tokens that a repetition may be made of: those behind the last breaker. */
static unsigned find_limit(struct dry *dry, unsigned window)
{
    for (unsigned place = 0; place < window; place++) {
        int length = breaker_at(dry, place);
        if (length >= 0)
            return place - (unsigned)length;
    }
    return window;
}

/* ---- repetitions ---- */

/* z[k]: how many of the window's newest tokens equal those from the k-th on. */
static void fill_z(struct dry *dry, unsigned window)
{
    unsigned left = 0, right = 0; /* the known match that reaches farthest is [left, right) */
    for (unsigned k = 1; k < window; k++) {
        unsigned n = k < right ? (dry->z[k - left] < right - k ? dry->z[k - left] : right - k) : 0;
        while (k + n < window && back(dry, n) == back(dry, k + n))
            n++;
        dry->z[k] = n;
        if (k + n > right) {
            left = k;
            right = k + n;
        }
    }
}

/* Notes what each token would continue; returns how many tokens there are. */
static unsigned note_repeats(struct dry *dry, unsigned window, unsigned limit)
{
    unsigned count = 0;
    for (unsigned k = 1; k < window; k++) {
        unsigned length = dry->z[k] < limit ? dry->z[k] : limit;
        engine_token next = back(dry, k - 1);
        if (length < dry->params.allowed_length || (unsigned)next >= dry->vocabulary)
            continue;
        if (dry->repeats[next] == 0)
            dry->touched[count++] = next;
        if (dry->repeats[next] <= length)
            dry->repeats[next] = length + 1;
    }
    return count;
}

static float penalty(const struct dry *dry, unsigned length)
{
    int exponent = (int)(length - dry->params.allowed_length);
    if (dry->max_exponent > 0 && exponent > dry->max_exponent)
        exponent = dry->max_exponent;
    return dry->params.multiplier * powf(dry->params.base, (float)exponent);
}

void dry_apply(struct dry *dry, float *logits, const engine_token *history, unsigned count)
{
    unsigned window = count < dry->params.last_n ? count : dry->params.last_n;
    if (window <= dry->params.allowed_length)
        return;
    dry->newest = history + count - 1;
    unsigned limit = find_limit(dry, window);
    if (limit < dry->params.allowed_length)
        return;
    fill_z(dry, window);
    unsigned touched = note_repeats(dry, window, limit);
    for (unsigned i = 0; i < touched; i++) {
        engine_token token = dry->touched[i];
        if (kind_of(dry, token) != KIND_BREAKER)
            logits[token] -= penalty(dry, dry->repeats[token] - 1);
        dry->repeats[token] = 0;
    }
}
