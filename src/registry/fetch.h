/* Downloads of model files from a Hugging Face hub (or one that speaks its API), into its cache layout: blobs by hash,
 * snapshots of links, refs. Resumable, checked against the hub's hashes, several files at once, on threads of their own
 * with libcurl (specs/llamactl.md 1.9 and 8.2, row 14). Loop thread only. */
#ifndef REGISTRY_FETCH_H
#define REGISTRY_FETCH_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "loop/loop.h"

enum fetch_status { FETCH_QUEUED, FETCH_DOWNLOADING, FETCH_COMPLETED, FETCH_FAILED, FETCH_CANCELLED };
enum fetch_format { FETCH_GGUF, FETCH_SAFETENSORS };

struct fetch_job {
    int64_t id;
    const char *repo, *tag; /* tag may be "" */
    enum fetch_format format;
    enum fetch_status status;
    uint64_t bytes_done, bytes_total; /* total 0: not known yet */
    const char *current_file;         /* "" */
    const char *current_sha256;       /* of its whole content, in hex; "" where the hub does not say it */
    const char *problem;              /* why it failed; "" */
    int64_t created_at, completed_at; /* unix seconds; 0: not yet */
    const char *model_path;           /* of the (first) model file once completed; "" */
};

struct fetch_settings {
    const char *endpoint;   /* NULL: $HF_ENDPOINT, else https://huggingface.co */
    const char *token;      /* NULL: $HF_TOKEN. Without "hf_" at its beginning it is ignored, with a warning */
    const char *cache;      /* NULL: LLAMA_CACHE > HF_HUB_CACHE > HUGGINGFACE_HUB_CACHE > HF_HOME/hub > XDG_CACHE_HOME/
                             * huggingface/hub > ~/.cache/huggingface/hub */
    unsigned stall_seconds; /* no byte for so long and the try counts as failed; there are several tries */
    /* A state changed, or progress was made (at most ten times a second a job). Must not call fetch_* itself. */
    void (*on_change)(void *arg, const struct fetch_job *job);
    void *arg;
};

struct fetch;
struct fetch *fetch_new(struct loop *loop, const struct fetch_settings *settings);
/* Cancels what runs (parts stay for a later resume); on_ended once no thread uses it any more, then it is gone. */
void fetch_free(struct fetch *fetch, void (*on_ended)(void *arg), void *arg);

/* repo: "org/model" or "org/model:tag", of the hub's alphabet; tag: a quantization, as a whole word of a GGUF file's
 * path (Q4_K does not take Q4_K_M), "" for the usual one; none for safetensors. The job exists at once. A job for the
 * same repo, tag and format that has not ended is returned instead of a second one. NULL and *err
 * (ERR_INVALID_PARAMETERS, ERR_SERVER_OVERLOADED beyond LIMIT_FETCH_JOBS). */
const struct fetch_job *fetch_start(struct fetch *fetch, struct str repo, struct str tag, enum fetch_format format,
                                    struct err *err);
const struct fetch_job *fetch_get(const struct fetch *fetch, int64_t id);
/* Newest first, NULL-terminated, valid until the loop's next turn. Ended jobs are forgotten after a day. */
const struct fetch_job *const *fetch_list(const struct fetch *fetch, struct arena *arena);
/* Queued: is FETCH_CANCELLED at once. Downloading: ends so within a second or two, parts stay; if it succeeds in that
 * time, it is FETCH_COMPLETED. Else the job is forgotten. false: no such job. */
bool fetch_cancel(struct fetch *fetch, int64_t id);
const char *fetch_status_name(enum fetch_status status);

/* What lies in the cache. Blocking: pool threads. */
struct cached_file {
    const char *name, *path;
    uint64_t bytes;
    const char *kind; /* gguf, mmproj, preset, other */
};
struct cached_model {
    const char *repo, *tag; /* tag "" unless the file set was fetched by tag */
    struct cached_file *files;
    size_t file_count;
    uint64_t bytes;
};
const char *fetch_cache(const struct fetch *fetch);
size_t fetch_cached(const char *cache, struct arena *arena, struct cached_model **ret_models);
/* Removes a repo (tag empty), or its files in whose path tag stands as a whole word; with the last weights goes the
 * repo. Blobs that another link still leads to stay. ERR_NOT_FOUND, ERR_INVALID_PARAMETERS, ERR_IO; paths never leave
 * the cache. A download of the same repo should have ended. */
bool fetch_remove(const char *cache, struct str repo, struct str tag, struct err *err);

#endif
