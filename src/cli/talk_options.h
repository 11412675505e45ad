/* Options that `run` and `chat` share. */
#ifndef CLI_TALK_OPTIONS_H
#define CLI_TALK_OPTIONS_H

#include "cli/common.h"
#include "cli/talk.h"

struct talk_flags {
    struct cli_common common;
    struct talk_options talk;
};

#define TALK_OPTIONS                                                                                                   \
    CLI_OPTION_URL, {"system", 's', "TEXT", "system prompt"}, {"max-tokens", 'n', "N", "longest answer"},              \
        {"temperature", 't', "X", "0 picks the likeliest token, 2 is wild"},                                           \
        {"verbose", 'v', NULL, "say how fast it was"},                                                                 \
    {                                                                                                                  \
        "json", 0, NULL, "print the server's chunks as they come"                                                      \
    }

bool talk_option(void *arg, const char *name, const char *value); /* arg: struct talk_flags */

/* Opens model, calls talk_with(talk, arg), closes; returns its exit status, or the one that fits the failure. */
int talk_session(const struct talk_flags *flags, const char *model, int (*talk_with)(struct talk *talk, void *arg),
                 void *arg);

/* The interactive loop. Returns an exit status. */
int talk_interactive(struct talk *talk, void *unused);

#endif
