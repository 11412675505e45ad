/* A few threads that help the decode thread pick the tokens of one step: pure computing on memory that each has to
 * itself, nothing else. They sleep between jobs. */
#ifndef WORKER_SAMPLE_POOL_H
#define WORKER_SAMPLE_POOL_H

#include "worker/sample.h"

struct sample_pool;

/* NULL when no thread can be had. helpers: 1..LIMIT_SAMPLE_HELPERS. */
struct sample_pool *sample_pool_new(unsigned helpers, unsigned vocabulary);
void sample_pool_free(struct sample_pool *pool); /* NULL is fine; no run may be under way */

typedef void sample_job(void *arg, struct sample_space *space, unsigned index);

/* Calls job for each index below count, once, on the caller's thread (with its space) and the helpers', in any order;
 * returns when all have returned. Everything written before is seen by the jobs, and what they wrote afterwards. */
void sample_pool_run(struct sample_pool *pool, struct sample_space *space, sample_job *job, void *arg, unsigned count);

#endif
