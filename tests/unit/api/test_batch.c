/* The pure parts of batches: items and their defaults, lines of an input, and which of them are done. */
#include <stdlib.h>
#include <unistd.h>

#include "api/batch/entry.h"
#include "api/batch/input.h"
#include "unit/unit.h"

#define CHAT STR("/v1/chat/completions")

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_dispose(&arena);
    return 0;
}

/* ---- items of POST /v1/batch ---- */

static const char *body_of(const struct batch_entries *entries, size_t i, const char *path)
{
    struct str at;
    struct err err;
    assert_true(batch_entry_check(entries, i, &at, &err));
    assert_true(str_eq(at, str_from(path)));
    return batch_entry_body(entries, i, &arena).p;
}

static void test_items_override_defaults(void **state)
{
    struct batch_entries entries;
    struct err err;
    (void)state;
    assert_true(
        batch_entries_read(STR("{\"model\":\"m\",\"max_tokens\":5,\"messages\":[1],\"stream\":false,\"requests\":["
                               "{},{\"id\":\"a\",\"max_tokens\":7,\"messages\":[2]},{\"id\":null,\"prompt\":\"p\"},"
                               "{\"prompt\":null,\"user\":\"u\"}]}"),
                           4, &arena, &entries, &err));
    assert_int_equal(entries.count, 4);
    assert_string_equal(entries.ids[0].p, "req-0");
    assert_string_equal(entries.ids[2].p, "req-2");
    assert_true(str_eq(entries.ids[1], STR("a")));
    assert_string_equal(body_of(&entries, 0, "/v1/chat/completions"),
                        "{\"model\":\"m\",\"max_tokens\":5,\"messages\":[1],\"stream\":false}");
    assert_string_equal(body_of(&entries, 1, "/v1/chat/completions"),
                        "{\"model\":\"m\",\"max_tokens\":7,\"messages\":[2],\"stream\":false}");
    assert_string_equal(body_of(&entries, 2, "/v1/completions"),
                        "{\"model\":\"m\",\"max_tokens\":5,\"stream\":false,\"prompt\":\"p\"}");
    assert_non_null(strstr(body_of(&entries, 3, "/v1/chat/completions"), "\"user\":\"u\""));
}

static void test_calls_refused(void **state)
{
    static const struct {
        const char *body, *param;
        enum err_code code;
    } cases[] = {
        {"{", "", ERR_INVALID_JSON},
        {"[]", "", ERR_INVALID_JSON},
        {"{}", "requests", ERR_INVALID_PARAMETERS},
        {"{\"requests\":[]}", "requests", ERR_INVALID_PARAMETERS},
        {"{\"requests\":[{},{},{}]}", "requests", ERR_INVALID_PARAMETERS},
        {"{\"requests\":[{}],\"stream\":true}", "stream", ERR_INVALID_PARAMETERS},
        {"{\"requests\":[{},{\"stream\":true}]}", "requests[1].stream", ERR_INVALID_PARAMETERS},
        {"{\"requests\":[{\"id\":\"a\"},{\"id\":\"a\"}]}", "requests[1].id", ERR_INVALID_PARAMETERS},
        {"{\"requests\":[{\"id\":\"req-1\"},{}]}", "requests[1].id", ERR_INVALID_PARAMETERS},
    };
    struct batch_entries entries;
    struct err err;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err = ERR_INIT;
        assert_false(batch_entries_read(str_from(cases[i].body), 2, &arena, &entries, &err));
        assert_int_equal(err.code, cases[i].code);
        assert_string_equal(err.param, cases[i].param);
    }
}

static void test_items_that_fail_themselves(void **state)
{
    struct batch_entries entries;
    struct str path;
    struct err err;
    (void)state;
    assert_true(batch_entries_read(STR("{\"requests\":[1,{},{\"id\":5,\"prompt\":\"a\"},{\"prompt\":\"a\",\"messages\":"
                                       "[]},{\"id\":\"\",\"prompt\":1}]}"),
                                   9, &arena, &entries, &err));
    for (size_t i = 0; i < entries.count; i++)
        assert_false(batch_entry_check(&entries, i, &path, &err));
}

/* ---- lines ---- */

static int file_of(const char *text)
{
    char path[] = "/tmp/inferd-batch-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    return fd;
}

#define LINE(id)                                                                                                       \
    "{\"custom_id\":\"" id "\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{\"model\":\"m\"}}"

static void scan(struct batch_input *input, const char *text, size_t most)
{
    struct err err;
    int fd = file_of(text);
    batch_input_init(input);
    assert_true(batch_input_scan(input, fd, CHAT, most, &err));
    close(fd);
}

static void test_lines_are_found(void **state)
{
    struct batch_input input;
    (void)state;
    scan(&input, LINE("a") "\n\n \r\n" LINE("b") "\r\n" LINE("c"), 3);
    assert_int_equal(input.error_count, 0);
    assert_int_equal(input.count, 3);
    assert_int_equal(input.lines[0].offset, 0);
    assert_int_equal(input.lines[1].offset, strlen(LINE("a")) + 5);
    assert_int_equal(input.lines[2].length, strlen(LINE("c")));
    batch_input_release(&input);
    scan(&input, "", 3);
    assert_non_null(strstr(buf_view(&input.errors).p, "empty_file"));
    batch_input_release(&input);
    scan(&input, LINE("a") "\n" LINE("b") "\n", 1);
    assert_non_null(strstr(buf_view(&input.errors).p, "\"too_many_requests\",\"line\":2"));
    batch_input_release(&input);
}

static void test_bad_lines(void **state)
{
    static const struct {
        const char *line, *param;
    } cases[] = {
        {"{", ""},
        {"[]", ""},
        {"{\"custom_id\":5}", "custom_id"},
        {"{\"custom_id\":\"a\",\"method\":\"post\"}", "method"},
        {"{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/completions\"}", "url"},
        {"{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\"}", "body"},
        {"{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{}}", "body.model"},
        {"{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/"
         "completions\",\"body\":{\"model\":\"m\",\"stream\":true}}",
         "body.stream"},
    };
    struct batch_request request;
    struct err err;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err = ERR_INIT;
        assert_false(batch_line_read(str_from(cases[i].line), CHAT, &arena, &request, &err));
        assert_string_equal(err.param, cases[i].param);
    }
    assert_true(batch_line_read(STR(LINE("a")), CHAT, &arena, &request, &err));
    assert_true(str_eq(request.custom_id, STR("a")));
    assert_true(str_eq(request.body, STR("{\"model\":\"m\"}")));
}

/* Whatever part of the last line a killed daemon had written, it is cut off and its request is not done. */
static void test_resume_at_every_cut(void **state)
{
    static const char whole[] =
        "{\"id\":\"1\",\"custom_id\":\"c\",\"response\":null}\n{\"id\":\"2\",\"custom_id\":\"\\u0061\"}\n";
    size_t first = strcspn(whole, "\n") + 1;
    (void)state;
    for (size_t cut = 0; cut < sizeof whole; cut++) {
        char text[sizeof whole];
        struct batch_input input;
        struct err err;
        size_t count;
        uint64_t size;
        memcpy(text, whole, cut);
        text[cut] = '\0';
        scan(&input, LINE("a") "\n" LINE("b") "\n" LINE("c") "\n", 9);
        int fd = file_of(text);
        assert_true(batch_input_resume(&input, fd, &count, &size, &err));
        size_t lines = (cut >= first) + (cut + 1 == sizeof whole);
        assert_int_equal(count, lines);
        assert_int_equal(size, lines == 2 ? cut : lines == 1 ? first : 0);
        assert_int_equal(lseek(fd, 0, SEEK_END), size);
        assert_int_equal(input.lines[2].done, lines >= 1);
        assert_int_equal(input.lines[0].done, lines == 2);
        assert_false(input.lines[1].done);
        close(fd);
        batch_input_release(&input);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_items_override_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_calls_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_items_that_fail_themselves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lines_are_found, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_resume_at_every_cut, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
