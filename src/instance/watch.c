/* Who wants to know of changes. A watcher may go while it is told: it is marked then, and swept when nobody is being
 * told any more. */
#include "base/mem.h"
#include "instance/instance_private.h"

struct watcher {
    struct list link;
    struct instances *all;
    void (*on_change)(void *arg, struct instance *i, bool gone);
    void *arg;
    bool left;
};

static void sweep(struct instances *all)
{
    list_each (w, &all->watchers, struct watcher, link) {
        if (w->left) {
            list_remove(&w->link);
            mem_free(w);
        }
    }
}

static void on_arena_gone(void *arg)
{
    struct watcher *w = arg;
    w->left = true;
    if (w->all->telling == 0)
        sweep(w->all);
}

void instances_watch(struct instances *all, struct arena *arena,
                     void (*on_change)(void *arg, struct instance *i, bool gone), void *arg)
{
    struct watcher *w = mem_calloc(1, sizeof *w);
    *w = (struct watcher){.all = all, .on_change = on_change, .arg = arg};
    list_push(&all->watchers, &w->link);
    arena_on_dispose(arena, on_arena_gone, w);
}

void watchers_tell_of(struct instance *i, bool gone)
{
    struct instances *all = i->all;
    all->telling++;
    list_each (w, &all->watchers, struct watcher, link)
        if (!w->left)
            w->on_change(w->arg, i, gone);
    if (--all->telling == 0)
        sweep(all);
}

void watchers_tell(struct instance *i)
{
    if (i->kind != KIND_ATTACHED)
        watchers_tell_of(i, false);
}
