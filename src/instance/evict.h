/* Room for a model: by count and by bytes, taken from idle instances only, least recently used first. */
#ifndef INSTANCE_EVICT_H
#define INSTANCE_EVICT_H

#include "base/err.h"

struct instances;
struct instance;

enum evict_whom {
    EVICT_NOBODY, /* a start by hand: at a limit it is refused */
    EVICT_IDLE    /* a start for a request: the least recently used idle one may go */
};

enum evict_answer {
    EVICT_ROOM, /* start it */
    EVICT_WAIT, /* room is being made, or busy instances hold it: ask again when one is gone or idle */
    EVICT_NEVER /* *err is ERR_INSUFFICIENT_MEMORY (it would not fit even alone) or ERR_CONFLICT (at a limit) */
};

/* Checked against what is there and what is coming up: between ROOM and the start nothing else may be asked. */
enum evict_answer evict_make_room(struct instances *all, struct instance *wanted, enum evict_whom whom,
                                  struct err *err);

/* Bytes that this machine (or its memory control group) could give to new processes now. 0: unknown. */
unsigned long long evict_memory_available(void);
unsigned long long evict_memory_total(void);

#endif
