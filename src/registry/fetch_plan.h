/* Which files of a repository a download takes: pure functions over the hub's list of files. Everything a hub says is
 * hostile until it has been checked here. Any thread. */
#ifndef REGISTRY_FETCH_PLAN_H
#define REGISTRY_FETCH_PLAN_H

#include "base/arena.h"
#include "base/err.h"
#include "registry/fetch.h"
#include "registry/fetch_file.h"

struct fetch_entry {
    const char *path; /* in the repository; passed fetch_path_allowed */
    uint64_t bytes;   /* at most LIMIT_FETCH_FILE_BYTES */
    enum fetch_hash hash_kind;
    const char *hash; /* lower-case hex of the right length: the name of its blob */
};

struct fetch_tree {
    struct fetch_entry *files; /* LIMIT_FETCH_FILES */
    size_t count;
};

void fetch_tree_init(struct fetch_tree *tree, struct arena *arena);

/* Appends one page of a hub's recursive tree. false: ERR_BAD_GATEWAY, with what is wrong about it. */
bool fetch_tree_read(struct fetch_tree *tree, struct str json, struct arena *arena, struct err *err);

struct fetch_plan {
    const struct fetch_entry **files; /* the model's first file first */
    size_t count;
    uint64_t bytes;
};

/* Sorts the tree by path, then chooses. GGUF: one model file with all its parts (tag, or by default Q4_K_M, else Q4_0,
 * else the first that is not split, else the first), one projector, preset.ini of the root, all *.jinja. Of several
 * models that tag names the one with the shortest path is taken, so that Q4_K_M is not UD-Q4_K_M. Safetensors: all
 * *.safetensors (or all *.bin if there are none) and the json, txt, model, py and jinja files beside them.
 * false: ERR_MODEL_NOT_FOUND, saying what is there. */
bool fetch_plan(struct fetch_tree *tree, enum fetch_format format, struct str tag, struct arena *arena,
                struct fetch_plan *ret_plan, struct err *err);

/* tag stands in path as a whole: no letter, digit or '_' follows it, none precedes it (but '_' may, before a tag that
 * begins like a quantization: q4..., iq2..., bf16). ASCII case folded. */
bool fetch_tag_in_path(struct str tag, struct str path);

/* A relative path that stays below its folder on any system: not empty, no empty, "." or ".." part, no backslash, no
 * control character, UTF-8, parts of at most 255 bytes, LIMIT_FETCH_PATH in all, LIMIT_FETCH_FOLDERS folders. */
bool fetch_path_allowed(struct str path);

/* 40 or 64 lower-case hex digits, as hubs name commits. */
bool fetch_commit_allowed(struct str commit);

/* "gguf", "mmproj", "preset" or "other". */
const char *fetch_kind(struct str path);

#endif
