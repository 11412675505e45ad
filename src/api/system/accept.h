/* Which form of the measurements an Accept header asks for. Pure. */
#ifndef API_SYSTEM_ACCEPT_H
#define API_SYSTEM_ACCEPT_H

#include "base/str.h"
#include "obs/metrics.h"

/* OpenMetrics when it is named and not liked less than plain text. accept.p may be NULL. */
enum metrics_format metrics_format_of(struct str accept);

#endif
