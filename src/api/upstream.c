/* One request through one lease, without a client connection. The state is an allocation and an arena of its own:
 * events are given from within the reader of the stream, and what they call may end the call or the whole of the
 * caller's arena; then the state is only marked `gone` and freed when the reader has returned. The lease, or the wait
 * for it, and the account die with it.
 *
 * Invariants: `call` is set while it runs. No event is given once `gone`. */
#include "api/upstream.h"

#include "api/account.h"
#include "api/admit.h"
#include "api/reach.h"
#include "base/json_scan.h"
#include "base/mem.h"
#include "http/sse_read.h"
#include "openai/error.h"

struct upstream {
    struct app *app;
    struct arena arena;
    struct upstream_request request;
    const struct upstream_events *events;
    void *arg;
    struct lease *lease;
    struct account *account;
    struct http_call *call;
    struct arena_disposer *disposer;
    struct http_sse_reader reader;
    struct buf body;      /* of a reply that is no stream */
    struct str pieces[3]; /* of the request's body */
    struct err problem;   /* that the stream itself told */
    unsigned retry_after_ms;
    int status;
    bool streamed, done; /* done: "[DONE]" has come */
    bool starting, feeding, gone;
};

static void release(struct upstream *u)
{
    arena_dispose(&u->arena);
    http_sse_reader_release(&u->reader);
    buf_release(&u->body);
    mem_free(u);
}

/* Nothing is told any more; frees unless we stand within an event. */
static void let_go(struct upstream *u)
{
    struct http_call *call = u->call;
    u->call = NULL;
    u->gone = true;
    if (call)
        http_call_cancel(call);
    if (!u->feeding && !u->starting)
        release(u);
}

static void on_arena_dead(void *arg)
{
    struct upstream *u = arg;
    u->disposer = NULL;
    let_go(u);
}

void upstream_cancel(struct upstream *u)
{
    arena_forget(u->disposer);
    let_go(u);
}

static void finish(struct upstream *u, const struct err *err)
{
    void (*on_end)(void *arg, const struct err *err) = u->events->on_end;
    struct err told = err ? *err : ERR_INIT;
    void *arg = u->arg;
    arena_forget(u->disposer);
    let_go(u);
    on_end(arg, err ? &told : NULL);
}

/* ---- the reply ---- */

static void on_event(void *arg, struct str name, struct str data)
{
    struct upstream *u = arg;
    (void)name;
    if (u->gone || u->done || u->problem.code != ERR_NONE)
        return;
    if (str_eq(data, STR("[DONE]")))
        u->done = true;
    else if (str_starts(data, STR("{\"error\"")) && openai_error_read(data, 500, &u->problem))
        account_broken(u->account);
    else
        u->events->on_event(u->arg, data);
}

static void on_head(void *arg, const struct http_head *head)
{
    struct upstream *u = arg;
    uint64_t seconds = 0;
    u->status = head->status;
    u->streamed = head->status == 200 && str_starts(http_head_find(head, "content-type"), STR("text/event-stream"));
    if (str_u64(http_head_find(head, "retry-after"), 86400, &seconds))
        u->retry_after_ms = (unsigned)seconds * 1000;
    lease_first_byte(u->lease);
    lease_status(u->lease, head->status);
    account_head(u->account, head);
    if (u->streamed && u->events->on_stream)
        u->events->on_stream(u->arg);
}

static void on_data(void *arg, struct str piece)
{
    struct upstream *u = arg;
    account_data(u->account, piece);
    if (!u->streamed) {
        buf_str(&u->body, piece);
        return;
    }
    u->feeding = true;
    bool good = http_sse_reader_feed(&u->reader, piece);
    u->feeding = false;
    if (u->gone) {
        release(u);
    } else if (!good) {
        struct err err;
        err_set(&err, ERR_BAD_GATEWAY, "the backend sent an event of more than %u bytes", LIMIT_SSE_EVENT);
        account_broken(u->account);
        finish(u, &err);
    }
}

static void end_stream(struct upstream *u)
{
    if (u->problem.code == ERR_NONE && !u->done) {
        account_broken(u->account);
        err_set(&u->problem, ERR_BAD_GATEWAY, "the backend's stream broke off");
    }
    finish(u, u->problem.code != ERR_NONE ? &u->problem : NULL);
}

static void end_refused(struct upstream *u)
{
    struct err err;
    if (!openai_error_read(buf_view(&u->body), u->status, &err))
        err_set(&err, u->status < 500 ? ERR_BAD_REQUEST : ERR_BAD_GATEWAY, "the backend answered with status %d",
                u->status);
    if (!err.retry_after_ms)
        err.retry_after_ms = u->retry_after_ms;
    finish(u, &err);
}

static void end_whole(struct upstream *u)
{
    struct err err;
    if (!buf_ok(&u->body)) {
        err_set(&err, ERR_BAD_GATEWAY, "the backend's reply has more than %u bytes", LIMIT_UPSTREAM_REPLY);
        finish(u, &err);
        return;
    }
    u->feeding = true;
    u->events->on_reply(u->arg, buf_view(&u->body));
    u->feeding = false;
    if (u->gone)
        release(u);
    else
        finish(u, NULL);
}

static void on_end(void *arg)
{
    struct upstream *u = arg;
    u->call = NULL;
    if (u->streamed)
        end_stream(u);
    else if (u->status == 200)
        end_whole(u);
    else
        end_refused(u);
}

static void on_error(void *arg, const struct err *cause)
{
    struct upstream *u = arg;
    struct err err;
    u->call = NULL;
    lease_explain(u->lease, cause, &err);
    if (!u->status)
        u->status = err_status(err.code);
    lease_status(u->lease, err_status(err.code));
    account_broken(u->account);
    finish(u, &err);
}

/* The caller's right ended in the middle. */
static void on_caller_lost(void *arg)
{
    struct err err;
    err_set(&err, ERR_AUTHENTICATION_FAILED, "This key or token was revoked, or has expired");
    finish(arg, &err);
}

static const struct http_call_events call_events = {
    .on_head = on_head, .on_data = on_data, .on_end = on_end, .on_error = on_error};

/* ---- the request ---- */

static bool is_batch(const struct upstream *u)
{
    const struct caller *caller = u->request.caller;
    return u->request.batch || (caller && caller->priority == KEY_BATCH);
}

static struct str head_lines(struct upstream *u)
{
    const char *id = u->request.request_id;
    struct str client = api_client_line(u->request.caller, u->request.address, &u->arena);
    return str_from(arena_printf(&u->arena, "Content-Type: application/json\r\n%s%s%s%s" STR_FMT STR_FMT,
                                 id ? "x-request-id: " : "", id ? id : "", id ? "\r\n" : "",
                                 is_batch(u) ? API_BATCH_LINE : "", STR_ARG(client),
                                 STR_ARG(account_head_lines(u->account, u->lease, &u->arena))));
}

static void on_reached(void *arg, const struct reached *reached, const struct err *err)
{
    struct upstream *u = arg;
    int64_t length = 0;
    if (!reached) {
        u->status = err_status(err->code);
        finish(u, err);
        return;
    }
    u->lease = reached->lease;
    account_model(u->account, reached->model_id);
    account_leased(u->account, u->lease);
    if (reached->model.p)
        u->pieces[1] = api_quote(reached->model, &u->arena);
    for (size_t i = 0; i < 3; i++)
        length += (int64_t)u->pieces[i].n;
    u->call = http_call_startv(instances_client(u->app->instances), lease_target(u->lease), STR("POST"),
                               u->request.path, head_lines(u), length, u->pieces, 3, &call_events, u);
}

/* The model's name and the body around it. */
static bool read_body(struct upstream *u, struct str *ret_name, struct err *err)
{
    struct json_scan wanted = {.key = "model"};
    struct str body = u->request.body;
    if (!json_scan(body, &wanted, 1, err) || !api_read_model_name(wanted.raw, &u->arena, ret_name, err) ||
        !api_check_model_name(*ret_name, err))
        return false;
    const char *end = body.p + body.n, *behind = wanted.raw.p + wanted.raw.n;
    u->pieces[0] = (struct str){body.p, (size_t)(wanted.raw.p - body.p)};
    u->pieces[1] = wanted.raw;
    u->pieces[2] = (struct str){behind, (size_t)(end - behind)};
    return true;
}

struct upstream *upstream_start(struct app *app, struct arena *arena, const struct upstream_request *request,
                                const struct upstream_events *events, void *arg)
{
    struct upstream *u = mem_calloc(1, sizeof *u);
    struct limit_state limits;
    struct str name;
    struct err err;
    *u = (struct upstream){.app = app, .request = *request, .events = events, .arg = arg};
    u->problem = ERR_INIT;
    arena_init(&u->arena);
    u->account =
        account_open(app, &u->arena, request->caller, request->path, request->address, &u->status, request->trace);
    u->disposer = arena_on_dispose(arena, on_arena_dead, u);
    http_sse_reader_init(&u->reader, on_event, u);
    buf_init(&u->body, LIMIT_UPSTREAM_REPLY);
    callers_watch(app, &u->arena, request->caller, on_caller_lost, u);
    u->starting = true;
    if ((!request->charge || api_admit(app, &u->arena, request->caller, request->address, &limits, &err)) &&
        read_body(u, &name, &err))
        api_reach(app, &u->arena, request->caller, name, on_reached, u);
    else
        on_reached(u, NULL, &err);
    u->starting = false;
    if (!u->gone)
        return u;
    release(u);
    return NULL;
}

void upstream_pause(struct upstream *u)
{
    if (u->call)
        http_call_pause(u->call);
}

void upstream_resume(struct upstream *u)
{
    if (u->call)
        http_call_resume(u->call);
}
