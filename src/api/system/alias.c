#include "api/system/alias.h"

#include <math.h>

double mean_latency_ms(const struct metrics *m)
{
    double count = (double)metrics_observations(m, METRIC_REQUEST_SECONDS);
    return count > 0 ? 1000 * metrics_total(m, METRIC_REQUEST_SECONDS) / count : NAN;
}

double decode_rate(const struct metrics *m)
{
    double seconds = metrics_total(m, METRIC_DECODE_SECONDS);
    return seconds > 0 ? metrics_total(m, METRIC_DECODED_TOKENS) / seconds : NAN;
}

static void put(struct buf *out, enum metrics_format format, const char *name, const char *type, const char *help,
                double value)
{
    metrics_put_head(out, format, name, type, help);
    if (!isnan(value))
        buf_printf(out, "%s %.17g\n", name, value);
}

void aliases_write(const struct metrics *m, bool old, enum metrics_format format, struct buf *out)
{
#define ALIAS(name, type, help, value) put(out, format, name, type, help, value);
#include "api/system/alias.def"
    if (!old)
        return;
#include "api/system/alias_old.def"
#undef ALIAS
}
