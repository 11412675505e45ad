/* Tokens: the vectors of RFC 7515 and RFC 8037, each algorithm, what confuses algorithms, times, claims, form. */
#include "unit/unit.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/ecdsa.h>

#include "auth/jwt.h"
#include "auth/permission.h"
#include "base/base64url.h"
#include "base/hash.h"

#define NOW    1700000000
#define SECRET "0123456789abcdef0123456789abcdef"

/* RFC 7515 A.1.1; it names nobody (sub), which is how we see that its signature held. */
#define RFC_PAYLOAD "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
#define RFC_NOW     1300819000

static struct arena arena;
static struct jwt_claims claims;
static struct err err;
static EVP_PKEY *rsa, *ec, *ed;
static struct jwt_key *secret_key, *rsa_key, *ec_key, *ed_key;

static struct str kept(struct buf *b)
{
    struct str text = arena_str(&arena, buf_view(b));
    buf_release(b);
    return text;
}

static struct str encode(struct str text)
{
    struct buf b;
    buf_init(&b, 100000);
    base64url_encode(&b, text.p, text.n);
    return kept(&b);
}

static struct str decode(const char *text)
{
    struct buf b;
    buf_init(&b, 100000);
    assert_true(base64url_decode(&b, str_from(text)));
    return kept(&b);
}

static struct str pem_of(EVP_PKEY *key)
{
    char *data;
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
    long n = BIO_get_mem_data(bio, &data);
    struct str text = arena_str(&arena, (struct str){data, (size_t)n});
    BIO_free(bio);
    return text;
}

/* A public key from its DER's constant beginning and its bytes. */
static struct str pem_from(const void *begin, size_t n, struct str bytes)
{
    struct buf der, text;
    buf_init(&der, 1000);
    buf_init(&text, 1000);
    buf_append(&der, begin, n);
    buf_str(&der, bytes);
    buf_puts(&text, "-----BEGIN PUBLIC KEY-----\n");
    for (size_t at = 0; at < der.len; at += 48) {
        hash_base64(&text, der.data + at, der.len - at < 48 ? der.len - at : 48);
        buf_puts(&text, "\n");
    }
    buf_puts(&text, "-----END PUBLIC KEY-----\n");
    buf_release(&der);
    return kept(&text);
}

static struct str mac(struct str key, struct str text)
{
    unsigned char out[32];
    HMAC(EVP_sha256(), key.p, (int)key.n, (const unsigned char *)text.p, text.n, out, NULL);
    return arena_str(&arena, (struct str){(char *)out, 32});
}

static struct str raw_ec(struct str der)
{
    const unsigned char *at = (const unsigned char *)der.p;
    unsigned char out[64];
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)der.n);
    BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + 32, 32);
    ECDSA_SIG_free(sig);
    return arena_str(&arena, (struct str){(char *)out, 64});
}

static struct str signature(EVP_PKEY *key, struct str text)
{
    unsigned char out[512];
    size_t n = sizeof out;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(context, NULL, key == ed ? NULL : EVP_sha256(), NULL, key), 1);
    assert_int_equal(EVP_DigestSign(context, out, &n, (const unsigned char *)text.p, text.n), 1);
    EVP_MD_CTX_free(context);
    struct str made = arena_str(&arena, (struct str){(char *)out, n});
    return key == ec ? raw_ec(made) : made;
}

/* key NULL: with SECRET. */
static struct str make(const char *head, const char *payload, EVP_PKEY *key)
{
    struct str text = str_from(arena_printf(&arena, "%s.%s", encode(str_from(head)).p, encode(str_from(payload)).p));
    struct str sig = key ? signature(key, text) : mac(STR(SECRET), text);
    return str_from(arena_printf(&arena, "%s.%s", text.p, encode(sig).p));
}

static bool verify(const struct jwt_key *key, struct str token)
{
    static const struct jwt_rules none;
    err = ERR_INIT;
    return jwt_verify(key, token, NOW, &none, &arena, &claims, &err);
}

static bool verify_hs(const char *payload)
{
    return verify(secret_key, make("{\"alg\":\"HS256\"}", payload, NULL));
}

static void refused(bool good, const char *with)
{
    if (good || !strstr(err.message, with))
        fail_msg("%s: '%s'", good ? "taken" : "other words", err.message);
    assert_int_equal(err.code, ERR_AUTHENTICATION_FAILED);
}

#define PAYLOAD "{\"sub\":\"alice\",\"exp\":1700000100}"

static int setup(void **state)
{
    (void)state;
    arena_init(&arena);
    rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    ec = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    secret_key = jwt_key_secret(STR(SECRET), &err);
    rsa_key = jwt_key_public(JWT_RS256, pem_of(rsa), &err);
    ec_key = jwt_key_public(JWT_ES256, pem_of(ec), &err);
    ed_key = jwt_key_public(JWT_EDDSA, pem_of(ed), &err);
    return secret_key && rsa_key && ec_key && ed_key ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    jwt_key_free(secret_key);
    jwt_key_free(rsa_key);
    jwt_key_free(ec_key);
    jwt_key_free(ed_key);
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
    EVP_PKEY_free(ed);
    arena_dispose(&arena);
    return 0;
}

static void check_vector(struct jwt_key *key, const char *token, const char *words)
{
    static const struct jwt_rules none;
    char *copy = arena_strdup(&arena, token);
    assert_non_null(key);
    refused(jwt_verify(key, str_from(token), RFC_NOW, &none, &arena, &claims, &err), words);
    char *sig = strrchr(copy, '.') + 3;
    *sig = *sig == 'A' ? 'B' : 'A';
    refused(jwt_verify(key, str_from(copy), RFC_NOW, &none, &arena, &claims, &err), "signature");
    jwt_key_free(key);
}

static void test_rfc_vectors(void **state)
{
    static const unsigned char p256[] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
                                         0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                                         0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04},
                               ed25519[] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
    (void)state;
    check_vector(
        jwt_key_secret(decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"),
                       &err),
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." RFC_PAYLOAD ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        "names nobody");
    struct str x = decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
               y = decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    struct buf point;
    buf_init(&point, 100);
    buf_str(&point, x);
    buf_str(&point, y);
    check_vector(jwt_key_public(JWT_ES256, pem_from(p256, sizeof p256, kept(&point)), &err),
                 "eyJhbGciOiJFUzI1NiJ9." RFC_PAYLOAD
                 ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
                 "names nobody");
    check_vector(
        jwt_key_public(JWT_EDDSA,
                       pem_from(ed25519, sizeof ed25519, decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")), &err),
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhij"
        "cNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        "payload cannot be read");
}

static void test_each_algorithm(void **state)
{
    (void)state;
    assert_true(verify(secret_key, make("{\"alg\":\"HS256\",\"typ\":\"JWT\"}", PAYLOAD, NULL)));
    assert_true(verify(rsa_key, make("{\"alg\":\"RS256\"}", PAYLOAD, rsa)));
    assert_true(verify(ec_key, make("{\"alg\":\"ES256\"}", PAYLOAD, ec)));
    assert_true(verify(ed_key, make("{\"alg\":\"EdDSA\"}", PAYLOAD, ed)));
    assert_str(claims.sub, "alice");
    assert_int_equal(claims.expires_at, 1700000100);
    assert_false(claims.has_permissions);
    assert_int_equal(claims.version, -1);
}

static void test_algorithms_are_not_confused(void **state)
{
    (void)state;
    struct str pem = pem_of(rsa);
    struct str text =
        str_from(arena_printf(&arena, "%s.%s", encode(STR("{\"alg\":\"HS256\"}")).p, encode(STR(PAYLOAD)).p));
    struct str with_pem = str_from(arena_printf(&arena, "%s.%s", text.p, encode(mac(pem, text)).p));
    refused(verify(rsa_key, with_pem), "another algorithm");
    static const char *const heads[] = {"{\"alg\":\"none\"}",  "{\"alg\":\"None\"}",    "{\"alg\":\"hs256\"}",
                                        "{\"alg\":\"HS384\"}", "{\"alg\":\"RS256\"}",   "{\"alg\":\"\"}",
                                        "{\"alg\":null}",      "{\"alg\":[\"HS256\"]}", "{}",
                                        "{\"typ\":\"JWT\"}"};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        refused(verify(secret_key, make(heads[i], PAYLOAD, NULL)), "another algorithm");
    refused(verify(ec_key, make("{\"alg\":\"RS256\"}", PAYLOAD, rsa)), "another algorithm");
    refused(verify(ec_key, make("{\"alg\":\"ES256\"}", PAYLOAD, rsa)), "signature");
    refused(verify(rsa_key, make("{\"alg\":\"RS256\"}", PAYLOAD, ed)), "signature");
    refused(verify(secret_key, make("{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}", PAYLOAD, NULL)), "crit");
}

static void test_signature_is_over_all(void **state)
{
    struct str good = make("{\"alg\":\"HS256\"}", PAYLOAD, NULL);
    (void)state;
    assert_true(verify(secret_key, good));
    for (size_t i = 0; i < good.n; i++) {
        char *copy = arena_strdup(&arena, good.p);
        copy[i] = copy[i] == 'A' ? 'B' : 'A';
        assert_false(verify(secret_key, (struct str){copy, good.n}));
        if (i < good.n - 1)
            assert_false(verify(secret_key, (struct str){good.p, i}));
    }
    struct jwt_key *other = jwt_key_secret(STR("0123456789abcdef0123456789abcdeF"), &err);
    refused(verify(other, good), "signature");
    jwt_key_free(other);
}

static void test_form(void **state)
{
    const char *good = make("{\"alg\":\"HS256\"}", PAYLOAD, NULL).p;
    (void)state;
    static const char *const texts[] = {"",     ".",       "..",      "a.b",    "a..c",  ".b.c",
                                        "a.b.", "a.b.c.d", "a b.c.d", "a.b.c=", "a+.b.c"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_false(jwt_plausible(str_from(texts[i])));
        refused(verify(secret_key, str_from(texts[i])), "form");
    }
    assert_true(jwt_plausible(str_from(good)));
    refused(verify(secret_key, str_from(arena_printf(&arena, "%s=", good))), "form");
    refused(verify(secret_key, str_from(arena_printf(&arena, "%s.", good))), "form");
    refused(verify(secret_key, make("[]", PAYLOAD, NULL)), "head");
    refused(verify(secret_key, make("{\"alg\":\"HS256\"", PAYLOAD, NULL)), "head");
    refused(verify_hs("[]"), "payload");
    refused(verify_hs("{\"sub\":\"a\""), "payload");
    struct buf large;
    buf_init(&large, 100000);
    buf_puts(&large, "{\"sub\":\"a\",\"exp\":1700000100,\"x\":\"");
    for (int i = 0; i < LIMIT_TOKEN_BYTES; i++)
        buf_putc(&large, 'x');
    buf_puts(&large, "\"}");
    refused(verify_hs(kept(&large).p), "form");
}

static void test_times(void **state)
{
    static const struct {
        const char *claims, *words; /* NULL: taken */
    } cases[] = {{"\"exp\":1699999941", NULL},
                 {"\"exp\":1699999940", "expired"},
                 {"\"exp\":1700000000.5", NULL},
                 {"\"exp\":0", "expired"},
                 {"\"iat\":1", "no exp"},
                 {"\"exp\":\"1700000100\"", "seconds"},
                 {"\"exp\":-1", "seconds"},
                 {"\"exp\":1e300", "seconds"},
                 {"\"exp\":null", "seconds"},
                 {"\"exp\":1700000100,\"nbf\":1700000060", NULL},
                 {"\"exp\":1700000100,\"nbf\":1700000061", "in force"},
                 {"\"exp\":1700000100,\"nbf\":true", "seconds"},
                 {"\"exp\":1700000100,\"iat\":1700000060", NULL},
                 {"\"exp\":1700000100,\"iat\":1700000061", "future"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool good = verify_hs(arena_printf(&arena, "{\"sub\":\"a\",%s}", cases[i].claims));
        if (cases[i].words)
            refused(good, cases[i].words);
        else if (!good)
            fail_msg("%s: %s", cases[i].claims, err.message);
    }
}

static bool verify_for(const char *more, const char *issuer, const char *audience)
{
    const struct jwt_rules rules = {issuer, audience};
    struct str token =
        make("{\"alg\":\"HS256\"}", arena_printf(&arena, "{\"sub\":\"a\",\"exp\":1700000100%s}", more), NULL);
    return jwt_verify(secret_key, token, NOW, &rules, &arena, &claims, &err);
}

static void test_issuer_and_audience(void **state)
{
    (void)state;
    assert_true(verify_for("", "", ""));
    assert_true(verify_for(",\"iss\":\"me\"", "me", ""));
    refused(verify_for("", "me", ""), "iss");
    refused(verify_for(",\"iss\":\"you\"", "me", ""), "iss");
    refused(verify_for(",\"iss\":[\"me\"]", "me", ""), "iss");
    assert_true(verify_for(",\"aud\":\"api\"", "", "api"));
    assert_true(verify_for(",\"aud\":[\"x\",\"api\"]", "", "api"));
    refused(verify_for(",\"aud\":[\"x\"]", "", "api"), "aud");
    refused(verify_for("", "", "api"), "aud");
    refused(verify_for(",\"aud\":{\"api\":1}", "", "api"), "aud");
}

static void test_claims(void **state)
{
    (void)state;
    assert_true(
        verify_hs("{\"sub\":\"u\",\"exp\":1700000100,\"role\":\"user\",\"username\":\"eve\",\"jti\":\"j1\",\"ver\":3,"
                  "\"permissions\":[\"inference\",\"ReadMetrics\",\"fly\"]}"));
    assert_str(claims.role, "user");
    assert_str(claims.username, "eve");
    assert_str(claims.jti, "j1");
    assert_int_equal(claims.version, 3);
    assert_true(claims.has_permissions);
    assert_int_equal(claims.permissions, AUTH_INFERENCE | AUTH_METRICS);
    assert_true(verify_hs("{\"sub\":\"u\",\"exp\":1700000100,\"permissions\":\"keys users\"}"));
    assert_int_equal(claims.permissions, AUTH_KEYS | AUTH_USERS);
    refused(verify_hs("{\"exp\":1700000100}"), "names nobody");
    refused(verify_hs("{\"sub\":\"\",\"exp\":1700000100}"), "names nobody");
    refused(verify_hs("{\"sub\":7,\"exp\":1700000100}"), "type");
    refused(verify_hs("{\"sub\":\"u\",\"exp\":1700000100,\"role\":1}"), "type");
    refused(verify_hs("{\"sub\":\"u\",\"exp\":1700000100,\"permissions\":1}"), "type");
    refused(verify_hs("{\"sub\":\"u\",\"exp\":1700000100,\"ver\":\"1\"}"), "type");
}

static void test_what_we_sign_we_take(void **state)
{
    struct buf token;
    (void)state;
    buf_init(&token, LIMIT_TOKEN_BYTES);
    buf_puts(&token, "Bearer ");
    jwt_sign(secret_key, STR(PAYLOAD), &token);
    struct str text = kept(&token);
    assert_true(verify(secret_key, (struct str){text.p + 7, text.n - 7}));
}

static void test_keys_that_are_none(void **state)
{
    EVP_PKEY *small = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024),
             *p384 = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
    (void)state;
    assert_null(jwt_key_secret(STR("0123456789abcdef0123456789abcde"), &err));
    assert_int_equal(err.code, ERR_CONFIG);
    assert_null(jwt_key_public(JWT_RS256, STR("no pem"), &err));
    assert_null(jwt_key_public(JWT_RS256, pem_of(small), &err));
    assert_null(jwt_key_public(JWT_RS256, pem_of(ec), &err));
    assert_null(jwt_key_public(JWT_ES256, pem_of(p384), &err));
    assert_null(jwt_key_public(JWT_ES256, pem_of(rsa), &err));
    assert_null(jwt_key_public(JWT_EDDSA, pem_of(rsa), &err));
    EVP_PKEY_free(small);
    EVP_PKEY_free(p384);
}

static void test_base64url(void **state)
{
    static const char *const bad[] = {"A", "AAAAA", "AB", "AAB", "AA==", "AA+A", "AA/A", "A A"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct buf out;
        buf_init(&out, 100);
        if (base64url_decode(&out, str_from(bad[i])))
            fail_msg("%s", bad[i]);
        buf_release(&out);
    }
    for (size_t n = 0; n < 70; n++) {
        char bytes[70];
        for (size_t i = 0; i < n; i++)
            bytes[i] = (char)(i * 37 + n);
        struct str back = decode(encode((struct str){bytes, n}).p);
        assert_int_equal(back.n, n);
        assert_memory_equal(back.p, bytes, n);
    }
    assert_str(encode(STR("\xfb\xff\xbf")), "-_-_");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rfc_vectors),
                                       cmocka_unit_test(test_each_algorithm),
                                       cmocka_unit_test(test_algorithms_are_not_confused),
                                       cmocka_unit_test(test_signature_is_over_all),
                                       cmocka_unit_test(test_form),
                                       cmocka_unit_test(test_times),
                                       cmocka_unit_test(test_issuer_and_audience),
                                       cmocka_unit_test(test_claims),
                                       cmocka_unit_test(test_what_we_sign_we_take),
                                       cmocka_unit_test(test_keys_that_are_none),
                                       cmocka_unit_test(test_base64url)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
