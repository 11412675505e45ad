/* Changes to the query of a request target. Pure. Reading one is http_query_find (http/head.h). */
#ifndef HTTP_QUERY_H
#define HTTP_QUERY_H

#include "base/arena.h"
#include "base/str.h"

/* target without the pairs of that name (plain ASCII), and without its '?' when none is left; target itself when there
 * are none. */
struct str http_query_without(struct str target, const char *name, struct arena *arena);

#endif
