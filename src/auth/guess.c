#include "auth/guess.h"

#include "base/limits.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

struct guess {
    struct list link; /* in guesses->all */
    char *who;
    unsigned failures;
    uint64_t since_ms, free_at_ms;
};

struct guesses {
    struct guess_rules rules;
    struct map by_who;
    struct list all; /* the latest failure last */
};

struct guesses *guesses_new(const struct guess_rules *rules)
{
    struct guesses *g = mem_calloc(1, sizeof *g);
    g->rules = *rules;
    map_init(&g->by_who);
    list_init(&g->all);
    return g;
}

static void drop(struct guesses *g, struct guess *one)
{
    map_remove(&g->by_who, str_from(one->who));
    list_remove(&one->link);
    mem_free(one->who);
    mem_free(one);
}

void guesses_free(struct guesses *g)
{
    if (!g)
        return;
    list_each (one, &g->all, struct guess, link) {
        drop(g, one);
    }
    map_release(&g->by_who);
    mem_free(g);
}

static struct guess *add(struct guesses *g, struct str who)
{
    if (g->by_who.count >= LIMIT_GUESSERS)
        drop(g, list_first(&g->all, struct guess, link));
    struct guess *one = mem_calloc(1, sizeof *one);
    one->who = mem_strndup(who.p, who.n);
    list_init(&one->link);
    map_put(&g->by_who, who, one);
    return one;
}

static uint64_t wait_of(const struct guesses *g, const struct guess *one, uint64_t now_ms)
{
    const struct guess_rules *r = &g->rules;
    if (!r->wait_ms)
        return one->since_ms + r->window_ms - now_ms;
    unsigned doubled = one->failures - r->free;
    uint64_t wait = doubled < 32 ? r->wait_ms << doubled : r->wait_max_ms;
    return wait < r->wait_max_ms ? wait : r->wait_max_ms;
}

void guesses_failed(struct guesses *g, struct str who, uint64_t now_ms)
{
    struct guess *one = map_get(&g->by_who, who);
    if (!one)
        one = add(g, who);
    if (one->failures == 0 || now_ms - one->since_ms >= g->rules.window_ms) {
        one->failures = 0;
        one->since_ms = now_ms;
    }
    one->failures++;
    if (one->failures >= g->rules.free)
        one->free_at_ms = now_ms + wait_of(g, one, now_ms);
    list_remove(&one->link);
    list_push(&g->all, &one->link);
}

void guesses_forget(struct guesses *g, struct str who)
{
    struct guess *one = map_get(&g->by_who, who);
    if (one)
        drop(g, one);
}

uint64_t guesses_wait_ms(const struct guesses *g, struct str who, uint64_t now_ms)
{
    const struct guess *one = map_get(&g->by_who, who);
    return one && one->free_at_ms > now_ms ? one->free_at_ms - now_ms : 0;
}
