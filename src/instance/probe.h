/* Asks a starting backend for its health until it answers 200. Loop thread only. */
#ifndef INSTANCE_PROBE_H
#define INSTANCE_PROBE_H

#include "http/client.h"

struct probe;

/* Every LIMIT_PROBE_MS, one question at a time, each given up after LIMIT_PROBE_ANSWER_MS. on_healthy comes once; the
 * probe is idle then. */
struct probe *probe_new(struct loop *loop, struct http_client *client, const struct http_target *target,
                        const char *path, void (*on_healthy)(void *arg), void *arg);
void probe_free(struct probe *probe); /* NULL is fine */

#endif
