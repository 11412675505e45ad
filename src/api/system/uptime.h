/* How long the server has been running. Loop thread only. */
#ifndef API_SYSTEM_UPTIME_H
#define API_SYSTEM_UPTIME_H

#include "api/app.h"

/* "2h 15m 30s"; from a day on "3d 2h 15m 30s". In arena. */
const char *uptime_text(uint64_t seconds, struct arena *arena);

/* Members "uptime" and "uptime_seconds" of the open object. */
void put_uptime(struct json *j, const struct app *app, struct arena *arena);

/* null where the number is NAN; else to a tenth. */
void put_tenths(struct json *j, const char *key, double value);

#endif
