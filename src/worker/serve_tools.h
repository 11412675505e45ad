/* Tool calls for models whose template has no form for them: the tools are described in the system message, and a
 * grammar made from their schemas leaves the model no way but to write one call as JSON. For choices that demand a
 * call only; a model that may also talk talks. */
#ifndef WORKER_SERVE_TOOLS_H
#define WORKER_SERVE_TOOLS_H

#include "worker/chat.h"

/* Turns a request with tools into one without: messages and json_schema are replaced, in the arena. */
bool serve_tools_rewrite(struct chat_request *request, struct arena *arena, struct err *err);

/* Reads the call that the model wrote: false when it is none (cut off, for example). */
bool serve_tools_read(struct str text, struct arena *arena, struct str *ret_name, struct str *ret_arguments);

#endif
