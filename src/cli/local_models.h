/* Models of this machine for commands that need no server: files, and what the configured folders hold. */
#ifndef CLI_LOCAL_MODELS_H
#define CLI_LOCAL_MODELS_H

#include "instance/model.h"

struct local_models {
    struct conf conf;
    struct model_catalogue *catalogue; /* NULL when opening failed */
};

/* Blocking. config: a file read after the usual ones, or NULL. Close it also after a failure. */
bool local_models_open(struct local_models *local, const char *config, struct err *err);
void local_models_close(struct local_models *local);

/* name: a path of a GGUF file, or a name as a server would understand it. *ret_model points into local and name. */
bool local_models_find(const struct local_models *local, const char *name, struct model *ret_model, struct err *err);

#endif
