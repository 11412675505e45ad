#include "api/app.h"
#include "http/proxy.h"

static bool on_error(void *arg, struct http_req *req, const struct err *cause)
{
    struct lease *lease = arg;
    struct err err;
    lease_explain(lease, cause, &err);
    lease_status(lease, err_status(err.code));
    http_reply_error(req, &err);
    return true;
}

static void on_head(void *arg, const struct http_head *head)
{
    lease_first_byte(arg);
    lease_status(arg, head->status);
}

void api_pass(struct app *app, struct http_req *req, struct lease *lease, struct str path, const struct str *body,
              size_t count)
{
    struct http_proxy_options options = {.target = *lease_target(lease),
                                         .path_and_query = path,
                                         .body_count = count,
                                         .extra_head_lines = lease_head_lines(lease),
                                         .drop_authorization = true,
                                         .on_head = on_head,
                                         .on_error = on_error,
                                         .arg = lease};
    for (size_t i = 0; i < count; i++)
        options.body[i] = body[i];
    http_proxy(req, instances_client(app->instances), &options);
}
