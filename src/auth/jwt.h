/* JSON Web Tokens (RFC 7519, 7515, 8725): one key, one algorithm that the configuration pins; what a token says of its
 * algorithm is only compared with that. Pure: the time is an argument. Any thread. */
#ifndef AUTH_JWT_H
#define AUTH_JWT_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

enum jwt_algorithm { JWT_HS256, JWT_RS256, JWT_ES256, JWT_EDDSA }; /* in the order of security.jwt_algorithm */

#define JWT_SECRET_LEAST   32 /* bytes */
#define JWT_LEEWAY_SECONDS 60 /* of exp, nbf and iat */

struct jwt_key;

/* NULL and *err (ERR_CONFIG): the secret is shorter than JWT_SECRET_LEAST; the PEM text holds no public key, or none
 * for that algorithm (RSA of 2048 bits at least, P-256, Ed25519). */
struct jwt_key *jwt_key_secret(struct str secret, struct err *err);
struct jwt_key *jwt_key_public(enum jwt_algorithm algorithm, struct str pem, struct err *err);
void jwt_key_free(struct jwt_key *key); /* wipes it; NULL is fine */

struct jwt_rules {
    const char *issuer, *audience; /* "" or NULL: anything */
};

struct jwt_claims {
    struct str sub;                 /* never empty */
    struct str username, role, jti; /* STR_NONE: not said */
    int64_t expires_at;             /* exp, unix seconds; without the leeway */
    int64_t version;                /* our own claim "ver"; -1: not said */
    bool has_permissions;
    unsigned permissions; /* of "permissions", an array, or a text with blanks; names nobody knows grant nothing */
};

/* Whether text has the form of a token: three parts of base64url. Says nothing of its worth. */
bool jwt_plausible(struct str text);

/* The claims, in the arena, of a token that the key signed and that is in force now. false and *err
 * (ERR_AUTHENTICATION_FAILED, a message that may be shown): any other, also one longer than LIMIT_TOKEN_BYTES, with
 * "crit" in its head, without exp or sub, or with claims of the wrong type. */
bool jwt_verify(const struct jwt_key *key, struct str token, int64_t now, const struct jwt_rules *rules,
                struct arena *arena, struct jwt_claims *ret_claims, struct err *err);

/* Appends the signed token with these claims (a JSON object). Only for a key with a secret. */
void jwt_sign(const struct jwt_key *key, struct str claims, struct buf *out);

#endif
