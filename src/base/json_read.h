/* Reads JSON from outside: strict, bounded, typed. A thin cover over jansson, so that the parser can be changed in
 * one place, and field tables that turn an object into a struct with errors that name the path, the type found and
 * the range allowed (specs/inferno.md 1.9). Any thread; a document belongs to one thread at a time. */
#ifndef BASE_JSON_READ_H
#define BASE_JSON_READ_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

/* First thing in main: from now on a parser without memory ends the process, as mem.h's functions do, instead of
 * calling a good document invalid (jansson does not tell the two apart). */
void json_setup(void);

/* The whole text as one document (object, array or scalar), depth at most LIMIT_JSON_DEPTH, strict UTF-8, no NUL in
 * strings; duplicate keys: the last one wins. The caller releases with json_decref. NULL and *err
 * (ERR_INVALID_JSON with line and column) otherwise. */
json_t *json_read(struct str text, struct err *err);

enum json_kind {
    JSON_KIND_BOOL,   /* bool */
    JSON_KIND_INT,    /* int64_t; integral floats such as 16.0 are taken */
    JSON_KIND_NUMBER, /* double */
    JSON_KIND_TEXT,   /* struct str, pointing into the document; min and max bound its bytes */
    JSON_KIND_OBJECT, /* json_t *, borrowed */
    JSON_KIND_ARRAY,  /* json_t *, borrowed; min and max bound its length */
    JSON_KIND_ANY     /* json_t *, borrowed */
};

struct json_field {
    const char *name;
    enum json_kind kind;
    size_t offset;   /* of the target in the struct */
    double min, max; /* inclusive; both 0: no bound */
    bool required;
};

#define JSON_FIELD(type, member, json_name, json_kind, low, high)                                                      \
    {                                                                                                                  \
        .name = (json_name), .kind = (json_kind), .offset = offsetof(type, member), .min = (low), .max = (high)        \
    }

/* Fills target from object by the table. A field that is absent or null leaves its target as it was (the default);
 * members not in the table are ignored. path prefixes the param of errors ("" at the top). */
bool json_fields(const json_t *object, const struct json_field *fields, size_t count, void *target, const char *path,
                 struct err *err);

/* "path.name" or "path[index]" into out; returns out. */
char *json_path_member(char *out, size_t size, const char *path, const char *name);
char *json_path_index(char *out, size_t size, const char *path, size_t index);

/* "a string", "an array"... for messages. */
const char *json_kind_name(const json_t *value);

/* The bytes of a string value; STR_NONE when value is NULL or no string. */
struct str json_str(const json_t *value);

#endif
