/* Who sent a request, for as long as the request lives: a stream or a socket of a caller who lost his right ends with
 * it. What ends a right by itself (a deletion, a rotation, a user's end, a logout) looks through all watches at once;
 * an end by time is looked for once a second while a watched caller has one. */
#include "api/app.h"
#include "base/clock.h"

#define SWEEP_MS 1000

struct watch {
    struct list link; /* in app->watches */
    const struct caller *caller;
    void (*on_lost)(void *arg);
    void *arg;
};

struct str api_client_line(const struct caller *caller, struct str address, struct arena *arena)
{
    bool own = caller && (caller->key_id || caller->by_token); /* a key of the configuration may be many people's */
    struct str name = own ? str_from(caller->user_id) : address;
    uint64_t digest = 0xcbf29ce484222325u; /* FNV-1a: who shares a share by a collision only waits a little */
    for (size_t i = 0; i < name.n; i++)
        digest = (digest ^ (unsigned char)name.p[i]) * 0x100000001b3u;
    return name.n ? str_from(arena_printf(arena, "X-Inferd-Client: %016llx\r\n", (unsigned long long)digest)) : STR("");
}

static bool user_still_valid(const struct app *app, const struct caller *caller)
{
    const struct user *user = users_get(app->users, str_from(caller->user_id));
    return user && !user->disabled && user->role == caller->role &&
           (!caller->by_token || caller->token_version < 0 || caller->token_version == user->token_version);
}

bool caller_still_valid(struct app *app, const struct caller *caller)
{
    if (!caller)
        return true;
    if (caller->expires_at && clock_unix() >= caller->expires_at)
        return false;
    if (caller->key_id && !keys_still_valid(app->keys, caller->key_id, caller->key_generation))
        return false;
    if (caller->by_token && tokens_is_ended(app->tokens, caller->token_id))
        return false;
    return !caller->is_user || user_still_valid(app, caller);
}

/* A callback may end the requests of other watches: each is taken from what is left. */
void callers_lost(struct app *app)
{
    struct list rest;
    list_init(&rest);
    while (!list_empty(&app->watches)) {
        struct watch *w = list_first(&app->watches, struct watch, link);
        list_remove(&w->link);
        list_push(&rest, &w->link);
    }
    while (!list_empty(&rest)) {
        struct watch *w = list_first(&rest, struct watch, link);
        list_remove(&w->link);
        if (caller_still_valid(app, w->caller))
            list_push(&app->watches, &w->link);
        else
            w->on_lost(w->arg);
    }
}

static void sweep(struct deadline *deadline);

static void sweep_later(struct app *app)
{
    if (!app->caller_sweep.due_ms)
        deadline_arm(app->loop, &app->caller_sweep, SWEEP_MS, sweep);
}

static void sweep(struct deadline *deadline)
{
    struct app *app = container_of(deadline, struct app, caller_sweep);
    callers_lost(app);
    list_each (w, &app->watches, struct watch, link) {
        if (w->caller->expires_at) {
            sweep_later(app);
            return;
        }
    }
}

static void unwatch(void *arg)
{
    struct watch *w = arg;
    list_remove(&w->link);
}

void callers_watch(struct app *app, struct arena *arena, const struct caller *caller, void (*on_lost)(void *arg),
                   void *arg)
{
    if (!caller)
        return;
    struct watch *w = arena_alloc(arena, sizeof *w);
    *w = (struct watch){.caller = caller, .on_lost = on_lost, .arg = arg};
    list_push(&app->watches, &w->link);
    arena_on_dispose(arena, unwatch, w);
    if (caller->expires_at)
        sweep_later(app);
}

bool api_may_use_model(const struct caller *caller, struct str model, struct err *err)
{
    if (!caller || !caller->models)
        return true;
    struct str rest = str_from(caller->models);
    while (rest.p)
        if (pattern_matches(str_cut(&rest, '\n'), model))
            return true;
    return err_set_param(err, ERR_PERMISSION_DENIED, "model", "this key may not use the model '%.*s'",
                         (int)(model.n < 100 ? model.n : 100), model.p);
}
