#include "api/system/reserved.h"

#include <math.h>

static void put_device(struct json *j, const struct worker_device *d)
{
    json_open_object(j, NULL);
    json_put_string(j, "gpu", d->name);
    json_put_int(j, "layers", d->layers);
    json_put_int(j, "weight_bytes", (int64_t)d->weights);
    json_put_int(j, "kv_bytes", (int64_t)d->kv);
    json_put_int(j, "compute_bytes", (int64_t)d->compute);
    json_close(j);
}

void reserved_put(struct json *j, const struct worker_memory *m)
{
    if (m->weights == 0) {
        json_put_null(j, "reserved");
        return;
    }
    json_open_object(j, "reserved");
    json_put_int(j, "weight_bytes", (int64_t)m->weights);
    json_put_int(j, "kv_bytes", (int64_t)m->kv);
    json_put_int(j, "compute_bytes", (int64_t)m->compute);
    json_open_array(j, "gpus");
    for (unsigned d = 0; d < m->device_count; d++)
        put_device(j, &m->devices[d]);
    json_close(j);
    json_close(j);
}

uint64_t reserved_on_gpus(const struct worker_memory *m)
{
    uint64_t bytes = 0;
    for (unsigned d = 0; d < m->device_count; d++)
        bytes += m->devices[d].weights + m->devices[d].kv + m->devices[d].compute;
    return bytes;
}

void gpus_put(struct json *j, const struct app *app)
{
    struct gpu_status gpus[LIMIT_DEVICES];
    unsigned count = instances_gpus(app->instances, gpus);
    json_open_array(j, "gpus");
    for (unsigned d = 0; d < count; d++) {
        json_open_object(j, NULL);
        device_put(j, &gpus[d].device);
        json_put_int(j, "used_bytes", (int64_t)gpus[d].used);
        json_close(j);
    }
    json_close(j);
}

struct sums {
    double total, unused, held;
};

static struct sums add_up(const struct app *app)
{
    struct gpu_status gpus[LIMIT_DEVICES];
    struct sums sums = {0};
    unsigned count = instances_gpus(app->instances, gpus);
    for (unsigned d = 0; d < count; d++) {
        sums.total += (double)gpus[d].device.total;
        sums.unused += (double)gpus[d].device.free;
        sums.held += (double)gpus[d].used;
    }
    return sums;
}

double gpus_usage_percent(const struct app *app)
{
    struct sums s = add_up(app);
    return s.total > 0 ? 100 * (s.total - s.unused) / s.total : NAN;
}

double gpus_held_percent(const struct app *app)
{
    struct sums s = add_up(app);
    return s.total > 0 ? 100 * s.held / s.total : NAN;
}
