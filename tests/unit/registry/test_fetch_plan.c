/* Which files a download takes, from lists as hubs send them. */
#include "unit/unit.h"

#include "base/buf.h"
#include "registry/fetch_plan.h"

static bool tagged(const char *tag, const char *path)
{
    return fetch_tag_in_path(str_from(tag), str_from(path));
}

static void a_tag_is_a_whole_word(void **state)
{
    (void)state;
    assert_true(tagged("Q4_K_M", "Model-7B-Q4_K_M.gguf"));
    assert_true(tagged("q4_k_m", "model.Q4_K_M-00001-of-00003.gguf"));
    assert_true(tagged("Q4_K_M", "Q4_K_M/model-00001-of-00003.gguf"));
    assert_true(tagged("Q4_K_M", "model_Q4_K_M.gguf"));
    assert_true(tagged("UD-Q4_K_XL", "Model-UD-Q4_K_XL.gguf"));
    assert_true(tagged("Q4_K_XL", "Model-UD-Q4_K_XL.gguf"));
    assert_true(tagged("bf16", "model_bf16.gguf"));
    assert_true(tagged("7B-Q8_0", "Model-7B-Q8_0.gguf"));
    assert_false(tagged("Q4_K", "Model-Q4_K_M.gguf"));
    assert_false(tagged("Q4_K_M", "Model-Q4_K_M_L.gguf"));
    assert_false(tagged("Q4_0", "Model-IQ4_0.gguf"));
    assert_false(tagged("Q4_0", "Model-Q4_0_4_4.gguf"));
    assert_false(tagged("F16", "Model-BF16.gguf"));
    assert_false(tagged("K_M", "Model-Q4_K_M.gguf"));
    assert_false(tagged("M", "Model-Q4_K_M.gguf"));
    assert_false(tagged("0", "Model-Q4_0.gguf"));
    assert_false(tagged("", "Model.gguf"));
    assert_true(tagged("Q4_0", "IQ4_0-Q4_0.gguf")); /* the second place counts when the first does not */
}

static void a_path_stays_below_its_folder(void **state)
{
    (void)state;
    static const char *const good[] = {"a.gguf",        "a/b/c.gguf", ".gitattributes", "..a", "a..b/c",
                                       "\xc3\xa4.gguf", "a b"};
    static const char *const bad[] = {"",          "/a",        "a/",     "a//b", ".",       "..",
                                      "a/..",      "../a",      "a/./b",  "a\\b", "a\nb",    "\x7f",
                                      "a/../../b", "\xff.gguf", "a\x1b]", "/",    "a/b/../c"};
    char name[300];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(fetch_path_allowed(str_from(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(fetch_path_allowed(str_from(bad[i])));
    assert_false(fetch_path_allowed(STR("a\0b")));
    memset(name, 'n', sizeof name);
    assert_true(fetch_path_allowed((struct str){name, 255}));
    assert_false(fetch_path_allowed((struct str){name, 256}));
    struct buf deep;
    buf_init(&deep, 4096);
    for (int i = 0; i < LIMIT_FETCH_FOLDERS; i++)
        buf_puts(&deep, "d/");
    buf_puts(&deep, "f");
    assert_true(fetch_path_allowed(buf_view(&deep)));
    buf_puts(&deep, "/f");
    assert_false(fetch_path_allowed(buf_view(&deep)));
    while (deep.len <= LIMIT_FETCH_PATH)
        buf_puts(&deep, "long");
    assert_false(fetch_path_allowed(buf_view(&deep)));
    buf_release(&deep);
}

static void kinds_follow_names(void **state)
{
    (void)state;
    assert_string_equal(fetch_kind(STR("a/M.GGUF")), "gguf");
    assert_string_equal(fetch_kind(STR("mmproj-model-f16.gguf")), "mmproj");
    assert_string_equal(fetch_kind(STR("mmproj/model.gguf")), "gguf");
    assert_string_equal(fetch_kind(STR("preset.ini")), "preset");
    assert_string_equal(fetch_kind(STR("config.json")), "other");
}

/* names: parted by blanks. Plans and compares with wanted, or with the beginning of a message after '!'. */
static void check(const char *names, enum fetch_format format, const char *tag, const char *wanted)
{
    struct arena arena;
    struct fetch_tree tree;
    struct fetch_plan plan;
    struct err err = ERR_INIT;
    struct buf json, got;
    arena_init(&arena);
    buf_init(&json, 1 << 20);
    buf_init(&got, 1 << 20);
    buf_putc(&json, '[');
    for (struct str rest = str_from(names); rest.p;) {
        struct str name = str_cut(&rest, ' ');
        buf_printf(&json, "{\"type\":\"file\",\"path\":\"" STR_FMT "\",\"size\":7,\"oid\":\"%040d\"}%s", STR_ARG(name),
                   0, rest.p ? "," : "]");
    }
    fetch_tree_init(&tree, &arena);
    assert_true(fetch_tree_read(&tree, buf_view(&json), &arena, &err));
    if (fetch_plan(&tree, format, str_from(tag), &arena, &plan, &err)) {
        for (size_t i = 0; i < plan.count; i++)
            buf_printf(&got, "%s%s", i ? " " : "", plan.files[i]->path);
        assert_string_equal(got.data, wanted);
        assert_int_equal(plan.bytes, 7 * plan.count);
    } else {
        if (*wanted != '!' || !strstr(err.message, wanted + 1))
            print_error("%s\n", err.message);
        assert_int_equal(*wanted, '!');
        assert_non_null(strstr(err.message, wanted + 1));
    }
    buf_release(&json);
    buf_release(&got);
    arena_dispose(&arena);
}

static void one_model_is_chosen(void **state)
{
    (void)state;
    const char *all = "README.md m-Q2_K.gguf m-Q4_0.gguf m-Q4_K_M.gguf m-Q4_K_S.gguf m-UD-Q4_K_M.gguf";
    check(all, FETCH_GGUF, "", "m-Q4_K_M.gguf");
    check(all, FETCH_GGUF, "q4_k_s", "m-Q4_K_S.gguf");
    check(all, FETCH_GGUF, "UD-Q4_K_M", "m-UD-Q4_K_M.gguf");
    check(all, FETCH_GGUF, "Q4_K", "!there are m-Q2_K.gguf, m-Q4_0.gguf");
    check("m-Q4_0.gguf m-Q2_K.gguf", FETCH_GGUF, "", "m-Q4_0.gguf");
    check("m-Q8_0-00001-of-00001.gguf z-Q6_K.gguf y-Q5_K.gguf", FETCH_GGUF, "", "y-Q5_K.gguf");
    check("b-Q8_0-00001-of-00001.gguf", FETCH_GGUF, "", "b-Q8_0-00001-of-00001.gguf");
    check("imatrix.gguf mmproj-F16.gguf", FETCH_GGUF, "", "!no GGUF model; format safetensors");
    check("m.safetensors", FETCH_GGUF, "", "!no GGUF model");
}

static void all_parts_come_or_none(void **state)
{
    (void)state;
    check("d/m-Q8_0-00002-of-00003.gguf d/m-Q8_0-00001-of-00003.gguf d/m-Q8_0-00003-of-00003.gguf m-Q4_0.gguf",
          FETCH_GGUF, "Q8_0", "d/m-Q8_0-00001-of-00003.gguf d/m-Q8_0-00002-of-00003.gguf d/m-Q8_0-00003-of-00003.gguf");
    check("m-Q8_0-00001-of-00003.gguf m-Q8_0-00003-of-00003.gguf", FETCH_GGUF, "Q8_0",
          "!lacks m-Q8_0-00002-of-00003.gguf, one of 3 parts");
    check("m-00001-of-99999.gguf", FETCH_GGUF, "", "!one of 99999 parts");
    check("m-00001-of-00000.gguf", FETCH_GGUF, "", "!one of 0 parts");
    check("m-00002-of-00002.gguf", FETCH_GGUF, "", "!no GGUF model");
}

static void what_belongs_to_a_model_comes_too(void **state)
{
    (void)state;
    check(
        "m-Q4_0.gguf mmproj-BF16.gguf mmproj-F16.gguf mmproj-F32.gguf preset.ini d/preset.ini a.jinja d/b.jinja x.txt",
        FETCH_GGUF, "", "m-Q4_0.gguf mmproj-F16.gguf a.jinja d/b.jinja preset.ini");
    check("m-Q4_0.gguf mmproj-Q4_0.gguf", FETCH_GGUF, "Q4_0", "m-Q4_0.gguf mmproj-Q4_0.gguf");
}

static void safetensors_or_else_bin(void **state)
{
    (void)state;
    check("b.safetensors a.safetensors p.bin config.json v.txt t.model m.py c.jinja x.gguf x.md", FETCH_SAFETENSORS, "",
          "a.safetensors b.safetensors config.json v.txt t.model m.py c.jinja");
    check("p.bin config.json", FETCH_SAFETENSORS, "", "p.bin config.json");
    check("x.gguf", FETCH_SAFETENSORS, "", "!neither *.safetensors nor *.bin");
}

static void refuse(const char *json, const char *word)
{
    struct arena arena;
    struct fetch_tree tree;
    struct err err = ERR_INIT;
    arena_init(&arena);
    fetch_tree_init(&tree, &arena);
    assert_false(fetch_tree_read(&tree, str_from(json), &arena, &err));
    if (!strstr(err.message, word))
        print_error("%s\n", err.message);
    assert_non_null(strstr(err.message, word));
    arena_dispose(&arena);
}

static void lists_are_not_believed(void **state)
{
    (void)state;
    refuse("{}", "no JSON array");
    refuse("<html>", "no JSON array");
    refuse("[{\"type\":\"file\"}]", "path is not allowed");
    refuse("[{\"type\":\"file\",\"path\":\"a\",\"size\":1}]", "usable hash");
    refuse("[{\"type\":\"file\",\"path\":\"a\",\"size\":1,\"oid\":\"0000000000000000000000000000000000000000\","
           "\"lfs\":{\"oid\":\"sha256:00\",\"size\":1}}]",
           "usable hash");
    refuse("[{\"type\":\"file\",\"path\":\"a\",\"size\":\"1\",\"oid\":\"0000000000000000000000000000000000000000\"}]",
           "usable size");
    struct buf many;
    buf_init(&many, 4 << 20);
    for (int i = 0; i <= LIMIT_FETCH_FILES; i++)
        buf_printf(&many, "%s{\"type\":\"file\",\"path\":\"f%d\",\"size\":1,\"oid\":\"%040d\"}", i ? "," : "[", i, 0);
    buf_putc(&many, ']');
    refuse(many.data, "more than 4096 files");
    buf_release(&many);
}

static void large_files_have_the_hash_of_their_bytes(void **state)
{
    (void)state;
    struct arena arena;
    struct fetch_tree tree;
    struct err err = ERR_INIT;
    arena_init(&arena);
    fetch_tree_init(&tree, &arena);
    assert_true(fetch_tree_read(
        &tree,
        STR("[{\"type\":\"directory\",\"path\":\"../x\"},{\"type\":\"file\",\"path\":\"a\",\"size\":134,"
            "\"oid\":\"1111111111111111111111111111111111111111\",\"lfs\":{\"size\":5000000000,\"oid\":"
            "\"2222222222222222222222222222222222222222222222222222222222222222\"}}]"),
        &arena, &err));
    assert_int_equal(tree.count, 1);
    assert_int_equal(tree.files[0].hash_kind, FETCH_SHA256);
    assert_int_equal(tree.files[0].bytes, 5000000000);
    assert_int_equal(tree.files[0].hash[0], '2');
    arena_dispose(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tag_is_a_whole_word),
        cmocka_unit_test(a_path_stays_below_its_folder),
        cmocka_unit_test(kinds_follow_names),
        cmocka_unit_test(one_model_is_chosen),
        cmocka_unit_test(all_parts_come_or_none),
        cmocka_unit_test(what_belongs_to_a_model_comes_too),
        cmocka_unit_test(safetensors_or_else_bin),
        cmocka_unit_test(lists_are_not_believed),
        cmocka_unit_test(large_files_have_the_hash_of_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
