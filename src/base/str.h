/* Byte ranges and the few text functions everybody needs. A struct str owns nothing and need not end in NUL. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *p;
    size_t n;
};

#define STR(literal) ((struct str){"" literal, sizeof(literal) - 1})
#define STR_NONE     ((struct str){NULL, 0})
#define STR_FMT      "%.*s"
#define STR_ARG(s)   (int)(s).n, (s).p

static inline struct str str_from(const char *text)
{
    return (struct str){text, text ? strlen(text) : 0};
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool str_ieq(struct str a, struct str b); /* ASCII case folded; no locale */
bool str_starts(struct str text, struct str prefix);
bool str_ends(struct str text, struct str suffix);
struct str str_trim(struct str text); /* spaces and tabs at both ends */

/* Cuts *rest at the first separator: returns the part before it and leaves the part behind it in *rest. Without a
 * separator all of *rest is returned and *rest becomes STR_NONE (p == NULL). */
struct str str_cut(struct str *rest, char separator);

/* Whole text as a decimal number, no sign, no spaces; false on anything else or above max. */
bool str_u64(struct str text, uint64_t max, uint64_t *ret_value);

/* Edit distance (insert, delete, replace; ASCII case folded), at most limit + 1; limit at most 63. */
unsigned str_distance(struct str a, struct str b, unsigned limit);

/* The name in names[0..count) nearest to text and near enough to be meant, or NULL. */
const char *str_nearest(struct str text, const char *const *names, size_t count);

#endif
