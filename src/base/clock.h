/* Time. Monotonic for durations and deadlines, wall clock only for what people and protocols read. Any thread. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

uint64_t clock_ns(void);  /* monotonic nanoseconds */
uint64_t clock_ms(void);  /* monotonic milliseconds */
int64_t clock_unix(void); /* seconds since 1970 */
uint64_t clock_unix_ns(void);

/* "2026-11-21T06:18:54.123Z", UTC. Returns out. */
#define CLOCK_RFC3339_SIZE 32
char *clock_rfc3339(int64_t unix_ms, char out[CLOCK_RFC3339_SIZE]);
int64_t clock_unix_ms(void);

#endif
