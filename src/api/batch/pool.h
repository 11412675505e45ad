/* Items of batches, whoever they belong to: requests that run behind interactive ones, at most so many at once over all
 * sources, taken from each source in turn. An item that meets a limit of its caller, or a full queue, is run again when
 * that is over; its source starts nothing meanwhile. Loop thread only. */
#ifndef API_BATCH_POOL_H
#define API_BATCH_POOL_H

#include "api/upstream.h"

struct batch_pool;
struct batch_source;

struct batch_item {
    struct list link; /* the source's running or refused ones */
    struct batch_source *source;
    struct arena arena; /* dies with the item: what it points to may live here */
    struct str path, body;
    const struct caller *caller;
    struct str address;
    const char *request_id;
    size_t number;       /* the source's own, */
    struct str label;    /* and this */
    uint64_t refused_ms; /* first time; 0: never */
    struct str reply;
};

struct batch_source {
    struct batch_pool *pool;
    struct list link;
    struct list running, refused;
    struct deadline hold; /* armed: nothing is started before it is due */
    /* The next item, made by batch_item_new, or NULL: nothing now; batch_source_wake when there is. */
    struct batch_item *(*next)(struct batch_source *source);
    /* An item has ended: err NULL and the JSON of its reply, or why not. Both are valid during the call, and so is the
     * item. The source may be closed from within. */
    void (*on_done)(struct batch_source *source, const struct batch_item *item, struct str reply,
                    const struct err *err);
};

/* limit 0: twice the sequences that the running models decode together. */
struct batch_pool *batch_pool_new(struct app *app, unsigned limit);
void batch_pool_free(struct batch_pool *pool); /* every source is closed; NULL is fine */

/* source: zeroed but for next and on_done. */
void batch_source_open(struct batch_source *source, struct batch_pool *pool);
void batch_source_wake(struct batch_source *source);
void batch_source_close(struct batch_source *source);      /* its items are cancelled; closing twice is fine */
bool batch_source_busy(const struct batch_source *source); /* items run, or wait to be run again */

struct batch_item *batch_item_new(struct batch_source *source);
void batch_item_drop(struct batch_item *item); /* one that next() made and does not return */

#endif
