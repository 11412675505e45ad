/* A conversation with a model, printed as it is written. */
#ifndef CLI_TALK_H
#define CLI_TALK_H

#include <jansson.h>

#include "cli/api_client.h"

struct talk_options {
    const char *system; /* or NULL */
    long max_tokens;    /* 0: the server's default */
    double temperature; /* < 0: the server's default */
    bool json;          /* print the server's chunks instead of text */
    bool verbose;       /* tokens per second on stderr at the end */
};

struct talk;

/* Looks the model up and loads it, with a progress bar on a terminal. NULL and *err otherwise. */
struct talk *talk_new(struct api_client *api, const char *model, const struct talk_options *options, struct err *err);
void talk_free(struct talk *talk);
void talk_clear(struct talk *talk); /* forgets what was said, keeps the system prompt */

/* Asks, prints the answer to stdout, remembers both. A base model without a chat template continues the text instead.
 * *ret_interrupted: Ctrl-C ended the answer. */
bool talk_ask(struct talk *talk, const char *prompt, bool *ret_interrupted, struct err *err);

#endif
