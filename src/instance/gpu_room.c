#include "instance/gpu_room.h"

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t left(const struct gpu_room *room, unsigned d)
{
    return room->limits[d] > room->held[d] ? room->limits[d] - room->held[d] : 0;
}

void gpu_room_spread(const struct gpu_room *room, uint64_t bytes, uint64_t *ret_wanted)
{
    double sum = 0;
    for (unsigned d = 0; d < room->count; d++)
        sum += (double)room->limits[d];
    for (unsigned d = 0; d < room->count; d++) {
        double part = sum > 0 ? (double)room->limits[d] / sum : 0;
        ret_wanted[d] = smaller((uint64_t)((double)bytes * part), room->limits[d]);
    }
}

int gpu_room_short(const struct gpu_room *room, const uint64_t *wanted)
{
    for (unsigned d = 0; d < room->count; d++)
        if (wanted[d] > left(room, d))
            return (int)d;
    return -1;
}

void gpu_room_grant(const struct gpu_room *room, const uint64_t *wanted, uint64_t *ret_granted)
{
    for (unsigned d = 0; d < room->count; d++)
        ret_granted[d] = smaller(wanted[d], left(room, d));
}
