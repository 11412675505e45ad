/* From a chat's prompt with marks for its images to tokens and pictures, on a pool thread. */
#ifndef WORKER_SERVE_VISION_H
#define WORKER_SERVE_VISION_H

#include "openai/chat_request.h"
#include "worker/serve.h"

/* Whether this model can take the chat's images at all; true when there are none. */
bool serve_vision_check(const struct serve *serve, const struct openai_chat *chat, struct err *err);

/* prompt: valid while the arena lives; NULL: *err. Loop thread, never within serve_vision_start. */
typedef void serve_vision_done(void *arg, const struct vision_prompt *prompt, const struct err *err);

/* text is the rendered prompt. Nothing is told once the arena is gone, and the work ends soon then. false and *err: the
 * template has lost an image, or too many requests wait already. */
bool serve_vision_start(struct serve *serve, const struct openai_chat *chat, struct str text, struct arena *arena,
                        serve_vision_done *on_done, void *arg, struct err *err);

#endif
