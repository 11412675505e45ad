#include "auth/legacy.h"

#include <argon2.h>
#include <openssl/crypto.h>
#include <stdatomic.h>

#include "base/limits.h"
#include "base/mem.h"

#define KEY_PREFIX "llamactl-"
#define KEY_DIGITS 64

struct check {
    struct list link; /* in legacy->waiting, or alone: running */
    struct loop_job job;
    struct legacy *legacy; /* NULL: it is gone */
    unsigned char sha256[HASH_SHA256_SIZE];
    char presented[sizeof KEY_PREFIX + KEY_DIGITS];
    struct arena arena; /* the hashes */
    const struct legacy_hash *hashes;
    size_t count;
    int64_t matched; /* id, or 0 */
    atomic_bool given_up;
    struct list waiters; /* struct waiter */
};

/* On its own arena. */
struct waiter {
    struct list link;
    struct arena_disposer *disposer;
    void (*on_checked)(void *arg);
    void *arg;
};

struct legacy {
    struct loop *loop;
    struct legacy_events events;
    void *owner;
    struct list waiting; /* struct check */
    size_t waiting_count;
    struct check *running;
};

static void start_next(struct legacy *l);

static void check_free(struct check *c)
{
    OPENSSL_cleanse(c->presented, sizeof c->presented);
    arena_dispose(&c->arena);
    mem_free(c);
}

static void drop_waiter(void *arg)
{
    struct waiter *w = arg;
    list_remove(&w->link);
}

/* A callback may end other waiters: each is taken from what is left. */
static void tell_waiters(struct check *c)
{
    while (!list_empty(&c->waiters)) {
        struct waiter *w = list_first(&c->waiters, struct waiter, link);
        list_remove(&w->link);
        arena_forget(w->disposer);
        w->on_checked(w->arg);
    }
}

/* Without calling them. */
static void forget_waiters(struct check *c)
{
    list_each (w, &c->waiters, struct waiter, link) {
        list_remove(&w->link);
        arena_forget(w->disposer);
    }
}

static void try_hashes(struct loop_job *job)
{
    struct check *c = container_of(job, struct check, job);
    size_t length = strlen(c->presented);
    for (size_t i = 0; i < c->count && !c->matched && !atomic_load(&c->given_up); i++)
        if (argon2id_verify(c->hashes[i].phc, c->presented, length) == ARGON2_OK)
            c->matched = c->hashes[i].id;
}

static void on_tried(struct loop_job *job)
{
    struct check *c = container_of(job, struct check, job);
    struct legacy *l = c->legacy;
    if (l) {
        l->running = NULL;
        if (c->matched)
            l->events.on_match(l->owner, c->matched, c->sha256);
        tell_waiters(c);
        start_next(l);
    }
    check_free(c);
}

static void start_next(struct legacy *l)
{
    if (l->running || list_empty(&l->waiting))
        return;
    struct check *c = list_first(&l->waiting, struct check, link);
    list_remove(&c->link);
    l->waiting_count--;
    l->running = c;
    c->count = l->events.hashes(l->owner, &c->arena, &c->hashes);
    loop_work(l->loop, &c->job, try_hashes, on_tried);
}

struct legacy *legacy_new(struct loop *loop, const struct legacy_events *events, void *owner)
{
    struct legacy *l = mem_calloc(1, sizeof *l);
    l->loop = loop;
    l->events = *events;
    l->owner = owner;
    list_init(&l->waiting);
    return l;
}

void legacy_free(struct legacy *l)
{
    if (!l)
        return;
    list_each (c, &l->waiting, struct check, link) {
        forget_waiters(c);
        check_free(c);
    }
    if (l->running) {
        forget_waiters(l->running);
        atomic_store(&l->running->given_up, true);
        l->running->legacy = NULL;
    }
    mem_free(l);
}

bool legacy_plausible(struct str presented)
{
    if (presented.n != sizeof KEY_PREFIX - 1 + KEY_DIGITS || !str_starts(presented, STR(KEY_PREFIX)))
        return false;
    for (size_t i = sizeof KEY_PREFIX - 1; i < presented.n; i++)
        if (!memchr("0123456789abcdef", presented.p[i], 16))
            return false;
    return true;
}

static struct check *find_check(struct legacy *l, const unsigned char *sha256)
{
    if (l->running && memcmp(l->running->sha256, sha256, HASH_SHA256_SIZE) == 0)
        return l->running;
    list_each (c, &l->waiting, struct check, link) {
        if (memcmp(c->sha256, sha256, HASH_SHA256_SIZE) == 0)
            return c;
    }
    return NULL;
}

static struct check *check_new(struct legacy *l, struct str presented, const unsigned char *sha256)
{
    struct check *c = mem_calloc(1, sizeof *c);
    c->legacy = l;
    memcpy(c->sha256, sha256, HASH_SHA256_SIZE);
    memcpy(c->presented, presented.p, presented.n);
    arena_init(&c->arena);
    list_init(&c->waiters);
    list_push(&l->waiting, &c->link);
    l->waiting_count++;
    return c;
}

bool legacy_check(struct legacy *l, struct str presented, const unsigned char sha256[HASH_SHA256_SIZE],
                  struct arena *waiter, void (*on_checked)(void *arg), void *arg)
{
    struct check *c = find_check(l, sha256);
    if (!c && l->waiting_count >= LIMIT_LEGACY_CHECKS)
        return false;
    if (!c)
        c = check_new(l, presented, sha256);
    struct waiter *w = arena_calloc(waiter, sizeof *w);
    w->on_checked = on_checked;
    w->arg = arg;
    w->disposer = arena_on_dispose(waiter, drop_waiter, w);
    list_push(&c->waiters, &w->link);
    start_next(l);
    return true;
}
