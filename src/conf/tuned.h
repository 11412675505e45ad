/* Choices that were measured on this machine and are kept for the next load of the same file: a small JSON document of
 * its own in a folder. The worker writes it and opens with it; the gateway predicts memory with it. Blocking, a few
 * hundred bytes; any thread. */
#ifndef CONF_TUNED_H
#define CONF_TUNED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TUNED_TEXT        160
#define TUNED_UBATCH_MOST 1024 /* the largest that is tried */

struct tuned {
    char engine[TUNED_TEXT], cpu[TUNED_TEXT]; /* what it was measured with: build, and CPU with its features */
    char kv_type[8];
    unsigned threads;
    bool flash; /* what is faster: flash attention, or the plain one */
    double decode_tps_on, decode_tps_off, prompt_tps_on, prompt_tps_off;
    unsigned ubatch; /* micro-batch that reads prompts fastest; 0: not measured, as one would take too long */
    double ubatch_tps, ubatch_tps_default; /* tokens a second with it, and with ENGINE_UBATCH */
    int64_t measured;                      /* unix seconds */
};

/* Where dir keeps the choice for a model's first file: named by the file's size, time and first bytes, so that another
 * file under the same name has another. false: the file cannot be read, or the path would be too long. */
bool tuned_path(const char *dir, const char *model, char *out, size_t size);

/* false: there is none, or it is not one of ours. */
bool tuned_read(const char *path, struct tuned *ret_tuned);

/* Makes the folder when there is none; what was there is replaced at once. */
bool tuned_write(const char *path, const struct tuned *tuned, struct err *err);

/* Was it measured under the same conditions? */
bool tuned_is_of(const struct tuned *tuned, const char *engine, const char *cpu, unsigned threads, const char *kv_type);

#endif
