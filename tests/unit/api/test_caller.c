/* A caller: which models it may use, whether it still counts, and who is told when it does not. */
#include "unit/unit.h"

#include "api/app.h"
#include "base/clock.h"

static struct loop loop;
static struct app app;
static struct conf conf;
static struct arena arena;
static struct err err;
static char folder[64];
static int64_t made_id;
static int lost_count, done_count;

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/inferd-caller-XXXXXX");
    assert_non_null(mkdtemp(folder));
    loop_init(&loop);
    arena_init(&arena);
    conf_init(&conf);
    app_init(&app, &loop, &conf);
    app.store = store_open(&loop, arena_printf(&arena, "%s/x.db", folder), &err);
    assert_non_null(app.store);
    app.keys = keys_new(&loop, &conf, app.store, &err);
    app.users = users_new(&loop, app.store, &err);
    app.tokens = tokens_new(&conf, app.store, &err);
    lost_count = done_count = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_dispose(&arena);
    deadline_cancel(&loop, &app.caller_sweep);
    keys_free(app.keys);
    users_free(app.users);
    tokens_free(app.tokens);
    store_close(app.store);
    loop_release(&loop);
    conf_release(&conf);
    char *command = NULL;
    assert_true(asprintf(&command, "rm -rf %s", folder) > 0);
    assert_int_equal(system(command), 0);
    free(command);
    return 0;
}

static void on_made(void *arg, const struct key *key, const char *clear, const struct err *problem)
{
    (void)arg;
    (void)clear;
    assert_null(problem);
    made_id = key->id;
    done_count++;
    loop_stop(&loop);
}

static void on_done(void *arg, const struct err *problem)
{
    (void)arg;
    assert_null(problem);
    done_count++;
    loop_stop(&loop);
}

static void on_key_lost(void *arg)
{
    callers_lost(arg);
}

static struct caller make_key(void)
{
    const struct key_request request = {.name = STR("k"), .scopes = AUTH_INFERENCE, .form = KEY_FORM_SK};
    keys_create(app.keys, &request, &arena, on_made, NULL);
    loop_run(&loop);
    keys_on_lost(app.keys, on_key_lost, &app);
    return (struct caller){.key_id = made_id, .user_id = "key_x"};
}

static void on_lost(void *arg)
{
    (void)arg;
    lost_count++;
}

static void on_lost_kill(void *arg)
{
    lost_count++;
    arena_dispose(arg);
}

static void test_models(void **state)
{
    const struct caller free_caller = {0}, bound = {.models = "llama-*\nm"};
    (void)state;
    assert_true(api_may_use_model(NULL, STR("x"), &err));
    assert_true(api_may_use_model(&free_caller, STR("x"), &err));
    assert_true(api_may_use_model(&bound, STR("llama-3"), &err));
    assert_true(api_may_use_model(&bound, STR("m"), &err));
    assert_false(api_may_use_model(&bound, STR("mm"), &err));
    assert_int_equal(err.code, ERR_PERMISSION_DENIED);
    assert_string_equal(err.param, "model");
    assert_false(api_may_use_model(&bound, STR(""), NULL));
}

static void test_validity(void **state)
{
    (void)state;
    assert_true(caller_still_valid(&app, NULL));
    struct caller caller = make_key();
    assert_true(caller_still_valid(&app, &caller));
    caller.expires_at = clock_unix();
    assert_false(caller_still_valid(&app, &caller));
    caller.expires_at = clock_unix() + 1000;
    assert_true(caller_still_valid(&app, &caller));
    caller.key_generation = 1;
    assert_false(caller_still_valid(&app, &caller));
    const struct caller gone = {.key_id = 12345}, user = {.is_user = true, .user_id = "user_none"};
    assert_false(caller_still_valid(&app, &gone));
    assert_false(caller_still_valid(&app, &user));
}

static void test_watchers_are_told_at_once(void **state)
{
    struct arena first, second, third;
    (void)state;
    const struct caller one = make_key(), two = make_key();
    arena_init(&first);
    arena_init(&second);
    arena_init(&third);
    callers_watch(&app, &first, &one, on_lost_kill, &second); /* the first one told ends the second */
    callers_watch(&app, &second, &one, on_lost_kill, &first);
    callers_watch(&app, &third, &two, on_lost, NULL);
    callers_watch(&app, &third, NULL, on_lost, NULL);
    keys_delete(app.keys, one.key_id, &arena, on_done, NULL);
    assert_int_equal(lost_count, 1);
    loop_run(&loop);
    keys_delete(app.keys, two.key_id, &arena, on_done, NULL);
    assert_int_equal(lost_count, 2);
    callers_lost(&app); /* nobody is told twice */
    assert_int_equal(lost_count, 2);
    loop_run(&loop);
    arena_dispose(&first);
    arena_dispose(&second);
    arena_dispose(&third);
}

static void on_expired(void *arg)
{
    (void)arg;
    lost_count++;
    loop_stop(&loop);
}

static void test_expiry_is_noticed(void **state)
{
    (void)state;
    const struct caller caller = {.expires_at = clock_unix() + 1, .user_id = "x"};
    callers_watch(&app, &arena, &caller, on_expired, NULL);
    loop_run(&loop);
    assert_int_equal(lost_count, 1);
    assert_int_equal(app.caller_sweep.due_ms, 0); /* nobody is left to look for */
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {T(test_models), T(test_validity), T(test_watchers_are_told_at_once),
                                       T(test_expiry_is_noticed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
