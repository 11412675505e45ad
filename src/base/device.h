/* A GPU as worker, gateway and command line speak of it. Bytes. */
#ifndef BASE_DEVICE_H
#define BASE_DEVICE_H

#include "base/json_write.h"
#include "base/limits.h"
#include "base/str.h"

#define DEVICE_NAME 32

struct device {
    char name[DEVICE_NAME]; /* as the engine counts them: "Vulkan0"; no spaces */
    char backend[16];       /* "Vulkan" */
    char description[128];  /* the maker's name for it */
    bool integrated;        /* its memory is the machine's own */
    uint64_t total, free;   /* when it was asked; both 0: it does not say */
};

/* What an engine has put on one. */
struct device_use {
    struct device device;
    uint64_t weights, kv, compute;
    unsigned layers; /* the output counts as one */
};

static inline uint64_t device_used(const struct device_use *use)
{
    return use->weights + use->kv + use->compute;
}

/* What may be used of it: its free memory less a reserve for what nobody foresees (drivers, other programs), and never
 * more than cap (0: no cap). */
uint64_t device_usable(const struct device *device, uint64_t cap);

/* The place of the one that is called so, or stands there ("0"); -1: none. */
int device_find(const struct device *devices, unsigned count, struct str name);

/* Members of an open object. */
void device_put(struct json *j, const struct device *device);
void device_put_use(struct json *j, const struct device_use *use); /* without the device's total and free memory */

#endif
