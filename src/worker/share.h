/* A fair share of the engine for each client (an API key, or an address), counted in tokens it had computed. Who has
 * had least goes first, so a client that sends one request does not stand behind another's fifty. This is deficit round
 * robin with a quantum of one token, in the form of start-time fair queueing (Goyal et al., 1996): each client has a
 * virtual time, its tokens so far; a newcomer starts at the virtual time of the one served last, so that neither
 * silence nor leaving and coming back is worth anything. Decode thread only. */
#ifndef WORKER_SHARE_H
#define WORKER_SHARE_H

#include <stdint.h>

#include "base/list.h"

enum share_lane { SHARE_INTERACTIVE, SHARE_BATCH, SHARE_EMBED, SHARE_EMBED_BATCH, SHARE_LANES };

struct share {
    struct list link; /* in the table, while it has requests */
    uint64_t client;
    uint64_t served;                  /* virtual time, tokens */
    unsigned requests;                /* that have not ended */
    unsigned running;                 /* branches in the cache */
    bool held;                        /* in this step it makes room for another's prefill; the scheduler's */
    unsigned quota;                   /* of them that may decode in this step; the scheduler's */
    struct list waiting[SHARE_LANES]; /* branches, oldest first */
};

struct share_table {
    struct list shares;
    uint64_t now; /* virtual time of the last one served */
};

void share_table_init(struct share_table *table);

/* The client's share, made if it has none. Each join needs one leave. Time: the clients that have requests. */
struct share *share_join(struct share_table *table, uint64_t client);
void share_leave(struct share *share);

/* Returns the virtual time at which the work starts: of two pieces of work the one with the smaller goes first. */
uint64_t share_charge(struct share_table *table, struct share *share, unsigned tokens);

/* Of those with branches waiting in a lane the one that has had least; NULL: nobody waits. `after`: the next one behind
 * it in that order, for a caller that finds no use for the first. */
struct share *share_next(const struct share_table *table, enum share_lane lane, const struct share *after);

#endif
