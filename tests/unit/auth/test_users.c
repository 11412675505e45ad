/* Users, tokens and guesses over a real store (SQLite; PostgreSQL when tests/pg.sh runs this). */
#include "unit/store_fixture.h"

#include "auth/guess.h"
#include "auth/tokens.h"
#include "auth/users.h"
#include "base/clock.h"

#define PASSWORD "a long enough password"
#define SECRET   "0123456789abcdef0123456789abcdef"

static struct conf conf;
static struct users *users;
static struct tokens *tokens;
static struct err answer;
static char made_id[64], lost_id[64];
static bool lost_gone;

static void on_lost(void *arg, const char *id, bool gone)
{
    (void)arg;
    snprintf(lost_id, sizeof lost_id, "%s", id);
    lost_gone = gone;
}

static void open_all(void)
{
    users = users_new(&loop, store, &err);
    tokens = tokens_new(&conf, store, &err);
    if (!users || !tokens)
        fail_msg("%s", err.message);
    users_on_lost(users, on_lost, NULL);
}

static void close_all(void)
{
    users_free(users);
    tokens_free(tokens);
}

static void reopen(void)
{
    close_all();
    open_all();
}

static int setup_users(void **state)
{
    setup(state);
    conf_init(&conf);
    conf.jwt_enabled = true;
    setenv("INFERNO_JWT_SECRET", SECRET, 1);
    *made_id = *lost_id = '\0';
    open_all();
    return 0;
}

static int teardown_users(void **state)
{
    close_all();
    conf_release(&conf);
    return teardown(state);
}

static void on_user(void *arg, const struct user *user, const struct err *problem)
{
    (void)arg;
    assert_true(!user == (problem != NULL));
    answer = problem ? *problem : ERR_INIT;
    if (user)
        snprintf(made_id, sizeof made_id, "%s", user->id);
    count_call();
}

static void settle(unsigned before)
{
    if (called == before)
        run_until(before + 1);
}

static enum err_code create(const char *name, const char *password, enum role role)
{
    unsigned before = called;
    users_create(users, str_from(name), str_from(password), role, &arena, on_user, NULL);
    settle(before);
    return answer.code;
}

static enum err_code login(const char *name, const char *password)
{
    unsigned before = called;
    users_login(users, str_from(name), str_from(password), &arena, on_user, NULL);
    settle(before);
    return answer.code;
}

static enum err_code update(const char *id, struct user_patch patch)
{
    unsigned before = called;
    users_update(users, str_from(id), &patch, &arena, on_user, NULL);
    settle(before);
    return answer.code;
}

static enum err_code delete (const char *id) {
    unsigned before = called; users_delete(users, str_from(id), &arena, on_user, NULL); settle(before);
    return answer.code;
}

static void test_made_and_logged_in(void **state)
{
    (void)state;
    assert_int_equal(create("alice", PASSWORD, ROLE_SERVICE), ERR_NONE);
    for (int i = 0; i < 2; i++, reopen()) {
        const struct user *user = users_find(users, STR("alice"));
        assert_non_null(user);
        assert_ptr_equal(users_get(users, str_from(made_id)), user);
        assert_int_equal(user->role, ROLE_SERVICE);
        assert_int_equal(login("alice", PASSWORD), ERR_NONE);
        assert_int_equal(login("alice", PASSWORD "!"), ERR_AUTHENTICATION_FAILED);
        assert_int_equal(login("Alice", PASSWORD), ERR_AUTHENTICATION_FAILED);
        assert_true(users_find(users, STR("alice"))->last_login_at >= clock_unix() - 60);
    }
    struct store_result r = now((struct store_statement){.sql = "SELECT password_hash FROM users"});
    assert_true(str_starts(r.values[0].text, STR("$argon2id$")));
}

static void test_refused(void **state)
{
    (void)state;
    assert_int_equal(create("alice", "eleven char", ROLE_USER), ERR_INVALID_PARAMETERS);
    assert_int_equal(create("a b", PASSWORD, ROLE_USER), ERR_INVALID_PARAMETERS);
    assert_int_equal(create("", PASSWORD, ROLE_USER), ERR_INVALID_PARAMETERS);
    assert_int_equal(create("alice", PASSWORD, ROLE_USER), ERR_NONE);
    assert_int_equal(create("alice", PASSWORD, ROLE_USER), ERR_CONFLICT);
    assert_int_equal(delete ("user_none"), ERR_NOT_FOUND);
    assert_int_equal(update("user_none", (struct user_patch){0}), ERR_NOT_FOUND);
    assert_int_equal(users_count(users), 1);
}

static void test_two_of_one_name_at_once(void **state)
{
    (void)state;
    users_create(users, STR("twin"), STR(PASSWORD), ROLE_USER, &arena, on_user, NULL);
    users_create(users, STR("twin"), STR(PASSWORD), ROLE_USER, &arena, on_user, NULL);
    run_until(2);
    assert_int_equal(answer.code, ERR_CONFLICT);
    assert_int_equal(users_count(users), 1);
}

static void test_caller_that_died(void **state)
{
    struct arena request;
    (void)state;
    arena_init(&request);
    users_create(users, STR("ghost"), STR(PASSWORD), ROLE_USER, &request, on_user, NULL);
    users_login(users, STR("ghost"), STR(PASSWORD), &request, on_user, NULL);
    arena_dispose(&request);
    assert_int_equal(create("alice", PASSWORD, ROLE_USER), ERR_NONE);
    assert_int_equal(called, 1);
    assert_null(users_find(users, STR("ghost")));
    users_create(users, STR("late"), STR(PASSWORD), ROLE_USER, &arena, on_user, NULL);
    reopen(); /* while its hash is being computed */
    assert_int_equal(called, 1);
}

static void test_changes(void **state)
{
    (void)state;
    create("alice", PASSWORD, ROLE_SERVICE);
    char *id = arena_strdup(&arena, made_id);
    assert_int_equal(update(id, (struct user_patch){.has_role = true, .role = ROLE_GUEST}), ERR_NONE);
    assert_string_equal(lost_id, id);
    assert_false(lost_gone);
    assert_int_equal(users_get(users, str_from(id))->token_version, 0);
    assert_int_equal(update(id, (struct user_patch){.has_password = true, .password = STR("another password")}),
                     ERR_NONE);
    for (int i = 0; i < 2; i++, reopen()) {
        assert_int_equal(users_get(users, str_from(id))->role, ROLE_GUEST);
        assert_int_equal(users_get(users, str_from(id))->token_version, 1);
        assert_int_equal(login("alice", PASSWORD), ERR_AUTHENTICATION_FAILED);
        assert_int_equal(login("alice", "another password"), ERR_NONE);
    }
    update(id, (struct user_patch){.has_disabled = true, .disabled = true});
    assert_int_equal(login("alice", "another password"), ERR_AUTHENTICATION_FAILED);
    assert_int_equal(delete (id), ERR_NONE);
    assert_true(lost_gone);
    reopen();
    assert_int_equal(users_count(users), 0);
}

static void test_an_admin_is_left(void **state)
{
    (void)state;
    assert_true(users_create_now(users, STR("root"), STR(PASSWORD), &err));
    assert_true(users_have_admin(users));
    char *root = arena_strdup(&arena, users_find(users, STR("root"))->id);
    assert_int_equal(delete (root), ERR_CONFLICT);
    assert_int_equal(update(root, (struct user_patch){.has_role = true, .role = ROLE_USER}), ERR_CONFLICT);
    assert_int_equal(update(root, (struct user_patch){.has_disabled = true, .disabled = true}), ERR_CONFLICT);
    create("second", PASSWORD, ROLE_ADMIN);
    users_delete(users, str_from(root), &arena, on_user, NULL); /* both at once: one is refused */
    users_delete(users, str_from(arena_strdup(&arena, made_id)), &arena, on_user, NULL);
    run_until(called + 2);
    assert_int_equal(answer.code, ERR_CONFLICT);
    assert_true(users_have_admin(users));
    reopen();
    assert_int_equal(users_count(users), 1);
}

static void test_lock_out(void **state)
{
    (void)state;
    for (int i = 0; i < LIMIT_LOGIN_FAILURES; i++)
        assert_int_equal(login("nobody", PASSWORD), ERR_AUTHENTICATION_FAILED);
    assert_int_equal(login("nobody", PASSWORD), ERR_RATE_LIMIT_EXCEEDED);
    assert_true(answer.retry_after_ms > 0 && answer.retry_after_ms <= LIMIT_LOGIN_WAIT_MS);
}

static void test_guesses(void **state)
{
    static const struct guess_rules window = {.free = 3, .window_ms = 1000},
                                    doubling = {.free = 2, .window_ms = 100000, .wait_ms = 10, .wait_max_ms = 35};
    static const uint64_t waits[] = {0, 10, 20, 35, 35};
    (void)state;
    struct guesses *g = guesses_new(&window);
    for (uint64_t now_ms = 5000; now_ms < 5003; now_ms++) {
        assert_int_equal(guesses_wait_ms(g, STR("a"), now_ms), 0);
        guesses_failed(g, STR("a"), now_ms);
    }
    assert_int_equal(guesses_wait_ms(g, STR("a"), 5003), 997);
    assert_int_equal(guesses_wait_ms(g, STR("b"), 5003), 0);
    assert_int_equal(guesses_wait_ms(g, STR("a"), 6000), 0);
    guesses_failed(g, STR("a"), 6000);
    assert_int_equal(guesses_wait_ms(g, STR("a"), 6000), 0);
    for (int i = 0; i < LIMIT_GUESSERS; i++) { /* the oldest is forgotten, memory is bounded */
        char who[16];
        snprintf(who, sizeof who, "x%d", i);
        guesses_failed(g, str_from(who), 6001);
    }
    guesses_failed(g, STR("a"), 6002);
    guesses_failed(g, STR("a"), 6002);
    assert_int_equal(guesses_wait_ms(g, STR("a"), 6002), 0);
    guesses_free(g);
    g = guesses_new(&doubling);
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
        guesses_failed(g, STR("a"), 1000 + i);
        assert_int_equal(guesses_wait_ms(g, STR("a"), 1000 + i), waits[i]);
    }
    guesses_forget(g, STR("a"));
    assert_int_equal(guesses_wait_ms(g, STR("a"), 1001), 0);
    guesses_free(g);
}

/* ---- tokens ---- */

static void on_ended(void *arg, const struct err *problem)
{
    (void)arg;
    answer = problem ? *problem : ERR_INIT;
    count_call();
}

static struct str issue(void)
{
    const struct user user = {.id = "user_x", .name = "x", .role = ROLE_USER, .token_version = 3};
    struct buf text;
    int64_t expires_at;
    buf_init(&text, LIMIT_TOKEN_BYTES);
    tokens_issue(tokens, &user, &text, &expires_at);
    assert_true(expires_at >= clock_unix() + 24 * 3600 - 5);
    struct str kept = arena_str(&arena, buf_view(&text));
    buf_release(&text);
    return kept;
}

static void test_token_until_its_logout(void **state)
{
    struct str text = issue(), other = issue();
    (void)state;
    for (int i = 0; i < 3; i++) {
        const struct token *token = tokens_find(tokens, text, &err);
        assert_non_null(token);
        assert_str(token->claims.sub, "user_x");
        assert_int_equal(token->claims.version, 3);
    }
    const struct token token = *tokens_find(tokens, text, &err);
    tokens_end(tokens, token.id, token.claims.expires_at, &arena, on_ended, NULL);
    assert_null(tokens_find(tokens, text, &err));
    run_until(called + 1);
    assert_int_equal(answer.code, ERR_NONE);
    tokens_end(tokens, token.id, token.claims.expires_at, &arena, on_ended, NULL); /* again */
    run_until(called + 1);
    assert_int_equal(answer.code, ERR_NONE);
    for (int i = 0; i < 2; i++, reopen()) {
        assert_null(tokens_find(tokens, text, &err));
        assert_int_equal(err.code, ERR_AUTHENTICATION_FAILED);
        assert_non_null(tokens_find(tokens, other, &err));
    }
}

static void test_expired_endings_are_forgotten(void **state)
{
    const unsigned char id[HASH_SHA256_SIZE] = {1};
    (void)state;
    tokens_end(tokens, id, clock_unix() - 2 * JWT_LEEWAY_SECONDS, &arena, on_ended, NULL);
    run_until(called + 1);
    reopen();
    assert_false(tokens_is_ended(tokens, id));
    assert_int_equal(number("SELECT COUNT(*) FROM ended_tokens WHERE expires_at > $1", NULL), 0);
}

static void test_more_tokens_than_are_remembered(void **state)
{
    struct str first = issue();
    (void)state;
    assert_non_null(tokens_find(tokens, first, &err));
    for (int i = 0; i < LIMIT_TOKEN_CACHE + 10; i++)
        assert_non_null(tokens_find(tokens, issue(), &err));
    assert_non_null(tokens_find(tokens, first, &err));
}

static void test_not_enabled(void **state)
{
    struct str text = issue();
    (void)state;
    conf.jwt_enabled = false;
    reopen();
    assert_false(tokens_enabled(tokens) || tokens_can_issue(tokens));
    assert_null(tokens_find(tokens, text, &err));
    conf.jwt_enabled = true;
    setenv("INFERNO_JWT_SECRET", "short", 1);
    assert_null(tokens_new(&conf, store, &err));
    assert_int_equal(err.code, ERR_CONFIG);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup_users, teardown_users)

int main(void)
{
    const struct CMUnitTest tests[] = {T(test_made_and_logged_in),
                                       T(test_refused),
                                       T(test_two_of_one_name_at_once),
                                       T(test_caller_that_died),
                                       T(test_changes),
                                       T(test_an_admin_is_left),
                                       T(test_lock_out),
                                       T(test_guesses),
                                       T(test_token_until_its_logout),
                                       T(test_expired_endings_are_forgotten),
                                       T(test_more_tokens_than_are_remembered),
                                       T(test_not_enabled)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
