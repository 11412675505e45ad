/* Fetches an image from the URL that a client has given. The client chooses where this machine connects to, so only
 * addresses of the public internet are connected to, unless that is allowed; redirects are few and checked like the
 * first URL. Blocking; any thread but the loop's. */
#ifndef WORKER_IMAGE_FETCH_H
#define WORKER_IMAGE_FETCH_H

#include <sys/socket.h>

#include "base/buf.h"
#include "base/err.h"

struct image_fetch {
    const char *url;         /* http or https */
    bool allow_private;      /* any address */
    bool (*stop)(void *arg); /* asked now and then; true: give up */
    void *arg;
};

/* Appends the body of a 200 to out: LIMIT_IMAGE_BYTES in LIMIT_IMAGE_MS at most. false and *err
 * (ERR_INVALID_PARAMETERS; a message that goes on behind the parameter's name). */
bool image_fetch(const struct image_fetch *fetch, struct buf *out, struct err *err);

/* Is it an address of the public internet? Private, local, shared, reserved and translated ones are not. */
bool image_address_is_public(const struct sockaddr *address);

#endif
