/* Batches that run in the background, by the line of a file, and survive the daemon. Loop thread only. */
#ifndef API_BATCH_BATCHES_H
#define API_BATCH_BATCHES_H

#include "api/batch/rows.h"

struct batches;

/* Reads the batches that have not ended, blocking, and goes on with them as the loop runs. NULL and *err. */
struct batches *batches_new(struct app *app, struct err *err);
/* What runs is cancelled, to be run again at the next start. Before store_close and batch_pool_free; NULL is fine. */
void batches_stop(struct batches *batches);
void batches_free(struct batches *batches); /* after loop_release; NULL is fine */

/* Goes on with a stored batch. */
void batches_add(struct batches *batches, const struct batch_row *row);
bool batches_full(const struct batches *batches);

/* The row of one that has not ended, as it is now; NULL: none. Valid until the loop's next turn. */
const struct batch_row *batches_find(const struct batches *batches, struct str id);
void batches_cancel(struct batches *batches, struct str id); /* one that batches_find knows */

http_handler batch_create, batch_list, batch_look, batch_cancel;

#endif
