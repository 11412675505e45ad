/* Tokens from anywhere: as they are, and, so that the payload is reached, the text signed by the right key. */
#include <assert.h>

#include "auth/jwt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void verify(const struct jwt_key *key, struct str token)
{
    static const struct jwt_rules rules = {"me", "api"}, none;
    struct arena arena;
    struct jwt_claims claims;
    struct err err = ERR_INIT;
    arena_init(&arena);
    if (!jwt_verify(key, token, 1700000000, &rules, &arena, &claims, &err))
        assert(err.code == ERR_AUTHENTICATION_FAILED && *err.message);
    if (jwt_verify(key, token, 1700000000, &none, &arena, &claims, &err))
        assert(claims.sub.n && claims.expires_at > 1700000000 - JWT_LEEWAY_SECONDS - 1 && jwt_plausible(token));
    arena_dispose(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *)data, size};
    struct buf token;
    struct err err;
    struct jwt_key *key = jwt_key_secret(STR("0123456789abcdef0123456789abcdef"), &err);
    buf_init(&token, 1u << 20);
    verify(key, text);
    jwt_sign(key, text, &token);
    if (buf_ok(&token))
        verify(key, buf_view(&token));
    buf_release(&token);
    jwt_key_free(key);
    return 0;
}
