/* The cache on disk: what is written, found and removed, also where somebody has been there before. */
#include "unit/unit.h"

#include <sys/stat.h>

#include "base/arena.h"
#include "registry/fetch_cache.h"

#define HASH(c)  c c c c c c c c c c c c c c c c
#define BLOB_A   HASH("aaaa")
#define BLOB_B   HASH("bbbb")
#define BLOB_C   HASH("cccc")
#define COMMIT_1 "1111111111111111111111111111111111111111"
#define COMMIT_2 "2222222222222222222222222222222222222222"

struct fixture {
    char cache[40];
    struct arena arena;
    struct fetch_place place;
    struct err err;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->cache, sizeof f->cache, "/tmp/inferd-cache-XXXXXX");
    *state = f;
    return mkdtemp(f->cache) && fetch_cache_prepare(f->cache, "org/model", &f->arena, &f->place, &f->err) ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char command[80];
    snprintf(command, sizeof command, "rm -rf %s", f->cache);
    int rc = system(command);
    arena_dispose(&f->arena);
    free(f);
    return rc;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static bool is_there(struct fixture *f, const char *path)
{
    struct stat info;
    return lstat(arena_printf(&f->arena, "%s/%s", f->cache, path), &info) == 0;
}

static void put(struct fixture *f, const char *commit, const char *path, const char *hash)
{
    struct fetch_entry file = {.path = path, .hash = hash};
    write_file(arena_printf(&f->arena, "%s/%s", f->place.blobs, hash), "12345");
    assert_true(fetch_cache_link(&f->place, commit, &file, &f->err));
}

static void note(struct fixture *f, const char *commit, const char *tag, const char *path, const char *second)
{
    struct fetch_entry files[] = {{.path = path}, {.path = second}};
    const struct fetch_entry *list[] = {&files[0], &files[1]};
    struct fetch_plan plan = {.files = list, .count = second ? 2 : 1};
    assert_true(fetch_cache_note(&f->place, commit, tag, &plan, &f->err));
}

static size_t cached(struct fixture *f, struct cached_model **models)
{
    return fetch_cached(f->cache, &f->arena, models);
}

static void names_of_repositories_and_tags(void **state)
{
    (void)state;
    assert_true(fetch_repo_allowed(STR("org/model-1.5_x")));
    assert_false(fetch_repo_allowed(STR("model")));
    assert_false(fetch_repo_allowed(STR("")));
    assert_false(fetch_repo_allowed(STR("org/..")));
    assert_false(fetch_repo_allowed(STR("org/a..b")));
    assert_false(fetch_repo_allowed(STR("org--x/b")));
    assert_false(fetch_repo_allowed(STR("org/a/b")));
    assert_false(fetch_repo_allowed(STR("org/a\0b")));
    assert_true(fetch_tag_allowed(STR("UD-Q4_K_XL")));
    assert_false(fetch_tag_allowed(STR("..")));
    assert_false(fetch_tag_allowed(STR("a/b")));
    assert_false(fetch_tag_allowed(STR("")));
}

static void links_lead_to_blobs_and_are_replaced(void **state)
{
    struct fixture *f = *state;
    char target[200];
    put(f, COMMIT_1, "deep/er/m.gguf", BLOB_A);
    put(f, COMMIT_1, "deep/er/m.gguf", BLOB_B);
    ssize_t n = readlink(arena_printf(&f->arena, "%s/snapshots/" COMMIT_1 "/deep/er/m.gguf", f->place.repo), target,
                         sizeof target - 1);
    assert_str(((struct str){target, (size_t)n}), "../../../../blobs/" BLOB_B);
    assert_int_equal(access(arena_printf(&f->arena, "%s/snapshots/" COMMIT_1 "/deep/er/m.gguf", f->place.repo), R_OK),
                     0);
}

static void no_link_is_followed_on_the_way_down(void **state)
{
    struct fixture *f = *state;
    struct fetch_entry file = {.path = "out/m.gguf", .hash = BLOB_A};
    put(f, COMMIT_1, "x.gguf", BLOB_A);
    assert_int_equal(symlink("/tmp", arena_printf(&f->arena, "%s/snapshots/" COMMIT_1 "/out", f->place.repo)), 0);
    assert_false(fetch_cache_link(&f->place, COMMIT_1, &file, &f->err));
    assert_int_equal(f->err.code, ERR_IO);
    assert_int_equal(symlink("/tmp", arena_printf(&f->arena, "%s/snapshots/" COMMIT_2, f->place.repo)), 0);
    file.path = "m.gguf";
    assert_false(fetch_cache_link(&f->place, COMMIT_2, &file, &f->err));
}

static void the_list_knows_tags_and_the_rest(void **state)
{
    struct fixture *f = *state;
    struct cached_model *m;
    put(f, COMMIT_1, "m-Q4_0.gguf", BLOB_A);
    put(f, COMMIT_1, "mmproj.gguf", BLOB_B);
    put(f, COMMIT_2, "m-Q4_0.gguf", BLOB_A); /* the same bytes in another commit are no second model */
    put(f, COMMIT_2, "other.gguf", BLOB_C);
    note(f, COMMIT_1, "Q4_0", "m-Q4_0.gguf", "mmproj.gguf");
    assert_int_equal(cached(f, &m), 2);
    assert_string_equal(m[0].tag, "");
    assert_int_equal(m[0].file_count, 1);
    assert_string_equal(m[0].files[0].name, "other.gguf");
    assert_string_equal(m[1].repo, "org/model");
    assert_string_equal(m[1].tag, "Q4_0");
    assert_int_equal(m[1].file_count, 2);
    assert_int_equal(m[1].bytes, 10);
    assert_string_equal(m[1].files[1].kind, "mmproj");
    assert_int_equal(access(m[1].files[0].path, R_OK), 0);
}

static void strange_things_in_a_cache_are_survived(void **state)
{
    struct fixture *f = *state;
    struct cached_model *m;
    const char *snapshots = arena_printf(&f->arena, "%s/snapshots", f->place.repo);
    assert_int_equal(fetch_cached("/nonexistent", &f->arena, &m), 0);
    assert_int_equal(cached(f, &m), 0);
    write_file(arena_printf(&f->arena, "%s/models--file", f->cache), "");
    assert_int_equal(symlink("/", arena_printf(&f->arena, "%s/models--a--root", f->cache)), 0);
    write_file(arena_printf(&f->arena, "%s/file", snapshots), "");
    assert_int_equal(mkdir(arena_printf(&f->arena, "%s/" COMMIT_1, snapshots), 0755), 0);
    assert_int_equal(symlink("/etc/passwd", arena_printf(&f->arena, "%s/" COMMIT_1 "/m.gguf", snapshots)), 0);
    assert_int_equal(symlink("../../blobs/" BLOB_A, arena_printf(&f->arena, "%s/" COMMIT_1 "/gone.gguf", snapshots)),
                     0);
    assert_int_equal(mkdir(arena_printf(&f->arena, "%s/tags", f->place.repo), 0755), 0);
    write_file(arena_printf(&f->arena, "%s/tags/Q4_0", f->place.repo), "no commit\n../../../etc/passwd\n\n\n");
    write_file(arena_printf(&f->arena, "%s/tags/Q8_0", f->place.repo), "");
    assert_int_equal(cached(f, &m), 1);
    assert_int_equal(m[0].file_count, 2);
    assert_true(fetch_remove(f->cache, STR("org/model"), STR(""), &f->err));
    assert_int_equal(access("/etc/passwd", R_OK), 0);
    assert_false(is_there(f, "models--org--model"));
}

static void removal_keeps_what_others_need(void **state)
{
    struct fixture *f = *state;
    struct cached_model *m;
    put(f, COMMIT_1, "m-Q4_K.gguf", BLOB_A);
    put(f, COMMIT_1, "m-Q4_K_M.gguf", BLOB_B);
    put(f, COMMIT_1, "copy-Q8_0.gguf", BLOB_A);
    put(f, COMMIT_2, "m-Q4_K.gguf", BLOB_C);
    note(f, COMMIT_1, "Q4_K", "m-Q4_K.gguf", NULL);
    write_file(arena_printf(&f->arena, "%s/" BLOB_C "0.incomplete", f->place.blobs), "part");
    assert_true(fetch_remove(f->cache, STR("org/model"), STR("q4_k"), &f->err));
    assert_false(is_there(f, "models--org--model/snapshots/" COMMIT_1 "/m-Q4_K.gguf"));
    assert_false(is_there(f, "models--org--model/snapshots/" COMMIT_2 "/m-Q4_K.gguf"));
    assert_true(is_there(f, "models--org--model/snapshots/" COMMIT_1 "/m-Q4_K_M.gguf"));
    assert_true(is_there(f, "models--org--model/blobs/" BLOB_A));
    assert_true(is_there(f, "models--org--model/blobs/" BLOB_B));
    assert_false(is_there(f, "models--org--model/blobs/" BLOB_C));
    assert_true(is_there(f, "models--org--model/blobs/" BLOB_C "0.incomplete"));
    assert_false(is_there(f, "models--org--model/tags/Q4_K"));
    assert_int_equal(cached(f, &m), 1);
    assert_false(fetch_remove(f->cache, STR("org/model"), STR("q4_k"), &f->err));
    assert_int_equal(f->err.code, ERR_NOT_FOUND);
}

static void with_the_last_weights_goes_the_repository(void **state)
{
    struct fixture *f = *state;
    put(f, COMMIT_1, "m-Q4_0.gguf", BLOB_A);
    put(f, COMMIT_1, "mmproj-F16.gguf", BLOB_B);
    put(f, COMMIT_1, "chat.jinja", BLOB_C);
    assert_true(fetch_remove(f->cache, STR("org/model"), STR("Q4_0"), &f->err));
    assert_false(is_there(f, "models--org--model"));
    assert_false(is_there(f, ".locks/models--org--model"));
}

static void removal_never_leaves_the_cache(void **state)
{
    struct fixture *f = *state;
    char outside[] = "/tmp/inferd-outside-XXXXXX";
    assert_non_null(mkdtemp(outside));
    const char *victim = arena_printf(&f->arena, "%s/file-Q4_0.gguf", outside);
    write_file(victim, "");
    assert_int_equal(symlink(outside, arena_printf(&f->arena, "%s/snapshots/" COMMIT_1, f->place.repo)), 0);
    assert_false(fetch_remove(f->cache, STR("org/model"), STR("Q4_0"), &f->err));
    assert_true(fetch_remove(f->cache, STR("org/model"), STR(""), &f->err));
    assert_int_equal(access(victim, F_OK), 0);
    assert_false(fetch_remove(f->cache, STR("../x"), STR(""), &f->err));
    assert_int_equal(f->err.code, ERR_INVALID_PARAMETERS);
    assert_false(fetch_remove(f->cache, STR("org/model"), STR("../x"), &f->err));
    assert_int_equal(f->err.code, ERR_INVALID_PARAMETERS);
    assert_false(fetch_remove(f->cache, STR("org/none"), STR(""), &f->err));
    assert_int_equal(f->err.code, ERR_NOT_FOUND);
    unlink(victim);
    rmdir(outside);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(names_of_repositories_and_tags),
        TEST(links_lead_to_blobs_and_are_replaced),
        TEST(no_link_is_followed_on_the_way_down),
        TEST(the_list_knows_tags_and_the_rest),
        TEST(strange_things_in_a_cache_are_survived),
        TEST(removal_keeps_what_others_need),
        TEST(with_the_last_weights_goes_the_repository),
        TEST(removal_never_leaves_the_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
