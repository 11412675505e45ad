/* A request's memory: many small allocations, released at once, and the place where whatever must react to the
 * request's death registers itself (h2o's memory pools are the model).
 * One thread at a time. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stdarg.h>
#include <stddef.h>

#include "base/str.h"

struct arena_block;
struct arena_disposer;

struct arena {
    struct arena_block *blocks;       /* newest first */
    struct arena_disposer *disposers; /* newest first: disposed in reverse order of registration */
    size_t used;                      /* bytes handed out, for accounting */
};

void arena_init(struct arena *arena); /* allocates nothing yet */

/* Runs the disposers, newest first, then frees everything. The arena may be used again afterwards. */
void arena_dispose(struct arena *arena);

/* Aligned for any type, uninitialised, valid until arena_dispose. Never NULL. */
void *arena_alloc(struct arena *arena, size_t size);
void *arena_calloc(struct arena *arena, size_t size);
char *arena_strndup(struct arena *arena, const char *text, size_t length);
char *arena_strdup(struct arena *arena, const char *text);
struct str arena_str(struct arena *arena, struct str text); /* copy, NUL-terminated behind its end */
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Calls on_dispose(arg) when the arena dies. Returns a handle with which the call can be withdrawn. */
struct arena_disposer *arena_on_dispose(struct arena *arena, void (*on_dispose)(void *arg), void *arg);
void arena_forget(struct arena_disposer *disposer); /* NULL is fine; must not be called after arena_dispose began */

#endif
