/* Pages of a tree are linked by a Link header. Of that address only the query is used, behind our own address of the
 * tree: so no reply can lead the next request, and the token in it, to another host. */
#include "registry/fetch_hub.h"

#include "base/buf.h"
#include "base/json_read.h"

static enum fetch_net_result keep(void *arg, const struct fetch_net_reply *reply, struct str piece, struct err *err)
{
    struct buf *body = arg;
    (void)reply;
    buf_str(body, piece);
    if (buf_ok(body))
        return FETCH_NET_DONE;
    err_set(err, ERR_BAD_GATEWAY, "the hub's answer is larger than %u MiB", LIMIT_FETCH_PAGE >> 20);
    return FETCH_NET_FAILED;
}

static bool ask(const struct fetch_hub *hub, const char *url, struct buf *body, struct fetch_net_reply *reply,
                struct err *err)
{
    struct fetch_net_get get = {.url = url, .name = hub->repo, .on_body = keep, .arg = body};
    for (unsigned failed = 0;;) {
        buf_clear(body);
        enum fetch_net_result result = fetch_net_get(hub->net, &get, reply, err);
        if (result == FETCH_NET_DONE)
            return true;
        if (result != FETCH_NET_RETRY || ++failed >= LIMIT_FETCH_TRIES)
            break;
        if (!fetch_net_pause(hub->net, failed, reply))
            return err_set(err, ERR_CLIENT_CLOSED, "cancelled");
    }
    fetch_hub_explain(hub, err);
    return false;
}

static struct str main_commit(const json_t *refs)
{
    const json_t *branches = json_object_get(refs, "branches");
    for (size_t i = 0; i < json_array_size(branches); i++)
        if (str_eq(json_str(json_object_get(json_array_get(branches, i), "name")), STR("main")))
            return json_str(json_object_get(json_array_get(branches, i), "targetCommit"));
    return json_str(json_object_get(json_array_get(branches, 0), "targetCommit"));
}

const char *fetch_hub_commit(const struct fetch_hub *hub, struct arena *arena, struct err *err)
{
    struct fetch_net_reply reply;
    struct buf body;
    struct err problem;
    const char *commit = NULL;
    buf_init(&body, LIMIT_FETCH_PAGE);
    if (ask(hub, arena_printf(arena, "%s/api/models/%s/refs", hub->endpoint, hub->repo), &body, &reply, err)) {
        json_t *refs = json_read(buf_view(&body), &problem);
        struct str found = main_commit(refs);
        if (fetch_commit_allowed(found))
            commit = arena_str(arena, found).p;
        else
            err_set(err, ERR_BAD_GATEWAY, "the hub names no commit of %s: is the endpoint a Hugging Face hub?",
                    hub->repo);
        json_decref(refs);
    }
    buf_release(&body);
    return commit;
}

static bool is_query(struct str query)
{
    for (size_t i = 0; i < query.n; i++)
        if (query.p[i] <= 0x20 || query.p[i] >= 0x7f)
            return false;
    return query.n > 0;
}

bool fetch_hub_tree(const struct fetch_hub *hub, const char *commit, struct arena *arena, struct fetch_tree *ret_tree,
                    struct err *err)
{
    struct fetch_net_reply reply;
    struct buf body;
    const char *base = arena_printf(arena, "%s/api/models/%s/tree/%s", hub->endpoint, hub->repo, commit);
    const char *url = arena_printf(arena, "%s?recursive=true", base);
    bool good = true;
    fetch_tree_init(ret_tree, arena);
    buf_init(&body, LIMIT_FETCH_PAGE);
    for (unsigned page = 0; good && url; page++) {
        if (page == LIMIT_FETCH_PAGES) {
            good = err_set(err, ERR_NOT_SUPPORTED, "the list of files of %s has more than %d pages", hub->repo,
                           LIMIT_FETCH_PAGES);
            break;
        }
        good = ask(hub, url, &body, &reply, err) && fetch_tree_read(ret_tree, buf_view(&body), arena, err);
        struct str query = str_from(good ? reply.next : "");
        str_cut(&query, '?');
        url = is_query(query) ? arena_printf(arena, "%s?" STR_FMT, base, STR_ARG(query)) : NULL;
        if (good && *reply.next && !url)
            good = err_set(err, ERR_BAD_GATEWAY, "the hub's link to the next page of %s cannot be followed", hub->repo);
    }
    buf_release(&body);
    return good;
}

const char *fetch_hub_url(const struct fetch_hub *hub, const char *commit, const char *path, struct arena *arena)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";
    char *escaped = arena_alloc(arena, 3 * strlen(path) + 1), *to = escaped;
    for (const char *p = path; *p; p++)
        to += snprintf(to, 4, strchr(plain, *p) ? "%c" : "%%%02X", (unsigned char)*p);
    *to = '\0';
    return arena_printf(arena, "%s/%s/resolve/%s/%s", hub->endpoint, hub->repo, commit, escaped);
}

void fetch_hub_explain(const struct fetch_hub *hub, struct err *err)
{
    bool token = hub->net->token;
    switch (err->code) {
    case ERR_AUTHENTICATION_FAILED:
        err_set(err, err->code,
                token ? "the hub does not take the token for %s: it may be wrong or expired, or the "
                        "repository may not exist; check HF_TOKEN and the name"
                      : "the hub wants to know who asks for %s: the repository is gated or private, or "
                        "does not exist; check the name, accept its terms on the hub and set HF_TOKEN",
                hub->repo);
        break;
    case ERR_PERMISSION_DENIED:
        err_set(err, err->code,
                token ? "the hub refuses %s to this token: accept the terms of the repository on the "
                        "hub with the same account"
                      : "the hub refuses %s: it is gated; accept its terms on the hub and set HF_TOKEN",
                hub->repo);
        break;
    case ERR_NOT_FOUND:
        err_set(err, ERR_MODEL_NOT_FOUND, "the hub has no repository %s, or not this file of it: check the name",
                hub->repo);
        break;
    default: break;
    }
}
