/* POST /v1/messages: Anthropic's body, and the chat request that it means. Pure. */
#ifndef API_ANTHROPIC_REQUEST_H
#define API_ANTHROPIC_REQUEST_H

#include "base/json_copy.h"

struct anthropic_request {
    struct str model;
    bool stream;
    bool images;     /* some message shows one */
    struct str chat; /* the body for /v1/chat/completions, in the arena */
};

/* counting: for count_tokens, where max_tokens is not asked for. Every refusal is a 400 that names the field by its
 * path ("messages[1].content[0].source"): ERR_INVALID_PARAMETERS for a wrong one, ERR_NOT_SUPPORTED for what this
 * server does not do (documents, tools that Anthropic's own servers run). */
bool anthropic_request_read(struct str body, bool counting, struct arena *arena, struct anthropic_request *ret_request,
                            struct err *err);

/* Parts of the above, with a file of their own: "system" and "messages" as chat's messages. */
bool anthropic_messages_write(const json_t *body, struct json *out, bool *ret_images, struct err *err);

/* Renames the param of an error that the chat request met to the field it came from. */
void anthropic_error_translate(struct err *err);

#endif
