/* A series is found by its family's number and its label values in one hash table; the families chain their series in
 * order of appearance for the writer. Label texts are rendered once, when a series is born. */
#include "obs/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

const double metric_bounds[METRIC_BUCKETS] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
                                              2.5,   5,    10,    30,   60,  120,  300};

static const struct family {
    const char *name, *help;
    enum metric_kind kind;
    const char *labels[METRIC_LABELS];
} families[] = {
#define METRIC(id, kind, name, help, ...) {name, help, METRIC_##kind, {__VA_ARGS__}},
#include "obs/metrics.def"
#undef METRIC
};

struct series {
    struct list link;
    char *labels;             /* `model="a",endpoint="chat"`, or "" */
    double value;             /* of a histogram: the sum */
    uint64_t count, counts[]; /* of a histogram: METRIC_BUCKETS + 1, not cumulated */
};

struct metrics {
    struct map by_key;
    struct list series[METRIC_COUNT];
    size_t series_count[METRIC_COUNT];
};

struct metrics *metrics_new(void)
{
    struct metrics *m = mem_calloc(1, sizeof *m);
    map_init(&m->by_key);
    for (size_t i = 0; i < METRIC_COUNT; i++)
        list_init(&m->series[i]);
    return m;
}

void metrics_free(struct metrics *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        while (!list_empty(&m->series[i])) {
            struct series *s = list_first(&m->series[i], struct series, link);
            list_remove(&s->link);
            mem_free(s->labels);
            mem_free(s);
        }
    }
    map_release(&m->by_key);
    mem_free(m);
}

/* ---- finding a series ---- */

static size_t label_count(const struct family *family)
{
    size_t n = 0;
    while (n < METRIC_LABELS && family->labels[n])
        n++;
    return n;
}

/* No label's value holds a unit separator: it is a control character. */
static struct str key_of(enum metric metric, const char *const *labels, struct buf *key)
{
    buf_printf(key, "%d", (int)metric);
    for (size_t i = 0; i < label_count(&families[metric]); i++) {
        buf_putc(key, '\x1f');
        buf_puts(key, labels[i]);
    }
    return buf_view(key);
}

void metrics_put_label(struct buf *out, const char *value)
{
    buf_putc(out, '"');
    for (const char *c = value; *c; c++) {
        if (*c == '"' || *c == '\\')
            buf_putc(out, '\\');
        if (*c == '\n')
            buf_puts(out, "\\n");
        else
            buf_putc(out, *c);
    }
    buf_putc(out, '"');
}

static char *render(const struct family *family, const char *const *labels)
{
    struct buf text;
    buf_init(&text, LIMIT_METRIC_LABELS);
    for (size_t i = 0; i < label_count(family); i++) {
        buf_printf(&text, "%s%s=", i ? "," : "", family->labels[i]);
        metrics_put_label(&text, labels[i]);
    }
    return buf_take(&text, NULL);
}

static struct series *series_new(struct metrics *m, enum metric metric, const char *const *labels, struct str key)
{
    const struct family *family = &families[metric];
    size_t buckets = family->kind == METRIC_HISTOGRAM ? METRIC_BUCKETS + 1 : 0;
    struct series *s = mem_calloc(1, sizeof *s + buckets * sizeof *s->counts);
    s->labels = render(family, labels);
    list_push(&m->series[metric], &s->link);
    m->series_count[metric]++;
    map_put(&m->by_key, key, s);
    return s;
}

static struct series *find(const struct metrics *m, enum metric metric, const char *const *labels)
{
    struct buf key;
    buf_init(&key, LIMIT_METRIC_LABELS);
    struct series *s = map_get(&m->by_key, key_of(metric, labels, &key));
    buf_release(&key);
    return s;
}

static struct series *touch(struct metrics *m, enum metric metric, const char *const *labels)
{
    static const char *const other[METRIC_LABELS] = {"other", "other", "other"};
    struct buf key;
    buf_init(&key, LIMIT_METRIC_LABELS);
    struct series *s = map_get(&m->by_key, key_of(metric, labels, &key));
    bool full = m->series_count[metric] >= LIMIT_METRIC_SERIES || !buf_ok(&key);
    if (!s && !full) {
        s = series_new(m, metric, labels, buf_view(&key));
    } else if (!s) {
        buf_clear(&key);
        s = map_get(&m->by_key, key_of(metric, other, &key));
        s = s ? s : series_new(m, metric, other, buf_view(&key));
    }
    buf_release(&key);
    return s;
}

/* ---- measuring ---- */

void metrics_add(struct metrics *m, enum metric metric, const char *const *labels, double amount)
{
    if (m)
        touch(m, metric, labels)->value += amount;
}

void metrics_set(struct metrics *m, enum metric metric, const char *const *labels, double value)
{
    if (m)
        touch(m, metric, labels)->value = value;
}

void metrics_observe(struct metrics *m, enum metric metric, const char *const *labels, double seconds)
{
    if (!m)
        return;
    struct series *s = touch(m, metric, labels);
    size_t bucket = 0;
    while (bucket < METRIC_BUCKETS && seconds > metric_bounds[bucket])
        bucket++;
    s->counts[bucket]++;
    s->count++;
    s->value += seconds;
}

double metrics_value(const struct metrics *m, enum metric metric, const char *const *labels)
{
    const struct series *s = m ? find(m, metric, labels) : NULL;
    if (!s)
        return 0;
    return families[metric].kind == METRIC_HISTOGRAM ? (double)s->count : s->value;
}

double metrics_total(const struct metrics *m, enum metric metric)
{
    double total = 0;
    for (struct list *link = m->series[metric].next; link != &m->series[metric]; link = link->next)
        total += container_of(link, struct series, link)->value;
    return total;
}

/* A quote in a value is written \", so only a label's own beginning looks like this. */
double metrics_total_where(const struct metrics *m, enum metric metric, const char *label, const char *beginning)
{
    char wanted[64];
    double total = 0;
    snprintf(wanted, sizeof wanted, "%s=\"%s", label, beginning);
    for (struct list *link = m->series[metric].next; link != &m->series[metric]; link = link->next) {
        const struct series *s = container_of(link, struct series, link);
        if (strstr(s->labels, wanted))
            total += s->value;
    }
    return total;
}

uint64_t metrics_observations(const struct metrics *m, enum metric metric)
{
    uint64_t total = 0;
    for (struct list *link = m->series[metric].next; link != &m->series[metric]; link = link->next)
        total += container_of(link, struct series, link)->count;
    return total;
}

const char *metrics_name(enum metric metric)
{
    return families[metric].name;
}

enum metric_kind metrics_kind(enum metric metric)
{
    return families[metric].kind;
}

/* ---- writing ---- */

void metrics_put_head(struct buf *out, enum metrics_format format, const char *name, const char *type, const char *help)
{
    struct str family = str_from(name);
    if (format == METRICS_OPENMETRICS && strcmp(type, "counter") == 0 && str_ends(family, STR("_total")))
        family.n -= strlen("_total");
    buf_printf(out, "# HELP " STR_FMT " %s\n# TYPE " STR_FMT " %s\n", STR_ARG(family), help, STR_ARG(family), type);
}

void metrics_put_bound(struct buf *out, enum metrics_format format, double bound)
{
    if (isinf(bound))
        buf_puts(out, "\"+Inf\"");
    else if (format == METRICS_OPENMETRICS && bound == floor(bound))
        buf_printf(out, "\"%.1f\"", bound);
    else
        buf_printf(out, "\"%g\"", bound);
}

static void put_histogram(struct buf *out, enum metrics_format format, const char *name, const struct series *s)
{
    const char *comma = *s->labels ? "," : "", *open = *s->labels ? "{" : "", *close = *s->labels ? "}" : "";
    uint64_t below = 0;
    for (size_t i = 0; i <= METRIC_BUCKETS; i++) {
        below += s->counts[i];
        buf_printf(out, "%s_bucket{%s%sle=", name, s->labels, comma);
        metrics_put_bound(out, format, i < METRIC_BUCKETS ? metric_bounds[i] : INFINITY);
        buf_printf(out, "} %llu\n", (unsigned long long)below);
    }
    buf_printf(out, "%s_sum%s%s%s %.9g\n", name, open, s->labels, close, s->value);
    buf_printf(out, "%s_count%s%s%s %llu\n", name, open, s->labels, close, (unsigned long long)s->count);
}

static void put_value(struct buf *out, const char *name, const struct series *s)
{
    buf_puts(out, name);
    if (*s->labels)
        buf_printf(out, "{%s}", s->labels);
    buf_printf(out, " %.17g\n", s->value);
}

void metrics_write(const struct metrics *m, enum metrics_format format, struct buf *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    static char unlabelled[] = "";
    static const struct series nothing = {.labels = unlabelled};
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        const struct family *family = &families[i];
        metrics_put_head(out, format, family->name, types[family->kind], family->help);
        if (list_empty(&m->series[i]) && label_count(family) == 0 && family->kind != METRIC_HISTOGRAM)
            put_value(out, family->name, &nothing);
        for (struct list *link = m->series[i].next; link != &m->series[i]; link = link->next) {
            const struct series *s = container_of(link, struct series, link);
            if (family->kind == METRIC_HISTOGRAM)
                put_histogram(out, format, family->name, s);
            else
                put_value(out, family->name, s);
        }
    }
}
