/* Which projector belongs to which model: both are GGUF files, and nothing in them says so. Pure. */
#ifndef INSTANCE_PROJECTOR_H
#define INSTANCE_PROJECTOR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

/* A folder's projectors (file names), seen from one of its models. */
struct projector_question {
    struct str model; /* its file's name without ".gguf" and shard number */
    bool shares; /* the folder's models are one repository's, or there is but one: a projector without a name of its
                    own is theirs */
    const char *const *names;
    size_t count;
};

/* The index of the one for this model, or -1. First those named after it ("mmproj-gemma-3-4b-it-f16.gguf" for
 * "gemma-3-4b-it-Q4_K_M"), the longest name first; then, where the folder shares, those without a name, or the only one
 * there is. Of several precisions F16 is taken, else the first by name. */
int projector_choose(const struct projector_question *question);

#endif
