/* CPU use is a difference of two readings of /proc/stat; a reading is taken when somebody asks and the last one is at
 * least a second old. Before there are two, the value is unknown and says so. */
#include "api/system/machine.h"

#include "base/clock.h"
#include "base/mem.h"
#include "instance/evict.h"

#define SAMPLE_MS 1000

struct machine {
    uint64_t sampled_ms, busy, total;
    bool known;
    double percent;
};

static bool read_cpu(uint64_t *ret_busy, uint64_t *ret_total)
{
    unsigned long long t[8] = {0};
    FILE *file = fopen("/proc/stat", "re");
    if (!file)
        return false;
    int n = fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6],
                   &t[7]);
    fclose(file);
    *ret_total = 0;
    for (int i = 0; i < 8; i++)
        *ret_total += t[i];
    *ret_busy = *ret_total - t[3] - t[4];
    return n == 8;
}

static uint64_t resident_bytes(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return 0;
    if (fscanf(file, "%*u %llu", &pages) != 1)
        pages = 0;
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

struct machine *machine_new(void)
{
    struct machine *m = mem_calloc(1, sizeof *m);
    if (read_cpu(&m->busy, &m->total))
        m->sampled_ms = clock_ms();
    return m;
}

void machine_free(struct machine *machine)
{
    mem_free(machine);
}

static void sample(struct machine *m)
{
    uint64_t busy, total;
    if (clock_ms() - m->sampled_ms < SAMPLE_MS || !read_cpu(&busy, &total) || total == m->total)
        return;
    m->percent = (double)(busy - m->busy) * 100 / (double)(total - m->total);
    m->known = true;
    m->busy = busy;
    m->total = total;
    m->sampled_ms = clock_ms();
}

void machine_load(struct machine *m, struct machine_load *ret_load)
{
    sample(m);
    uint64_t total = evict_memory_total(), available = evict_memory_available();
    *ret_load = (struct machine_load){.cpu_known = m->known,
                                      .cpu_percent = m->percent,
                                      .memory_total = total,
                                      .memory_used = available && total > available ? total - available : 0,
                                      .process_memory = resident_bytes()};
}
