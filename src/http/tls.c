#include "http/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/mem.h"

struct tls_context {
    SSL_CTX *ssl;
};

struct tls_session {
    SSL *ssl;
    BIO *in, *out; /* the SSL's own */
};

/* ---- contexts ---- */

static bool wrong(struct err *err, const char *what, const char *path)
{
    char reason[160];
    unsigned long code = ERR_get_error();
    ERR_error_string_n(code, reason, sizeof reason);
    const char *last = strrchr(reason, ':');
    ERR_clear_error();
    return err_set(err, ERR_CONFIG, "%s '%s' cannot be used: %s", what, path,
                   code && ERR_reason_error_string(code) ? ERR_reason_error_string(code)
                   : last                                ? last + 1
                                                         : reason);
}

static int no_password(char *out, int size, int writing, void *arg)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)arg;
    return -1; /* nobody is there to type one */
}

/* Peers that offer protocols get http/1.1 or an alert; those that offer none get it too. */
static int choose_protocol(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_n, const unsigned char *offered,
                           unsigned n, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";
    (void)ssl;
    (void)arg;
    unsigned char *name;
    if (SSL_select_next_proto(&name, ret_n, ours, sizeof ours - 1, offered, n) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *ret_name = name;
    return SSL_TLSEXT_ERR_OK;
}

static void set_policy(SSL_CTX *ssl)
{
    static const unsigned char id[] = "inferd";
    SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(ssl, "ECDHE+AESGCM:ECDHE+CHACHA20");
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ssl,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_id_context(ssl, id, sizeof id - 1);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF); /* tickets resume without memory of ours */
    SSL_CTX_set_num_tickets(ssl, 1);
    SSL_CTX_set_alpn_select_cb(ssl, choose_protocol, NULL);
    SSL_CTX_set_default_passwd_cb(ssl, no_password);
}

static bool load(SSL_CTX *ssl, const char *cert_path, const char *key_path, struct err *err)
{
    if (SSL_CTX_use_certificate_chain_file(ssl, cert_path) != 1)
        return wrong(err, "the certificate", cert_path);
    if (SSL_CTX_use_PrivateKey_file(ssl, key_path, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ssl) != 1)
        return wrong(err, "the key", key_path);
    return true;
}

struct tls_context *tls_context_new(const char *cert_path, const char *key_path, struct err *err)
{
    SSL_CTX *ssl = SSL_CTX_new(TLS_server_method());
    if (!ssl) {
        err_set(err, ERR_CONFIG, "TLS cannot be set up");
        return NULL;
    }
    set_policy(ssl);
    ERR_clear_error();
    if (!load(ssl, cert_path, key_path, err)) {
        SSL_CTX_free(ssl);
        return NULL;
    }
    struct tls_context *context = mem_alloc(sizeof *context);
    context->ssl = ssl;
    return context;
}

void tls_context_free(struct tls_context *context)
{
    if (!context)
        return;
    SSL_CTX_free(context->ssl);
    mem_free(context);
}

/* ---- sessions ---- */

struct tls_session *tls_session_new(struct tls_context *context)
{
    struct tls_session *s = mem_alloc(sizeof *s);
    s->ssl = SSL_new(context->ssl);
    s->in = BIO_new(BIO_s_mem());
    s->out = BIO_new(BIO_s_mem());
    mem_require(s->ssl);
    mem_require(s->in);
    mem_require(s->out);
    SSL_set_bio(s->ssl, s->in, s->out);
    SSL_set_accept_state(s->ssl);
    return s;
}

void tls_session_free(struct tls_session *session)
{
    if (!session)
        return;
    SSL_free(session->ssl); /* and both ends */
    mem_free(session);
}

void tls_session_put(struct tls_session *session, const char *bytes, size_t n)
{
    BIO_write(session->in, bytes, (int)n);
}

static enum tls_result why(const struct tls_session *s, int rc)
{
    int kind = SSL_get_error(s->ssl, rc);
    unsigned long code = ERR_peek_error();
    ERR_clear_error();
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE)
        return TLS_HUNGRY;
    if (kind == SSL_ERROR_ZERO_RETURN)
        return TLS_ENDED;
    return ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST ? TLS_PLAIN : TLS_BROKEN;
}

enum tls_result tls_session_read(struct tls_session *session, char *out, size_t size, size_t *ret_n)
{
    *ret_n = 0;
    int rc = SSL_read_ex(session->ssl, out, size, ret_n);
    return rc == 1 ? TLS_BYTES : why(session, rc);
}

bool tls_session_write(struct tls_session *session, struct str plain)
{
    while (plain.n > 0) {
        size_t written = 0;
        if (SSL_write_ex(session->ssl, plain.p, plain.n, &written) != 1) {
            ERR_clear_error();
            return false;
        }
        plain.p += written;
        plain.n -= written;
    }
    return true;
}

void tls_session_goodbye(struct tls_session *session)
{
    SSL_shutdown(session->ssl);
    ERR_clear_error();
}

struct str tls_session_output(struct tls_session *session)
{
    char *bytes = NULL;
    long n = BIO_get_mem_data(session->out, &bytes);
    return (struct str){bytes, n > 0 ? (size_t)n : 0};
}

void tls_session_sent(struct tls_session *session)
{
    (void)BIO_reset(session->out);
}
