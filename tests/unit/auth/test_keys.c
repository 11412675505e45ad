/* Keys over a real store (SQLite; PostgreSQL when tests/pg.sh runs this). */
#include "unit/store_fixture.h"

#include <argon2.h>

#include "auth/keys.h"
#include "base/clock.h"
#include "base/hash.h"

static struct conf conf;
static struct keys *keys;
static char clear[128]; /* of the key made last */
static int64_t made_id;
static struct err answer;
static const struct key *found;

static void open_keys(void)
{
    keys = keys_new(&loop, &conf, store, &err);
    if (!keys)
        fail_msg("%s", err.message);
}

static void close_keys(void)
{
    keys_free(keys);
    keys = NULL;
}

static void reopen(void)
{
    close_keys();
    open_keys();
}

static int setup_keys(void **state)
{
    setup(state);
    conf_init(&conf);
    open_keys();
    return 0;
}

static int teardown_keys(void **state)
{
    close_keys();
    conf_release(&conf);
    return teardown(state);
}

static void on_made(void *arg, const struct key *key, const char *text, const struct err *problem)
{
    (void)arg;
    answer = problem ? *problem : ERR_INIT;
    assert_true(!key == (problem != NULL));
    made_id = key ? key->id : 0;
    snprintf(clear, sizeof clear, "%s", text ? text : "");
    count_call();
}

static void make(struct key_request request)
{
    if (!request.name.n)
        request.name = STR("test");
    if (!request.scopes)
        request.scopes = AUTH_INFERENCE;
    keys_create(keys, &request, &arena, on_made, NULL);
    run_until(called + 1);
}

static void on_deleted(void *arg, const struct err *problem)
{
    (void)arg;
    answer = problem ? *problem : ERR_INIT;
    count_call();
}

static const struct key *find(const char *text)
{
    return keys_find(keys, str_from(text));
}

static void add_instance(int64_t id)
{
    char name[32];
    snprintf(name, sizeof name, "i%d", (int)id);
    now((struct store_statement){.sql =
                                     "INSERT INTO instances (id, node, name, wanted, options, created_at, updated_at)"
                                     " VALUES ($1, 'main', $2, 'stopped', '{}', 0, 0)",
                                 .params = {store_int(id), store_text(str_from(name))}});
}

/* ---- made, found, deleted ---- */

static void test_made_key_opens_also_after_a_restart(void **state)
{
    (void)state;
    make((struct key_request){.name = STR("caf\xc3\xa9")});
    assert_int_equal(answer.code, ERR_NONE);
    assert_int_equal(strlen(clear), 9 + 64);
    assert_memory_equal(clear, "llamactl-", 9);
    for (int i = 0; i < 2; i++, reopen()) {
        const struct key *k = find(clear);
        assert_non_null(k);
        assert_int_equal(k->id, made_id);
        assert_string_equal(k->name, "caf\xc3\xa9");
        assert_true(key_allows(k, AUTH_INFERENCE));
        assert_false(key_allows(k, AUTH_MANAGEMENT));
        assert_true(key_allows_instance(k, 77));
        assert_true(k->created_at > 0 && k->expires_at == 0);
    }
    clear[20] ^= 1;
    assert_null(find(clear));
    assert_null(find(""));
}

static void test_store_has_the_hash_only(void **state)
{
    unsigned char sha256[HASH_SHA256_SIZE];
    (void)state;
    make((struct key_request){0});
    hash_sha256(clear, strlen(clear), sha256);
    struct store_result r = now((struct store_statement){.sql = "SELECT key_hash, legacy_hash, scopes FROM api_keys"});
    assert_int_equal(r.rows, 1);
    assert_int_equal(r.values[0].text.n, sizeof sha256);
    assert_memory_equal(r.values[0].text.p, sha256, sizeof sha256);
    assert_int_equal(r.values[1].type, STORE_NULL);
    assert_str(r.values[2].text, "inference");
}

static void test_ids_are_never_used_twice(void **state)
{
    (void)state;
    make((struct key_request){0});
    int64_t first = made_id;
    keys_delete(keys, first, &arena, on_deleted, NULL);
    run_until(called + 1);
    reopen();
    make((struct key_request){0});
    assert_int_equal(made_id, first + 1);
}

static void test_deleting_works_at_once(void **state)
{
    (void)state;
    make((struct key_request){0});
    int64_t id = made_id;
    keys_delete(keys, id, &arena, on_deleted, NULL);
    assert_null(find(clear));
    run_until(called + 1);
    assert_int_equal(answer.code, ERR_NONE);
    assert_null(keys_get(keys, id));
    keys_delete(keys, id, &arena, on_deleted, NULL);
    assert_int_equal(answer.code, ERR_NOT_FOUND);
    reopen();
    assert_null(find(clear));
}

static void test_caller_that_died_is_not_told(void **state)
{
    struct arena request;
    (void)state;
    arena_init(&request);
    struct key_request r = {.name = STR("orphan"), .scopes = AUTH_INFERENCE};
    keys_create(keys, &r, &request, on_made, NULL);
    arena_dispose(&request);
    make((struct key_request){0});
    assert_int_equal(called, 1);
    assert_string_equal(keys_list(keys, &arena)[1]->name, "orphan");
}

static void test_keys_freed_with_a_change_on_its_way(void **state)
{
    (void)state;
    struct key_request r = {.name = STR("late"), .scopes = AUTH_INFERENCE};
    keys_create(keys, &r, &arena, on_made, NULL);
    reopen(); /* reads behind the change */
    assert_int_equal(called, 0);
    assert_string_equal(keys_list(keys, &arena)[0]->name, "late");
}

static void test_list_is_newest_first(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        make((struct key_request){0});
    for (int round = 0; round < 2; round++, reopen()) {
        const struct key *const *all = keys_list(keys, &arena);
        for (int i = 0; i < 3; i++)
            assert_int_equal(all[i]->id, made_id - i);
        assert_null(all[3]);
    }
}

static void test_more_keys_than_a_page(void **state)
{
    unsigned char sha256[HASH_SHA256_SIZE];
    struct store_statement all[600] = {0};
    (void)state;
    add_instance(1);
    for (int i = 0; i < 600; i += 2) {
        hash_sha256(&i, sizeof i, sha256);
        all[i] = (struct store_statement){
            .sql = "INSERT INTO api_keys (id, name, key_hash, scopes, permission_mode, created_at, updated_at)"
                   " VALUES ($1, 'bulk', $2, 'inference', 'per_instance', 0, 0)",
            .params = {store_int(i + 1), store_blob(arena_str(&arena, (struct str){(char *)sha256, sizeof sha256}))}};
        all[i + 1] = (struct store_statement){.sql = "INSERT INTO key_permissions (key_id, instance_id) VALUES ($1, 1)",
                                              .params = {store_int(i + 1)}};
    }
    assert_true(store_transact_now(store, all, 600, &arena, NULL, &err));
    reopen();
    const struct key *const *list = keys_list(keys, &arena);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(list[i]->id, 600 - 1 - 2 * i);
        assert_true(key_allows_instance(list[i], 1));
    }
    assert_null(list[300]);
}

static void test_rotated_key_has_another_text(void **state)
{
    char before[sizeof clear];
    (void)state;
    make((struct key_request){0});
    memcpy(before, clear, sizeof clear);
    keys_rotate(keys, made_id, &arena, on_made, NULL);
    assert_non_null(find(before)); /* until the new one is stored */
    run_until(called + 1);
    assert_int_equal(answer.code, ERR_NONE);
    assert_true(str_starts(str_from(clear), STR("sk-")) && strlen(clear) >= 3 + 32);
    assert_false(keys_still_valid(keys, made_id, 0));
    assert_true(keys_still_valid(keys, made_id, 1));
    for (int i = 0; i < 2; i++, reopen()) {
        assert_null(find(before));
        assert_int_equal(find(clear)->id, made_id);
        assert_string_equal(find(clear)->hint, clear + strlen(clear) - 4);
    }
    keys_rotate(keys, 999, &arena, on_made, NULL);
    assert_int_equal(answer.code, ERR_NOT_FOUND);
}

static void test_deleted_while_it_is_rotated(void **state)
{
    (void)state;
    make((struct key_request){0});
    int64_t id = made_id;
    keys_rotate(keys, id, &arena, on_made, NULL);
    keys_delete(keys, id, &arena, on_deleted, NULL);
    run_until(called + 2);
    assert_int_equal(answer.code, ERR_NONE); /* of the deletion, which came last */
    assert_null(keys_get(keys, id));
    reopen();
    assert_null(keys_list(keys, &arena)[0]);
}

static void test_everything_of_a_key_is_kept(void **state)
{
    (void)state;
    make((struct key_request){.form = KEY_FORM_SK,
                              .scopes = AUTH_INFERENCE | AUTH_METRICS,
                              .models = "a*\nb",
                              .limits = {1, 2, 3, 4},
                              .priority = KEY_BATCH});
    char public_id[32];
    snprintf(public_id, sizeof public_id, "%s", keys_get(keys, made_id)->public_id);
    for (int i = 0; i < 2; i++, reopen()) {
        const struct key *k = keys_get_public(keys, str_from(public_id));
        assert_ptr_equal(k, find(clear));
        assert_int_equal(k->scopes, AUTH_INFERENCE | AUTH_METRICS);
        assert_string_equal(k->models, "a*\nb");
        assert_int_equal(k->limits.requests_per_minute * 1000 + k->limits.burst * 100 +
                             k->limits.tokens_per_minute * 10 + k->limits.concurrent,
                         1234);
        assert_int_equal(k->priority, KEY_BATCH);
    }
    assert_null(keys_get_public(keys, STR("key_")));
}

static void test_a_key_s_keys_go_with_it(void **state)
{
    (void)state;
    make((struct key_request){0});
    int64_t maker = made_id;
    make((struct key_request){.made_by = maker});
    char child[sizeof clear];
    memcpy(child, clear, sizeof clear);
    make((struct key_request){0});
    keys_delete(keys, maker, &arena, on_deleted, NULL);
    assert_null(find(child));
    run_until(called + 1);
    for (int i = 0; i < 2; i++, reopen()) {
        assert_int_equal(keys_list(keys, &arena)[0]->id, made_id);
        assert_null(keys_list(keys, &arena)[1]);
    }
    make((struct key_request){.made_by = maker});
    assert_int_equal(answer.code, ERR_CONFLICT);
}

static void test_a_user_s_keys_go_with_it(void **state)
{
    (void)state;
    now((struct store_statement){.sql = "INSERT INTO users (id, username, role, password_hash, disabled, token_version,"
                                        " created_at, updated_at) VALUES ('user_a', 'a', 'user', 'x', 0, 0, 0, 0)"});
    make((struct key_request){.user_id = "user_a"});
    assert_string_equal(find(clear)->user_id, "user_a");
    reopen();
    assert_string_equal(find(clear)->user_id, "user_a");
    now((struct store_statement){.sql = "DELETE FROM users WHERE id = 'user_a'"});
    keys_forget_user(keys, "user_a");
    for (int i = 0; i < 2; i++, reopen())
        assert_null(find(clear));
    make((struct key_request){.user_id = "user_a"});
    assert_int_equal(answer.code, ERR_CONFLICT);
}

/* ---- rights ---- */

static void test_expiry(void **state)
{
    (void)state;
    make((struct key_request){.expires_at = clock_unix() + 3600});
    assert_non_null(find(clear));
    now((struct store_statement){.sql = "UPDATE api_keys SET expires_at = $1", .params = {store_int(clock_unix())}});
    reopen();
    assert_null(find(clear));
    assert_non_null(keys_get(keys, made_id)); /* still listed */
    assert_true(keys_required(keys, AUTH_INFERENCE));
}

static void test_permission_per_instance(void **state)
{
    (void)state;
    for (int i = 1; i <= 3; i++)
        add_instance(i);
    make((struct key_request){
        .mode = KEY_PER_INSTANCE, .instance_ids = (const int64_t[]){3, 1, 3}, .instance_count = 3});
    for (int round = 0; round < 2; round++, reopen()) {
        const struct key *k = find(clear);
        assert_int_equal(k->instance_count, 2);
        assert_true(key_allows_instance(k, 1) && key_allows_instance(k, 3));
        assert_false(key_allows_instance(k, 2));
    }
    now((struct store_statement){.sql = "DELETE FROM instances WHERE id = 3"});
    keys_forget_instance(keys, 3);
    for (int round = 0; round < 2; round++, reopen()) {
        assert_false(key_allows_instance(find(clear), 3));
        assert_true(key_allows_instance(find(clear), 1));
    }
}

static void test_unknown_instance_is_refused(void **state)
{
    (void)state;
    make((struct key_request){.mode = KEY_PER_INSTANCE, .instance_ids = (const int64_t[]){9}, .instance_count = 1});
    assert_int_equal(answer.code, ERR_INVALID_PARAMETERS);
    assert_string_equal(answer.param, "instance_ids");
    assert_null(keys_list(keys, &arena)[0]);
    make((struct key_request){0});
    assert_int_equal(made_id, 1); /* the refused one took no id */
}

static void test_scopes(void **state)
{
    (void)state;
    make((struct key_request){.scopes = AUTH_MANAGEMENT});
    for (int round = 0; round < 2; round++, reopen()) {
        assert_true(key_allows(find(clear), AUTH_MANAGEMENT));
        assert_true(key_allows(find(clear), AUTH_INFERENCE));
        assert_true(keys_required(keys, AUTH_MANAGEMENT));
        assert_false(keys_required(keys, AUTH_INFERENCE));
    }
}

static void test_configured_keys(void **state)
{
    static const char *const management[] = {"boss", "both", NULL}, *const inference[] = {"user", "both", NULL};
    (void)state;
    assert_false(keys_required(keys, AUTH_MANAGEMENT));
    conf.management_keys = management;
    conf.inference_keys = inference;
    reopen();
    assert_true(keys_required(keys, AUTH_MANAGEMENT) && keys_required(keys, AUTH_INFERENCE));
    assert_int_equal(find("boss")->id, 0);
    assert_int_equal(find("boss")->scopes, AUTH_MANAGEMENT);
    assert_int_equal(find("user")->scopes, AUTH_INFERENCE);
    assert_int_equal(find("both")->scopes, AUTH_INFERENCE | AUTH_MANAGEMENT);
    assert_null(find("bos"));
    assert_null(find("boss "));
    assert_null(keys_list(keys, &arena)[0]);
}

static void test_empty_configured_key_is_refused(void **state)
{
    static const char *const inference[] = {"", NULL};
    (void)state;
    conf.inference_keys = inference;
    assert_null(keys_new(&loop, &conf, store, &err));
    assert_int_equal(err.code, ERR_CONFIG);
    assert_non_null(strstr(err.message, "auth.inference_keys"));
}

static void test_required_by_address_and_switch(void **state)
{
    static const struct {
        const char *address;
        bool required;
    } cases[] = {{"127.0.0.1", false}, {"127.8.9.1", false},  {"::1", false},     {"0.0.0.0", true},
                 {"::", true},         {"192.168.1.2", true}, {"128.0.0.1", true}};
    (void)state;
    static const char *const inference[] = {"i", NULL};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        conf.bind_address = cases[i].address;
        assert_false(keys_required(keys, AUTH_MANAGEMENT) || keys_required(keys, AUTH_INFERENCE));
    }
    conf.inference_keys = inference;
    reopen();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        conf.bind_address = cases[i].address;
        assert_int_equal(keys_required(keys, AUTH_MANAGEMENT), cases[i].required);
        assert_true(keys_required(keys, AUTH_INFERENCE));
    }
    conf.require_inference_auth = 0;
    assert_false(keys_required(keys, AUTH_INFERENCE));
    conf.bind_address = "127.0.0.1";
    conf.require_management_auth = 1;
    assert_true(keys_required(keys, AUTH_MANAGEMENT));
}

static void test_first_management_key(void **state)
{
    (void)state;
    assert_null(keys_first_management_key(keys, &arena, &err));
    assert_int_equal(err.code, ERR_NONE);
    conf.require_management_auth = 1;
    const char *text = keys_first_management_key(keys, &arena, &err);
    assert_non_null(text);
    assert_int_equal(strlen(text), strlen("llamactl-mgmt-") + 64);
    assert_true(key_allows(find(text), AUTH_MANAGEMENT));
    reopen();
    assert_true(key_allows(find(text), AUTH_MANAGEMENT));
    assert_null(keys_first_management_key(keys, &arena, &err)); /* one is enough */
    assert_int_equal(err.code, ERR_NONE);
}

static void test_use_is_written_later(void **state)
{
    (void)state;
    make((struct key_request){0});
    for (int i = 0; i < 3; i++)
        assert_true(find(clear)->last_used_at >= clock_unix() - 2);
    static const char unwritten[] = "SELECT COUNT(*) FROM api_keys WHERE last_used_at IS NULL AND id > $1";
    assert_int_equal(number(unwritten, NULL), 1);
    reopen();
    assert_int_equal(number(unwritten, NULL), 0);
    assert_true(keys_get(keys, made_id)->last_used_at >= clock_unix() - 60);
}

/* ---- imported keys ---- */

#define LEGACY_KEY(digit) "llamactl-" digit "111111111111111111111111111111111111111111111111111111111111111"

static void import_key(const char *text, int64_t id, unsigned memory_kib, unsigned lanes)
{
    char phc[256];
    assert_int_equal(
        argon2id_hash_encoded(1, memory_kib, lanes, text, strlen(text), "sixteen bytes!!!", 16, 32, phc, sizeof phc),
        ARGON2_OK);
    now((struct store_statement){
        .sql = "INSERT INTO api_keys (id, name, legacy_hash, scopes, permission_mode, created_at, updated_at)"
               " VALUES ($1, 'imported', $2, 'inference', 'allow_all', 0, 0)",
        .params = {store_int(id), store_text(str_from(phc))}});
}

static void on_key(void *arg, const struct key *key, const struct err *problem)
{
    (void)arg;
    answer = problem ? *problem : ERR_INIT;
    found = key;
    count_call();
}

static void check(const char *text, struct arena *request)
{
    keys_check(keys, str_from(text), request, on_key, NULL);
}

static void test_imported_key_is_slow_once(void **state)
{
    (void)state;
    import_key(LEGACY_KEY("a"), 5, 1024, 1);
    import_key(LEGACY_KEY("b"), 6, 65536, 4); /* as llamactl has it */
    reopen();
    assert_true(keys_required(keys, AUTH_INFERENCE));
    assert_null(find(LEGACY_KEY("b")));
    check(LEGACY_KEY("b"), &arena);
    assert_int_equal(called, 0);
    run_until(1);
    assert_int_equal(found->id, 6);
    for (int round = 0; round < 2; round++, reopen())
        assert_int_equal(find(LEGACY_KEY("b"))->id, 6);
    struct store_result r =
        now((struct store_statement){.sql = "SELECT key_hash, legacy_hash FROM api_keys WHERE id = 6"});
    assert_int_equal(r.values[0].type, STORE_BLOB);
    assert_int_equal(r.values[1].type, STORE_NULL);
    check(LEGACY_KEY("b"), &arena);
    assert_int_equal(called, 2); /* at once */
}

static void test_unknown_key_fits_no_imported_one(void **state)
{
    (void)state;
    import_key(LEGACY_KEY("a"), 5, 1024, 1);
    reopen();
    check(LEGACY_KEY("c"), &arena);
    run_until(1);
    assert_null(found);
    assert_int_equal(answer.code, ERR_NONE);
    check("sk-cannot-be-one-of-them", &arena);
    assert_int_equal(called, 2); /* not worth a check */
    assert_null(found);
}

static void test_waiting_checks_are_bounded_and_shared(void **state)
{
    char text[] = LEGACY_KEY("0");
    (void)state;
    import_key(LEGACY_KEY("a"), 5, 8192, 1);
    reopen();
    for (int i = 0; i < LIMIT_LEGACY_CHECKS + 1; i++) { /* one runs, the others wait */
        text[9] = (char)('0' + i);
        check(text, &arena);
        check(text, &arena);
    }
    assert_int_equal(called, 0);
    check(LEGACY_KEY("a"), &arena);
    assert_int_equal(called, 1);
    assert_null(found);
    assert_int_equal(answer.code, ERR_SERVER_OVERLOADED);
    run_until(1 + 2 * (LIMIT_LEGACY_CHECKS + 1));
    check(LEGACY_KEY("a"), &arena);
    run_until(called + 1);
    assert_int_equal(found->id, 5);
}

static void test_check_of_a_dead_caller(void **state)
{
    struct arena request;
    (void)state;
    arena_init(&request);
    import_key(LEGACY_KEY("a"), 5, 1024, 1);
    reopen();
    check(LEGACY_KEY("b"), &request);
    check(LEGACY_KEY("c"), &request);
    arena_dispose(&request);
    check(LEGACY_KEY("a"), &arena);
    run_until(1);
    assert_int_equal(found->id, 5);
    assert_int_equal(called, 1);
}

static void test_keys_freed_during_a_check(void **state)
{
    (void)state;
    import_key(LEGACY_KEY("a"), 5, 8192, 1);
    reopen();
    check(LEGACY_KEY("a"), &arena);
    check(LEGACY_KEY("b"), &arena);
    reopen();
    assert_int_equal(called, 0);
}

static void test_deleted_during_a_check(void **state)
{
    (void)state;
    import_key(LEGACY_KEY("a"), 5, 8192, 1);
    reopen();
    check(LEGACY_KEY("a"), &arena);
    keys_delete(keys, 5, &arena, on_deleted, NULL);
    run_until(2);
    assert_null(found);
    assert_null(find(LEGACY_KEY("a")));
}

/* ---- cost ---- */

static uint64_t fastest_find(const char *text, bool known)
{
    uint64_t best = UINT64_MAX;
    for (int round = 0; round < 20; round++) {
        uint64_t begin = clock_ns();
        for (int i = 0; i < 1000; i++)
            assert_true(!find(text) == !known);
        uint64_t took = clock_ns() - begin;
        best = took < best ? took : best;
    }
    return best;
}

static void test_cost_does_not_grow_with_the_keys(void **state)
{
    uint64_t one = 0, one_unknown = 0;
    (void)state;
    for (int count = 1; count <= 200; count++) {
        make((struct key_request){0});
        if (count == 1) {
            one = fastest_find(clear, true);
            one_unknown = fastest_find("llamactl-unknown", false);
        } else if (count == 20 || count == 200) {
            assert_true(fastest_find(clear, true) < 4 * one);
            assert_true(fastest_find("llamactl-unknown", false) < 4 * one_unknown);
        }
    }
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup_keys, teardown_keys)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_made_key_opens_also_after_a_restart),
                                       TEST(test_store_has_the_hash_only),
                                       TEST(test_ids_are_never_used_twice),
                                       TEST(test_deleting_works_at_once),
                                       TEST(test_caller_that_died_is_not_told),
                                       TEST(test_keys_freed_with_a_change_on_its_way),
                                       TEST(test_list_is_newest_first),
                                       TEST(test_more_keys_than_a_page),
                                       TEST(test_rotated_key_has_another_text),
                                       TEST(test_deleted_while_it_is_rotated),
                                       TEST(test_everything_of_a_key_is_kept),
                                       TEST(test_a_key_s_keys_go_with_it),
                                       TEST(test_a_user_s_keys_go_with_it),
                                       TEST(test_expiry),
                                       TEST(test_permission_per_instance),
                                       TEST(test_unknown_instance_is_refused),
                                       TEST(test_scopes),
                                       TEST(test_configured_keys),
                                       TEST(test_empty_configured_key_is_refused),
                                       TEST(test_required_by_address_and_switch),
                                       TEST(test_first_management_key),
                                       TEST(test_use_is_written_later),
                                       TEST(test_imported_key_is_slow_once),
                                       TEST(test_unknown_key_fits_no_imported_one),
                                       TEST(test_waiting_checks_are_bounded_and_shared),
                                       TEST(test_check_of_a_dead_caller),
                                       TEST(test_keys_freed_during_a_check),
                                       TEST(test_deleted_during_a_check),
                                       TEST(test_cost_does_not_grow_with_the_keys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
