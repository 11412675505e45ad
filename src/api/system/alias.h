/* Measurements under the names that other boards know (alias.def), and the means that are told with them. */
#ifndef API_SYSTEM_ALIAS_H
#define API_SYSTEM_ALIAS_H

#include "obs/metrics.h"

/* old: with those that break Prometheus' rules for names. */
void aliases_write(const struct metrics *metrics, bool old, enum metrics_format format, struct buf *out);

/* Over all requests since the start; NAN: there was none. */
double mean_latency_ms(const struct metrics *metrics);
double decode_rate(const struct metrics *metrics); /* tokens a second */

#endif
