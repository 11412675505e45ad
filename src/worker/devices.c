#include "worker/devices.h"

#include <ggml-backend.h>
#include <ggml.h>
#include <stdio.h>

#include "base/build.h"
#include "base/str.h"

static void describe(ggml_backend_dev_t handle, struct device *d)
{
    size_t total = 0, unused = 0;
    ggml_backend_dev_memory(handle, &unused, &total);
    *d = (struct device){.integrated = ggml_backend_dev_type(handle) == GGML_BACKEND_DEVICE_TYPE_IGPU,
                         .total = total,
                         .free = unused < total ? unused : total};
    snprintf(d->name, sizeof d->name, "%s", ggml_backend_dev_name(handle));
    snprintf(d->backend, sizeof d->backend, "%s", ggml_backend_reg_name(ggml_backend_dev_backend_reg(handle)));
    snprintf(d->description, sizeof d->description, "%s", ggml_backend_dev_description(handle));
}

static unsigned list_of(enum ggml_backend_dev_type type, struct device out[LIMIT_DEVICES])
{
    unsigned count = 0;
    for (size_t i = 0; i < ggml_backend_dev_count() && count < LIMIT_DEVICES; i++)
        if (ggml_backend_dev_type(ggml_backend_dev_get(i)) == type)
            describe(ggml_backend_dev_get(i), &out[count++]);
    return count;
}

static void pass_over(enum ggml_log_level level, const char *text, void *arg)
{
    (void)level;
    (void)text;
    (void)arg;
}

void devices_quiet(void)
{
    ggml_log_set(pass_over, NULL);
}

unsigned devices_list(struct device out[LIMIT_DEVICES])
{
    unsigned count = list_of(GGML_BACKEND_DEVICE_TYPE_GPU, out);
    return count ? count : list_of(GGML_BACKEND_DEVICE_TYPE_IGPU, out);
}

static bool refuse(struct str name, const struct device *all, unsigned count, struct err *err)
{
    char there[256] = "none";
    for (unsigned i = 0, n = 0; i < count && n < sizeof there; i++)
        n += (unsigned)snprintf(there + n, sizeof there - n, "%s%s (%s)", i ? ", " : "", all[i].name,
                                all[i].description);
    return err_set(err, ERR_GPU_UNAVAILABLE, "there is no GPU '" STR_FMT "' here; there are: %s (backends: %s)",
                   STR_ARG(name), there, build_backends());
}

bool devices_choose(const char *names, struct device out[LIMIT_DEVICES], unsigned *ret_count, struct err *err)
{
    struct device all[LIMIT_DEVICES];
    unsigned known = devices_list(all), count = 0;
    struct str rest = str_from(names);
    if (!*names)
        memcpy(out, all, sizeof all);
    while (rest.n && count < LIMIT_DEVICES) {
        struct str name = str_trim(str_cut(&rest, ','));
        int place = device_find(all, known, name);
        if (place < 0)
            return refuse(name, all, known, err);
        if (device_find(out, count, str_from(all[place].name)) < 0) /* naming one twice gives no second */
            out[count++] = all[place];
    }
    *ret_count = *names ? count : known;
    return true;
}
