/* What a load by hand and the configuration together say of a model's worker. */
#ifndef INSTANCE_LOAD_H
#define INSTANCE_LOAD_H

#include "instance/instance_private.h"

uint64_t load_context(const struct instance *i, const struct model *m); /* tokens */
uint64_t load_idle_ms(const struct instance *i, const struct model *m);
bool load_pinned(const struct instance *i, const struct model *m);

#endif
