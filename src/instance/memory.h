/* What memory a model's worker will take under this configuration: the same choices that instance/command.c passes on
 * its command line, given to registry/fit. Pure; any thread while conf does not change. */
#ifndef INSTANCE_MEMORY_H
#define INSTANCE_MEMORY_H

#include <jansson.h>

#include "instance/model.h"
#include "registry/fit.h"

/* model->overrides may be NULL. Strings in *ret_setup are constants. */
void memory_setup(const struct model *model, uint64_t context, const struct conf *conf, struct fit_setup *ret_setup);

/* Bytes a worker will take for it in all. */
uint64_t memory_estimate(const struct model *model, uint64_t context, const struct conf *conf);

/* The same for a named instance: its own options (canonical, of the worker or of llama-server) come before conf's.
 * projector: bytes of its projector's file. */
uint64_t memory_estimate_named(const struct gguf *gguf, uint64_t projector, const json_t *options,
                               const struct conf *conf);

#endif
