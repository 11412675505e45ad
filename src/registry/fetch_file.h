/* One file from a URL to a place on disk, resumable and checked. Knows nothing of hubs. Blocking, on the downloads' own
 * threads. */
#ifndef REGISTRY_FETCH_FILE_H
#define REGISTRY_FETCH_FILE_H

#include "registry/fetch_net.h"

enum fetch_hash {
    FETCH_SHA256,  /* of the bytes */
    FETCH_GIT_BLOB /* SHA-1 of "blob LENGTH", a NUL and the bytes */
};

struct fetch_transfer {
    const char *url;
    const char *name;          /* in messages */
    const char *part, *target; /* same folder; part holds what has come so far, also of earlier attempts */
    const char *lock;          /* a file of its own: whoever holds its flock may touch part and target */
    uint64_t bytes;            /* exactly */
    enum fetch_hash hash_kind;
    const char *hash; /* lower-case hex */
    /* Bytes of the file that are there changed from before to now (less: the part was thrown away); never above bytes.
     */
    void (*on_bytes)(void *arg, uint64_t before, uint64_t now);
    void *arg;
};

/* true: target holds bytes bytes with that hash, on disk (one that was there with this length is believed: it got its
 * name the same way). false and *err; after FETCH_NET_STOPPED's ERR_CLIENT_CLOSED and after network trouble the part
 * stays for the next time; one with a wrong hash is removed. */
bool fetch_file(const struct fetch_net *net, const struct fetch_transfer *transfer, struct err *err);

/* Enough room for so many more bytes in the file system of folder, else ERR_INSUFFICIENT_STORAGE with both numbers. */
bool fetch_room(const char *folder, uint64_t bytes, struct err *err);

#endif
