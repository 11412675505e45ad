/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

bool utf8_valid(const char *text, size_t n);

/* Length of the longest prefix of text[0..n) that ends at a character boundary; text is otherwise taken as is. */
size_t utf8_cut(const char *text, size_t n);

/* How many bytes of text[0..n) are complete characters: what may be sent now while the rest waits for its missing
 * bytes (at most 3). Bytes that can never become valid count as complete. */
size_t utf8_complete(const char *text, size_t n);

/* One character from text[0..n), n > 0: its length 1..4, or 0 when invalid or cut off. */
size_t utf8_decode(const char *text, size_t n, unsigned *ret_codepoint);

/* Writes 1..4 bytes; codepoint must be a valid scalar value. */
size_t utf8_encode(unsigned codepoint, char out[4]);

/* Text that comes in pieces: false as soon as no byte that may follow could make it valid. Zero-initialise it. */
struct utf8_check {
    unsigned char wanted;    /* continuation bytes still missing */
    unsigned char low, high; /* bounds of the next one */
};
bool utf8_check_feed(struct utf8_check *check, const char *bytes, size_t n);

static inline bool utf8_check_whole(const struct utf8_check *check) /* no character is cut off at the end */
{
    return check->wanted == 0;
}

#endif
