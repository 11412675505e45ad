/* One field of a multipart/form-data body (RFC 7578), found where it lies: nothing is copied. */
#ifndef HTTP_MULTIPART_H
#define HTTP_MULTIPART_H

#include "base/err.h"
#include "base/str.h"

/* Whether the Content-Type is multipart/form-data. */
bool http_multipart_is(struct str content_type);

/* The content of the first part of that name, pointing into body; STR_NONE when there is none. At most
 * LIMIT_FORM_PARTS parts are looked at. false: the body is no such form (ERR_BAD_REQUEST). */
bool http_multipart_find(struct str body, struct str content_type, struct str name, struct str *ret_content,
                         struct err *err);

/* The pieces that both readers of forms share. */
#define HTTP_BOUNDARY_MAX 70 /* RFC 2046 */

/* The boundary that the Content-Type names, 1 to HTTP_BOUNDARY_MAX bytes; STR_NONE and *err otherwise. */
struct str http_multipart_boundary(struct str content_type, struct err *err);

/* A parameter ("name", "filename") of a part's Content-Disposition among its header lines; STR_NONE: there is none. */
struct str http_multipart_parameter(struct str lines, struct str name);

#endif
