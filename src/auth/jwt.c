/* The order is RFC 8725's: size, form, algorithm, signature, and only then what the payload says. Nothing of a payload
 * is read before its signature holds. */
#include "auth/jwt.h"

#include <assert.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#include "auth/permission.h"
#include "base/base64url.h"
#include "base/json_read.h"
#include "base/mem.h"

#define RSA_BITS_LEAST 2048
#define MAC_BYTES      32
#define P256_HALF      32 /* r and s of ES256 */
#define DER_SIZE       80 /* both of them in DER */

static const char *const names[] = {"HS256", "RS256", "ES256", "EdDSA"};

struct jwt_key {
    enum jwt_algorithm algorithm;
    EVP_PKEY *public_key;
    size_t secret_bytes;
    unsigned char secret[];
};

/* ---- keys ---- */

struct jwt_key *jwt_key_secret(struct str secret, struct err *err)
{
    if (secret.n < JWT_SECRET_LEAST) {
        err_set(err, ERR_CONFIG, "the secret for tokens must have %d bytes at least; it has %zu", JWT_SECRET_LEAST,
                secret.n);
        return NULL;
    }
    struct jwt_key *key = mem_calloc(1, sizeof *key + secret.n);
    key->algorithm = JWT_HS256;
    key->secret_bytes = secret.n;
    memcpy(key->secret, secret.p, secret.n);
    return key;
}

static bool fits(enum jwt_algorithm algorithm, const EVP_PKEY *key)
{
    char group[32];
    switch (algorithm) {
    case JWT_RS256: return EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_bits(key) >= RSA_BITS_LEAST;
    case JWT_ES256:
        return EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, group, sizeof group, NULL) &&
               strcmp(group, "prime256v1") == 0;
    case JWT_EDDSA: return EVP_PKEY_is_a(key, "ED25519");
    case JWT_HS256: break;
    }
    return false;
}

struct jwt_key *jwt_key_public(enum jwt_algorithm algorithm, struct str pem, struct err *err)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    EVP_PKEY *public_key = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    if (!public_key || !fits(algorithm, public_key)) {
        err_set(err, ERR_CONFIG, "the file holds no public key (PEM) that %s can be checked with", names[algorithm]);
        EVP_PKEY_free(public_key);
        return NULL;
    }
    struct jwt_key *key = mem_calloc(1, sizeof *key);
    key->algorithm = algorithm;
    key->public_key = public_key;
    return key;
}

void jwt_key_free(struct jwt_key *key)
{
    if (!key)
        return;
    EVP_PKEY_free(key->public_key);
    OPENSSL_cleanse(key->secret, key->secret_bytes);
    mem_free(key);
}

/* ---- signatures ---- */

static void make_mac(const struct jwt_key *key, struct str text, unsigned char out[MAC_BYTES])
{
    unsigned n = 0;
    HMAC(EVP_sha256(), key->secret, (int)key->secret_bytes, (const unsigned char *)text.p, text.n, out, &n);
    assert(n == MAC_BYTES);
}

/* JWS has r and s as they are, OpenSSL wants them in DER. 0: it cannot be one. */
static size_t to_der(struct str signature, unsigned char out[DER_SIZE])
{
    size_t n = 0;
    ECDSA_SIG *sig = signature.n == 2 * P256_HALF ? ECDSA_SIG_new() : NULL;
    BIGNUM *r = sig ? BN_bin2bn((const unsigned char *)signature.p, P256_HALF, NULL) : NULL;
    BIGNUM *s = sig ? BN_bin2bn((const unsigned char *)signature.p + P256_HALF, P256_HALF, NULL) : NULL;
    if (r && s && ECDSA_SIG_set0(sig, r, s)) {
        unsigned char *at = out;
        int length = i2d_ECDSA_SIG(sig, NULL);
        n = length > 0 && length <= DER_SIZE ? (size_t)i2d_ECDSA_SIG(sig, &at) : 0;
    } else {
        BN_free(r);
        BN_free(s);
    }
    ECDSA_SIG_free(sig);
    return n;
}

static bool public_key_signed(const struct jwt_key *key, struct str text, struct str signature)
{
    unsigned char der[DER_SIZE];
    if (key->algorithm == JWT_ES256) {
        signature = (struct str){(const char *)der, to_der(signature, der)};
        if (!signature.n)
            return false;
    }
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const EVP_MD *digest = key->algorithm == JWT_EDDSA ? NULL : EVP_sha256();
    bool good = context && EVP_DigestVerifyInit(context, NULL, digest, NULL, key->public_key) == 1 &&
                EVP_DigestVerify(context, (const unsigned char *)signature.p, signature.n,
                                 (const unsigned char *)text.p, text.n) == 1;
    EVP_MD_CTX_free(context);
    return good;
}

static bool is_signed(const struct jwt_key *key, struct str text, struct str signature)
{
    unsigned char mac[MAC_BYTES];
    if (key->algorithm != JWT_HS256)
        return public_key_signed(key, text, signature);
    make_mac(key, text, mac);
    return signature.n == MAC_BYTES && CRYPTO_memcmp(mac, signature.p, MAC_BYTES) == 0;
}

void jwt_sign(const struct jwt_key *key, struct str claims, struct buf *out)
{
    static const char head[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
    unsigned char mac[MAC_BYTES];
    size_t begin = out->len;
    assert(key->algorithm == JWT_HS256);
    base64url_encode(out, head, sizeof head - 1);
    buf_putc(out, '.');
    base64url_encode(out, claims.p, claims.n);
    make_mac(key, (struct str){buf_view(out).p + begin, out->len - begin}, mac);
    buf_putc(out, '.');
    base64url_encode(out, mac, sizeof mac);
}

/* ---- reading ---- */

struct parts {
    struct str text; /* head and payload with their '.': what is signed */
    struct str head, payload, signature;
};

static bool split(struct str token, struct parts *parts)
{
    struct str rest = token;
    parts->head = str_cut(&rest, '.');
    parts->payload = rest.p ? str_cut(&rest, '.') : STR_NONE;
    parts->signature = rest;
    parts->text = (struct str){token.p, parts->head.n + 1 + parts->payload.n};
    return base64url_plausible(parts->head) && base64url_plausible(parts->payload) &&
           base64url_plausible(parts->signature);
}

bool jwt_plausible(struct str text)
{
    struct parts parts;
    return split(text, &parts);
}

static bool bad(struct err *err, const char *why)
{
    return err_set(err, ERR_AUTHENTICATION_FAILED, "Invalid token: %s", why);
}

/* NULL: no base64url of a JSON object. */
static json_t *read_object(struct str part)
{
    struct buf text;
    buf_init(&text, LIMIT_TOKEN_BYTES);
    json_t *object = base64url_decode(&text, part) ? json_read(buf_view(&text), NULL) : NULL;
    buf_release(&text);
    if (object && !json_is_object(object)) {
        json_decref(object);
        object = NULL;
    }
    return object;
}

static bool check_head(const struct jwt_key *key, struct str part, struct err *err)
{
    json_t *head = read_object(part);
    struct str algorithm = json_str(json_object_get(head, "alg"));
    bool good = head != NULL || bad(err, "its head cannot be read");
    if (good && !str_eq(algorithm, str_from(names[key->algorithm])))
        good = bad(err, "it is signed with another algorithm than this server takes");
    if (good && json_object_get(head, "crit"))
        good = bad(err, "it asks for extensions (crit)");
    json_decref(head);
    return good;
}

static bool check_signature(const struct jwt_key *key, const struct parts *parts, struct err *err)
{
    struct buf signature;
    buf_init(&signature, LIMIT_TOKEN_BYTES);
    bool good = base64url_decode(&signature, parts->signature) && buf_ok(&signature) &&
                is_signed(key, parts->text, buf_view(&signature));
    buf_release(&signature);
    return good || bad(err, "the signature does not fit");
}

/* Seconds; fractions are allowed by RFC 7519 and cut. false: there, but no such number. */
static bool read_time(const json_t *payload, const char *name, int64_t *ret_time, bool *ret_there)
{
    const json_t *value = json_object_get(payload, name);
    *ret_there = value != NULL;
    if (!value)
        return true;
    double seconds = json_number_value(value);
    if (!json_is_number(value) || seconds < 0 || seconds > 1e12)
        return false;
    *ret_time = (int64_t)seconds;
    return true;
}

static bool check_times(const json_t *payload, int64_t now, struct jwt_claims *claims, struct err *err)
{
    int64_t not_before = 0, issued = 0;
    bool has_end, has_begin, has_issue;
    if (!read_time(payload, "exp", &claims->expires_at, &has_end) ||
        !read_time(payload, "nbf", &not_before, &has_begin) || !read_time(payload, "iat", &issued, &has_issue))
        return bad(err, "exp, nbf and iat must be seconds since 1970");
    if (!has_end)
        return bad(err, "it has no exp");
    if (now >= claims->expires_at + JWT_LEEWAY_SECONDS)
        return bad(err, "it has expired");
    if (has_begin && now + JWT_LEEWAY_SECONDS < not_before)
        return bad(err, "it is not in force yet");
    if (has_issue && now + JWT_LEEWAY_SECONDS < issued)
        return bad(err, "it was issued in the future");
    return true;
}

static bool is_for(const json_t *audience, const char *us)
{
    size_t index;
    const json_t *one;
    if (str_eq(json_str(audience), str_from(us)))
        return json_is_string(audience);
    json_array_foreach(audience, index, one)
    {
        if (json_is_string(one) && str_eq(json_str(one), str_from(us)))
            return true;
    }
    return false;
}

static bool check_parties(const json_t *payload, const struct jwt_rules *rules, struct err *err)
{
    if (rules->issuer && *rules->issuer && !str_eq(json_str(json_object_get(payload, "iss")), str_from(rules->issuer)))
        return bad(err, "it comes from another issuer (iss)");
    if (rules->audience && *rules->audience && !is_for(json_object_get(payload, "aud"), rules->audience))
        return bad(err, "it is meant for somebody else (aud)");
    return true;
}

/* A claim that is not there is STR_NONE; false: no text. */
static bool read_text(const json_t *payload, const char *name, struct arena *arena, struct str *ret_text)
{
    const json_t *value = json_object_get(payload, name);
    *ret_text = value ? arena_str(arena, json_str(value)) : STR_NONE;
    return !value || json_is_string(value);
}

static bool read_permissions(const json_t *payload, struct jwt_claims *claims)
{
    const json_t *value = json_object_get(payload, "permissions"), *one;
    size_t index;
    claims->has_permissions = value != NULL;
    if (json_is_string(value)) {
        struct str rest = json_str(value);
        while (rest.p)
            claims->permissions |= permission_parse(str_cut(&rest, ' '));
    }
    json_array_foreach(value, index, one)
    {
        claims->permissions |= permission_parse(json_str(one));
    }
    return !value || json_is_string(value) || json_is_array(value);
}

static bool read_claims(const json_t *payload, struct arena *arena, struct jwt_claims *claims, struct err *err)
{
    const json_t *version = json_object_get(payload, "ver");
    claims->version = version ? json_integer_value(version) : -1;
    if (!read_text(payload, "sub", arena, &claims->sub) || !read_text(payload, "username", arena, &claims->username) ||
        !read_text(payload, "role", arena, &claims->role) || !read_text(payload, "jti", arena, &claims->jti) ||
        !read_permissions(payload, claims) || (version && !json_is_integer(version)))
        return bad(err, "a claim has the wrong type");
    return claims->sub.n > 0 || bad(err, "it names nobody (sub)");
}

bool jwt_verify(const struct jwt_key *key, struct str token, int64_t now, const struct jwt_rules *rules,
                struct arena *arena, struct jwt_claims *ret_claims, struct err *err)
{
    struct parts parts;
    *ret_claims = (struct jwt_claims){0};
    if (token.n > LIMIT_TOKEN_BYTES || !split(token, &parts))
        return bad(err, "it has not the form of one");
    if (!check_head(key, parts.head, err) || !check_signature(key, &parts, err))
        return false;
    json_t *payload = read_object(parts.payload);
    bool good = (payload || bad(err, "its payload cannot be read")) && check_times(payload, now, ret_claims, err) &&
                check_parties(payload, rules, err) && read_claims(payload, arena, ret_claims, err);
    json_decref(payload);
    return good;
}
