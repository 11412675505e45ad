/* Writes JSON into a struct buf. The writer knows its level, so no caller types a comma, a colon or a quote; misuse
 * (a value without a key, an end without a begin) and a full buffer are sticky and come out of json_finish.
 *
 *     struct json j;
 *     json_begin(&j, &buf);
 *     json_open_object(&j, NULL);
 *     json_put_string(&j, "model", name);
 *     json_open_array(&j, "data");
 *     json_put_int(&j, NULL, 1);
 *     json_close(&j);
 *     json_close(&j);
 *     bool good = json_finish(&j);
 *
 * key is NULL inside arrays and at the top, and the member's name inside objects. */
#ifndef BASE_JSON_WRITE_H
#define BASE_JSON_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define JSON_WRITE_DEPTH 32

struct json {
    struct buf *out;
    int depth;
    bool failed;
    bool empty[JSON_WRITE_DEPTH + 1];  /* nothing written at this level yet */
    bool object[JSON_WRITE_DEPTH + 1]; /* this level is an object */
};

void json_begin(struct json *j, struct buf *out);
bool json_finish(struct json *j); /* every level closed, nothing misused, everything fitted */

void json_open_object(struct json *j, const char *key);
void json_open_array(struct json *j, const char *key);
void json_close(struct json *j); /* closes the innermost object or array */

void json_put_string(struct json *j, const char *key, const char *text); /* NULL writes null */
void json_put_text(struct json *j, const char *key, struct str text);    /* bytes that are not UTF-8 become U+FFFD */
void json_put_int(struct json *j, const char *key, int64_t value);
void json_put_number(struct json *j, const char *key, double value); /* shortest that reads back; not finite: null */
void json_put_float(struct json *j, const char *key, float value);   /* as json_number, to float precision */
void json_put_bool(struct json *j, const char *key, bool value);
void json_put_null(struct json *j, const char *key);
void json_put_raw(struct json *j, const char *key, struct str document); /* already JSON; taken as it is */

/* Appends text as a quoted JSON string. */
void json_escape(struct buf *out, struct str text);

#endif
