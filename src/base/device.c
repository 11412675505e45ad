#include "base/device.h"

#define RESERVE_PART  20 /* of a device's memory */
#define RESERVE_LEAST (128ull << 20)
#define RESERVE_MOST  (1024ull << 20)

static uint64_t reserve_of(const struct device *d)
{
    uint64_t part = d->total / RESERVE_PART;
    return part < RESERVE_LEAST ? RESERVE_LEAST : part > RESERVE_MOST ? RESERVE_MOST : part;
}

uint64_t device_usable(const struct device *d, uint64_t cap)
{
    uint64_t reserve = reserve_of(d), usable = d->free > reserve ? d->free - reserve : 0;
    return cap && cap < usable ? cap : usable;
}

int device_find(const struct device *devices, unsigned count, struct str name)
{
    uint64_t place;
    for (unsigned i = 0; i < count; i++)
        if (str_ieq(name, str_from(devices[i].name)))
            return (int)i;
    return str_u64(name, LIMIT_DEVICES, &place) && place < count ? (int)place : -1;
}

void device_put(struct json *j, const struct device *d)
{
    json_put_string(j, "name", d->name);
    json_put_string(j, "backend", d->backend);
    json_put_string(j, "description", d->description);
    json_put_bool(j, "integrated", d->integrated);
    json_put_int(j, "total_bytes", (int64_t)d->total);
    json_put_int(j, "free_bytes", (int64_t)d->free);
}

void device_put_use(struct json *j, const struct device_use *use)
{
    json_put_string(j, "device", use->device.name);
    json_put_int(j, "layers", use->layers);
    json_put_int(j, "weight_bytes", (int64_t)use->weights);
    json_put_int(j, "kv_bytes", (int64_t)use->kv);
    json_put_int(j, "compute_bytes", (int64_t)use->compute);
}
