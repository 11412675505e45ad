/* Between loop.c and deadline.c only. */
#ifndef LOOP_DEADLINE_H
#define LOOP_DEADLINE_H

#include "loop/loop.h"

void deadline_setup(struct loop *loop);

#endif
