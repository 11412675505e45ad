/* What a Hugging Face hub, or one that speaks its API, says about a repository. Blocking, on the downloads' own
 * threads. */
#ifndef REGISTRY_FETCH_HUB_H
#define REGISTRY_FETCH_HUB_H

#include "registry/fetch_plan.h"

struct fetch_hub {
    const struct fetch_net *net;
    const char *endpoint; /* without a slash at its end */
    const char *repo;     /* passed fetch_repo_read */
};

/* The commit that main points to, or the first branch if there is no main. NULL and *err. */
const char *fetch_hub_commit(const struct fetch_hub *hub, struct arena *arena, struct err *err);

/* All files of a commit, page by page. */
bool fetch_hub_tree(const struct fetch_hub *hub, const char *commit, struct arena *arena, struct fetch_tree *ret_tree,
                    struct err *err);

/* Where a file's bytes are. */
const char *fetch_hub_url(const struct fetch_hub *hub, const char *commit, const char *path, struct arena *arena);

/* Rewrites a 401, 403 or 404 into what a person can do about it. */
void fetch_hub_explain(const struct fetch_hub *hub, struct err *err);

#endif
