/* What a load by hand and the configuration together say of a model's worker. */
#ifndef INSTANCE_LOAD_H
#define INSTANCE_LOAD_H

#include "instance/instance_private.h"

uint64_t load_context(const struct instance *i, const struct model *m); /* tokens */
/* What its process will take, on GPUs and off them: before it is admitted, or, of a named one, before it is spawned. */
void load_estimate(struct instance *i, const struct model *m);
void load_estimate_named(struct instance *i, const struct gguf *gguf, uint64_t projector); /* its file's bytes */
uint64_t load_idle_ms(const struct instance *i, const struct model *m);
bool load_pinned(const struct instance *i, const struct model *m);

#endif
