/* Finds the token counts in a reply of this dialect as its bytes pass by, plain or streamed, cut anywhere, keeping
 * nothing but the last "usage" object. Quotes inside JSON strings are escaped, so the member's bare name is enough: no
 * tree, no look at the rest. Our own worker adds one as a comment of its streams (`: {"usage":...}`, see
 * worker/serve_task.c), so that a stream is counted whether or not its client asked for usage. */
#ifndef OPENAI_USAGE_TAP_H
#define OPENAI_USAGE_TAP_H

#include "base/buf.h"

#define USAGE_TAP_NEEDLE "\"usage\":"

struct usage_tap {
    struct buf text;                        /* of the newest object, while it is incomplete or until it is read */
    char last[sizeof USAGE_TAP_NEEDLE - 2]; /* end of the piece before */
    unsigned char last_count;
    bool inside; /* the object goes on in the next piece */
    bool in_string, escaped;
    unsigned short depth;
};

struct usage_counts {
    bool known;
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
    double queue_ms; /* of our worker; < 0: not said */
};

void usage_tap_init(struct usage_tap *tap); /* allocates nothing */
void usage_tap_release(struct usage_tap *tap);
void usage_tap_feed(struct usage_tap *tap, struct str piece);
struct usage_counts usage_tap_read(const struct usage_tap *tap);

#endif
