/* A chat reply, or the chunks of its stream, as a response object and its events. One state for both: what comes in is
 * gathered into output items, and while it is, the events of a stream are told, each with its number, in the order of
 * OpenAI's own API:
 *
 *     response.created, response.in_progress,
 *     of each item: output_item.added, content_part.added, ...delta, ...done, content_part.done, output_item.done,
 *     response.completed | response.incomplete | response.failed
 *
 * Items follow one another: what belongs to another kind, or to another call, closes the one that is open. Pure but for
 * ids and the clock. */
#ifndef API_RESPONSES_REPLY_H
#define API_RESPONSES_REPLY_H

#include "api/responses/request.h"
#include "openai/chat_read.h"

enum response_item_kind { RESPONSE_REASONING, RESPONSE_MESSAGE, RESPONSE_CALL };

struct response_item {
    enum response_item_kind kind;
    char id[OPENAI_ID_SIZE];
    struct buf text; /* of a call: its arguments */
    struct str call_id, name;
    size_t call_index;
    const char *status;
};

struct response_reply {
    const struct response_request *request;
    struct arena *arena;
    char id[OPENAI_ID_SIZE];
    int64_t created_at, completed_at;
    const char *status; /* "in_progress" until response_reply_end or _fail */
    struct response_item *items;
    size_t count, capacity;
    bool open; /* the last item may still grow */
    struct str finish_reason;
    bool has_usage;
    struct openai_usage usage;
    struct err error; /* why it failed */
    void (*on_event)(void *arg, const char *name, struct str data);
    void *arg;
    int64_t sequence;
    struct buf event;
};

/* reply lives as long as the arena, with which its memory is released. on_event may be NULL: not streamed. Its data is
 * valid during the call. */
void response_reply_init(struct response_reply *reply, const struct response_request *request, struct arena *arena,
                         void (*on_event)(void *arg, const char *name, struct str data), void *arg);
void response_reply_begin(struct response_reply *reply); /* tells the first two events */

/* One chunk, or a whole reply. false and *err: it cannot be used, or is an error; then response_reply_fail. */
bool response_reply_feed(struct response_reply *reply, struct str data, struct err *err);

/* The reply is complete: the open item is closed and the status known. The last event is told separately, after the
 * response was kept. */
void response_reply_end(struct response_reply *reply);
void response_reply_fail(struct response_reply *reply, const struct err *err);
void response_reply_finish(struct response_reply *reply);

/* The response object, and its array of output items alone. */
void response_reply_put(const struct response_reply *reply, struct json *j, const char *key);
void response_reply_put_output(const struct response_reply *reply, struct json *j, const char *key);

#endif
