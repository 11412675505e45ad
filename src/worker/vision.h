/* The eye of a model: its projector, a file beside the model's own that turns images into cells (llama.cpp's libmtmd).
 * It reads a prompt whose images stand between its texts, and gives back tokens and pictures for the scheduler.
 *
 * Threads: vision_read from any, one at a time inside; it takes seconds, so never from the loop's. The rest before the
 * first and after the last. */
#ifndef WORKER_VISION_H
#define WORKER_VISION_H

#include "worker/picture.h"

struct vision;

struct vision_config {
    const char *path;               /* the projector's file */
    const struct engine_info *info; /* of the model; must outlive the vision */
};

/* NULL and *err (ERR_MODEL_LOAD_FAILED): the file is no projector, or not one for this model. *ret_cells, which may be
 * NULL, is set when info->ubatch is all that is wrong: to what it must be at least. */
struct vision *vision_load(const struct vision_config *config, unsigned *ret_cells, struct err *err);
void vision_free(struct vision *vision); /* NULL is fine */

struct vision_image {
    struct str file;  /* its bytes */
    const char *name; /* the parameter it came in, for errors */
};

struct vision_part { /* of a prompt: a text, or an image */
    struct str text;
    const struct vision_image *image; /* NULL: text */
};

struct vision_prompt { /* zero-initialise */
    engine_token *tokens;
    size_t count;
    struct picture_place *pictures; /* with a reference to each */
    size_t picture_count;
};
void vision_prompt_release(struct vision_prompt *prompt); /* twice is fine */

/* Blocking. stop is asked between images and may end it (ERR_CLIENT_CLOSED). false: *err names the parameter at fault;
 * *ret_prompt is empty then. Images stay encoded for a while, so the same one costs little the next time. */
bool vision_read(struct vision *vision, const struct vision_part *parts, size_t count, const struct engine_stop *stop,
                 struct vision_prompt *ret_prompt, struct err *err);

struct vision_stats {
    uint64_t encoded, found; /* pictures: computed, and found again */
    double seconds;          /* of computing */
};
void vision_stats(struct vision *vision, struct vision_stats *ret_stats); /* any thread */

#endif
