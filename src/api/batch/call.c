/* POST /v1/batch: some requests in one call, answered together. Items run behind interactive requests and are charged
 * one by one; the reply is written when the last has ended. A client that leaves cancels what is left. */
#include "api/admit.h"
#include "api/batch/batch.h"
#include "api/batch/entry.h"
#include "api/batch/pool.h"
#include "api/relay.h"
#include "base/json_scan.h"
#include "openai/error.h"

struct outcome {
    struct str path;           /* where it goes */
    struct str choices, usage; /* JSON texts; usage STR_NONE: the backend counts none */
    struct err *err;           /* instead */
};

struct batch_call {
    struct batch_source source;
    struct app *app;
    struct http_req *req;
    struct batch_entries entries;
    struct outcome *outcomes;
    struct str address;
    size_t next, done, bytes;
};

static void write_one(struct json *j, struct str id, const struct outcome *outcome)
{
    json_open_object(j, NULL);
    json_put_text(j, "id", id);
    if (outcome->err)
        openai_error_put(j, "error", outcome->err);
    else
        json_put_raw(j, "choices", outcome->choices);
    if (outcome->usage.p)
        json_put_raw(j, "usage", outcome->usage);
    json_close(j);
}

static void answer(struct batch_call *call)
{
    struct http_req *req = call->req;
    batch_source_close(&call->source);
    struct json *j = api_json_begin(req);
    json_open_object(j, NULL);
    json_put_string(j, "object", "batch_completion");
    json_open_array(j, "responses");
    for (size_t i = 0; i < call->entries.count; i++)
        write_one(j, call->entries.ids[i], &call->outcomes[i]);
    json_close(j);
    json_close(j);
    api_reply_json(req, 200, j);
}

static void fail(struct batch_call *call, size_t i, const struct err *err)
{
    struct err *kept = arena_alloc(&call->req->arena, sizeof *kept);
    *kept = *err;
    call->outcomes[i].err = kept;
}

static bool keep(struct batch_call *call, size_t i, struct str reply, struct err *err)
{
    struct json_scan wanted[] = {{.key = "choices"}, {.key = "usage"}};
    struct arena *arena = &call->req->arena;
    if (!json_scan(reply, wanted, 2, NULL) || !wanted[0].raw.p)
        return err_set(err, ERR_BAD_GATEWAY, "the backend's reply has no choices");
    call->bytes += wanted[0].raw.n;
    if (call->bytes > LIMIT_BATCH_REPLY)
        return err_set(err, ERR_REQUEST_TOO_LARGE, "the replies of this batch have more than %u bytes together",
                       LIMIT_BATCH_REPLY);
    call->outcomes[i].choices = arena_str(arena, wanted[0].raw);
    call->outcomes[i].usage = wanted[1].raw.p ? arena_str(arena, wanted[1].raw) : STR_NONE;
    return true;
}

static void on_done(struct batch_source *source, const struct batch_item *item, struct str reply, const struct err *err)
{
    struct batch_call *call = container_of(source, struct batch_call, source);
    struct err unusable;
    if (!err && !keep(call, item->number, reply, &unusable))
        err = &unusable;
    if (err)
        fail(call, item->number, err);
    if (++call->done == call->entries.count)
        answer(call);
}

static struct batch_item *next(struct batch_source *source)
{
    struct batch_call *call = container_of(source, struct batch_call, source);
    while (call->next < call->entries.count && call->outcomes[call->next].err)
        call->next++;
    if (call->next == call->entries.count)
        return NULL;
    struct batch_item *item = batch_item_new(source);
    item->number = call->next++;
    item->path = call->outcomes[item->number].path;
    item->body = batch_entry_body(&call->entries, item->number, &item->arena);
    item->caller = call->req->caller;
    item->address = call->address;
    item->request_id = call->req->id;
    return item;
}

static void on_gone(void *arg)
{
    struct batch_call *call = arg;
    batch_source_close(&call->source);
}

/* Items that make no sense end here, without a request. */
static void begin(struct batch_call *call)
{
    struct http_req *req = call->req;
    struct err err;
    call->outcomes = arena_calloc(&req->arena, call->entries.count * sizeof *call->outcomes);
    for (size_t i = 0; i < call->entries.count; i++) {
        if (batch_entry_check(&call->entries, i, &call->outcomes[i].path, &err))
            continue;
        fail(call, i, &err);
        call->done++;
    }
    if (call->done == call->entries.count) {
        answer(call);
        return;
    }
    call->address = api_limit_address(call->app, req);
    call->source.next = next;
    call->source.on_done = on_done;
    arena_on_dispose(&req->arena, on_gone, call);
    api_watch_caller(call->app, req);
    batch_source_open(&call->source, call->app->batch_pool);
}

static void on_body(struct relay *relay, struct str body)
{
    struct http_req *req = relay->req;
    struct batch_call *call = arena_calloc(&req->arena, sizeof *call);
    struct err err;
    call->app = relay->app;
    call->req = req;
    if (batch_entries_read(body, (unsigned)relay->app->conf->batch_max_requests, &req->arena, &call->entries, &err))
        begin(call);
    else
        http_reply_error(req, &err);
}

void batch_call(void *arg, struct http_req *req, const struct http_match *match)
{
    struct relay *relay = arena_alloc(&req->arena, sizeof *relay);
    (void)match;
    relay_begin(relay, arg, req, on_body);
}
