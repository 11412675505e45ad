#include "api/batch/owner.h"

#include <stdlib.h>

struct str owner_of(struct http_req *req)
{
    const struct caller *caller = req->caller;
    if (!caller)
        return STR("anyone");
    if (caller->key_id)
        return str_from(arena_printf(&req->arena, "key:%lld", (long long)caller->key_id));
    return caller->by_token ? str_from(arena_printf(&req->arena, "user:%s", caller->user_id)) : STR("config");
}

bool owner_may_leave(const struct app *app, const struct http_req *req, struct err *err)
{
    const struct caller *caller = req->caller;
    return !caller || !caller->by_token || users_get(app->users, str_from(caller->user_id)) ||
           err_set(err, ERR_PERMISSION_DENIED,
                   "a token of another issuer may not leave work behind; use a key, or a user of this server");
}

bool owner_caller(struct app *app, struct arena *arena, struct str owner, const struct caller **ret_caller,
                  struct err *err)
{
    struct str id = owner, kind = str_cut(&id, ':');
    const struct caller *caller = NULL;
    bool known = str_eq(kind, STR("anyone"));
    if (str_eq(kind, STR("key"))) {
        const struct key *key = keys_get(app->keys, strtoll(id.p, NULL, 10));
        caller = key ? api_caller_of_key(app, arena, key) : NULL;
    } else if (str_eq(kind, STR("user"))) {
        caller = api_caller_of_user(app, arena, id);
    } else if (str_eq(kind, STR("config"))) {
        caller = api_caller_of_configuration(arena);
    }
    if (!(known || caller) || !caller_still_valid(app, caller))
        return err_set(err, ERR_AUTHENTICATION_FAILED,
                       "the key or user that this belongs to was revoked, or has expired");
    if (!api_allows(app, caller, AUTH_INFERENCE))
        return err_set(err, ERR_PERMISSION_DENIED, "the key or user that this belongs to may not use models any more");
    *ret_caller = caller;
    return true;
}
