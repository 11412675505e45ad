/* Finds out whether flash attention or the plain one is faster for a loaded model on this CPU, and then what
 * micro-batch reads prompts fastest, in steps of one decode call each: the caller may stop after any of them, for good
 * or until the machine is idle again.
 *
 * It uses small contexts of its own over the same weights, so the one that serves is not touched and may decode
 * meanwhile (which spoils the figures: say so with tune_disturbed). The choices take effect when the model is opened
 * the next time, because a context cannot change either without losing what it has cached. */
#ifndef WORKER_TUNE_H
#define WORKER_TUNE_H

#include "conf/tuned.h"
#include "worker/engine.h"

struct tune;

struct tune_setup {
    const struct engine_info *info;
    const char *path;    /* the model's first file */
    const char *kv_type; /* NULL: default */
    const char *dir;     /* where the result is kept */
};

/* NULL: there is nothing to choose for this model (no attention to generate with, a cache type that only one of the
 * two can read, layers on a GPU, an engine that is not llama.cpp), or its result would have no place. Cheap: nothing is
 * made yet. */
struct tune *tune_new(const struct tune_setup *setup);
void tune_free(struct tune *tune); /* NULL is fine */

enum tune_state { TUNE_MORE, TUNE_DONE, TUNE_FAILED }; /* FAILED: no memory for the contexts, or no result */

/* One decode call, of TUNE_PIECE tokens or, with micro-batches, some four seconds at most. Blocking; any thread, one at
 * a time. */
#define TUNE_PIECE 32
enum tune_state tune_step(struct tune *tune);

void tune_disturbed(struct tune *tune); /* the last step's time does not count */

/* After DONE: the result, also written to its file; *err when that failed. */
bool tune_finish(struct tune *tune, struct tuned *ret_result, struct err *err);

/* All steps at once and the result. tune NULL: false, and *err says that there is nothing to choose. on_step may be
 * NULL. */
bool tune_run(struct tune *tune, void (*on_step)(void *arg, unsigned done, unsigned all), void *arg,
              struct tuned *ret_result, struct err *err);

/* The choice kept for this model under these conditions. */
bool tune_lookup(const struct tune_setup *setup, struct tuned *ret_result);

#endif
