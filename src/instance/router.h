/* The models inside instances that route to several (llama-server without a model of its own). Loop thread only. */
#ifndef INSTANCE_ROUTER_H
#define INSTANCE_ROUTER_H

#include "instance/instance.h"

/* Asks all running routers for their models, side by side, and calls on_fresh once all have answered or within_ms have
 * passed, at once when there are none. Answers that come later count for the next time; nobody is asked twice at a
 * time. Not called when the arena dies first. */
void routers_refresh(struct instances *all, unsigned within_ms, struct arena *arena, void (*on_fresh)(void *arg),
                     void *arg);

/* What the instance said last, NULL-terminated, valid until the loop's next turn; NULL: nothing since it started. */
const char *const *router_models_of(const struct instance *i);

#endif
