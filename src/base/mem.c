#include "base/mem.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEEP_FREE_BYTES (4 << 20)

void mem_setup(void)
{
#ifdef __GLIBC__
    mallopt(M_TRIM_THRESHOLD, KEEP_FREE_BYTES);
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
}

static void *checked(void *memory, size_t size)
{
    if (memory)
        return memory;
    char line[80];
    int n = snprintf(line, sizeof line, "inferd: out of memory (%zu bytes)\n", size);
    if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
        _exit(MEM_EXIT);
    _exit(MEM_EXIT);
}

void mem_require(const void *memory)
{
    checked((void *)memory, 0);
}

void *mem_alloc(size_t size)
{
    return checked(malloc(size ? size : 1), size);
}

void *mem_calloc(size_t count, size_t size)
{
    return checked(calloc(count ? count : 1, size ? size : 1), size);
}

void *mem_realloc(void *old, size_t size)
{
    return checked(realloc(old, size ? size : 1), size);
}

void *mem_try_realloc(void *old, size_t size)
{
    return realloc(old, size ? size : 1);
}

char *mem_strdup(const char *text)
{
    return mem_strndup(text, strlen(text));
}

char *mem_strndup(const char *text, size_t length)
{
    char *copy = mem_alloc(length + 1);
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

void mem_free(void *memory)
{
    free(memory);
}
