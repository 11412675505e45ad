/* The model files on this machine: found in the configured folders, described from their GGUF headers, found again by
 * any of their names. A catalogue is built on a pool thread, then belongs to the loop thread and never changes; a new
 * scan makes a new one. */
#ifndef INSTANCE_MODEL_H
#define INSTANCE_MODEL_H

#include <time.h>

#include "base/arena.h"
#include "base/err.h"
#include "conf/conf.h"
#include "http/client.h"
#include "registry/gguf.h"

struct model {
    const char *id;           /* file name without ".gguf" and shard number; with its folder when that is not unique */
    const char *path;         /* its first file */
    struct gguf gguf;         /* of the first file; parameters, tensor_bytes and file_bytes of all shards */
    int64_t created;          /* modification time, seconds since 1970 */
    struct timespec modified; /* the same, exactly; with first_bytes tells whether the first file has changed */
    uint64_t first_bytes;
    const struct conf_model *overrides; /* or NULL */
    const char *projector;              /* the file that lets it see, or NULL */
    uint64_t projector_bytes;
    const struct http_target *upstream; /* a server that runs it already, or NULL: there is no file then */
    bool plain_attention;               /* measured as the faster one here (conf/tuned.h) */
    unsigned ubatch;                    /* likewise, the micro-batch; 0: not measured */
    struct err problem;                 /* code ERR_NONE, or why it cannot be loaded */
};

struct model_catalogue {
    struct arena arena;
    struct model *models; /* sorted by id */
    size_t count;
    const char **projectors; /* paths, sorted: those of a folder stand together */
    size_t projector_count;
    uint64_t scanned_ms; /* clock_ms */
};

/* Headers of files that have not changed since previous (may be NULL) was made are not read again; previous must stay
 * as it is meanwhile.
 * Looks through models_dir, import_dirs and the files that [models] tables name, LIMIT_MODEL_DIR_DEPTH folders deep.
 * Folders that do not exist are passed over. Blocking; any thread; conf must not change meanwhile. Never NULL. */
struct model_catalogue *model_catalogue_scan(const struct conf *conf, const struct model_catalogue *previous);
void model_catalogue_free(struct model_catalogue *catalogue);

/* By id, configured alias, file name, or "name:tag"; case and the separators - _ . : are the last resort and must then
 * be unambiguous. NULL: none. */
const struct model *model_find(const struct model_catalogue *catalogue, struct str name);

/* ERR_MODEL_NOT_FOUND for name, with the nearest ids in message and details. */
void model_not_found(const struct model_catalogue *catalogue, struct str name, struct err *ret_err);

#define MODEL_TUNED_FOLDER "tune" /* in state_dir: what was measured of models */

/* Fills plain_attention from there. Blocking. */
void model_read_tuned(struct model *model, const struct conf *conf);

/* Context of one sequence under this configuration (the worker's own rule, see worker/engine_llama.c). */
uint64_t model_context(const struct model *model, const struct conf *conf);

#endif
