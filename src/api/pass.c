#include "api/account.h"
#include "api/admit.h"
#include "api/openai/cache.h"
#include "api/traced.h"
#include "base/clock.h"
#include "http/proxy.h"

struct pass {
    struct app *app;
    struct lease *lease;
    struct api_watch watch;
};

static bool on_error(void *arg, struct http_req *req, const struct err *cause)
{
    struct pass *pass = arg;
    struct err err;
    lease_explain(pass->lease, cause, &err);
    lease_status(pass->lease, err_status(err.code));
    http_reply_error(req, &err);
    return true;
}

static void fill_head(struct pass *pass, const struct http_head *head)
{
    struct str type = http_head_find(head, "content-type");
    cache_fill_head(pass->watch.fill, head->status, type);
}

/* In the request's last moments: the entry is made, and those who wait for it are told when the arena is gone. */
static void on_finish(void *arg, bool complete)
{
    struct pass *pass = arg;
    struct instance_status status;
    if (!complete)
        return;
    instances_status(pass->app->instances, str_from(pass->watch.model_id), &status);
    cache_fill_done(pass->watch.fill, status.counters->starts, clock_ms());
}

static void on_head(void *arg, const struct http_head *head)
{
    struct pass *pass = arg;
    lease_first_byte(pass->lease);
    lease_status(pass->lease, head->status);
    if (pass->watch.account)
        account_head(pass->watch.account, head);
    if (pass->watch.fill)
        fill_head(pass, head);
}

static void on_data(void *arg, struct str piece)
{
    struct pass *pass = arg;
    account_data(pass->watch.account, piece);
    if (pass->watch.fill)
        cache_fill_data(pass->watch.fill, piece);
}

static void on_broken(void *arg)
{
    struct pass *pass = arg;
    account_broken(pass->watch.account);
}

/* The caller's right ended in the middle: what he has not got yet he does not get. */
static void on_caller_lost(void *arg)
{
    struct http_req *req = arg;
    struct err err;
    if (http_reply_started(req)) {
        http_reply_abort(req);
        return;
    }
    err_set(&err, ERR_AUTHENTICATION_FAILED, "This key or token was revoked, or has expired");
    http_reply_error(req, &err);
}

void api_watch_caller(struct app *app, struct http_req *req)
{
    callers_watch(app, &req->arena, req->caller, on_caller_lost, req);
}

/* Requests of a key for background work stand behind the others', and clients share the engine. */
static struct str head_lines(const struct pass *pass, struct http_req *req)
{
    const struct caller *caller = req->caller;
    struct str lines = account_head_lines(pass->watch.account, pass->lease, &req->arena);
    struct str client = api_client_line(caller, api_client_address(pass->app, req), &req->arena);
    const char *batch = caller && caller->priority == KEY_BATCH ? API_BATCH_LINE : "";
    return str_from(arena_printf(&req->arena, "%s" STR_FMT STR_FMT, batch, STR_ARG(client), STR_ARG(lines)));
}

void api_pass(struct app *app, struct http_req *req, struct lease *lease, struct str path, const struct str *body,
              size_t count, const struct api_watch *watch)
{
    struct pass *pass = arena_alloc(&req->arena, sizeof *pass);
    *pass = (struct pass){app, lease, watch ? *watch : (struct api_watch){0}};
    struct http_proxy_options options = {.target = *lease_target(lease),
                                         .path_and_query = path,
                                         .body_count = count,
                                         .extra_head_lines = head_lines(pass, req),
                                         .replaced = traced_replaced(req),
                                         .drop_authorization = true,
                                         .on_head = on_head,
                                         .on_data = watch ? on_data : NULL,
                                         .on_broken = watch ? on_broken : NULL,
                                         .on_finish = watch && watch->fill ? on_finish : NULL,
                                         .on_error = on_error,
                                         .arg = pass};
    for (size_t i = 0; i < count; i++)
        options.body[i] = body[i];
    api_watch_caller(app, req);
    http_proxy(req, instances_client(app->instances), &options);
}
