/* Files from one folder: Range (single), If-None-Match, If-Modified-Since, HEAD; names never leave the folder. */
#ifndef HTTP_STATIC_H
#define HTTP_STATIC_H

#include "http/server.h"

/* Answers with folder/name (name is a decoded relative path). Unknown, outside or not a plain file: ERR_UNKNOWN_URL. */
void http_static_reply(struct http_req *req, const char *folder, struct str name);

/* Whether If-None-Match or else If-Modified-Since allow 304. etag: quoted; at most 48 bytes. changed: unix seconds;
 * INT64_MAX: not known. */
bool http_not_modified(const struct http_head *head, const char *etag, int64_t changed);

#endif
