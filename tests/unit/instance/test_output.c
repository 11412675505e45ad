#include "unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <zlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "instance/output.h"

static struct loop loop;
static char folder[64], path[80];

static int open_loop(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/inferd-output-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/x.log", folder);
    loop_init(&loop);
    return 0;
}

static const char *rotated(unsigned number, const char *suffix)
{
    static char name[96];
    snprintf(name, sizeof name, "%s.%u%s", path, number, suffix);
    return name;
}

static int close_loop(void **state)
{
    (void)state;
    loop_release(&loop); /* runs the last jobs */
    unlink(path);
    for (unsigned i = 1; i < 8; i++) {
        unlink(rotated(i, ""));
        unlink(rotated(i, ".gz"));
    }
    umount2(folder, MNT_DETACH); /* when a test with a disk of its own has failed */
    return rmdir(folder);        /* nothing else was left there */
}

static void on_proceed(void *arg)
{
    ++*(unsigned *)arg;
    loop_stop(&loop);
}

static unsigned proceeded;

static struct output *open_output(uint64_t rotate_bytes, unsigned files, bool compress)
{
    proceeded = 0;
    return output_new(&loop, &(struct output_options){.path = path,
                                                      .rotate_bytes = rotate_bytes,
                                                      .rotated_files = files,
                                                      .compress = compress,
                                                      .on_proceed = on_proceed,
                                                      .arg = &proceeded});
}

/* ---- tails ---- */

struct found {
    struct buf text;
    uint64_t offset, length;
    unsigned calls;
    double seconds;
};

static void on_found(void *arg, int fd, uint64_t offset, uint64_t length, const struct err *err)
{
    struct found *found = arg;
    found->calls++;
    found->offset = offset;
    found->length = length;
    assert_null(err);
    assert_true(fd >= 0);
    char *room = buf_reserve(&found->text, length);
    assert_true(pread(fd, room, length, (off_t)offset) == (ssize_t)length);
    buf_commit(&found->text, length);
    close(fd);
    loop_stop(&loop);
}

/* The last lines, in memory that the caller releases. */
static struct found tail(struct output *output, int64_t lines)
{
    struct found found = {0};
    struct arena arena;
    arena_init(&arena);
    buf_init(&found.text, 64u << 20);
    uint64_t before = uv_hrtime();
    output_tail(output, lines, &arena, on_found, &found);
    while (!found.calls)
        loop_run(&loop);
    found.seconds = (double)(uv_hrtime() - before) / 1e9;
    arena_dispose(&arena);
    return found;
}

static void tail_is(struct output *output, int64_t lines, const char *expected)
{
    struct found found = tail(output, lines);
    assert_int_equal(found.text.len, strlen(expected));
    assert_string_equal(found.text.len ? found.text.data : "", expected);
    buf_release(&found.text);
}

static void make_file(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void tails_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        int64_t lines;
        const char *tail;
    } cases[] = {
        {"a\nb\nc\n", 1, "c\n"},
        {"a\nb\nc", 1, "c"},
        {"a\nb\nc\n", 2, "b\nc\n"},
        {"a\nb\nc", 2, "b\nc"},
        {"a\nb\n", 2, "a\nb\n"},
        {"a\nb\n", 9, "a\nb\n"},
        {"a\nb\n", 0, "a\nb\n"},
        {"a\nb\n", -1, "a\nb\n"},
        {"\n\n\n", 1, "\n"},
        {"\n\n\n", 2, "\n\n"},
        {"\n", 1, "\n"},
        {"", 1, ""},
        {"a", 1, "a"},
        {"a\n\n", 1, "\n"},
        {"a\n\nb", 2, "\nb"},
        {"a\nb", INT64_MAX, "a\nb"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_file(cases[i].file);
        struct output *output = open_output(0, 0, false);
        tail_is(output, cases[i].lines, cases[i].tail);
        output_free(output);
    }
}

static void no_file_has_no_lines(void **state)
{
    (void)state;
    struct output *output = open_output(0, 0, false);
    tail_is(output, 50, "");
    assert_true(output_write(output, STR("x\n")));
    tail_is(output, 50, "x\n"); /* what was written before is in it */
    output_free(output);
}

static void a_tail_does_not_read_the_whole_file(void **state)
{
    (void)state;
    char lines[50 * 8 + 1];
    for (int i = 0; i < 50; i++)
        snprintf(lines + 8 * i, 9, "line %02d\n", i);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 1 << 30), 0);
    assert_int_equal(pwrite(fd, "\n", 1, 1 << 30), 1);
    assert_int_equal(pwrite(fd, lines, 400, (1 << 30) + 1), 400);
    close(fd);
    struct output *output = open_output(0, 0, false);
    struct found found = tail(output, 50);
    assert_str(buf_view(&found.text), "line 00\nline 01\nline 02\nline 03\n" /* and so on */
                                      "line 04\nline 05\nline 06\nline 07\nline 08\nline 09\nline 10\nline 11\n"
                                      "line 12\nline 13\nline 14\nline 15\nline 16\nline 17\nline 18\nline 19\n"
                                      "line 20\nline 21\nline 22\nline 23\nline 24\nline 25\nline 26\nline 27\n"
                                      "line 28\nline 29\nline 30\nline 31\nline 32\nline 33\nline 34\nline 35\n"
                                      "line 36\nline 37\nline 38\nline 39\nline 40\nline 41\nline 42\nline 43\n"
                                      "line 44\nline 45\nline 46\nline 47\nline 48\nline 49\n");
    assert_true(found.seconds < 0.1);
    buf_release(&found.text);
    output_free(output);
}

static void on_never(void *arg, int fd, uint64_t offset, uint64_t length, const struct err *err)
{
    (void)arg, (void)fd, (void)offset, (void)length, (void)err;
    fail_msg("a tail outlived its arena");
}

static void a_tail_dies_with_its_arena(void **state)
{
    (void)state;
    struct arena arena;
    struct output *output = open_output(0, 0, false);
    arena_init(&arena);
    output_write(output, STR("x\n"));
    output_tail(output, 1, &arena, on_never, NULL);
    arena_dispose(&arena);
    tail_is(output, 1, "x\n"); /* runs the loop past it */
    output_free(output);
}

/* ---- following ---- */

struct lines {
    struct buf text; /* with '|' behind each */
    size_t count, longest;
    struct arena *end_at_x;
};

static void on_line(void *arg, struct str line)
{
    struct lines *lines = arg;
    lines->count++;
    lines->longest = line.n > lines->longest ? line.n : lines->longest;
    if (line.n < 100) {
        buf_str(&lines->text, line);
        buf_putc(&lines->text, '|');
    }
    if (lines->end_at_x && str_eq(line, STR("x")))
        arena_dispose(lines->end_at_x);
}

static void followers_get_whole_lines(void **state)
{
    (void)state;
    struct arena arenas[2];
    struct lines lines[2] = {[0].end_at_x = &arenas[0]};
    struct output *output = open_output(0, 0, false);
    output_write(output, STR("old\nbegun "));
    for (int i = 0; i < 2; i++) {
        arena_init(&arenas[i]);
        buf_init(&lines[i].text, 4096);
        output_follow(output, &arenas[i], on_line, &lines[i]);
    }
    output_write(output, STR("before\na"));
    output_write(output, STR(""));
    output_write(output, STR("b"));
    output_mark(output, STR("=== mark ==="));
    output_write(output, STR("\n\nx\ny\nz"));
    assert_str(buf_view(&lines[0].text), "begun before|ab|=== mark ===|||x|");
    assert_str(buf_view(&lines[1].text), "begun before|ab|=== mark ===|||x|y|");
    tail_is(output, 0, "old\nbegun before\nab\n=== mark ===\n\n\nx\ny\nz");
    output_free(output);
    arena_dispose(&arenas[1]); /* after the output: nothing to leave */
    buf_release(&lines[0].text);
    buf_release(&lines[1].text);
}

static void a_long_line_stays_whole(void **state)
{
    (void)state;
    enum { LONG = 200 * 1024 };
    struct arena arena;
    struct lines lines = {0};
    static char text[LONG];
    struct output *output = open_output(64 * 1024, 3, false);
    arena_init(&arena);
    buf_init(&lines.text, 4096);
    output_follow(output, &arena, on_line, &lines);
    memset(text, 'q', sizeof text);
    output_write(output, STR("first\n"));
    for (size_t at = 0; at < LONG; at += 4096)
        output_write(output, (struct str){text + at, LONG - at < 4096 ? LONG - at : 4096});
    output_write(output, STR("\nlast\n"));
    struct found found = tail(output, 2);
    assert_int_equal(lines.longest, LONG);
    assert_str(buf_view(&lines.text), "first|last|");
    struct str got = buf_view(&found.text);
    if (got.n == 5) /* the long line filled the file before */
        assert_str(got, "last\n");
    else
        assert_int_equal(got.n, LONG + 1 + 5);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    buf_release(&found.text);
    arena_dispose(&arena);
    buf_release(&lines.text);
    output_free(output);
}

static void a_line_without_end_comes_in_pieces(void **state)
{
    (void)state;
    struct arena arena;
    struct lines lines = {0};
    char *text = mem_alloc(LIMIT_LOG_LINE);
    struct output *output = open_output(0, 0, false);
    arena_init(&arena);
    buf_init(&lines.text, 4096);
    output_follow(output, &arena, on_line, &lines);
    memset(text, 'q', LIMIT_LOG_LINE);
    output_write(output, (struct str){text, LIMIT_LOG_LINE});
    assert_int_equal(lines.count, 0);
    output_write(output, STR("rest\n"));
    assert_int_equal(lines.count, 2);
    assert_int_equal(lines.longest, LIMIT_LOG_LINE);
    assert_str(buf_view(&lines.text), "rest|");
    mem_free(text);
    arena_dispose(&arena);
    buf_release(&lines.text);
    output_free(output);
}

static void the_ring_begins_with_a_line(void **state)
{
    (void)state;
    struct output *output = open_output(0, 0, false);
    output_write(output, STR("one"));
    assert_str(output_ring(output), "one");
    for (int i = 0; i < LIMIT_LOG_RING; i++)
        output_write(output, STR("0123456789\n"));
    struct str ring = output_ring(output);
    assert_int_equal(ring.n, LIMIT_LOG_RING / 11 * 11);
    assert_memory_equal(ring.p, "0123456789\n", 11);
    output_free(output);
}

/* ---- floods ---- */

#define LINE_BYTES 42 /* of each of its lines */

/* Writes `count` numbered lines as a child would whose pipe is read only when there is room. */
static unsigned flood(struct output *output, unsigned from, unsigned count)
{
    unsigned stops = 0;
    for (unsigned i = 0; i < count; i++) {
        char line[64];
        int n = snprintf(line, sizeof line, "%08u padding that makes a line longer\n", from + i);
        if (output_write(output, (struct str){line, (size_t)n}))
            continue;
        stops++;
        for (unsigned before = proceeded; proceeded == before;)
            loop_run(&loop);
    }
    return stops;
}

/* Lines of a file follow *next without a gap; gzread reads plain files, too. */
static size_t check_file(const char *name, unsigned *next)
{
    char line[128];
    size_t bytes = 0;
    gzFile file = gzopen(name, "r");
    if (!file)
        return 0;
    while (gzgets(file, line, sizeof line)) {
        unsigned number;
        assert_int_equal(sscanf(line, "%8u padding", &number), 1);
        assert_true(*next == UINT32_MAX || number == *next);
        *next = number + 1;
        bytes += strlen(line);
    }
    assert_int_equal(gzclose(file), Z_OK);
    return bytes;
}

static void a_flood_loses_nothing(void **state)
{
    (void)state;
    enum { LINES = 400000 };
    struct output *output = open_output(0, 0, false);
    unsigned next = 0, stops = flood(output, 0, LINES);
    struct found found = tail(output, 1);
    assert_int_equal(output_lost(output), 0);
    assert_true(stops > 0);
    assert_int_equal(check_file(path, &next), LINES * LINE_BYTES);
    assert_int_equal(next, LINES);
    buf_release(&found.text);
    output_free(output);
}

static void rotation(bool compress)
{
    enum { SIZE = 256 * 1024, FILES = 3, LINES = 100000 };
    struct output *output = open_output(SIZE, FILES, compress);
    unsigned next = UINT32_MAX;
    flood(output, 0, LINES);
    output_free(output);
    loop_release(&loop);
    for (unsigned i = FILES; i > 0; i--) {
        struct stat info;
        assert_int_equal(stat(rotated(i, compress ? ".gz" : ""), &info), 0);
        size_t bytes = check_file(rotated(i, compress ? ".gz" : ""), &next);
        assert_true(bytes <= SIZE && bytes > SIZE - 64); /* full, and no line cut */
        assert_int_equal(stat(rotated(i, compress ? "" : ".gz"), &info), -1);
    }
    assert_true(check_file(path, &next) <= SIZE);
    assert_int_equal(next, LINES);
    assert_int_equal(access(rotated(FILES + 1, ""), F_OK), -1);
    assert_int_equal(access(rotated(FILES + 1, ".gz"), F_OK), -1);
    loop_init(&loop);
}

static void rotation_keeps_the_newest_files(void **state)
{
    (void)state;
    rotation(false);
}

static void rotated_files_are_compressed(void **state)
{
    (void)state;
    rotation(true);
}

static void without_rotated_files_only_the_current_is_kept(void **state)
{
    (void)state;
    unsigned next = UINT32_MAX;
    struct output *output = open_output(1000, 0, true);
    flood(output, 0, 1000);
    struct found found = tail(output, 0);
    assert_true(check_file(path, &next) <= 1000);
    assert_int_equal(next, 1000);
    assert_int_equal(access(rotated(1, ""), F_OK), -1);
    buf_release(&found.text);
    output_free(output);
}

static void an_old_file_is_continued(void **state)
{
    (void)state;
    make_file("old\n");
    struct output *output = open_output(8, 1, false);
    output_write(output, STR("new\n"));
    tail_is(output, 0, "old\nnew\n");
    output_write(output, STR("more\n"));
    tail_is(output, 0, "more\n");
    unlink(path);
    output_write(output, STR("after\n"));
    tail_is(output, 0, "after\n"); /* somebody removed it: a new one */
    output_free(output);
}

static void it_may_be_freed_while_jobs_run(void **state)
{
    (void)state;
    unsigned next = 0;
    struct arena arena;
    struct lines lines = {0};
    arena_init(&arena);
    struct output *output = open_output(16 * 1024, 7, true);
    output_follow(output, &arena, on_line, &lines);
    flood(output, 0, 2000);
    output_free(output);
    arena_dispose(&arena);
    buf_release(&lines.text);
    loop_release(&loop); /* writes what waits */
    for (unsigned i = 7; i > 0; i--)
        check_file(rotated(i, ".gz"), &next);
    check_file(path, &next);
    assert_int_equal(next, 2000);
    loop_init(&loop);
}

/* ---- a full disk ---- */

static void a_full_disk_is_counted_and_gone_on_from(void **state)
{
    (void)state;
    enum { LINES = 20000 };
    if (geteuid() != 0 || mount("inferd-test", folder, "tmpfs", 0, "size=256k") != 0) {
        print_message("SKIPPED: a small file system cannot be mounted here\n");
        skip();
    }
    struct output *output = open_output(0, 0, false);
    flood(output, 0, LINES);
    struct found found = tail(output, 1);
    uint64_t lost = output_lost(output);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_true(lost > 0);
    assert_int_equal((uint64_t)info.st_size + lost, (uint64_t)LINES * LINE_BYTES);
    assert_true(output_ring(output).n > 0);
    assert_int_equal(truncate(path, 10 * LINE_BYTES), 0); /* room again */
    output_write(output, STR("again\n"));
    buf_release(&found.text);
    found = tail(output, 1);
    assert_str(buf_view(&found.text), "again\n");
    assert_int_equal(output_lost(output), lost);
    buf_release(&found.text);
    output_free(output);
    loop_release(&loop);
    assert_int_equal(umount(folder), 0);
    loop_init(&loop);
}

#define OUTPUT_TEST(name) cmocka_unit_test_setup_teardown(name, open_loop, close_loop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        OUTPUT_TEST(tails_are_exact),
        OUTPUT_TEST(no_file_has_no_lines),
        OUTPUT_TEST(a_tail_does_not_read_the_whole_file),
        OUTPUT_TEST(a_tail_dies_with_its_arena),
        OUTPUT_TEST(followers_get_whole_lines),
        OUTPUT_TEST(a_long_line_stays_whole),
        OUTPUT_TEST(a_line_without_end_comes_in_pieces),
        OUTPUT_TEST(the_ring_begins_with_a_line),
        OUTPUT_TEST(a_flood_loses_nothing),
        OUTPUT_TEST(rotation_keeps_the_newest_files),
        OUTPUT_TEST(rotated_files_are_compressed),
        OUTPUT_TEST(without_rotated_files_only_the_current_is_kept),
        OUTPUT_TEST(an_old_file_is_continued),
        OUTPUT_TEST(it_may_be_freed_while_jobs_run),
        OUTPUT_TEST(a_full_disk_is_counted_and_gone_on_from),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
