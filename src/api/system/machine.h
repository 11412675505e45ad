/* How busy the machine is, measured. Loop thread only. */
#ifndef API_SYSTEM_MACHINE_H
#define API_SYSTEM_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

struct machine;

struct machine_load {
    bool cpu_known;
    double cpu_percent;                 /* of all cores, over the last second or more */
    uint64_t memory_used, memory_total; /* bytes of the machine; 0: unknown */
    uint64_t process_memory;            /* resident bytes of this process */
};

struct machine *machine_new(void);
void machine_free(struct machine *machine);
void machine_load(struct machine *machine, struct machine_load *ret_load);

#endif
