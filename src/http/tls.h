/* TLS for the connections of a server, on OpenSSL: 1.2 and later, forward secrecy only, ALPN http/1.1. A context is a
 * certificate chain with its key; a session is one connection's, without a socket: ciphertext goes in and comes out as
 * bytes. Loop thread only. */
#ifndef HTTP_TLS_H
#define HTTP_TLS_H

#include "base/err.h"
#include "base/str.h"

struct tls_context;
struct tls_session;

/* Reads both PEM files, blocking: for the start and for SIGHUP. The file of the certificate holds the chain, leaf
 * first. NULL and ERR_CONFIG that names the file and the reason (missing, no PEM, encrypted, not matching...). */
struct tls_context *tls_context_new(const char *cert_path, const char *key_path, struct err *err);
void tls_context_free(struct tls_context *context); /* sessions that run keep what they need; NULL is fine */

struct tls_session *tls_session_new(struct tls_context *context);
void tls_session_free(struct tls_session *session);

void tls_session_put(struct tls_session *session, const char *bytes, size_t n); /* ciphertext from the peer */

enum tls_result {
    TLS_BYTES,  /* plain bytes were read */
    TLS_HUNGRY, /* more ciphertext is needed */
    TLS_ENDED,  /* the peer said its goodbye: nothing follows */
    TLS_PLAIN,  /* the peer speaks HTTP without TLS */
    TLS_BROKEN  /* a handshake that cannot be, or damaged records */
};
/* Plain bytes from what was put. Reading also makes the handshake go on: look at tls_session_output afterwards, also
 * after TLS_BROKEN (the alert). */
enum tls_result tls_session_read(struct tls_session *session, char *out, size_t size, size_t *ret_n);

/* Encrypts; before the handshake is done nothing can be written. false: broken. */
bool tls_session_write(struct tls_session *session, struct str plain);
void tls_session_goodbye(struct tls_session *session); /* close_notify */

/* Ciphertext for the peer; valid until the next call on the session. */
struct str tls_session_output(struct tls_session *session);
void tls_session_sent(struct tls_session *session); /* it was taken, all of it */

#endif
