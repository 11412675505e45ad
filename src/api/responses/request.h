/* POST /v1/responses: the body as a struct, and as the chat request that it means. Pure. */
#ifndef API_RESPONSES_REQUEST_H
#define API_RESPONSES_REQUEST_H

#include "api/responses/input.h"

/* The result points into a document that the arena owns. */
struct response_request {
    struct str model, instructions, previous_id, user; /* STR_NONE: not given */
    json_t *input;                                     /* items in normal form (input.h) */
    const json_t *tools, *tool_choice, *format, *metadata, *effort, *verbosity;
    const json_t *temperature, *top_p, *max_output_tokens, *max_tool_calls; /* NULL: not given */
    bool stream, store, parallel_tool_calls;
};

/* Every refusal is a 400 that names the field by its path: ERR_INVALID_PARAMETERS for a wrong one, ERR_NOT_SUPPORTED
 * for what this server does not do (background, conversation, tools other than functions, files...). */
bool response_request_read(struct str body, struct arena *arena, struct response_request *ret_request, struct err *err);

/* The chat request, in the arena: instructions, the turns that came earlier (arrays of items, oldest first), input. */
bool response_chat_write(const struct response_request *request, const json_t *const *earlier, size_t count,
                         struct arena *arena, struct str *ret_body, struct err *err);

/* Renames the param of an error that the chat request met to the field it came from. */
void response_error_translate(struct err *err);

#endif
