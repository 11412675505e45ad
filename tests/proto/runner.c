/* Plays the scripts of one file to a server, each over a connection of its own: first in one piece, then cut in two at
 * every byte. What comes back must be the expected bytes, to the last one, whatever the cut.
 *
 * A file is made of lines. '# ' is a comment, '== ' names the next script, '> ' and '< ' are a line sent and a line
 * expected, ended by CR LF; '>| ' and '<| ' are the same without a line end. \r \n \\ \xHH stand for bytes. Lines Date
 * and x-request-id (when the server chose it) are left out of what was heard.
 * '% origins A B...' before the first script sets the origins whose pages may call. */
#include "unit/http/harness.h"

#define ORIGINS 8

struct script {
    struct list link;
    char *title;
    struct buf said, heard;
};

static struct {
    const char *path;
    struct list scripts;
    char *origin_names;
    const char *origins[ORIGINS + 1];
} T;

/* ---- the server ---- */

static void echo_body(struct http_req *req, struct str body)
{
    http_reply(req, 200, "text/plain", body);
}

static void reply_chunks(struct http_req *req)
{
    http_reply_start(req, 200, "text/plain", -1);
    http_reply_write(req, STR("ab"));
    http_reply_write(req, STR("cde"));
    http_reply_end(req);
}

static void reply_busy(struct http_req *req)
{
    struct err err;
    err_set(&err, ERR_SERVER_OVERLOADED, "Full.");
    err.retry_after_ms = 1500;
    http_reply_error(req, &err);
}

static void handle(void *arg, struct http_req *req)
{
    (void)arg;
    if (str_eq(req->head.path, STR("/echo")))
        http_req_read_body(req, 0, echo_body);
    else if (str_eq(req->head.path, STR("/small")))
        http_req_read_body(req, 4, echo_body);
    else if (str_eq(req->head.path, STR("/chunks")))
        reply_chunks(req);
    else if (str_eq(req->head.path, STR("/busy")))
        reply_busy(req);
    else
        http_reply(req, 200, "text/plain", req->head.path);
}

static void options_of_file(struct http_server_options *o)
{
    o->cors_origins = T.origins[0] ? T.origins : NULL;
}

/* ---- the file ---- */

static void put_unescaped(struct buf *out, const char *text)
{
    for (; *text; text++) {
        char byte = *text;
        if (byte == '\\') {
            char hex[3] = "";
            text++;
            assert_true(*text && strchr("rn\\x", *text));
            if (*text == 'x') {
                snprintf(hex, sizeof hex, "%.2s", text + 1);
                assert_int_equal(strlen(hex), 2);
                text += 2;
            }
            byte = *hex ? (char)strtol(hex, NULL, 16) : *text == 'r' ? '\r' : *text == 'n' ? '\n' : '\\';
        }
        buf_putc(out, byte);
    }
}

static struct script *script_new(const char *title)
{
    struct script *s = mem_calloc(1, sizeof *s);
    s->title = mem_strdup(title);
    buf_init(&s->said, 1u << 20);
    buf_init(&s->heard, 1u << 20);
    list_push(&T.scripts, &s->link);
    return s;
}

static void read_origins(const char *names)
{
    size_t n = 0;
    T.origin_names = mem_strdup(names);
    for (char *save = NULL, *at = strtok_r(T.origin_names, " ", &save); at; at = strtok_r(NULL, " ", &save)) {
        assert_true(n < ORIGINS);
        T.origins[n++] = at;
    }
}

static void read_line(const char *line)
{
    static const char origins[] = "% origins ";
    if (*line == '\0' || *line == '#')
        return;
    if (strncmp(line, origins, sizeof origins - 1) == 0) {
        read_origins(line + sizeof origins - 1);
        return;
    }
    if (strncmp(line, "== ", 3) == 0) {
        script_new(line + 3);
        return;
    }
    bool open_end = line[1] == '|';
    const char *text = line + 1 + open_end;
    assert_true((*line == '>' || *line == '<') && !list_empty(&T.scripts));
    struct script *s = container_of(T.scripts.prev, struct script, link);
    struct buf *out = *line == '>' ? &s->said : &s->heard;
    put_unescaped(out, *text ? text + 1 : text);
    if (!open_end)
        buf_puts(out, "\r\n");
}

static void read_scripts(void)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t n;
    FILE *file = fopen(T.path, "r");
    assert_non_null(file);
    list_init(&T.scripts);
    while ((n = getline(&line, &size, file)) >= 0) {
        if (n && line[n - 1] == '\n')
            line[n - 1] = '\0';
        read_line(line);
    }
    free(line);
    fclose(file);
}

static void free_scripts(void)
{
    while (!list_empty(&T.scripts)) {
        struct script *s = list_first(&T.scripts, struct script, link);
        list_remove(&s->link);
        buf_release(&s->said);
        buf_release(&s->heard);
        mem_free(s->title);
        mem_free(s);
    }
    mem_free(T.origin_names);
}

/* ---- the play ---- */

static void play(const struct script *s, size_t cut)
{
    int fd = dial();
    say_bytes(fd, s->said.data, cut);
    say_bytes(fd, s->said.data + cut, s->said.len - cut);
    char *heard = hear_all(fd);
    if (strcmp(heard, s->heard.data) != 0)
        print_message("%s: '%s', cut at %zu of %zu\n", T.path, s->title, cut, s->said.len);
    assert_string_equal(heard, s->heard.data);
    mem_free(heard);
    close(fd);
}

static void test_file(void **state)
{
    (void)state;
    read_scripts();
    assert_false(list_empty(&T.scripts));
    start_with(handle, options_of_file);
    go();
    list_each (s, &T.scripts, struct script, link) {
        assert_true(s->said.len && s->heard.len);
        for (size_t cut = s->said.len; cut > 0; cut--)
            play(s, cut);
    }
    stop();
    free_scripts();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_file)};
    if (argc != 2) {
        fprintf(stderr, "usage: %s FILE.t\n", argv[0]);
        return 2;
    }
    T.path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
