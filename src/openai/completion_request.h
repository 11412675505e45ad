/* POST /v1/completions: the body as a struct. */
#ifndef OPENAI_COMPLETION_REQUEST_H
#define OPENAI_COMPLETION_REQUEST_H

#include "openai/request.h"

struct openai_completion {
    struct str model;
    struct openai_sampling sampling;
    const struct openai_input *prompts;
    size_t prompt_count;
    int64_t best_of;  /* n when not given */
    int64_t logprobs; /* alternatives per token; -1: none wanted */
    bool echo;
    struct str suffix; /* STR_NONE or not empty */
};

/* The result lives as long as the arena. */
bool openai_completion_read(struct str body, const struct openai_defaults *defaults, struct arena *arena,
                            struct openai_completion *ret_request, struct err *err);

#endif
