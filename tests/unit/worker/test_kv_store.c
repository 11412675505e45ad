#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "worker/kv_file.h"
#include "worker/kv_store.h"

#define LENGTH 100
#define SIZE   (LENGTH * sizeof(engine_token)) /* of the fake engine's state */

static struct engine *engine;
static struct prefix_tree tree;
static struct kv_store *store;
static char folder[64];

static engine_token *text(unsigned salt)
{
    static engine_token tokens[LENGTH];
    for (unsigned i = 0; i < LENGTH; i++)
        tokens[i] = (engine_token)(i < 10 ? i : (i * 7 + salt * 31) % 250);
    return tokens;
}

static void fill(unsigned sequence, const engine_token *tokens, unsigned count)
{
    struct engine_row rows[LENGTH];
    for (unsigned i = 0; i < count; i++)
        rows[i] = (struct engine_row){.token = tokens[i], .position = i, .sequence = sequence};
    assert_int_equal(engine_fake.decode(engine, rows, count, NULL), ENGINE_OK);
}

static void open_store(uint64_t limit, const char *where, uint64_t disk, const char *identity)
{
    struct kv_store_config config = {.ops = &engine_fake,
                                     .engine = engine,
                                     .tree = &tree,
                                     .memory_limit = limit,
                                     .folder = where,
                                     .disk_limit = disk,
                                     .identity = identity};
    prefix_tree_init(&tree);
    store = kv_store_new(&config);
}

static void close_store(void)
{
    kv_store_free(store);
    assert_int_equal(tree.nodes, 0);
    prefix_tree_release(&tree);
}

static struct prefix_match find(const engine_token *tokens, unsigned count)
{
    return prefix_find(&tree, tokens, count, PREFIX_BIT(PREFIX_KEPT));
}

static bool keep(unsigned salt)
{
    fill(0, text(salt), LENGTH);
    bool kept = kv_store_keep(store, 0, text(salt), LENGTH);
    engine_fake.sequence_trim(engine, 0, 0);
    return kept;
}

static int set_up(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct engine_config config = {.path = "fake:context=1024,batch=512"};
    engine = engine_fake.open(&config, &err);
    snprintf(folder, sizeof folder, "/tmp/inferd-kv-XXXXXX");
    return engine && mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    engine_fake.close(engine);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void a_state_comes_back(void **state)
{
    (void)state;
    unsigned count;
    open_store(10 * SIZE, NULL, 0, NULL);
    assert_true(kv_store_wants(store, text(1), LENGTH));
    assert_true(keep(1));
    assert_false(kv_store_wants(store, text(1), LENGTH));
    assert_false(kv_store_wants(store, text(2), 20)); /* too short to be worth it */
    struct prefix_match match = find(text(1), LENGTH);
    assert_int_equal(match.length, LENGTH);
    assert_memory_equal(kv_store_tokens(match.mark, &count), text(1), SIZE);
    assert_true(kv_store_restore(store, match.mark, 2));
    struct engine_row next = {.token = 1, .position = LENGTH, .sequence = 2}; /* the engine checks the position */
    assert_int_equal(engine_fake.decode(engine, &next, 1, NULL), ENGINE_OK);
    assert_false(kv_store_restore(store, match.mark, 2)); /* not empty: the engine refuses, the state stays */
    assert_int_equal(kv_store_stats(store)->states, 1);
    engine_fake.sequence_trim(engine, 2, 0);
    close_store();
}

static void the_least_recently_used_goes(void **state)
{
    (void)state;
    open_store(3 * SIZE, NULL, 0, NULL);
    for (unsigned salt = 1; salt <= 3; salt++)
        assert_true(keep(salt));
    assert_true(kv_store_restore(store, find(text(1), LENGTH).mark, 1));
    assert_true(keep(4));
    assert_int_equal(find(text(1), LENGTH).length, LENGTH);
    assert_true(find(text(2), LENGTH).length < LENGTH);
    assert_int_equal(kv_store_stats(store)->memory_bytes, 3 * SIZE);
    engine_fake.sequence_trim(engine, 1, 0);
    close_store();
    open_store(SIZE - 1, NULL, 0, NULL);
    assert_false(keep(1)); /* alone larger than the limit */
    close_store();
}

static void a_longer_one_replaces_its_beginning(void **state)
{
    (void)state;
    open_store(10 * SIZE, NULL, 0, NULL);
    fill(0, text(1), 50);
    assert_true(kv_store_keep(store, 0, text(1), 50));
    engine_fake.sequence_trim(engine, 0, 0);
    assert_true(keep(1));
    assert_int_equal(kv_store_stats(store)->states, 1);
    assert_int_equal(kv_store_stats(store)->memory_bytes, SIZE);
    close_store();
}

static void states_outlive_the_worker(void **state)
{
    (void)state;
    open_store(10 * SIZE, folder, 100 * SIZE, "model A");
    assert_true(keep(1));
    assert_true(keep(2));
    kv_store_flush(store, clock_ms() + 10000);
    assert_int_equal(kv_store_stats(store)->files, 2);
    close_store();

    open_store(10 * SIZE, folder, 100 * SIZE, "model B"); /* another model's states are none of its business */
    assert_int_equal(kv_store_stats(store)->files, 0);
    close_store();

    open_store(10 * SIZE, folder, 100 * SIZE, "model A");
    assert_int_equal(kv_store_stats(store)->files, 2);
    assert_int_equal(kv_store_stats(store)->memory_bytes, 0);
    assert_false(kv_store_wants(store, text(1), LENGTH));
    assert_true(kv_store_restore(store, find(text(1), LENGTH).mark, 1));
    engine_fake.sequence_trim(engine, 1, 0);
    kv_store_flush(store, clock_ms() + 10000); /* nothing new, nothing written twice */
    assert_int_equal(kv_store_stats(store)->files, 2);
    close_store();
}

static char *only_file(void)
{
    char command[160], path[256] = "";
    snprintf(command, sizeof command, "find %s -name '*.kv'", folder);
    FILE *pipe = popen(command, "r");
    assert_non_null(fgets(path, sizeof path, pipe));
    pclose(pipe);
    path[strcspn(path, "\n")] = '\0';
    return mem_strdup(path);
}

/* Each byte of a file changed, and each length cut off: found out at the scan or at the restore, never used. */
static void damage_is_found_out(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct kv_file file;
    unsigned char bytes[64];
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 37);
    mem_free(kv_file_write(folder, "m", text(1), 20, bytes, sizeof bytes, &err));
    char *path = only_file();
    assert_true(kv_file_open(&file, path, "m"));
    assert_memory_equal(file.state, bytes, sizeof bytes);
    size_t size = file.map_size;
    kv_file_close(&file);
    assert_false(kv_file_open(&file, path, "n"));
    int fd = open(path, O_RDWR);
    for (size_t at = 0; at < size; at++) {
        unsigned char byte, changed;
        assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
        changed = byte ^ 0x10;
        assert_int_equal(pwrite(fd, &changed, 1, (off_t)at), 1);
        assert_false(kv_file_open(&file, path, "m"));
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    }
    assert_true(kv_file_open(&file, path, "m"));
    kv_file_close(&file);
    while (size-- > 0) {
        assert_int_equal(ftruncate(fd, (off_t)size), 0);
        assert_false(kv_file_open(&file, path, "m"));
    }
    close(fd);
    open_store(SIZE, folder, SIZE, "m");
    assert_int_equal(kv_store_stats(store)->files, 0);
    close_store();
    assert_int_not_equal(access(path, F_OK), 0); /* the scan has removed it */
    mem_free(path);
}

static void a_file_gone_meanwhile(void **state)
{
    (void)state;
    open_store(10 * SIZE, folder, 100 * SIZE, "model A");
    assert_true(keep(1));
    kv_store_flush(store, clock_ms() + 10000);
    close_store();
    open_store(10 * SIZE, folder, 100 * SIZE, "model A");
    char *path = only_file();
    assert_int_equal(unlink(path), 0);
    mem_free(path);
    assert_false(kv_store_restore(store, find(text(1), LENGTH).mark, 1));
    assert_null(find(text(1), LENGTH).mark);
    close_store();
}

static void the_disk_has_a_quota(void **state)
{
    (void)state;
    open_store(10 * SIZE, folder, 2 * SIZE + 400, "model A"); /* two states with their heads and tokens need more */
    for (unsigned salt = 1; salt <= 4; salt++)
        assert_true(keep(salt));
    kv_store_flush(store, clock_ms() + 10000);
    close_store();
    open_store(10 * SIZE, folder, 2 * SIZE, "model A");
    assert_int_equal(kv_store_stats(store)->files, 1);
    close_store();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_state_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_least_recently_used_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_longer_one_replaces_its_beginning, set_up, tear_down),
        cmocka_unit_test_setup_teardown(states_outlive_the_worker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_found_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_gone_meanwhile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_disk_has_a_quota, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
