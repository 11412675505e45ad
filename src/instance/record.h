/* Named instances and the store: one row each, written before a change is acknowledged. Loop thread only. */
#ifndef INSTANCE_RECORD_H
#define INSTANCE_RECORD_H

#include "base/err.h"

struct instance;
struct instances;

/* Blocking, at the start. */
bool record_owner(struct instances *all, struct err *err); /* reads, or makes, instances.owner */
bool record_load(struct instances *all, struct err *err);  /* all rows of this node */

/* Notes that it shall run, or not, for the next daemon. Nothing for one without a row. */
void record_wanted(struct instance *i, bool wanted);

/* The instance has stopped: one that waited for that is deleted now. */
void record_stopped(struct instance *i);

#endif
