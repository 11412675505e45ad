/* Finds single members at the top of a JSON object in one pass over the bytes, building nothing: what the gateway needs
 * to route a request whose body it passes on untouched. It does not validate what it skips; the worker does. */
#ifndef BASE_JSON_SCAN_H
#define BASE_JSON_SCAN_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

struct json_scan {
    const char *key; /* in: the member looked for */
    struct str raw;  /* out: its value as it stands in the text, quotes included; STR_NONE when absent. Of several
                      * members with that name the last one counts, as in json_read. */
};

/* Fills wanted[0..count). false: the text is no JSON object, or breaks off (ERR_INVALID_JSON, with the reader's own
 * words). */
bool json_scan(struct str text, struct json_scan *wanted, size_t count, struct err *err);

/* The next item of a raw array, as it stands in the text: start with the whole array, *array becomes what is behind the
 * item. false: there is none. */
bool json_scan_item(struct str *array, struct str *ret_item);

/* The text of a raw string value (its quotes and escapes undone, in the arena); false when raw is no valid string. */
bool json_scan_text(struct str raw, struct arena *arena, struct str *ret_text);

#endif
