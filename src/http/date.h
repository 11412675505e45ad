/* HTTP's date format (RFC 9110 5.6.7): "Sat, 21 Nov 2026 06:18:54 GMT". */
#ifndef HTTP_DATE_H
#define HTTP_DATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define HTTP_DATE_SIZE 32

char *http_date(int64_t unix_seconds, char out[HTTP_DATE_SIZE]);
char *http_date_now(char out[HTTP_DATE_SIZE]);
bool http_date_parse(struct str text, int64_t *ret_unix); /* the preferred form only */

#endif
