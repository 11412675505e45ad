#include "api/account.h"
#include "http/proxy.h"

struct pass {
    struct lease *lease;
    struct account *account; /* NULL: nobody's */
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

static void on_head(void *arg, const struct http_head *head)
{
    struct pass *pass = arg;
    lease_first_byte(pass->lease);
    lease_status(pass->lease, head->status);
    if (pass->account)
        account_head(pass->account, head);
}

static void on_data(void *arg, struct str piece)
{
    struct pass *pass = arg;
    account_data(pass->account, piece);
}

static void on_broken(void *arg)
{
    struct pass *pass = arg;
    account_broken(pass->account);
}

void api_pass(struct app *app, struct http_req *req, struct lease *lease, struct str path, const struct str *body,
              size_t count, struct account *account)
{
    struct pass *pass = arena_alloc(&req->arena, sizeof *pass);
    *pass = (struct pass){lease, account};
    struct http_proxy_options options = {.target = *lease_target(lease),
                                         .path_and_query = path,
                                         .body_count = count,
                                         .extra_head_lines = lease_head_lines(lease),
                                         .drop_authorization = true,
                                         .on_head = on_head,
                                         .on_data = account ? on_data : NULL,
                                         .on_broken = account ? on_broken : NULL,
                                         .on_error = on_error,
                                         .arg = pass};
    for (size_t i = 0; i < count; i++)
        options.body[i] = body[i];
    http_proxy(req, instances_client(app->instances), &options);
}
