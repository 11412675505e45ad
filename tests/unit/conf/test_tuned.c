/* A measured choice comes back as it was kept, for the same file only, and nothing else is taken for one. */
#include "unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/tuned.h"

static char folder[64], model[96], dir[96];

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/inferd-tuned-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(model, sizeof model, "%s/m.gguf", folder);
    snprintf(dir, sizeof dir, "%s/a/b", folder);
    write_text(model, "GGUF and more");
    return 0;
}

static int teardown(void **state)
{
    char command[160];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) == 0 ? 0 : -1;
}

static const struct tuned example = {.engine = "0.5.0",
                                     .cpu = "Some \"CPU\" 12ab",
                                     .kv_type = "f16",
                                     .threads = 4,
                                     .flash = false,
                                     .decode_tps_on = 10.5,
                                     .decode_tps_off = 12.25,
                                     .prompt_tps_on = 100,
                                     .prompt_tps_off = 90,
                                     .ubatch = 256,
                                     .ubatch_tps = 120.5,
                                     .ubatch_tps_default = 110,
                                     .measured = 1795279746};

static void what_was_kept_comes_back(void **state)
{
    (void)state;
    char path[256];
    struct tuned t;
    struct err err = ERR_INIT;
    assert_true(tuned_path(dir, model, path, sizeof path));
    assert_false(tuned_read(path, &t));
    assert_true(tuned_write(path, &example, &err)); /* makes the folders */
    assert_true(tuned_read(path, &t));
    assert_string_equal(t.engine, example.engine);
    assert_string_equal(t.cpu, example.cpu);
    assert_string_equal(t.kv_type, "f16");
    assert_int_equal(t.threads, 4);
    assert_false(t.flash);
    assert_true(t.decode_tps_on == 10.5 && t.decode_tps_off == 12.25);
    assert_true(t.prompt_tps_on == 100 && t.prompt_tps_off == 90);
    assert_true(t.ubatch == 256 && t.ubatch_tps == 120.5 && t.ubatch_tps_default == 110);
    assert_int_equal(t.measured, 1795279746);
    struct tuned other = example;
    other.flash = true;
    assert_true(tuned_write(path, &other, &err));
    assert_true(tuned_read(path, &t) && t.flash);
}

static void other_conditions_are_other_choices(void **state)
{
    (void)state;
    assert_true(tuned_is_of(&example, "0.5.0", "Some \"CPU\" 12ab", 4, "f16"));
    assert_false(tuned_is_of(&example, "0.5.1", "Some \"CPU\" 12ab", 4, "f16"));
    assert_false(tuned_is_of(&example, "0.5.0", "Some \"CPU\" 12ac", 4, "f16"));
    assert_false(tuned_is_of(&example, "0.5.0", "Some \"CPU\" 12ab", 5, "f16"));
    assert_false(tuned_is_of(&example, "0.5.0", "Some \"CPU\" 12ab", 4, "f32"));
}

static void another_file_has_another_place(void **state)
{
    (void)state;
    char before[256], after[256];
    struct stat info;
    assert_true(tuned_path(dir, model, before, sizeof before));
    assert_true(tuned_path(dir, model, after, sizeof after));
    assert_string_equal(before, after);
    write_text(model, "GGUF and MORE"); /* of the same length */
    assert_int_equal(stat(model, &info), 0);
    assert_true(tuned_path(dir, model, after, sizeof after));
    assert_string_not_equal(before, after);
    assert_false(tuned_path(dir, folder, after, sizeof after)); /* no file */
    assert_false(tuned_path(dir, "/nowhere/m.gguf", after, sizeof after));
    assert_false(tuned_path(dir, model, after, 20));
}

static void anything_else_is_refused(void **state)
{
    (void)state;
    /* the whole of one, with a part that is wrong */
#define DOCUMENT(version, kv, flash, ubatch, rest)                                                                     \
    "{\"version\":" version ",\"engine\":\"x\",\"cpu\":\"x\",\"threads\":1,\"kv_type\":\"" kv "\",\"flash\":" flash    \
    ",\"decode_tps_on\":1,\"decode_tps_off\":1,\"prompt_tps_on\":1,\"prompt_tps_off\":1,\"ubatch\":" ubatch            \
    ",\"ubatch_tps\":1,\"ubatch_tps_default\":1" rest "}"
#define MEASURED ",\"measured\":1"
    static const char *const bad[] = {"",
                                      "{",
                                      "[]",
                                      "null",
                                      "{}",
                                      "{\"version\":2}",
                                      DOCUMENT("1", "f16", "true", "512", MEASURED),
                                      DOCUMENT("2", "far too long", "true", "512", MEASURED),
                                      DOCUMENT("2", "f16", "\"on\"", "512", MEASURED),
                                      DOCUMENT("2", "f16", "true", "2048", MEASURED),
                                      DOCUMENT("2", "f16", "true", "-1", MEASURED),
                                      DOCUMENT("2", "f16", "true", "512", "")};
    char path[128];
    struct tuned t;
    snprintf(path, sizeof path, "%s/bad.json", folder);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(path, bad[i]);
        if (tuned_read(path, &t))
            fail_msg("taken: %s", bad[i]);
    }
    write_text(path, DOCUMENT("2", "f16", "true", "512", MEASURED));
    assert_true(tuned_read(path, &t));
    struct err err = ERR_INIT;
    assert_false(tuned_write("/proc/nowhere/x.json", &example, &err));
    assert_int_equal(err.code, ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_kept_comes_back, setup, teardown),
        cmocka_unit_test(other_conditions_are_other_choices),
        cmocka_unit_test_setup_teardown(another_file_has_another_place, setup, teardown),
        cmocka_unit_test_setup_teardown(anything_else_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
