/* The smallest gateway our HTTP layer can be: everything goes to one upstream. Usage: bench_proxy PORT UPSTREAM_PORT */
#include "http/proxy.h"

static struct http_client *client;
static struct http_target target = {.address = "127.0.0.1"};

static void on_body(struct http_req *req, struct str body)
{
    http_proxy(req, client,
               &(struct http_proxy_options){
                   .target = target, .path_and_query = STR_NONE, .body = {body}, .body_count = body.n ? 1 : 0});
}

/* As the gateway does: it looks into the body before it knows the upstream. */
static void on_request(void *arg, struct http_req *req)
{
    (void)arg;
    http_req_read_body(req, 0, on_body);
}

static const char *on_error(void *arg, const struct http_req *req, const struct err *err, struct buf *body)
{
    (void)arg;
    (void)req;
    buf_puts(body, err->message);
    return "text/plain";
}

int main(int argc, char **argv)
{
    static struct loop loop;
    struct err err;
    if (argc != 3)
        return 2;
    target.port = (int)strtol(argv[2], NULL, 10);
    loop_init(&loop);
    client = http_client_new(&loop);
    struct http_server *server =
        http_server_new(&loop, &(struct http_server_options){.on_request = on_request, .on_error = on_error});
    if (!http_server_listen_tcp(server, "127.0.0.1", (int)strtol(argv[1], NULL, 10), NULL, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    loop_run(&loop);
    return 0;
}
