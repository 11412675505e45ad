/* Problem: an attacker may send from a million addresses, a fleet from a thousand keys, and each request pays for the
 * check. Design: entries in one array, found by open addressing over a second array of indices (at most half full), in
 * a doubly linked order of last use by index. A held entry (requests running) is never forgotten.
 *
 * The bucket counts in 1/60000 of a request: at a rate of r a minute it gains r of these units a millisecond, exactly.
 *
 * Invariants: slots hold index + 1, 0 is empty; deletions shift later members of a cluster back, so there are no
 * tombstones. head is the newest, tail the oldest entry. */
#include "auth/limits.h"

#include <arpa/inet.h>
#include <assert.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/rand.h"

#define WINDOW_MS     60000u
#define UNITS         60000u /* of the bucket, a request */
#define NOBODY        UINT32_MAX
#define FIRST_ENTRIES 64u

const char *const limit_names[] = {"none", "requests", "burst", "tokens", "concurrent"};

struct limit_entry {
    struct limit_subject subject;
    uint64_t window_ms; /* start of the window; it lasts WINDOW_MS */
    uint64_t filled_ms; /* when the bucket's level was computed */
    uint64_t level;     /* units */
    uint64_t tokens;    /* in the window */
    uint32_t requests;  /* in the window */
    uint32_t active;
    uint32_t newer, older; /* indices */
    bool known;            /* seen before: the window and bucket are of meaning */
};

struct limits {
    struct limit_entry *entries;
    uint32_t *slots;
    uint32_t count, room, capacity, slot_mask;
    uint32_t newest, oldest;
    uint64_t seed;
};

/* ---- subjects ---- */

struct limit_subject limit_by_number(enum limit_kind kind, int64_t number)
{
    struct limit_subject s = {{(uint8_t)kind}};
    memcpy(s.bytes + 8, &number, sizeof number);
    return s;
}

struct limit_subject limit_by_text(enum limit_kind kind, struct str text)
{
    struct limit_subject s = {{(uint8_t)kind}};
    unsigned char digest[HASH_SHA256_SIZE];
    hash_sha256(text.p, text.n, digest);
    memcpy(s.bytes + 8, digest, sizeof s.bytes - 8);
    return s;
}

struct limit_subject limit_by_address(const char *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct limit_subject s = {{LIMIT_BY_ADDRESS}};
    uint8_t *at = s.bytes + 8, wide[16];
    if (inet_pton(AF_INET, address, at) == 1) {
        s.bytes[1] = 4;
    } else if (inet_pton(AF_INET6, address, wide) == 1 && memcmp(wide, mapped, sizeof mapped) == 0) {
        s.bytes[1] = 4;
        memcpy(at, wide + 12, 4);
    } else if (inet_pton(AF_INET6, address, wide) == 1) {
        s.bytes[1] = 6;
        memcpy(at, wide, 8);
    }
    return s;
}

/* ---- the table ---- */

static uint32_t slot_of(const struct limits *l, const struct limit_subject *subject)
{
    uint64_t words[3], h = l->seed;
    memcpy(words, subject->bytes, sizeof words);
    for (int i = 0; i < 3; i++) { /* multiply and fold: the seed keeps collisions out of an attacker's hands */
        __uint128_t product = (__uint128_t)(h ^ words[i]) * 0x9E3779B97F4A7C15u;
        h = (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    return (uint32_t)h & l->slot_mask;
}

static uint32_t find(const struct limits *l, const struct limit_subject *subject)
{
    for (uint32_t at = slot_of(l, subject); l->slots[at]; at = (at + 1) & l->slot_mask)
        if (memcmp(&l->entries[l->slots[at] - 1].subject, subject, sizeof *subject) == 0)
            return l->slots[at] - 1;
    return NOBODY;
}

static void put_slot(struct limits *l, uint32_t index)
{
    uint32_t at = slot_of(l, &l->entries[index].subject);
    while (l->slots[at])
        at = (at + 1) & l->slot_mask;
    l->slots[at] = index + 1;
}

static void clear_slot(struct limits *l, uint32_t index)
{
    uint32_t hole = slot_of(l, &l->entries[index].subject);
    while (l->slots[hole] != index + 1)
        hole = (hole + 1) & l->slot_mask;
    for (uint32_t at = (hole + 1) & l->slot_mask; l->slots[at]; at = (at + 1) & l->slot_mask) {
        uint32_t home = slot_of(l, &l->entries[l->slots[at] - 1].subject);
        if (((at - home) & l->slot_mask) < ((at - hole) & l->slot_mask))
            continue; /* it may not stand before its home */
        l->slots[hole] = l->slots[at];
        hole = at;
    }
    l->slots[hole] = 0;
}

static void grow(struct limits *l)
{
    uint32_t room = l->room ? 2 * l->room : FIRST_ENTRIES;
    l->room = room < l->capacity ? room : l->capacity;
    l->entries = mem_realloc(l->entries, l->room * sizeof *l->entries);
    uint32_t slots = 2;
    while (slots < 2 * l->room)
        slots *= 2;
    mem_free(l->slots);
    l->slots = mem_calloc(slots, sizeof *l->slots);
    l->slot_mask = slots - 1;
    for (uint32_t i = 0; i < l->count; i++)
        put_slot(l, i);
}

/* ---- the order of use ---- */

static void unlink_entry(struct limits *l, uint32_t index)
{
    const struct limit_entry *e = &l->entries[index];
    *(e->newer == NOBODY ? &l->newest : &l->entries[e->newer].older) = e->older;
    *(e->older == NOBODY ? &l->oldest : &l->entries[e->older].newer) = e->newer;
}

static void link_newest(struct limits *l, uint32_t index)
{
    struct limit_entry *e = &l->entries[index];
    e->newer = NOBODY;
    e->older = l->newest;
    *(l->newest == NOBODY ? &l->oldest : &l->entries[l->newest].newer) = index;
    l->newest = index;
}

/* The place of the oldest entry that nobody holds; NOBODY when all are held. */
static uint32_t forget_oldest(struct limits *l)
{
    for (uint32_t tries = l->count; tries > 0; tries--) {
        uint32_t index = l->oldest;
        unlink_entry(l, index);
        if (l->entries[index].active == 0) {
            clear_slot(l, index);
            return index;
        }
        link_newest(l, index); /* it is in use: those behind it are looked at first next time */
    }
    return NOBODY;
}

static uint32_t add(struct limits *l, const struct limit_subject *subject)
{
    uint32_t index = l->count;
    if (l->count == l->room && l->room < l->capacity)
        grow(l);
    if (l->count < l->room)
        l->count++;
    else
        index = forget_oldest(l);
    if (index == NOBODY)
        return NOBODY;
    l->entries[index] = (struct limit_entry){.subject = *subject};
    put_slot(l, index);
    link_newest(l, index);
    return index;
}

/* The index of the subject's entry, now the newest; NOBODY when there is no place for it. */
static uint32_t touch(struct limits *l, const struct limit_subject *subject)
{
    uint32_t index = l->count ? find(l, subject) : NOBODY;
    if (index == NOBODY) {
        index = add(l, subject);
    } else if (index != l->newest) {
        unlink_entry(l, index);
        link_newest(l, index);
    }
    return index;
}

struct limits *limits_new(size_t capacity)
{
    struct limits *l = mem_calloc(1, sizeof *l);
    assert(capacity > 0 && capacity < NOBODY / 4);
    l->capacity = (uint32_t)capacity;
    l->newest = l->oldest = NOBODY;
    rand_bytes(&l->seed, sizeof l->seed);
    return l;
}

void limits_free(struct limits *l)
{
    if (!l)
        return;
    mem_free(l->entries);
    mem_free(l->slots);
    mem_free(l);
}

size_t limits_count(const struct limits *l)
{
    return l->count;
}

/* ---- the checks ---- */

static uint64_t bucket_size(const struct limit_rates *r)
{
    return (uint64_t)(r->burst ? r->burst : r->requests_per_minute) * UNITS;
}

/* Brings window and bucket up to now. */
static void advance(struct limit_entry *e, const struct limit_rates *r, uint64_t now_ms)
{
    uint64_t full = bucket_size(r), passed = now_ms - e->filled_ms;
    if (!e->known || now_ms - e->window_ms >= WINDOW_MS) {
        e->window_ms = now_ms;
        e->requests = 0;
        e->tokens = 0;
    }
    if (!e->known || passed >= full / (r->requests_per_minute ? r->requests_per_minute : 1) + 1)
        e->level = full;
    else
        e->level += passed * r->requests_per_minute;
    if (e->level > full)
        e->level = full;
    e->filled_ms = now_ms;
    e->known = true;
}

static uint32_t left(uint64_t limit, uint64_t used)
{
    return used < limit ? (uint32_t)(limit - used) : 0;
}

static enum limit_name judge(const struct limit_entry *e, const struct limit_rates *r, uint64_t reset_ms,
                             uint32_t *ret_retry_ms)
{
    *ret_retry_ms = (uint32_t)reset_ms;
    if (r->requests_per_minute && e->requests >= r->requests_per_minute)
        return LIMIT_REQUESTS;
    if (r->tokens_per_minute && e->tokens >= r->tokens_per_minute)
        return LIMIT_TOKENS;
    if (r->requests_per_minute && e->level < UNITS) {
        *ret_retry_ms = (uint32_t)((UNITS - e->level + r->requests_per_minute - 1) / r->requests_per_minute);
        return LIMIT_BURST;
    }
    *ret_retry_ms = 0;
    return r->concurrent && e->active >= r->concurrent ? LIMIT_CONCURRENT : LIMIT_NONE;
}

limit_hold limits_begin(struct limits *l, const struct limit_subject *subject, const struct limit_rates *r,
                        uint64_t now_ms, struct limit_state *ret_state)
{
    *ret_state = (struct limit_state){.rates = *r};
    if (!r->requests_per_minute && !r->tokens_per_minute && !r->concurrent)
        return 0;
    uint32_t index = touch(l, subject);
    if (index == NOBODY) { /* every remembered subject has requests running */
        ret_state->refused = LIMIT_CONCURRENT;
        return 0;
    }
    struct limit_entry *e = &l->entries[index];
    advance(e, r, now_ms);
    ret_state->reset_ms = e->window_ms + WINDOW_MS - now_ms;
    ret_state->refused = judge(e, r, ret_state->reset_ms, &ret_state->retry_after_ms);
    if (ret_state->refused == LIMIT_NONE) {
        e->requests++;
        e->active++;
        e->level -= r->requests_per_minute ? UNITS : 0;
    }
    ret_state->requests_left = left(r->requests_per_minute, e->requests);
    ret_state->tokens_left = left(r->tokens_per_minute, e->tokens);
    return ret_state->refused == LIMIT_NONE ? index + 1 : 0;
}

void limits_end(struct limits *l, limit_hold hold)
{
    if (!hold)
        return;
    assert(hold <= l->count && l->entries[hold - 1].active > 0);
    l->entries[hold - 1].active--;
}

void limits_charge(struct limits *l, const struct limit_subject *subject, uint64_t tokens, uint64_t now_ms)
{
    uint32_t index = l->count ? find(l, subject) : NOBODY;
    if (index == NOBODY)
        return;
    struct limit_entry *e = &l->entries[index];
    if (e->known && now_ms - e->window_ms < WINDOW_MS)
        e->tokens += tokens;
}
