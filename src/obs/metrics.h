/* What is measured, for Prometheus: families are rows of metrics.def, series appear when they are first touched. The
 * number of series of one family is bounded by LIMIT_METRIC_SERIES; what would go beyond is counted under the label
 * value "other". Loop thread only. */
#ifndef OBS_METRICS_H
#define OBS_METRICS_H

#include "base/buf.h"

enum metric {
#define METRIC(name, ...) METRIC_##name,
#include "obs/metrics.def"
#undef METRIC
    METRIC_COUNT
};

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

#define METRIC_LABELS 3

/* Upper bounds of every histogram's buckets, seconds; one more has no bound. */
#define METRIC_BUCKETS 15
extern const double metric_bounds[METRIC_BUCKETS];

struct metrics;
struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics);

/* One call a measurement. labels: as many values as the family has labels, in their order; NULL when it has none.
 * Cost: one hash look-up. metrics may be NULL: nothing happens. */
void metrics_add(struct metrics *metrics, enum metric metric, const char *const *labels, double amount);
void metrics_set(struct metrics *metrics, enum metric metric, const char *const *labels, double value);
void metrics_observe(struct metrics *metrics, enum metric metric, const char *const *labels, double seconds);

/* The value of a counter or gauge, the count of a histogram; 0 for a series that never was. */
double metrics_value(const struct metrics *metrics, enum metric metric, const char *const *labels);
/* The sum over all series of a family, of its values. */
double metrics_total(const struct metrics *metrics, enum metric metric);

/* The same over the series whose label has a value with that beginning. */
double metrics_total_where(const struct metrics *metrics, enum metric metric, const char *label, const char *beginning);
/* How often all series of a histogram were observed. */
uint64_t metrics_observations(const struct metrics *metrics, enum metric metric);

const char *metrics_name(enum metric metric);
enum metric_kind metrics_kind(enum metric metric);

/* Prometheus' text format 0.0.4, or OpenMetrics 1.0: there a counter's family has no "_total", which its sample has,
 * and bounds are written as the numbers with a fraction that they are. */
enum metrics_format { METRICS_TEXT, METRICS_OPENMETRICS };

/* Appends all families. A family without a series appears with its help alone; one without labels always has its
 * series. The end of an OpenMetrics document ("# EOF") is the caller's. */
void metrics_write(const struct metrics *metrics, enum metrics_format format, struct buf *out);

/* For families kept elsewhere: the two comment lines, a label's value with its quotes, escaped, and the value of "le"
 * (INFINITY: the last) with its quotes. */
void metrics_put_head(struct buf *out, enum metrics_format format, const char *name, const char *type,
                      const char *help);
void metrics_put_label(struct buf *out, const char *value);
void metrics_put_bound(struct buf *out, enum metrics_format format, double bound);

#endif
