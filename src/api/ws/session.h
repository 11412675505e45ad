/* One client's WebSocket: who it is, its chats, its subscriptions. Private to api/ws. Loop thread only. */
#ifndef API_WS_SESSION_H
#define API_WS_SESSION_H

#include "api/app.h"
#include "api/ws/frame.h"
#include "http/ws.h"

struct ws_session;

/* What differs between /ws and the older dialect of /ws/stream. */
struct ws_dialect {
    bool whole_chunks;                   /* chats answer with the model's own chunks, and end without chat_done */
    void (*greet)(struct ws_session *s); /* NULL: nothing */
    void (*error)(struct ws_session *s, struct str raw_id, const struct err *err);
};

struct ws_session {
    struct app *app;
    struct http_req *req;
    struct http_ws *ws;
    const struct ws_dialect *dialect;
    const struct caller *caller; /* NULL: nobody, or not known yet */
    struct str address;          /* where requests are counted by it: see api_limit_address */
    struct list chats;           /* struct ws_chat, running */
    struct list ended;           /* chats whose memory goes soon */
    struct loop_soon bury;
    struct list subscriptions; /* struct ws_subscription */
    struct deadline deadline;  /* until the key must be here; or the older dialect's next heartbeat */
    unsigned chat_count, subscription_count;
    unsigned bad; /* messages in a row that made no sense */
    bool identifying, leaving;
};

/* session.c */
void ws_session_error(struct ws_session *s, struct str raw_id, const struct err *err);
bool ws_session_may(struct ws_session *s, unsigned access, struct str raw_id); /* false: told so */
void ws_session_chat_ended(struct ws_session *s);
/* The id of something that runs; *err is ERR_DUPLICATE_ID. */
bool ws_session_id_free(struct ws_session *s, const struct ws_envelope *envelope, struct err *err);

/* legacy.c */
extern const struct ws_dialect ws_legacy_dialect;

/* chat.c */
void ws_chat_start(struct ws_session *s, const struct ws_envelope *envelope);
bool ws_chat_is_running(struct ws_session *s, struct str id);
bool ws_chat_cancel(struct ws_session *s, struct str id); /* false: there is none */
void ws_chats_resume(struct ws_session *s);
void ws_chats_dispose(struct ws_session *s);

/* Something that sends until it is told to stop. A kind embeds it, at its beginning. */
struct ws_subscription {
    struct list link;
    struct ws_session *session;
    struct arena arena; /* holds it all */
    struct str id, raw_id;
    struct deadline deadline;
    void (*catch_up)(struct ws_subscription *sub); /* the socket takes messages again */
    bool behind;                                   /* something was not sent because it did not */
};

/* subscribe.c */
void *ws_subscription_new(struct ws_session *s, const struct ws_envelope *envelope, size_t size, struct err *err);
struct ws_subscription *ws_subscription_find(struct ws_session *s, struct str id);
void ws_subscription_end(struct ws_subscription *sub);
void ws_subscriptions_resume(struct ws_session *s);
void ws_subscriptions_dispose(struct ws_session *s);
/* {"type": type, "id": ..., "data": data} */
bool ws_subscription_send(struct ws_subscription *sub, const char *type, struct str data);

/* metrics.c, models.c */
void ws_metrics_subscribe(struct ws_session *s, const struct ws_envelope *envelope);
void ws_models_subscribe(struct ws_session *s, const struct ws_envelope *envelope);

#endif
