/* One function for ggml's flash attention on CPUs, put there by scripts/deps.sh (quicken_attention). For every row that
 * attends, its loop looks at the mask of every cell of the cache, converts it to a float and only then passes over it.
 * In a cache that many sequences share, nearly all cells are somebody else's: with 16 streams of 256 tokens that was a
 * fifth of a decode's time (135 M parameters, two cores). Masks are halves, and what is masked is minus infinity, so
 * four are looked at in one comparison. */
#ifndef INFERD_MASKED_H
#define INFERD_MASKED_H

#include <stdint.h>
#include <string.h>

/* The first cell from at that is not masked; end if all are. */
static inline int64_t masked_skip(const uint16_t * mask, int64_t at, int64_t end)
{
    const uint64_t four = 0xFC00FC00FC00FC00;
    uint64_t next;
    for (; at + 4 <= end; at += 4) {
        memcpy(&next, mask + at, sizeof next);
        if (next != four)
            break;
    }
    while (at < end && mask[at] == 0xFC00)
        at++;
    return at;
}

#endif
