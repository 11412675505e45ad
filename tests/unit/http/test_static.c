/* Files as replies: conditions and ranges in exact bytes, names that try to leave the folder, readers that are slow,
 * stuck or gone. The folder is made anew, with fixed times, so that ETags are known. */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "http/route.h"
#include "http/static.h"

#define BIG (48u << 20)

static struct {
    char folder[64]; /* holds outside.txt and public/ */
    char public[80];
    struct http_router *router;
} T;

/* ---- the folder ---- */

static char *path_of(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", T.folder, name);
    return path;
}

static void file_new(const char *name, const char *text)
{
    const struct timespec times[2] = {{.tv_sec = 1700000000}, {.tv_sec = 1700000000}};
    int fd = open(path_of(name), O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static char pattern(size_t at)
{
    return (char)('!' + (at ^ at >> 8 ^ at >> 16) % 90);
}

static void big_file_new(void)
{
    static char block[1u << 16];
    int fd = open(path_of("public/big"), O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    for (size_t at = 0; at < BIG; at += sizeof block) {
        for (size_t i = 0; i < sizeof block; i++)
            block[i] = pattern(at + i);
        assert_int_equal(write(fd, block, sizeof block), sizeof block);
    }
    close(fd);
}

static const char *const names[] = {"outside.txt",     "public/plain.txt", "public/empty", "public/sub/page.html",
                                    "public/link.txt", "public/out",       "public/pipe",  "public/big"};

static int folder_new(void **state)
{
    (void)state;
    snprintf(T.folder, sizeof T.folder, "/tmp/inferd-static-XXXXXX");
    assert_non_null(mkdtemp(T.folder));
    snprintf(T.public, sizeof T.public, "%s/public", T.folder);
    assert_int_equal(mkdir(T.public, 0700), 0);
    assert_int_equal(mkdir(path_of("public/sub"), 0700), 0);
    file_new("outside.txt", "secret");
    file_new("public/plain.txt", "0123456789");
    file_new("public/empty", "");
    file_new("public/sub/page.html", "<p>");
    assert_int_equal(symlink("../outside.txt", path_of("public/link.txt")), 0);
    assert_int_equal(symlink("..", path_of("public/out")), 0);
    assert_int_equal(mkfifo(path_of("public/pipe"), 0600), 0);
    big_file_new();
    return 0;
}

static int folder_remove(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(path_of(names[i]));
    rmdir(path_of("public/sub"));
    rmdir(T.public);
    return rmdir(T.folder);
}

/* ---- the server ---- */

static void disposed(void *arg)
{
    (void)arg;
    count(DISPOSED);
}

static void send_named(void *arg, struct http_req *req, const struct http_match *match)
{
    (void)arg;
    arena_on_dispose(&req->arena, disposed, NULL);
    http_static_reply(req, T.public, match->captures[0]);
}

static const struct http_route routes[] = {{"GET", "/f/{name...}", send_named, NULL, "", 0, NULL}};

static void dispatch(void *arg, struct http_req *req)
{
    (void)arg;
    http_router_dispatch(T.router, req);
}

static void begin(void (*change)(struct http_server_options *))
{
    T.router = http_router_new(NULL);
    http_router_add(T.router, routes, 1);
    start_with(dispatch, change);
    go();
}

static void end(void)
{
    stop();
    http_router_free(T.router);
}

#define HOST        "Host: localhost\r\nConnection: close\r\n"
#define TAG(size)   "\"17979cfe362a0000-" size "\""
#define DATED       "Tue, 14 Nov 2023 22:13:20 GMT"
#define ABOUT(size) "ETag: " TAG(size) "\r\nLast-Modified: " DATED "\r\nAccept-Ranges: bytes\r\n"
#define SENT(status, type, length)                                                                                     \
    "HTTP/1.1 " status "\r\nContent-Type: " type "\r\nContent-Length: " length "\r\nConnection: close\r\n"
#define TEXT  "text/plain; charset=utf-8"
#define WHOLE SENT("200 OK", TEXT, "10") ABOUT("a") "\r\n0123456789"
#define PART(length, range, bytes)                                                                                     \
    SENT("206 Partial Content", TEXT, length) ABOUT("a") "Content-Range: bytes " range "/10\r\n\r\n" bytes
#define BEHIND                                                                                                         \
    SENT("416 Range Not Satisfiable", "text/plain", "21")                                                              \
    ABOUT("a") "Content-Range: bytes */10\r\n\r\nrange_not_satisfiable"
#define SAME    "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n" ABOUT("a") "\r\n"
#define UNKNOWN SENT("404 Not Found", "text/plain", "11") "\r\nunknown_url"

static const struct {
    const char *method, *name, *lines, *expected;
} cases[] = {
    {"GET", "plain.txt", "", WHOLE},
    {"HEAD", "plain.txt", "", SENT("200 OK", TEXT, "10") ABOUT("a") "\r\n"},
    {"GET", "empty", "", SENT("200 OK", "application/octet-stream", "0") ABOUT("0") "\r\n"},
    {"GET", "sub/page.html", "", SENT("200 OK", "text/html; charset=utf-8", "3") ABOUT("3") "\r\n<p>"},
    {"GET", "sub%2Fpage.html", "", SENT("200 OK", "text/html; charset=utf-8", "3") ABOUT("3") "\r\n<p>"},
    /* ranges */
    {"GET", "plain.txt", "Range: bytes=2-4\r\n", PART("3", "2-4", "234")},
    {"GET", "plain.txt", "Range: bytes=0-0\r\n", PART("1", "0-0", "0")},
    {"GET", "plain.txt", "Range: bytes=7-\r\n", PART("3", "7-9", "789")},
    {"GET", "plain.txt", "Range: bytes=-4\r\n", PART("4", "6-9", "6789")},
    {"GET", "plain.txt", "Range: bytes=-100\r\n", PART("10", "0-9", "0123456789")},
    {"GET", "plain.txt", "Range: bytes=8-99\r\n", PART("2", "8-9", "89")},
    {"GET", "plain.txt", "Range: bytes=8-18446744073709551615\r\n", PART("2", "8-9", "89")},
    {"GET", "plain.txt", "Range: bytes=10-\r\n", BEHIND},
    {"GET", "plain.txt", "Range: bytes=18446744073709551615-\r\n", BEHIND},
    {"GET", "plain.txt", "Range: bytes=-0\r\n", BEHIND},
    {"GET", "plain.txt", "Range: bytes=4-2\r\n", WHOLE},
    {"GET", "plain.txt", "Range: bytes=-\r\n", WHOLE},
    {"GET", "plain.txt", "Range: bytes=\r\n", WHOLE},
    {"GET", "plain.txt", "Range: bytes=+1-2\r\n", WHOLE},
    {"GET", "plain.txt", "Range: bytes=1--2\r\n", WHOLE},
    {"GET", "plain.txt", "Range: bytes=99999999999999999999-\r\n", WHOLE},
    {"GET", "plain.txt", "Range: bytes=1-2,4-5\r\n", WHOLE},
    {"GET", "plain.txt", "Range: lines=1-2\r\n", WHOLE},
    {"HEAD", "plain.txt", "Range: bytes=2-4\r\n", SENT("200 OK", TEXT, "10") ABOUT("a") "\r\n"},
    /* conditions */
    {"GET", "plain.txt", "If-None-Match: " TAG("a") "\r\n", SAME},
    {"HEAD", "plain.txt", "If-None-Match: " TAG("a") "\r\n", SAME},
    {"GET", "plain.txt", "If-None-Match: W/" TAG("a") "\r\n", SAME},
    {"GET", "plain.txt", "If-None-Match: \"x\", " TAG("a") "\r\n", SAME},
    {"GET", "plain.txt", "If-None-Match: *\r\n", SAME},
    {"GET", "plain.txt", "If-None-Match: " TAG("b") "\r\n", WHOLE},
    {"GET", "plain.txt", "If-None-Match: \"x\"\r\nIf-Modified-Since: " DATED "\r\n", WHOLE},
    {"GET", "plain.txt", "If-Modified-Since: " DATED "\r\n", SAME},
    {"GET", "plain.txt", "If-Modified-Since: Tue, 14 Nov 2023 22:13:19 GMT\r\n", WHOLE},
    {"GET", "plain.txt", "If-Modified-Since: yesterday\r\n", WHOLE},
    {"GET", "plain.txt", "If-Range: " TAG("a") "\r\nRange: bytes=2-4\r\n", PART("3", "2-4", "234")},
    {"GET", "plain.txt", "If-Range: " DATED "\r\nRange: bytes=2-4\r\n", PART("3", "2-4", "234")},
    {"GET", "plain.txt", "If-Range: \"x\"\r\nRange: bytes=2-4\r\n", WHOLE},
    {"GET", "plain.txt", "If-Range: W/" TAG("a") "\r\nRange: bytes=2-4\r\n", WHOLE},
    /* no such file, or none of this folder's */
    {"GET", "missing", "", UNKNOWN},
    {"GET", "sub", "", UNKNOWN},
    {"GET", "sub/", "", UNKNOWN},
    {"GET", "plain.txt/x", "", UNKNOWN},
    {"GET", "pipe", "", UNKNOWN},
    {"GET", "..", "", UNKNOWN},
    {"GET", "../outside.txt", "", UNKNOWN},
    {"GET", "sub/../../outside.txt", "", UNKNOWN},
    {"GET", "sub/../plain.txt", "", UNKNOWN},
    {"GET", "./plain.txt", "", UNKNOWN},
    {"GET", "sub//page.html", "", UNKNOWN},
    {"GET", "/etc/passwd", "", UNKNOWN},
    {"GET", "%2Fetc%2Fpasswd", "", UNKNOWN},
    {"GET", "%2e%2e/outside.txt", "", UNKNOWN},
    {"GET", "..%2Foutside.txt", "", UNKNOWN},
    {"GET", "link.txt", "", UNKNOWN},
    {"GET", "out/outside.txt", "", UNKNOWN},
    {"GET", "out/public/plain.txt", "", UNKNOWN},
};

static void test_replies(void **state)
{
    (void)state;
    begin(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char said[400];
        int n = snprintf(said, sizeof said, "%s /f/%s HTTP/1.1\r\n" HOST "%s\r\n", cases[i].method, cases[i].name,
                         cases[i].lines);
        int fd = dial();
        say_bytes(fd, said, (size_t)n);
        char *heard = hear_all(fd);
        if (strcmp(heard, cases[i].expected) != 0)
            print_message("case %zu: %s %s %s\n", i, cases[i].method, cases[i].name, cases[i].lines);
        assert_string_equal(heard, cases[i].expected);
        mem_free(heard);
        close(fd);
    }
    end();
}

/* A NUL ends a name in the kernel, and a name longer than any file's is no name; neither may be cut to a valid one. */
static void test_odd_names(void **state)
{
    char said[600], name[301];
    (void)state;
    begin(NULL);
    int fd = dial();
    say(fd, "GET /f/plain.txt%00.html HTTP/1.1\r\n" HOST "\r\n");
    char *heard = hear_all(fd);
    assert_null(strstr(heard, "0123456789"));
    assert_non_null(strstr(heard, "HTTP/1.1 4"));
    mem_free(heard);
    close(fd);
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    int n = snprintf(said, sizeof said, "GET /f/%s HTTP/1.1\r\n" HOST "\r\n", name);
    exchange(said, (size_t)n, UNKNOWN);
    end();
}

static int dial_narrow(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)H.port)};
    struct timeval limit = {.tv_sec = 10};
    int fd = socket(AF_INET, SOCK_STREAM, 0), small = 4096;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    say(fd, "GET /f/big HTTP/1.1\r\n" HOST "\r\n");
    mem_free(hear_until(fd, "\r\n\r\n"));
    return fd;
}

/* Reads and checks what comes; returns how much it was. */
static size_t read_some(int fd, size_t most, bool check)
{
    static char block[1u << 16];
    size_t at = 0;
    ssize_t n = 1;
    while (at < most && n > 0) {
        n = recv(fd, block, sizeof block < most - at ? sizeof block : most - at, 0);
        for (ssize_t i = 0; i < n; i++)
            if (check && block[i] != pattern(at + (size_t)i))
                fail_msg("byte %zu is wrong", at + (size_t)i);
        at += n > 0 ? (size_t)n : 0;
    }
    return at;
}

static size_t read_big(int fd, size_t most)
{
    return read_some(fd, most, true);
}

static void test_large_file_leaves_others_their_turn(void **state)
{
    (void)state;
    begin(NULL);
    int slow = dial_narrow();
    const char *said = "GET /f/plain.txt HTTP/1.1\r\n" HOST "\r\n";
    exchange(said, strlen(said), WHOLE);
    assert_int_equal(read_big(slow, SIZE_MAX), BIG);
    close(slow);
    end();
}

static size_t open_descriptors(void)
{
    size_t n = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static void test_client_leaves_in_the_middle(void **state)
{
    size_t before = open_descriptors();
    (void)state;
    begin(NULL);
    for (unsigned i = 1; i <= 3; i++) {
        int fd = dial_narrow();
        assert_int_equal(read_big(fd, 100000), 100000);
        close(fd);
        wait_for(DISPOSED, i);
    }
    end();
    assert_int_equal(open_descriptors(), before);
}

static void short_stall(struct http_server_options *o)
{
    o->stall_ms = 20;
}

static void test_client_that_takes_nothing_is_dropped(void **state)
{
    (void)state;
    begin(short_stall);
    int fd = dial_narrow();
    wait_for(DISPOSED, 1);
    assert_true(read_big(fd, SIZE_MAX) < BIG);
    close(fd);
    end();
}

/* The client must be able to tell: the connection is reset, short of the promised length. (The bytes before that may
 * be wrong: the kernel clears pages that are on their way.) Runs last, for it cuts the file. */
static void test_file_that_shrinks(void **state)
{
    (void)state;
    begin(NULL);
    int fd = dial_narrow();
    assert_int_equal(truncate(path_of("public/big"), 1000), 0);
    assert_true(read_some(fd, SIZE_MAX, false) < BIG);
    assert_int_equal(errno, ECONNRESET);
    wait_for(DISPOSED, 1);
    close(fd);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_odd_names),
        cmocka_unit_test(test_large_file_leaves_others_their_turn),
        cmocka_unit_test(test_client_leaves_in_the_middle),
        cmocka_unit_test(test_client_that_takes_nothing_is_dropped),
        cmocka_unit_test(test_file_that_shrinks),
    };
    return cmocka_run_group_tests(tests, folder_new, folder_remove);
}
