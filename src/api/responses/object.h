/* Parts of the response object that events show alone. */
#ifndef API_RESPONSES_OBJECT_H
#define API_RESPONSES_OBJECT_H

#include "api/responses/reply.h"

/* empty: as it was when it began, without what it holds by now. */
void response_item_put(const struct response_item *item, struct json *j, const char *key, bool empty);
void response_part_put(const struct response_item *item, struct json *j, const char *key, struct str text);

#endif
