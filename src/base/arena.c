#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* The first block holds a plain request's head and most of its handlers' state, the second what is left over; later
 * ones double up to BLOCK_MAX. An idle stream costs these two, so both are small on purpose (3 KiB an idle stream is
 * the whole budget). */
#define BLOCK_FIRST  1000
#define BLOCK_SECOND 500
#define BLOCK_MAX    (64 * 1024)

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    alignas(max_align_t) char data[];
};

struct arena_disposer {
    struct arena_disposer *next;
    void (*on_dispose)(void *arg);
    void *arg;
};

void arena_init(struct arena *arena)
{
    *arena = (struct arena){0};
}

void arena_dispose(struct arena *arena)
{
    while (arena->disposers) {
        struct arena_disposer *d = arena->disposers;
        arena->disposers = d->next;
        if (d->on_dispose)
            d->on_dispose(d->arg);
    }
    while (arena->blocks) {
        struct arena_block *b = arena->blocks;
        arena->blocks = b->next;
        mem_free(b);
    }
    arena->used = 0;
}

static struct arena_block *block_new(struct arena *arena, size_t wanted)
{
    size_t size = !arena->blocks ? BLOCK_FIRST : !arena->blocks->next ? BLOCK_SECOND : arena->blocks->size * 2;
    if (size > BLOCK_MAX)
        size = BLOCK_MAX;
    if (size < wanted)
        size = wanted;
    struct arena_block *b = mem_alloc(sizeof *b + size);
    b->used = 0;
    b->size = size;
    b->next = arena->blocks;
    arena->blocks = b;
    return b;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    const size_t align = alignof(max_align_t);
    size = (size + align - 1) / align * align;
    struct arena_block *b = arena->blocks;
    if (!b || b->size - b->used < size)
        b = block_new(arena, size);
    void *memory = b->data + b->used;
    b->used += size;
    arena->used += size;
    return memory;
}

void *arena_calloc(struct arena *arena, size_t size)
{
    return memset(arena_alloc(arena, size), 0, size);
}

char *arena_strndup(struct arena *arena, const char *text, size_t length)
{
    char *copy = arena_alloc(arena, length + 1);
    if (length)
        memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

char *arena_strdup(struct arena *arena, const char *text)
{
    return arena_strndup(arena, text, strlen(text));
}

struct str arena_str(struct arena *arena, struct str text)
{
    return (struct str){arena_strndup(arena, text.p, text.n), text.n};
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = arena_alloc(arena, (size_t)(n < 0 ? 0 : n) + 1);
    vsnprintf(text, (size_t)(n < 0 ? 0 : n) + 1, format, again);
    va_end(again);
    return text;
}

struct arena_disposer *arena_on_dispose(struct arena *arena, void (*on_dispose)(void *arg), void *arg)
{
    struct arena_disposer *d = arena_alloc(arena, sizeof *d);
    *d = (struct arena_disposer){.next = arena->disposers, .on_dispose = on_dispose, .arg = arg};
    arena->disposers = d;
    return d;
}

void arena_forget(struct arena_disposer *disposer)
{
    if (disposer)
        disposer->on_dispose = NULL;
}
