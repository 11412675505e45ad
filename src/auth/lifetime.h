/* How long a key lives, as people write it: "30d", "1h30m", "3600", "never" (specs/inferno.md 4.3). Pure. */
#ifndef AUTH_LIFETIME_H
#define AUTH_LIFETIME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define LIFETIME_SECONDS_MAX (100ll * 365 * 86400)

/* Whole numbers with the unit s, m, h, d, w or y (365 days), at most one part a unit, the largest unit first, nothing
 * between them; a number alone is seconds. 1 to LIFETIME_SECONDS_MAX seconds. false: it is written in no such way. */
bool lifetime_parse(struct str text, int64_t *ret_seconds);

#endif
