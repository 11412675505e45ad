/* inferd show: what memory a model takes here and how fast this CPU can multiply its weights. No server is asked. */
#ifndef CLI_SHOW_FIT_H
#define CLI_SHOW_FIT_H

#include <stdbool.h>

#include "registry/kernel.h"

/* name: a file, or a model of the configured folders; context in tokens, 0: as configured. Prints a table, or JSON;
 * returns the exit status: EXIT_RESOURCES when it does not fit. */
int show_fit(const char *name, unsigned context, const char *config, bool json);

/* What to say about the weights' type; "" when there is nothing. */
#define SHOW_ADVICE_SIZE 256
const char *show_advice(const struct gguf *gguf, char out[SHOW_ADVICE_SIZE]);

#endif
