/* Other nodes: machines that run instances under the same API (inferd's or llamactl's). A remote instance is a row here
 * and an instance there; what it is doing is asked of every node every LIMIT_NODE_POLL_MS, so that no request pays a
 * round trip for it. Several nodes may hold the same instance: a request goes to the one that runs it and has the
 * fewest of our requests in flight. Loop thread only. */
#ifndef INSTANCE_NODE_H
#define INSTANCE_NODE_H

#include "http/client.h"
#include "instance/instance.h"

bool nodes_begin(struct instances *all, struct err *err); /* from conf->nodes; ERR_CONFIG for a bad address */
void nodes_stop(struct instances *all);                   /* asks no more */
void nodes_end(struct instances *all);

/* Where a node is, and the head lines it wants (valid as long as the instances); false: there is none of that name. */
bool node_target(const struct instances *all, const char *name, struct http_target *ret_target,
                 struct str *ret_head_lines);

/* 1 when it answers, 0 when not, -1 for this machine or before the first answer. */
int node_healthy(const struct instances *all, const char *name);

/* All names are known ones. */
bool nodes_check(const struct instances *all, const json_t *names, struct err *err);

/* Makes the instance on all named nodes; on_done once, with the first error. */
void nodes_create(struct instances *all, struct str name, const json_t *document, const json_t *names,
                  void (*on_done)(void *arg, const struct err *err), void *arg);
void nodes_delete(struct instance *i, void (*on_done)(void *arg, const struct err *err), void *arg);

/* Connects a remote instance with its nodes, and releases that. */
void remote_place(struct instance *i);
void remote_release(struct instance *i);

/* A healthy node for one request, or NULL and ERR_BAD_GATEWAY. The head lines are valid until the loop's next turn.
 * placement_end when the request has ended; the instance must live until then. */
struct placement;
struct placement *remote_pick(struct instance *i, struct str *ret_head_lines, struct err *err);
const struct http_target *placement_target(const struct placement *placement);
void placement_end(struct placement *placement);

/* Forwards a management call about a remote instance to all of its nodes; on_done gets the last good reply's status and
 * body (valid during the call), or the error of all. */
void remote_call(struct instance *i, const char *method, const char *path, const json_t *body, struct arena *arena,
                 void (*on_done)(void *arg, int status, struct str body, const struct err *err), void *arg);

#endif
