/* Tokens (JWT) of this server: verified once and remembered by their SHA-256, ended before their time by a list that
 * the store keeps, made at a login. Loop thread only. */
#ifndef AUTH_TOKENS_H
#define AUTH_TOKENS_H

#include "auth/jwt.h"
#include "auth/users.h"
#include "base/hash.h"
#include "conf/conf.h"

struct tokens;

struct token {
    unsigned char id[HASH_SHA256_SIZE]; /* of its jti, else of its text: what a logout names it by */
    struct jwt_claims claims;
};

/* Reads the ended ones, blocking. NULL and *err: no usable key though security.jwt_enabled (ERR_CONFIG), or the store's
 * error. Without jwt_enabled every token is refused. conf and store must outlive it. */
struct tokens *tokens_new(const struct conf *conf, struct store *store, struct err *err);
void tokens_free(struct tokens *tokens);

bool tokens_enabled(const struct tokens *tokens);
bool tokens_can_issue(const struct tokens *tokens); /* HS256: the key signs, too */

/* The token in force that text is, valid until the loop's next turn, or NULL and *err (ERR_AUTHENTICATION_FAILED).
 * A text seen before costs a SHA-256 and a look-up. */
const struct token *tokens_find(struct tokens *tokens, struct str text, struct err *err);

bool tokens_is_ended(const struct tokens *tokens, const unsigned char id[HASH_SHA256_SIZE]);

/* Appends a token for the user; *ret_expires_at: unix seconds. Only when tokens_can_issue. */
void tokens_issue(struct tokens *tokens, const struct user *user, struct buf *out, int64_t *ret_expires_at);

/* The token opens nothing from now on; on_done after that is stored; not called when the arena dies first.
 * ERR_CONFLICT (at once): LIMIT_ENDED_TOKENS. */
void tokens_end(struct tokens *tokens, const unsigned char id[HASH_SHA256_SIZE], int64_t expires_at,
                struct arena *arena, void (*on_done)(void *arg, const struct err *err), void *arg);

#endif
