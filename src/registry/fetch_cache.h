/* The cache on disk, in the layout that Hugging Face's own tools use:
 *
 *     models--org--name/blobs/HASH             bytes, named by their hash; HASH.incomplete: what has come so far
 *     models--org--name/refs/main              the commit that main pointed to
 *     models--org--name/snapshots/COMMIT/PATH  links to ../../blobs/HASH
 *     models--org--name/tags/TAG               ours: commit, then the paths fetched for that tag, a line each
 *     .locks/models--org--name/HASH.lock       flock of whoever writes the blob, their tools included
 *
 * Listing and removal are declared in fetch.h. Blocking; any thread. */
#ifndef REGISTRY_FETCH_CACHE_H
#define REGISTRY_FETCH_CACHE_H

#include "registry/fetch_plan.h"

/* "org/name": each part 1 to LIMIT_FETCH_NAME of [A-Za-z0-9._-], without "--", "..", and '.' or '-' at an end. */
bool fetch_repo_allowed(struct str repo);
/* 1 to LIMIT_FETCH_TAG of [A-Za-z0-9._-], beginning with a letter or digit. */
bool fetch_tag_allowed(struct str tag);

/* setting, else the environment, as fetch.h says. Never NULL; may not exist. */
const char *fetch_cache_folder(const char *setting, struct arena *arena);

/* "models--org--name". */
const char *fetch_cache_name(const char *repo, struct arena *arena);

struct fetch_place {
    const char *repo;  /* folder of the repository */
    const char *blobs; /* below it */
    const char *locks;
};

/* Makes the folders of a repository. */
bool fetch_cache_prepare(const char *cache, const char *repo, struct arena *arena, struct fetch_place *ret_place,
                         struct err *err);

/* Beginning of the name that a link has before it gets its own. */
#define FETCH_HALF_LINK ".link-"

/* Makes, or replaces, the link snapshots/commit/path. */
bool fetch_cache_link(const struct fetch_place *place, const char *commit, const struct fetch_entry *file,
                      struct err *err);

/* Writes refs/main, and tags/tag unless tag is "". */
bool fetch_cache_note(const struct fetch_place *place, const char *commit, const char *tag,
                      const struct fetch_plan *plan, struct err *err);

#endif
