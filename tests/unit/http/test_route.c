/* The router through a real server: which handler, with which captures. */
#include "harness.h"

#include "http/route.h"

static void tell(void *arg, struct http_req *req, const struct http_match *match)
{
    char text[200];
    (void)arg;
    int n = snprintf(text, sizeof text, "%s", match->route->summary);
    for (int i = 0; i < HTTP_ROUTE_CAPTURES && match->captures[i].p; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %.*s", STR_ARG(match->captures[i]));
    http_reply(req, 200, NULL, (struct str){text, (size_t)n});
}

static const struct http_route routes[] = {
    {"GET", "/", tell, NULL, "root", 0, NULL},
    {"GET", "/v1/models", tell, NULL, "list", 0, NULL},
    {"GET", "/v1/models/{id...}", tell, NULL, "one", 0, NULL},
    {"DELETE", "/v1/models/{id...}", tell, NULL, "delete", 0, NULL},
    {"POST", "/v1/models/{id...}/load", tell, NULL, "load", 0, NULL},
    {"GET", "/v1/models/status", tell, NULL, "status", 0, NULL},
    {"GET", "/i/{name}/logs", tell, NULL, "logs", 0, NULL},
    {"GET", "/i/{name}/{what}", tell, NULL, "what", 0, NULL},
    {"*", "/i/{name}/proxy/{rest...}", tell, NULL, "proxy", 0, NULL},
    {"GET", "/ui/", tell, NULL, "ui", 0, NULL},
};

static struct http_router *router;

static void dispatch(void *arg, struct http_req *req)
{
    (void)arg;
    http_router_dispatch(router, req);
}

static void test_routes(void **state)
{
    static const struct {
        const char *request, *answer;
    } cases[] = {
        {"GET /", "root"},
        {"GET /v1/models", "list"},
        {"GET /v1/models?x=1", "list"},
        {"GET /v1/models/", "list"},
        {"GET /v1/models/a", "one a"},
        {"GET /v1/models/a/", "one a"},
        {"GET /v1/models/org/a", "one org/a"},
        {"GET /v1/models/org%2Fa%20b", "one org/a b"},
        {"GET /v1/models/a/load", "one a/load"},
        {"POST /v1/models/a/load", "load a"},
        {"POST /v1/models/org/a/load/", "load org/a"},
        {"POST /v1/models/org%2Fload/load", "load org/load"},
        {"GET /v1/models/status", "status"},
        {"DELETE /v1/models/status", "delete status"},
        {"GET /i/n/logs", "logs n"},
        {"GET /i/n/other", "what n other"},
        {"PATCH /i/n/proxy/a/b", "proxy n a/b"},
        {"GET /i/n/proxy", "what n proxy"},
        {"GET /ui/", "ui"},
        {"GET /ui", "unknown_url"},
        {"GET /i//logs", "unknown_url"},
        {"GET /v1//models", "unknown_url"},
        {"GET /nothing", "unknown_url"},
        {"GET /v1/models/%zz", "bad_request"},
        {"GET /v1/models/%00", "bad_request"},
        {"POST /v1/models", "Allow: GET, HEAD, OPTIONS\r\n\r\nmethod_not_allowed"},
        {"PUT /v1/models/a", "Allow: GET, HEAD, DELETE, OPTIONS\r\n\r\nmethod_not_allowed"},
        {"OPTIONS /v1/models", "Allow: GET, HEAD, OPTIONS\r\n\r\n"},
        {"OPTIONS /nothing", "unknown_url"},
        {"HEAD /v1/models", "Content-Length: 4\r\nConnection: close\r\n\r\n"},
    };
    (void)state;
    router = http_router_new(NULL);
    http_router_add(router, routes, 4);
    http_router_add(router, routes + 4, sizeof routes / sizeof *routes - 4);
    assert_ptr_equal(http_router_at(router, 5), &routes[5]);
    assert_null(http_router_at(router, sizeof routes / sizeof *routes));
    start(dispatch);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd = dial();
        say(fd, cases[i].request);
        say(fd, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        char *heard = hear_all(fd);
        if (!str_ends(str_from(heard), str_from(cases[i].answer)))
            print_message("%s\n%s\n", cases[i].request, heard);
        assert_true(str_ends(str_from(heard), str_from(cases[i].answer)));
        mem_free(heard);
        close(fd);
    }
    stop();
    http_router_free(router);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_routes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
