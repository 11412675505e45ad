/* Allocation. The small, bounded kind ends the process when memory is out: a daemon that cannot get a few hundred
 * bytes cannot do anything useful, and code without dead branches is code that is tested. Sizes that a client
 * chooses go through struct buf, which fails softly, within its maximum. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

/* Exit status of a process that ran out of memory (specs/inferno.md 6.3: 7, resources). */
#define MEM_EXIT 7

/* Tunes the allocator for a long-lived process: memory that requests of ordinary size free is kept for the next ones
 * instead of going back and forth to the kernel. Once, at the start. */
void mem_setup(void);

void mem_require(const void *memory);        /* somebody else's allocation: NULL ends the process as below */
void *mem_alloc(size_t size);                /* uninitialised; never NULL; release with mem_free */
void *mem_calloc(size_t count, size_t size); /* zeroed; ends the process on overflow too */
void *mem_realloc(void *old, size_t size);
void *mem_try_realloc(void *old, size_t size); /* NULL when there is none; old stays valid */
char *mem_strdup(const char *text);
char *mem_strndup(const char *text, size_t length);
void mem_free(void *memory); /* NULL is fine */

#endif
