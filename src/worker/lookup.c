/* The slots are a cache, not a set: a hash names one slot, a later n-gram takes it over, and what a slot says is
 * compared with the tokens themselves. So a collision costs a match and never makes a wrong one, memory has an end
 * whatever the sequence's length, and an insertion is one store. An n-gram is inserted once the token behind it is
 * known; the last one of the sequence therefore never finds itself.
 *
 * Three sizes, because the latest place of a longer n-gram is the better guess, and a shorter one finds the way back
 * soonest after a change. Once found, a match is followed token by token, and its length says how far to trust it. */
#include "worker/lookup.h"

#include <assert.h>

#include "base/limits.h"
#include "base/mem.h"

#define GRAM_LONGEST    4
#define GRAM_SHORTEST   2
#define SLOTS_PER_TOKEN 4 /* at least; three are written */
#define SLOTS_LEAST     1024
#define SURE            8 /* a match of so many tokens is not given up for another one */

void lookup_release(struct lookup *lookup)
{
    mem_free(lookup->slots);
    *lookup = (struct lookup){0};
}

/* Slot of the n tokens before position end. */
static uint32_t *slot_of(const struct lookup *lookup, const engine_token *tokens, unsigned end, unsigned n)
{
    uint64_t h = n;
    for (unsigned i = end - n; i < end; i++)
        h = (h ^ (uint32_t)tokens[i]) * 0x9e3779b97f4a7c15u;
    return &lookup->slots[(h >> 32) & (lookup->capacity - 1)];
}

static void insert(struct lookup *lookup, const engine_token *tokens, unsigned end)
{
    for (unsigned n = GRAM_SHORTEST; n <= GRAM_LONGEST && n <= end; n++)
        *slot_of(lookup, tokens, end, n) = end;
}

/* Room for n-grams of count tokens. Growing begins the index anew, which is paid for by the tokens since the last time;
 * what is indexed already is indexed at once, so that no match is lost meanwhile. */
static void reserve(struct lookup *lookup, const engine_token *tokens, unsigned count)
{
    unsigned capacity = lookup->capacity ? lookup->capacity : SLOTS_LEAST;
    while (capacity < LIMIT_LOOKUP_SLOTS && capacity / SLOTS_PER_TOKEN < count)
        capacity *= 2;
    if (capacity == lookup->capacity)
        return;
    mem_free(lookup->slots);
    lookup->slots = mem_calloc(capacity, sizeof *lookup->slots);
    lookup->capacity = capacity;
    for (unsigned end = 0; end < lookup->indexed; end++)
        insert(lookup, tokens, end);
}

static void feed(struct lookup *lookup, const engine_token *tokens, unsigned count)
{
    unsigned end = count - lookup->indexed > LIMIT_LOOKUP_FEED ? lookup->indexed + LIMIT_LOOKUP_FEED : count;
    reserve(lookup, tokens, count);
    while (lookup->indexed < end)
        insert(lookup, tokens, lookup->indexed++);
}

/* How many tokens before `at` equal the last ones of the sequence. */
static unsigned common(const engine_token *tokens, unsigned count, unsigned at)
{
    unsigned n = 0;
    while (n < at && n < LIMIT_LOOKUP_MATCH && tokens[at - 1 - n] == tokens[count - 1 - n])
        n++;
    return n;
}

bool lookup_advance(struct lookup *lookup, const engine_token *tokens)
{
    bool foretold = lookup->source > 0 && tokens[lookup->source] == tokens[lookup->seen];
    lookup->seen++;
    lookup->source = foretold ? lookup->source + 1 : 0;
    lookup->matched = !foretold ? 0 : lookup->matched < LIMIT_LOOKUP_MATCH ? lookup->matched + 1 : LIMIT_LOOKUP_MATCH;
    return foretold;
}

void lookup_find(struct lookup *lookup, const engine_token *tokens, unsigned count)
{
    assert(lookup->seen == count && lookup->indexed <= count);
    feed(lookup, tokens, count);
    if (lookup->matched >= SURE)
        return;
    for (unsigned n = GRAM_LONGEST; n >= GRAM_SHORTEST; n--) {
        unsigned at = n <= count ? *slot_of(lookup, tokens, count, n) : 0;
        unsigned length = at > 0 ? common(tokens, count, at) : 0;
        if (length < n || length <= lookup->matched)
            continue;
        lookup->source = at;
        lookup->matched = length;
    }
}

void lookup_draft(const struct lookup *lookup, engine_token *tokens, unsigned count, unsigned length)
{
    assert(lookup->source > 0 && lookup->source < count);
    for (unsigned i = 0; i < length; i++)
        tokens[count + i] = tokens[lookup->source + i];
}
