#include "api/system/uptime.h"

#include <inttypes.h>
#include <math.h>

#include "base/clock.h"

const char *uptime_text(uint64_t seconds, struct arena *arena)
{
    uint64_t days = seconds / 86400, hours = seconds / 3600 % 24, minutes = seconds / 60 % 60;
    if (days)
        return arena_printf(arena, "%" PRIu64 "d %" PRIu64 "h %" PRIu64 "m %" PRIu64 "s", days, hours, minutes,
                            seconds % 60);
    return arena_printf(arena, "%" PRIu64 "h %" PRIu64 "m %" PRIu64 "s", hours, minutes, seconds % 60);
}

void put_uptime(struct json *j, const struct app *app, struct arena *arena)
{
    uint64_t seconds = (clock_ms() - app->started_ms) / 1000;
    json_put_string(j, "uptime", uptime_text(seconds, arena));
    json_put_int(j, "uptime_seconds", (int64_t)seconds);
}

void put_tenths(struct json *j, const char *key, double value)
{
    json_put_number(j, key, round(value * 10) / 10);
}
