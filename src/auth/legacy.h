/* Argon2id hashes of imported keys, on a pool thread: one presented key at a time against all of them, which costs tens
 * of milliseconds and tens of megabytes a hash. Loop thread only. */
#ifndef AUTH_LEGACY_H
#define AUTH_LEGACY_H

#include "base/arena.h"
#include "base/hash.h"
#include "loop/loop.h"

struct legacy;

/* One hash to be tried: an Argon2id PHC string. */
struct legacy_hash {
    int64_t id;
    const char *phc;
};

struct legacy_events {
    /* The hashes to try now, allocated in arena. */
    size_t (*hashes)(void *owner, struct arena *arena, const struct legacy_hash **ret_hashes);
    /* A presented key matched the hash of id; comes before its waiters are told. */
    void (*on_match)(void *owner, int64_t id, const unsigned char sha256[HASH_SHA256_SIZE]);
};

struct legacy *legacy_new(struct loop *loop, const struct legacy_events *events, void *owner);
void legacy_free(struct legacy *legacy); /* nobody is called any more; a running check ends on its own */

/* Whether a text can be a key that llamactl made: only such ones are worth a check. */
bool legacy_plausible(struct str presented);

/* on_checked comes once, in a later turn, when all hashes were tried (on_match told which one fits), or not at all when
 * waiter dies first. Same keys share one check. false: LIMIT_LEGACY_CHECKS other keys wait already. */
bool legacy_check(struct legacy *legacy, struct str presented, const unsigned char sha256[HASH_SHA256_SIZE],
                  struct arena *waiter, void (*on_checked)(void *arg), void *arg);

#endif
