#include "worker/share.h"

#include <assert.h>

#include "base/mem.h"

void share_table_init(struct share_table *table)
{
    *table = (struct share_table){0};
    list_init(&table->shares);
}

struct share *share_join(struct share_table *table, uint64_t client)
{
    list_each (share, &table->shares, struct share, link)
        if (share->client == client) {
            share->requests++;
            return share;
        }
    struct share *share = mem_calloc(1, sizeof *share);
    share->client = client;
    share->requests = 1;
    share->served = table->now;
    for (unsigned lane = 0; lane < SHARE_LANES; lane++)
        list_init(&share->waiting[lane]);
    list_push(&table->shares, &share->link);
    return share;
}

void share_leave(struct share *share)
{
    assert(share->requests > 0);
    if (--share->requests > 0)
        return;
    list_remove(&share->link);
    mem_free(share);
}

uint64_t share_charge(struct share_table *table, struct share *share, unsigned tokens)
{
    uint64_t start = share->served;
    if (start > table->now)
        table->now = start;
    share->served += tokens;
    return start;
}

static bool comes_before(const struct share *a, const struct share *b)
{
    return a->served != b->served ? a->served < b->served : a->client < b->client;
}

struct share *share_next(const struct share_table *table, enum share_lane lane, const struct share *after)
{
    struct share *next = NULL;
    list_each (share, &table->shares, struct share, link)
        if (!list_empty(&share->waiting[lane]) && (!after || comes_before(after, share)) &&
            (!next || comes_before(share, next)))
            next = share;
    return next;
}
