/* What workers have reserved, on GPUs and off them, and what GPUs there are. Loop thread only. */
#ifndef API_SYSTEM_RESERVED_H
#define API_SYSTEM_RESERVED_H

#include "api/app.h"

/* Member "reserved": bytes in all, and of those on each GPU; null before the worker is ready, and for others' servers.
 */
void reserved_put(struct json *j, const struct worker_memory *memory);

/* Bytes of it on GPUs. */
uint64_t reserved_on_gpus(const struct worker_memory *memory);

/* Member "gpus": an array, empty without any. */
void gpus_put(struct json *j, const struct app *app);

/* Memory of all GPUs together that is in use, by whomever; percent. NAN: there is none, or they do not say. */
double gpus_usage_percent(const struct app *app);

/* Of that, what our workers hold; percent. */
double gpus_held_percent(const struct app *app);

#endif
