/* A document that was read, written on: where json_read and json_write meet. */
#ifndef BASE_JSON_COPY_H
#define BASE_JSON_COPY_H

#include "base/json_read.h"
#include "base/json_write.h"

/* Writes value as it is; NULL writes null. A value that is no JSON text (never one of json_read's) fails the writer. */
void json_put_value(struct json *j, const char *key, const json_t *value);

/* value as text in the arena; STR_NONE for NULL. */
struct str json_text(const json_t *value, struct arena *arena);

/* Lets the arena own one reference of value. */
void json_give(json_t *value, struct arena *arena);

#endif
