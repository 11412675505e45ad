/* Randomness from the kernel. Any thread. */
#ifndef BASE_RAND_H
#define BASE_RAND_H

#include <stddef.h>
#include <stdint.h>

void rand_bytes(void *out, size_t n); /* ends the process if the kernel has none to give */
uint64_t rand_u64(void);

/* Writes n characters of [0-9A-Za-z] and a NUL: out holds n + 1. About 5.95 bits each, unbiased. */
char *rand_text(char *out, size_t n);

#endif
