/* What memory a model's worker will take under this configuration: the same choices that instance/command.c passes on
 * its command line, given to registry/fit. Pure; any thread while conf does not change. */
#ifndef INSTANCE_MEMORY_H
#define INSTANCE_MEMORY_H

#include <jansson.h>

#include "instance/model.h"
#include "registry/fit.h"

/* model->overrides may be NULL. Strings in *ret_setup are constants. */
void memory_setup(const struct model *model, uint64_t context, const struct conf *conf, struct fit_setup *ret_setup);

/* What a worker will take for it, in its parts. */
void memory_predict(const struct model *model, uint64_t context, const struct conf *conf, struct fit *ret_fit);

/* The same for a named instance: its own options (canonical, of the worker or of llama-server) come before conf's.
 * projector: bytes of its projector's file. */
void memory_predict_named(const struct gguf *gguf, uint64_t projector, const json_t *options, const struct conf *conf,
                          struct fit *ret_fit);

/* Their totals. */
uint64_t memory_estimate(const struct model *model, uint64_t context, const struct conf *conf);
uint64_t memory_estimate_named(const struct gguf *gguf, uint64_t projector, const json_t *options,
                               const struct conf *conf);

#endif
