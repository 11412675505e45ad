#include "worker/notify.h"

#include <stdio.h>

static void tell(int fd, const char *line, int n)
{
    if (fd < 0 || n <= 0)
        return;
    /* A parent that is gone ends us by other means. */
    ssize_t ignored = write(fd, line, (size_t)n);
    (void)ignored;
}

void notify_progress(int fd, float fraction)
{
    char line[32];
    tell(fd, line, snprintf(line, sizeof line, "progress %.3f\n", (double)fraction));
}

static void notify_device(int fd, const struct device_use *use)
{
    char line[DEVICE_NAME + 160];
    tell(fd, line,
         snprintf(line, sizeof line, "device %s %llu %llu %llu %llu %llu %u\n", use->device.name,
                  (unsigned long long)use->device.total, (unsigned long long)use->device.free,
                  (unsigned long long)use->weights, (unsigned long long)use->kv, (unsigned long long)use->compute,
                  use->layers));
}

void notify_memory(int fd, const struct engine_info *info)
{
    char line[80];
    tell(fd, line,
         snprintf(line, sizeof line, "memory %llu %llu %llu\n", (unsigned long long)info->weight_bytes,
                  (unsigned long long)info->kv_bytes, (unsigned long long)info->compute_bytes));
    for (unsigned d = 0; d < info->device_count; d++)
        notify_device(fd, &info->devices[d]);
}

void notify_ready(int fd)
{
    tell(fd, "ready\n", 6);
}

void notify_load(int fd, const struct sched_stats *s)
{
    char line[160];
    tell(fd, line,
         snprintf(line, sizeof line, "load %u %u %u %u %u %llu %llu\n", s->queued, s->running, s->sequences,
                  s->cells_used, s->cells, (unsigned long long)s->generated_tokens, (unsigned long long)s->steps));
}

void notify_error(int fd, const struct err *err)
{
    char line[LIMIT_ERR_MESSAGE + 64];
    int n = snprintf(line, sizeof line, "error %s %s", err_wire_code(err->code), err->message);
    if (n >= (int)sizeof line - 1)
        n = (int)sizeof line - 2;
    for (int i = 0; i < n; i++)
        if (line[i] == '\n')
            line[i] = ' ';
    line[n++] = '\n';
    tell(fd, line, n);
}
