/* The families of obs/metrics.def that are gauges, brought up to now. Loop thread only. */
#ifndef API_SYSTEM_GAUGES_H
#define API_SYSTEM_GAUGES_H

#include "api/app.h"

void gauges_set(struct app *app, struct arena *arena); /* arena: for the moment */

#endif
