/* The page and the document over HTTP: packed or not, known already or not, switched off. */
#include "unit/http/harness.h"

#include "api/app.h"
#include "api/docs/openapi.h"
#include "base/json_read.h"

static struct {
    struct app app;
    struct conf conf;
} T;

static void dispatch(void *arg, struct http_req *req)
{
    (void)arg;
    http_router_dispatch(T.app.router, req);
}

static void begin(bool enabled)
{
    T.conf = (struct conf){.enable_swagger = enabled};
    T.app = (struct app){.conf = &T.conf};
    T.app.router = http_router_new(&T.app);
    docs_routes(T.app.router);
    start(dispatch);
}

static void end(void)
{
    stop();
    http_router_free(T.app.router);
    openapi_free(T.app.openapi);
}

/* The whole reply; free with mem_free. */
static char *ask(const char *method, const char *path, const char *lines)
{
    char request[512];
    int fd = dial();
    snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n", method, path,
             lines);
    say(fd, request);
    char *reply = hear_all(fd);
    close(fd);
    return reply;
}

static const char *body_of(const char *reply)
{
    const char *end = strstr(reply, "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

/* The value of a header of the reply into out. */
static bool header_of(const char *reply, const char *name, char *out, size_t size)
{
    char start[64];
    snprintf(start, sizeof start, "\r\n%s: ", name);
    const char *at = strstr(reply, start);
    if (!at || at > body_of(reply))
        return false;
    at += strlen(start);
    snprintf(out, size, "%.*s", (int)strcspn(at, "\r"), at);
    return true;
}

static void assert_header(const char *reply, const char *name, const char *expected)
{
    char value[512] = "";
    assert_true(header_of(reply, name, value, sizeof value));
    assert_string_equal(value, expected);
}

static void assert_status(const char *reply, const char *status)
{
    if (strncmp(reply + 9, status, 3) != 0)
        print_message("%.400s\n", reply);
    assert_memory_equal(reply + 9, status, 3);
}

/* Asks again with the ETag of reply. */
static void assert_known(const char *path, const char *lines, const char *reply)
{
    char etag[64], again[256];
    assert_true(header_of(reply, "ETag", etag, sizeof etag));
    snprintf(again, sizeof again, "%sIf-None-Match: %s\r\n", lines, etag);
    char *same = ask("GET", path, again);
    assert_status(same, "304");
    assert_string_equal(body_of(same), "");
    assert_header(same, "ETag", etag);
    mem_free(same);
}

static void test_document(void **state)
{
    struct err err;
    (void)state;
    begin(true);
    char *reply = ask("GET", "/openapi.json", ""), *other = ask("GET", "/swagger/doc.json", "");
    assert_status(reply, "200");
    assert_header(reply, "Content-Type", "application/json");
    assert_string_equal(body_of(reply), body_of(other));
    json_t *document = json_read(str_from(body_of(reply)), &err);
    assert_int_equal(json_object_size(json_object_get(document, "paths")), 5);
    json_decref(document);
    assert_known("/openapi.json", "", reply);
    mem_free(reply);
    mem_free(other);
    end();
}

static void test_page(void **state)
{
    (void)state;
    begin(true);
    char *reply = ask("GET", "/swagger/", ""), *named = ask("GET", "/swagger/index.html", "");
    assert_status(reply, "200");
    assert_header(reply, "Content-Type", "text/html; charset=utf-8");
    assert_header(reply, "X-Content-Type-Options", "nosniff");
    assert_header(reply, "Referrer-Policy", "no-referrer");
    assert_header(reply, "Cache-Control", "no-cache");
    assert_header(reply, "Vary", "Accept-Encoding");
    assert_header(reply, "Content-Security-Policy",
                  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
                  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    assert_memory_equal(body_of(reply), "<!doctype html>", 15);
    assert_null(strstr(body_of(reply), "<script>")); /* the policy would not run it */
    assert_string_equal(body_of(reply), body_of(named));
    mem_free(reply);
    mem_free(named);
    end();
}

static void test_packed_and_not(void **state)
{
    char packed_tag[64], plain_tag[64], packed_length[32], plain_length[32];
    (void)state;
    begin(true);
    char *packed = ask("HEAD", "/swagger/swagger-ui-bundle.js", "Accept-Encoding: br, gzip\r\n");
    char *plain = ask("GET", "/swagger/swagger-ui-bundle.js", "Accept-Encoding: gzip;q=0\r\n");
    assert_header(packed, "Content-Encoding", "gzip");
    assert_false(header_of(plain, "Content-Encoding", plain_tag, sizeof plain_tag));
    assert_true(header_of(packed, "ETag", packed_tag, sizeof packed_tag));
    assert_true(header_of(plain, "ETag", plain_tag, sizeof plain_tag));
    assert_string_not_equal(packed_tag, plain_tag);
    assert_true(header_of(packed, "Content-Length", packed_length, sizeof packed_length));
    assert_true(header_of(plain, "Content-Length", plain_length, sizeof plain_length));
    uint64_t whole = 0, fewer = 0;
    assert_true(str_u64(str_from(plain_length), 1u << 30, &whole));
    assert_true(str_u64(str_from(packed_length), 1u << 30, &fewer));
    assert_int_equal(strlen(body_of(plain)), whole);
    assert_true(fewer < whole / 2);
    assert_known("/swagger/swagger-ui-bundle.js", "Accept-Encoding: gzip\r\n", packed);
    assert_known("/swagger/swagger-ui-bundle.js", "", plain);
    mem_free(packed);
    mem_free(plain);
    end();
}

static void test_elsewhere(void **state)
{
    (void)state;
    begin(true);
    char *reply = ask("GET", "/swagger", "");
    assert_status(reply, "301");
    assert_header(reply, "Location", "swagger/");
    mem_free(reply);
    reply = ask("GET", "/swagger/package.json", "");
    assert_status(reply, "404");
    mem_free(reply);
    end();
}

static void test_switched_off(void **state)
{
    static const char *const paths[] = {"/openapi.json", "/swagger", "/swagger/", "/swagger/doc.json",
                                        "/swagger/swagger-ui.css"};
    (void)state;
    begin(false);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char *reply = ask("GET", paths[i], "");
        assert_status(reply, "404");
        mem_free(reply);
    }
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_document),  cmocka_unit_test(test_page),         cmocka_unit_test(test_packed_and_not),
        cmocka_unit_test(test_elsewhere), cmocka_unit_test(test_switched_off),
    };
    json_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
