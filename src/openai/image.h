/* Images as requests carry them: what an image's URL is, and what its first bytes promise. Files come from anywhere and
 * are decoded by a library that believes them, so everything that makes a small file large is found here first. Pure;
 * any thread. */
#ifndef OPENAI_IMAGE_H
#define OPENAI_IMAGE_H

#include "base/err.h"
#include "base/str.h"

enum image_place { IMAGE_DATA, IMAGE_REMOTE };

/* An image's URL: "data:image/...;base64,..." with its base64 in *ret_data, or an http or https one. false: neither
 * (ERR_INVALID_PARAMETERS; the caller names the parameter). */
bool image_url_read(struct str url, enum image_place *ret_place, struct str *ret_data, struct err *err);

enum image_format { IMAGE_PNG, IMAGE_JPEG, IMAGE_GIF, IMAGE_BMP };

struct image_head {
    enum image_format format;
    unsigned width, height; /* pixels, 1..LIMIT_IMAGE_SIDE; LIMIT_IMAGE_PIXELS together at most */
};

/* Format and size of a whole image file. false: it is of no known format, too large, or unpacks to more than its size
 * says (ERR_INVALID_PARAMETERS; the caller names the parameter). */
bool image_head_read(struct str file, struct image_head *ret_head, struct err *err);

#endif
