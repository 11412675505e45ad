/* A configuration read again while the program runs: what may change then is taken over, the rest waits for a restart.
 * Pure but for the struct that changes. */
#ifndef CONF_ADOPT_H
#define CONF_ADOPT_H

#include "conf/conf.h"

struct conf_change {
    const char *table, *name; /* "server", "queue_size"; of a model: "models" and its name */
    bool applied;             /* else it needs a restart */
};

/* Copies into live what differs in fresh and may change at run time (adopt.c lists it), and calls on_change for each
 * difference. Strings are shared: fresh must live as long as live, unless nothing was applied. Returns how many changes
 * were. */
size_t conf_adopt(struct conf *live, const struct conf *fresh, void (*on_change)(void *arg, const struct conf_change *),
                  void *arg);

#endif
