#include "api/ws/session.h"

static void free_subscription(struct ws_subscription *sub)
{
    struct arena arena = sub->arena;
    list_remove(&sub->link);
    deadline_cancel(sub->session->app->loop, &sub->deadline);
    arena_dispose(&arena);
}

void *ws_subscription_new(struct ws_session *s, const struct ws_envelope *envelope, size_t size, struct err *err)
{
    struct ws_subscription *old = ws_subscription_find(s, envelope->id);
    struct arena arena;
    if (!ws_session_id_free(s, envelope, err))
        return NULL;
    if (old)
        ws_subscription_end(old);
    if (s->subscription_count >= LIMIT_WS_SUBSCRIPTIONS) {
        err_set(err, ERR_TOO_MANY_STREAMS, "%d subscriptions are on this socket already", LIMIT_WS_SUBSCRIPTIONS);
        return NULL;
    }
    arena_init(&arena);
    struct ws_subscription *sub = arena_calloc(&arena, size);
    sub->session = s;
    sub->id = arena_str(&arena, envelope->id);
    sub->raw_id = arena_str(&arena, envelope->raw_id);
    sub->arena = arena;
    list_push(&s->subscriptions, &sub->link);
    s->subscription_count++;
    return sub;
}

struct ws_subscription *ws_subscription_find(struct ws_session *s, struct str id)
{
    list_each (sub, &s->subscriptions, struct ws_subscription, link)
        if (str_eq(sub->id, id))
            return sub;
    return NULL;
}

void ws_subscription_end(struct ws_subscription *sub)
{
    sub->session->subscription_count--;
    free_subscription(sub);
}

void ws_subscriptions_resume(struct ws_session *s)
{
    list_each (sub, &s->subscriptions, struct ws_subscription, link) {
        if (!sub->behind)
            continue;
        sub->behind = false;
        sub->catch_up(sub);
    }
}

void ws_subscriptions_dispose(struct ws_session *s)
{
    list_each (sub, &s->subscriptions, struct ws_subscription, link)
        free_subscription(sub);
}

bool ws_subscription_send(struct ws_subscription *sub, const char *type, struct str data)
{
    const struct str pieces[] = {STR("{\"type\":\""), str_from(type), STR("\",\"id\":"), sub->raw_id,
                                 STR(",\"data\":"),   data,           STR("}")};
    return http_ws_sendv(sub->session->ws, pieces, sizeof pieces / sizeof *pieces);
}
