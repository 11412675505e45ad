/* Passwords as Argon2id hashes, computed on pool threads: LIMIT_PASSWORD_JOBS at once, LIMIT_PASSWORD_WAITING waiting,
 * since each takes tens of megabytes and milliseconds. Passwords are wiped after use. Loop thread only. */
#ifndef AUTH_PASSWORD_H
#define AUTH_PASSWORD_H

#include "base/arena.h"
#include "loop/loop.h"

struct passwords;

struct passwords *passwords_new(struct loop *loop);
void passwords_free(struct passwords *passwords); /* nobody is called any more; what runs ends on its own */

/* on_hash gets the hash in PHC form (valid during the call; NULL: no memory for it), in a later turn; not at all when
 * the arena dies first. false: too many wait. password: at most LIMIT_PASSWORD bytes. */
bool passwords_hash(struct passwords *passwords, struct str password, struct arena *waiter,
                    void (*on_hash)(void *arg, const char *phc), void *arg);

/* As passwords_hash: whether password made that hash. phc NULL, for somebody who does not exist, takes as long and is
 * never right. */
bool passwords_check(struct passwords *passwords, struct str password, const char *phc, struct arena *waiter,
                     void (*on_checked)(void *arg, bool right), void *arg);

/* At the start of the program: blocking. out holds PASSWORD_PHC_SIZE. false: no memory. */
#define PASSWORD_PHC_SIZE 128
bool password_hash_now(struct str password, char out[PASSWORD_PHC_SIZE]);

#endif
